// SPDX-License-Identifier: Apache-2.0
//
// What an event of the driver's stream means to the board. Pure: text in, changes out; an event that this board does not
// know changes nothing.
import { ExperimentJson, TrialJson, WorkerJson } from './api';
import { Message } from './sse';

export interface Point {
    trial: number;
    attempt: number;
    step: number;
    values: Record<string, number | null>;
}

export type Change =
    | { kind: 'reset' }
    | { kind: 'experiment'; experiment: ExperimentJson }
    | { kind: 'gone'; id: number }
    | { kind: 'trial'; experiment: number; trial: TrialJson }
    | { kind: 'points'; experiment: number; points: Point[] }
    | { kind: 'worker'; worker: WorkerJson };

type Data = Record<string, unknown>;

function isObject(x: unknown): x is Data {
    return typeof x === 'object' && x !== null && !Array.isArray(x);
}

/** The changes that one message brings: none when it is unknown or broken. */
export function changesOf(message: Message): Change[] {
    if (message.event === 'reset') return [{ kind: 'reset' }];
    let data: unknown;
    try {
        data = JSON.parse(message.data);
    } catch {
        return [];
    }
    return isObject(data) ? decode(message.event, data) : [];
}

function decode(event: string, data: Data): Change[] {
    const experiment = typeof data.experiment === 'number' ? data.experiment : 0;
    if (event === 'trial') return trialChange(data, experiment);
    if (event === 'metrics') return pointsChange(data, experiment);
    if (event === 'experiment') {
        const inner = isObject(data.experiment) ? data.experiment : data;
        return typeof inner.id === 'number' ? [{ kind: 'experiment', experiment: inner as unknown as ExperimentJson }] : [];
    }
    if (event === 'deleted') {
        const id = experiment || (typeof data.id === 'number' ? data.id : 0);
        return id ? [{ kind: 'gone', id }] : [];
    }
    if (event === 'worker') {
        const inner = isObject(data.worker) ? data.worker : data;
        return typeof inner.worker === 'string' ? [{ kind: 'worker', worker: inner as unknown as WorkerJson }] : [];
    }
    return [];
}

function trialChange(data: Data, experiment: number): Change[] {
    const inner = isObject(data.trial) ? data.trial : data;
    const id = experiment || (typeof inner.experiment === 'number' ? inner.experiment : 0);
    return id && typeof inner.trial === 'number' ? [{ kind: 'trial', experiment: id, trial: inner as unknown as TrialJson }] : [];
}

function pointsChange(data: Data, experiment: number): Change[] {
    const list = Array.isArray(data.points) ? data.points : [data];
    const points: Point[] = [];
    for (const p of list) {
        if (!isObject(p) || typeof p.step !== 'number' || !isObject(p.values)) continue;
        const trial = p.trial ?? data.trial;
        const attempt = p.attempt ?? data.attempt ?? 0;
        if (typeof trial !== 'number' || typeof attempt !== 'number') continue;
        points.push({ trial, attempt, step: p.step, values: p.values as Point['values'] });
    }
    return experiment && points.length > 0 ? [{ kind: 'points', experiment, points }] : [];
}
