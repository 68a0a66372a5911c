// SPDX-License-Identifier: Apache-2.0
//
// The trials of one experiment as the board keeps them: one small row a trial, by id, filled by pages of the list and by
// events, in any order. Pure: no network, no page.
import { plural } from './format';
import { Counts, ParamValue, TrialJson, TrialState, TRIAL_STATES, time, whyText } from './api';

/** At most this many trials are kept in the page; the rest stays on the driver. */
export const ROWS_MAX = 100_000;

export interface Row {
    id: number;
    attempt: number;
    state: TrialState;
    params: (ParamValue | undefined)[]; // in the order of TrialTable.params
    budget: number | null;
    step: number | null;
    value: number | null;
    measures: (number | null)[]; // beside the value, in the order of TrialTable.measures
    violation: number; // of the outcome constraints; 0: none known
    worker: string;
    text: string; // why it waits, or the reason of its end
    failures: number;
    losses: number;
    created: number | null;
    started: number | null;
    ended: number | null;
    bracket: number | null;
    rung: number | null;
    late: number;
    point: number; // the first trial of its point
    fold: number; // 1 …; 0: the refit, or no folds
    folds: number; // of its point; 0: no validation
    mean: number | null; // of its point's folds that have completed
    deviation: number | null;
    foldsDone: number;
}

export const FINISHED: ReadonlySet<TrialState> = new Set(['completed', 'stopped', 'failed', 'cancelled']);

/** How long a trial has run in all. */
export function rowDuration(row: Row, now: number): number | null {
    if (row.started === null) return null;
    if (row.ended !== null) return row.ended - row.started;
    return row.state === 'running' ? Math.max(0, now - row.started) : null;
}

function finite(x: unknown): number | null {
    return typeof x === 'number' && Number.isFinite(x) ? x : null;
}

export class TrialTable {
    readonly rows: (Row | undefined)[] = []; // by trial id
    readonly counts: Record<TrialState, number> = zeroCounts();
    size = 0;
    version = 0; // rises with every change
    full = false; // ROWS_MAX reached: some trials are not here
    private readonly strings = new Map<string, string>();

    constructor(readonly params: readonly string[], readonly measures: readonly string[] = []) {}

    get(id: number): Row | undefined {
        return this.rows[id];
    }

    /** Takes a trial as REST or an event gives it. An older picture of it (a page that was read before an event)
     * never overwrites a newer one: attempts, steps and ends only go up. Returns whether something changed. */
    put(json: TrialJson): boolean {
        const id = json.trial;
        if (!Number.isInteger(id) || id < 1) return false;
        const old = this.rows[id];
        if (!old && this.size >= ROWS_MAX) {
            this.full = true;
            return false;
        }
        const row = this.row(json);
        if (old) {
            if (isOlder(row, old)) return false;
            this.counts[old.state]--;
        } else {
            this.size++;
        }
        this.rows[id] = row;
        this.counts[row.state]++;
        if (row.folds > 1 && row.fold > 0) this.refold(row);
        this.version++;
        return true;
    }

    /** All folds of a point show what they say together. */
    private refold(row: Row): void {
        const folds = this.foldsOf(row);
        const values = folds.filter((r) => r.state === 'completed' && r.value !== null).map((r) => r.value as number);
        const mean = values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : null;
        const squares = values.reduce((sum, v) => sum + (v - (mean ?? 0)) ** 2, 0);
        for (const r of folds) {
            r.mean = mean;
            r.deviation = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : mean === null ? null : 0;
            r.foldsDone = values.length;
        }
    }

    private foldsOf(row: Row): Row[] {
        const out: Row[] = [];
        for (let id = row.point; id < row.point + row.folds; id++) {
            const r = this.rows[id];
            if (r && r.point === row.point && r.fold > 0) out.push(r);
        }
        return out;
    }

    /** What is judged: every trial, or with folds one row a point with the means; never the refit. */
    judged(): Row[] {
        const rows = this.list();
        if (!rows.some((r) => r.folds > 0)) return rows;
        return rows.filter((r) => r.fold === 1).map((r) => (r.folds > 1 ? this.pointRow(r) : r));
    }

    private pointRow(first: Row): Row {
        const folds = this.foldsOf(first);
        const done = folds.filter((r) => r.state === 'completed');
        const state = (['failed', 'cancelled', 'stopped', 'running'] as const).find((s) => folds.some((r) => r.state === s));
        const measures = this.measures.map((_, i) => {
            const values = done.map((r) => r.measures[i]).filter((v): v is number => typeof v === 'number');
            return values.length > 0 ? values.reduce((a, b) => a + b, 0) / values.length : null;
        });
        const whole = done.length === first.folds;
        const ended = whole ? Math.max(...folds.map((r) => r.ended ?? 0)) || null : null;
        return { ...first, value: first.mean, measures, state: whole ? 'completed' : (state ?? 'waiting'), ended };
    }

    /** A metric point of the objective that arrived as an event. */
    point(id: number, attempt: number, step: number, value: number | null): boolean {
        const row = this.rows[id];
        if (!row || attempt < row.attempt || (row.step !== null && attempt === row.attempt && step < row.step)) return false;
        row.step = step;
        if (value !== null && row.state !== 'completed') row.value = value;
        this.version++;
        return true;
    }

    /** All rows by id. */
    list(): Row[] {
        const out: Row[] = [];
        for (const row of this.rows) if (row) out.push(row);
        return out;
    }

