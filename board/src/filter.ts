// SPDX-License-Identifier: Apache-2.0
//
// The trial table's filter and order. A filter is words: `state:failed lr>0.01 optimizer=adam value>=0.9 signal`. A word without an operator
// is looked for in the trial's texts. Pure.
import { ParamValue, TRIAL_STATES } from './api';
import { Row, rowDuration } from './model';

export type Cell = ParamValue | null | undefined;

export interface Column {
    key: string;
    get: (row: Row, now: number) => Cell;
}

const FIXED: readonly Column[] = [
    { key: 'trial', get: (r) => r.id },
    { key: 'state', get: (r) => r.state },
    { key: 'value', get: (r) => r.value },
    { key: 'step', get: (r) => r.step },
    { key: 'budget', get: (r) => r.budget },
    { key: 'attempt', get: (r) => r.attempt },
    { key: 'worker', get: (r) => r.worker },
    { key: 'duration', get: (r, now) => seconds(rowDuration(r, now)) },
    { key: 'started', get: (r) => r.started },
    { key: 'ended', get: (r) => r.ended },
    { key: 'failures', get: (r) => r.failures },
    { key: 'losses', get: (r) => r.losses },
    { key: 'bracket', get: (r) => r.bracket },
    { key: 'rung', get: (r) => r.rung },
    { key: 'point', get: (r) => (r.folds > 0 ? r.point : null) },
    { key: 'fold', get: (r) => (r.folds > 0 ? r.fold : null) },
    { key: 'mean', get: (r) => r.mean },
    { key: 'why', get: (r) => r.text },
];
const ALIASES: Record<string, string> = { id: 'trial', reason: 'why', objective: 'value', time: 'duration' };

function seconds(ms: number | null): number | null {
    return ms === null ? null : ms / 1000;
}

/** All columns by key; a parameter whose name is taken answers to `params.NAME` alone. */
export function columns(params: readonly string[], measures: readonly string[] = []): Map<string, Column> {
    const out = new Map<string, Column>();
    for (const column of FIXED) out.set(column.key, column);
    measures.forEach((name, i) => {
        const get = (row: Row): Cell => row.measures[i];
        out.set(`values.${name}`, { key: `values.${name}`, get });
        if (!out.has(name) && !(name in ALIASES)) out.set(name, { key: `values.${name}`, get });
    });
    params.forEach((name, i) => {
        const get = (row: Row): Cell => row.params[i];
        out.set(`params.${name}`, { key: `params.${name}`, get });
        if (!out.has(name) && !(name in ALIASES)) out.set(name, { key: `params.${name}`, get });
    });
    return out;
}

export type Predicate = (row: Row, now: number) => boolean;
export type Parsed = { ok: true; match: Predicate | null } | { ok: false; error: string };

const OPERATORS = /^([^\s:=!<>]+)(!=|<=|>=|:|=|<|>)(.*)$/s;

export function parseFilter(text: string, params: readonly string[], measures: readonly string[] = []): Parsed {
    const known = columns(params, measures);
    const tests: Predicate[] = [];
    for (const word of words(text)) {
        const m = OPERATORS.exec(word);
        if (!m) {
            tests.push(anywhere(word.toLowerCase()));
            continue;
        }
        const [, name = '', operator = '', wanted = ''] = m;
        const column = known.get(name) ?? known.get(ALIASES[name.toLowerCase()] ?? name.toLowerCase());
        if (!column) return { ok: false, error: `There is no column “${name}”${near(name, [...known.keys()])}` };
        if (wanted === '') return { ok: false, error: `“${word}” needs a value, for example ${example(column.key)}` };
        const test = compare(column, operator, wanted);
        if (typeof test === 'string') return { ok: false, error: test };
        tests.push(test);
    }
    if (tests.length === 0) return { ok: true, match: null };
    return { ok: true, match: (row, now) => tests.every((t) => t(row, now)) };
}

function example(key: string): string {
    if (key === 'state') return 'state:failed';
    return key === 'worker' || key === 'why' ? `${key}:gpu` : `${key}>0.5`;
}

