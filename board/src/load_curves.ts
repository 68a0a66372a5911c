// SPDX-License-Identifier: Apache-2.0
//
// Fetches whole metric histories.
import { get, path } from './api';
import { OpenExperiment } from './store';

const AT_ONCE = 6;

export interface MetricPoint {
    step: number;
    attempt?: number;
    values: Record<string, number | null>;
}

/** One trial's points of all metrics, by step. */
export async function trialMetrics(experiment: number, trial: number, signal?: AbortSignal): Promise<MetricPoint[]> {
    const answer = await get<{ metrics: MetricPoint[] }>(`${path.trial(experiment, trial)}/metrics?limit=1000`, signal);
    return answer.metrics ?? [];
}

/** Reads the objective's history of these trials into the experiment's curves. */
export async function loadCurves(exp: OpenExperiment, trials: readonly number[]): Promise<void> {
    const queue = [...trials];
    const worker = async (): Promise<void> => {
        for (let trial = queue.shift(); trial !== undefined; trial = queue.shift()) {
            exp.curves.fetched.add(trial);
            try {
                for (const p of await trialMetrics(exp.id, trial)) {
                    const value = p.values[exp.metric];
                    if (value !== undefined) exp.curves.add(trial, p.attempt ?? 0, p.step, value);
                }
            } catch {
                exp.curves.fetched.delete(trial);
                return; // the driver is away: the next draw asks again
            }
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
