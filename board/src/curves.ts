// SPDX-License-Identifier: Apache-2.0
//
// Objective over steps for as many trials as a picture can hold. Pure. Each point belongs to an attempt: the newest
// attempt's value of a step is shown.

/** Curves kept: beyond this they would be one grey block. */
export const CURVES_MAX = 400;

export interface Curve {
    trial: number;
    steps: number[]; // rising
    values: (number | null)[];
    attempts: number[];
}

export class CurveSet {
    readonly curves = new Map<number, Curve>();
    readonly fetched = new Set<number>(); // trials whose whole history was asked for
    version = 0;

    /** Whether this trial's points are kept (a set that is full takes no new trial). */
    wants(trial: number): boolean {
        return this.curves.has(trial) || this.curves.size < CURVES_MAX;
    }

    add(trial: number, attempt: number, step: number, value: number | null): void {
        if (!this.wants(trial)) return;
        let curve = this.curves.get(trial);
        if (!curve) {
            curve = { trial, steps: [], values: [], attempts: [] };
            this.curves.set(trial, curve);
        }
        let at = curve.steps.length;
        while (at > 0 && (curve.steps[at - 1] as number) > step) at--;
        if (at > 0 && curve.steps[at - 1] === step) {
            if (attempt < (curve.attempts[at - 1] as number)) return;
            curve.values[at - 1] = value;
            curve.attempts[at - 1] = attempt;
        } else {
            curve.steps.splice(at, 0, step);
            curve.values.splice(at, 0, value);
            curve.attempts.splice(at, 0, attempt);
        }
        this.version++;
    }

    drop(trial: number): void {
        this.fetched.delete(trial);
        if (this.curves.delete(trial)) this.version++;
    }
}

/** Which trials' curves to fetch: the selected, the best, the running, then the newest, at most `max`. */
export function curveChoice(
    selected: readonly number[], best: readonly number[], running: readonly number[], all: readonly number[], max: number): number[] {
    const out = new Set<number>();
    const take = (ids: readonly number[]): void => {
        for (const id of ids) {
            if (out.size >= max) return;
            out.add(id);
        }
    };
    take(selected);
    take(best);
    take(running);
    take([...all].reverse());
    return [...out];
}