/** Splits at spaces outside double quotes; the quotes go. */
function words(text: string): string[] {
    const out: string[] = [];
    for (const m of text.matchAll(/(?:[^\s"]|"[^"]*"?)+/g)) {
        const word = m[0].replace(/"/g, '');
        if (word !== '') out.push(word);
    }
    return out;
}

function anywhere(needle: string): Predicate {
    const id = /^#?\d+$/.test(needle) ? Number(needle.replace('#', '')) : null;
    return (row) =>
        row.id === id || row.state.includes(needle) || row.worker.toLowerCase().includes(needle) ||
        row.text.toLowerCase().includes(needle) ||
        row.params.some((p) => typeof p === 'string' && p.toLowerCase().includes(needle));
}

function compare(column: Column, operator: string, wanted: string): Predicate | string {
    if (operator === '<' || operator === '<=' || operator === '>' || operator === '>=') {
        const limit = Number(wanted);
        if (wanted.trim() === '' || Number.isNaN(limit)) return `“${wanted}” is not a number: ${column.key}${operator} needs one`;
        return (row, now) => ordered(column.get(row, now), operator, limit);
    }
    const options = wanted.toLowerCase().split(',');
    if (column.key === 'state') {
        const bad = options.find((o) => !TRIAL_STATES.some((s) => s === o));
        if (bad !== undefined) return `There is no state “${bad}”: ${TRIAL_STATES.join(', ')}`;
    }
    const hit: Predicate = (row, now) => {
        const cell = column.get(row, now);
        if (cell === null || cell === undefined) return false;
        if (typeof cell === 'number') return options.some((o) => o !== '' && Number(o) === cell);
        const text = cell.toLowerCase();
        const part = operator === ':' && column.key !== 'state';
        return options.some((o) => (part ? text.includes(o) : text === o));
    };
    return operator === '!=' ? (row, now) => !hit(row, now) : hit;
}

function ordered(cell: Cell, operator: string, limit: number): boolean {
    if (typeof cell !== 'number') return false;
    if (operator === '<') return cell < limit;
    if (operator === '<=') return cell <= limit;
    return operator === '>' ? cell > limit : cell >= limit;
}

function near(name: string, known: readonly string[]): string {
    const lower = name.toLowerCase();
    let best = '';
    let bestDistance = 3;
    for (const k of known) {
        const d = distance(lower, k.toLowerCase());
        if (d < bestDistance) [best, bestDistance] = [k, d];
    }
    return best ? `: did you mean “${best}”?` : '';
}

function distance(a: string, b: string): number {
    let row = Array.from({ length: b.length + 1 }, (_, i) => i);
    for (let i = 1; i <= a.length; i++) {
        const next = [i];
        for (let j = 1; j <= b.length; j++)
            next[j] = Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1,
                (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1));
        row = next;
    }
    return row[b.length] as number;
}

export interface Order {
    key: string;
    down: boolean;
}

/** A new array: filtered, sorted, cells without a value last in both directions, ties by id. */
export function arrange(rows: readonly Row[], match: Predicate | null, order: Order, known: Map<string, Column>, now: number): Row[] {
    const kept = match ? rows.filter((r) => match(r, now)) : rows.slice();
    const column = known.get(order.key);
    if (!column) return kept;
    if (column.key === 'trial') {
        return order.down ? kept.reverse() : kept; // rows come by id
    }
    const cells = new Map<Row, Cell>(kept.map((r) => [r, column.get(r, now)]));
    return kept.sort((a, b) => compareCells(cells.get(a), cells.get(b), order.down) || a.id - b.id);
}

function compareCells(a: Cell, b: Cell, down: boolean): number {
    const noA = a === null || a === undefined || a === '';
    const noB = b === null || b === undefined || b === '';
    if (noA || noB) return noA === noB ? 0 : noA ? 1 : -1;
    const d = typeof a === 'number' && typeof b === 'number' ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
    return down ? -d : d;
}
