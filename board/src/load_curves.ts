// SPDX-License-Identifier: Apache-2.0
//
// Fetches whole metric histories.
import { pages, path } from './api';
import { OpenExperiment } from './store';

const AT_ONCE = 6;

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