    private row(json: TrialJson): Row {
        return {
            id: json.trial,
            attempt: json.attempt ?? 0,
            state: TRIAL_STATES.includes(json.state) ? json.state : 'waiting',
            params: this.params.map((name) => this.shared(json.params?.[name])),
            budget: finite(json.budget),
            step: finite(json.step),
            value: finite(json.fold_values ? json.fold_values[0] : json.value), // a best trial's value is its point's mean
            measures: this.measures.map((name) => finite(json.values?.[name])),
            violation: finite(json.violation) ?? 0,
            worker: this.shared(json.worker ?? '') as string,
            text: this.shared(json.reason || whyText(json.why)) as string,
            failures: json.failures ?? 0,
            losses: json.losses ?? 0,
            created: time(json.created),
            started: time(json.started),
            ended: time(json.ended),
            bracket: finite(json.bracket),
            rung: finite(json.rung),
            late: json.late ?? 0,
            point: json.point ?? json.trial,
            fold: json.fold ?? 0,
            folds: json.folds ?? 0,
            mean: null,
            deviation: null,
            foldsDone: 0,
        };
    }

    /** Ten thousand rows name the same few workers and reasons: keep each text once. */
    private shared(v: ParamValue | undefined): ParamValue | undefined {
        if (typeof v !== 'string') return v;
        const known = this.strings.get(v);
        if (known !== undefined) return known;
        if (this.strings.size < 10_000) this.strings.set(v, v);
        return v;
    }
}

export function zeroCounts(): Record<TrialState, number> {
    return { waiting: 0, running: 0, paused: 0, completed: 0, stopped: 0, failed: 0, cancelled: 0 };
}

function isOlder(row: Row, old: Row): boolean {
    if (row.attempt !== old.attempt) return row.attempt < old.attempt;
    if (FINISHED.has(old.state) && !FINISHED.has(row.state)) return true;
    return (row.step ?? -1) < (old.step ?? -1) && row.state === old.state;
}

export function total(counts: Counts): number {
    let n = 0;
    for (const state of TRIAL_STATES) n += counts[state] ?? 0;
    return n;
}

export interface Progress {
    done: number;
    ended: number;
    text: string; // "of 200 trials ended"
}

/** How far a search is. Where trials pause at rungs, most never end: there, what counts is how many have started. */
export function progress(counts: Counts, limit: number | null, rungs: boolean, points: number | null = null): Progress {
    if (points !== null) {
        const of = limit === null ? (points === 1 ? 'point' : 'points') : `of ${plural(limit, 'point')}`;
        return { done: points, ended: points, text: `${of} ended` };
    }
    const all = total(counts);
    const ended = (counts.completed ?? 0) + (counts.stopped ?? 0) + (counts.failed ?? 0) + (counts.cancelled ?? 0);
    const done = rungs ? all - (counts.waiting ?? 0) : ended;
    const what = limit === null ? (done === 1 ? 'trial' : 'trials') : `of ${plural(limit, 'trial')}`;
    return { done, ended, text: `${what} ${rungs ? 'started' : 'ended'}` };
}

/** Whether a is the better value. */
export function isBetter(a: number, b: number, maximize: boolean): boolean {
    return maximize ? a > b : a < b;
}

/** The first of topRows, in one pass. */
export function bestRow(rows: readonly (Row | undefined)[], maximize: boolean): Row | null {
    let best: Row | null = null;
    for (const row of rows) {
        if (!row || row.value === null) continue;
        const rank = Number(row.state === 'completed') - Number(best?.state === 'completed');
        const broken = best ? row.violation - best.violation : 0;
        const ahead = rank === 0 && (broken < 0 || (broken === 0 && isBetter(row.value, best?.value as number, maximize)));
        if (!best || rank > 0 || ahead) best = row;
    }
    return best;
}

/** The best k rows: completed ones first when there are any, else by what they have reported; ties by id. */
export function topRows(rows: readonly Row[], k: number, maximize: boolean): Row[] {
    const completed = rows.filter((r) => r.state === 'completed' && r.value !== null);
    const pool = completed.length > 0 ? completed : rows.filter((r) => r.value !== null);
    return pool
        .sort((a, b) => {
            const d = (a.value as number) - (b.value as number);
            if (a.violation !== b.violation) return a.violation - b.violation;
            return d === 0 ? a.id - b.id : maximize ? -d : d;
        })
        .slice(0, k);
}

/** The completed trials that keep the outcome constraints and that no other one dominates. Objectives: the value, then the first measures. */
export function frontRows(rows: readonly Row[], maximize: readonly boolean[]): Row[] {
    const at = (r: Row, k: number): number => {
        const v = k === 0 ? r.value : r.measures[k - 1];
        return (v ?? 0) * (maximize[k] ? -1 : 1);
    };
    const whole = (r: Row): boolean => maximize.every((_, k) => (k === 0 ? r.value : r.measures[k - 1]) != null);
    const dominates = (a: Row, b: Row): boolean => {
        let better = false;
        for (let k = 0; k < maximize.length; k++) {
            const d = at(a, k) - at(b, k);
            if (d > 0) return false;
            better ||= d < 0;
        }
        return better;
    };
    let front: Row[] = [];
    for (const row of rows) {
        if (row.state !== 'completed' || row.violation > 0 || !whole(row)) continue;
        if (front.some((r) => dominates(r, row))) continue;
        front = front.filter((r) => !dominates(row, r));
        front.push(row);
    }
    return front;
}
