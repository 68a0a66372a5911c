// SPDX-License-Identifier: Apache-2.0
//
// Fetches whole metric histories.
import { get, pages, path } from './api';
import { OpenExperiment } from './store';

const TRIALS_AT_ONCE = 100;

const POINTS_PAGE = 5000;
/** A trial with more points than this is shown by its first ones. */
const POINTS_MAX = 50_000;

export interface MetricPoint {
    step: number;
    attempt?: number;
    late?: boolean; // of an attempt that had already been given up: kept by the driver, no part of the curve
    values: Record<string, number | null>;
}

/** One trial's points of all metrics, by step. */
export async function trialMetrics(experiment: number, trial: number, signal?: AbortSignal): Promise<MetricPoint[]> {
    const points: MetricPoint[] = [];
    await pages<MetricPoint>(`${path.trial(experiment, trial)}/metrics`, 'metrics', [POINTS_PAGE, POINTS_PAGE], (items) => {
        for (const p of items) if (!p.late) points.push(p);
        return points.length < POINTS_MAX;
    }, signal);
    return points;
}

interface CurveJson {
    trial: number;
    steps: number[];
    attempts: number[];
    values: (number | null)[];
}

/** Reads the objective's history of these trials into the experiment's curves, many in one request. */
export async function loadCurves(exp: OpenExperiment, trials: readonly number[], drawn: () => void): Promise<void> {
    const set = exp.curves;
    let left = [...trials];
    while (left.length > 0) {
        const some = left.slice(0, TRIALS_AT_ONCE);
        let answer: { curves: CurveJson[]; next: number | null };
        try {
            answer = await get(`${path.experiment(exp.id)}/curves?trials=${some.join(',')}`);
        } catch {
            return; // the driver is away: the next draw asks again
        }
        for (const c of answer.curves) {
            set.fetched.add(c.trial);
            c.steps.forEach((step, i) => set.add(c.trial, c.attempts[i] ?? 0, step, c.values[i] ?? null));
        }
        if (answer.curves.length === 0) return;
        left = left.slice(answer.curves.length);
        drawn();
    }
}
