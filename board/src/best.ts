// SPDX-License-Identifier: Apache-2.0
//
// The best-so-far curve and the dots around it. Pure.
import { isBetter, Row } from './model';

export type Axis = 'trial' | 'time';

export interface BestCurve {
    line: [number, number, number][]; // x, best so far, trial that set it: only where it improves, and the end
    completed: [number, number, number][]; // x, value, trial
    other: [number, number, number][]; // stopped early, paused, running: values on the way
    x0: number; // what time 0 means, ms
}

/** By trial: x is the id. By time: x is milliseconds since `start`, of the trial's end. */
export function bestCurve(rows: readonly Row[], maximize: boolean, axis: Axis, start: number): BestCurve {
    const out: BestCurve = { line: [], completed: [], other: [], x0: start };
    for (const row of rows) {
        if (row.value === null || row.state === 'failed' || row.state === 'cancelled') continue;
        const done = row.state === 'completed' && row.violation === 0;
        const x = axis === 'trial' ? row.id : when(row, start);
        if (x === null) continue;
        (done ? out.completed : out.other).push([x, row.value, row.id]);
    }
    const byX = (a: [number, number, number], b: [number, number, number]): number => a[0] - b[0] || a[2] - b[2];
    out.completed.sort(byX);
    out.other.sort(byX);
    out.line = improvements(out.completed.length > 0 ? out.completed : out.other, maximize);
    const end = Math.max(out.completed.at(-1)?.[0] ?? -Infinity, out.other.at(-1)?.[0] ?? -Infinity);
    const last = out.line.at(-1);
    if (last && end > last[0]) out.line.push([end, last[1], last[2]]);
    return out;
}

function when(row: Row, start: number): number | null {
    const t = row.ended ?? row.started ?? row.created;
    return t === null ? null : Math.max(0, t - start);
}

function improvements(points: readonly [number, number, number][], maximize: boolean): [number, number, number][] {
    const line: [number, number, number][] = [];
    let best: number | null = null;
    for (const p of points) {
        if (best !== null && !isBetter(p[1], best, maximize)) continue;
        best = p[1];
        line.push(p);
    }
    return line;
}

/** A range for a value axis that a few awful trials cannot flatten: from the worst of the better 95 % to the best, with a
 * margin. Null: no values. */
export function focusRange(values: readonly number[], maximize: boolean): [number, number] | null {
    if (values.length === 0) return null;
    const sorted = [...values].sort((a, b) => a - b);
    const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] as number;
    let lo = maximize ? at(0.05) : (sorted[0] as number);
    let hi = maximize ? (sorted.at(-1) as number) : at(0.95);
    if (lo === hi) [lo, hi] = [sorted[0] as number, sorted.at(-1) as number];
    const margin = lo === hi ? Math.abs(lo) * 0.1 || 0.5 : (hi - lo) * 0.06;
    return [lo - margin, hi + margin];
}
