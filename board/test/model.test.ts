// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TrialJson } from '../src/api';
import { bestCurve, focusRange } from '../src/best';
import { bestRow, frontRows, Row, rowDuration, ROWS_MAX, topRows, total, TrialTable } from '../src/model';
import { rungBudgets, rungTable } from '../src/rungs';
import { scrollTo, windowOf } from '../src/window';

export function trial(id: number, more: Partial<TrialJson> = {}): TrialJson {
    return { trial: id, attempt: 1, state: 'completed', params: { lr: id / 10, opt: 'sgd' }, value: id, ...more };
}

function tableOf(...trials: TrialJson[]): TrialTable {
    const table = new TrialTable(['lr', 'opt']);
    for (const t of trials) table.put(t);
    return table;
}

test('counts follow every move of a trial', () => {
    const table = tableOf(trial(1, { state: 'waiting', attempt: 0, value: null }));
    assert.equal(table.counts.waiting, 1);
    table.put(trial(1, { state: 'running', value: null }));
    assert.deepEqual([table.counts.waiting, table.counts.running], [0, 1]);
    table.put(trial(1, { state: 'completed' }));
    assert.deepEqual([table.counts.running, table.counts.completed, table.size], [0, 1, 1]);
    assert.equal(total(table.counts), 1);
});

test('a page read before an event never takes the event back', () => {
    const cases: [string, Partial<TrialJson>, Partial<TrialJson>][] = [
        ['older attempt', { attempt: 2, state: 'running' }, { attempt: 1, state: 'failed' }],
        ['ended stays ended', { state: 'completed' }, { state: 'running' }],
        ['older step', { state: 'running', step: 5 }, { state: 'running', step: 3 }],
    ];
    for (const [name, newer, older] of cases) {
        const table = tableOf(trial(1, newer));
        assert.equal(table.put(trial(1, older)), false, name);
        assert.equal(table.get(1)?.state, newer.state, name);
    }
});

test('a retried or promoted trial goes on as a new attempt', () => {
    const table = tableOf(trial(1, { state: 'paused', step: 3 }));
    assert.ok(table.put(trial(1, { state: 'running', attempt: 2, step: 3 })));
    assert.ok(table.put(trial(1, { state: 'waiting', attempt: 2, step: 3 })), 'a lost lease');
    assert.equal(table.get(1)?.state, 'waiting');
});

test('metric points move step and value of a running trial only forward', () => {
    const table = tableOf(trial(1, { state: 'running', step: 2, value: 0.2 }));
    assert.ok(table.point(1, 1, 3, 0.3));
    assert.ok(!table.point(1, 1, 2, 0.9), 'an older step');
    assert.ok(!table.point(1, 0, 9, 0.9), 'an older attempt');
    assert.ok(!table.point(9, 1, 1, 0.9), 'an unknown trial');
    assert.deepEqual([table.get(1)?.step, table.get(1)?.value], [3, 0.3]);
});

test('garbage costs nothing', () => {
    const table = tableOf();
    assert.ok(!table.put(trial(0)));
    assert.ok(!table.put(trial(1.5)));
    assert.ok(table.put({ trial: 3, attempt: 1, state: 'odd', params: null, value: 'NaN' } as unknown as TrialJson));
    assert.deepEqual([table.get(3)?.value, table.get(3)?.state], [null, 'waiting']);
});

test('the table is bounded and says when it is full', () => {
    const table = tableOf();
    for (let id = 1; id <= ROWS_MAX; id++) table.put(trial(id));
    assert.ok(!table.full);
    assert.ok(!table.put(trial(ROWS_MAX + 1)));
    assert.ok(table.full);
    assert.equal(table.size, ROWS_MAX);
    assert.ok(table.put(trial(5, { attempt: 2 })), 'known trials still change');
});

test('a duration runs while the trial runs', () => {
    const at = (s: number): string => new Date(s * 1000).toISOString();
    const row = (more: Partial<TrialJson>): Row => tableOf(trial(1, more)).get(1) as Row;
    assert.equal(rowDuration(row({ state: 'running', started: at(10) }), 15_000), 5000);
    assert.equal(rowDuration(row({ started: at(10), ended: at(12) }), 99_000), 2000);
    assert.equal(rowDuration(row({ state: 'waiting' }), 15_000), null);
});

test('the best rows are completed ones, by value, ties by id', () => {
    const table = tableOf(trial(1, { value: 3 }), trial(2, { value: 5 }), trial(3, { value: 5 }),
        trial(4, { value: 9, state: 'stopped' }), trial(5, { value: null }));
    assert.deepEqual(topRows(table.list(), 3, true).map((r) => r.id), [2, 3, 1]);
    assert.deepEqual(topRows(table.list(), 1, false).map((r) => r.id), [1]);
    assert.deepEqual(topRows(tableOf(trial(4, { value: 9, state: 'running' })).list(), 1, true).map((r) => r.id), [4]);
    for (const max of [true, false]) {
        assert.equal(bestRow(table.rows, max), topRows(table.list(), 1, max)[0]);
        assert.equal(bestRow(tableOf(trial(4, { value: 9, state: 'running' }), trial(5, { value: 2, state: 'paused' })).rows, max)?.id, max ? 4 : 5);
    }
    assert.equal(bestRow([], true), null);
});

test('best so far only improves, in both directions and on both axes', () => {
    const values = [0.5, 0.4, 0.7, 0.6, 0.9, 0.8];
    const ends = [60, 50, 40, 30, 20, 10];
    const table = tableOf(...values.map((value, i) => trial(i + 1, { value, ended: new Date(ends[i] as number * 1000).toISOString() })));
    const line = (max: boolean, axis: 'trial' | 'time'): number[][] => bestCurve(table.list(), max, axis, 0).line.map((p) => [p[0], p[1]]);
    assert.deepEqual(line(true, 'trial'), [[1, 0.5], [3, 0.7], [5, 0.9], [6, 0.9]]);
    assert.deepEqual(line(false, 'trial'), [[1, 0.5], [2, 0.4], [6, 0.4]]);
    assert.deepEqual(line(true, 'time'), [[10_000, 0.8], [20_000, 0.9], [60_000, 0.9]]);
});

test('failed trials have no place in the curve; early ones lead it only while nothing is complete', () => {
    const table = tableOf(trial(1, { state: 'failed', value: 99 }), trial(2, { state: 'paused', value: 5 }));
    assert.deepEqual(bestCurve(table.list(), true, 'trial', 0).line, [[2, 5, 2]]);
    table.put(trial(3, { value: 1 }));
    const curve = bestCurve(table.list(), true, 'trial', 0);
    assert.deepEqual(curve.line, [[3, 1, 3]]);
    assert.deepEqual(curve.other, [[2, 5, 2]]);
});

test('one awful trial does not flatten the axis', () => {
    const values = Array.from({ length: 100 }, (_, i) => 0.8 + i / 1000);
    values[17] = -1e6;
    const [lo, hi] = focusRange(values, true) as [number, number];
    assert.ok(lo > 0.75 && hi < 0.92, `${lo} ${hi}`);
    assert.equal(focusRange([], true), null);
    const [a, b] = focusRange([3], false) as [number, number];
    assert.ok(a < 3 && b > 3);
});

test('rungs are counted by bracket and budget', () => {
    const spec = { objective: { metric: 'm' }, searchspace: {}, optimizer: { reduction_factor: 3 }, resource: { min: 1, max: 27 } };
    assert.deepEqual(rungBudgets(spec), [1, 3, 9, 27]);
    assert.deepEqual(rungBudgets({ ...spec, resource: { min: 2, max: 20 } }), [2, 6, 18, 20]);
    assert.deepEqual(rungBudgets({ objective: { metric: 'm' }, searchspace: {} }), []);
    const table = tableOf(
        trial(1, { state: 'paused', budget: 1, step: 1, value: 0.1 }), trial(2, { state: 'running', budget: 3, step: 1, value: 0.2 }),
        trial(3, { state: 'paused', budget: 3, step: 3, value: 0.3 }), trial(4, { budget: 27, step: 27, value: 0.9 }));
    const rungs = rungTable(table.list(), [1, 3, 9, 27], true);
    assert.deepEqual(rungs.map((r) => [r.budget, r.reached, r.running, r.paused, r.best]),
        [[1, 4, 0, 1, 0.1], [3, 2, 1, 1, 0.3], [9, 1, 0, 0, null], [27, 1, 0, 0, 0.9]]);
});

test('the window holds what is visible and a little more, whatever the length', () => {
    assert.deepEqual(windowOf(0, 600, 32, 0, 5), { first: 0, last: 0 });
    assert.deepEqual(windowOf(0, 600, 32, 3, 5), { first: 0, last: 3 });
    assert.deepEqual(windowOf(3200, 640, 32, 10_000, 4), { first: 96, last: 124 });
    assert.deepEqual(windowOf(1e9, 640, 32, 10_000, 4), { first: 9976, last: 10_000 }, 'beyond the end after a filter');
    for (const rows of [10, 1000, 100_000])
        for (const top of [0, 17, 5000, rows * 32]) {
            const { first, last } = windowOf(top, 640, 32, rows, 4);
            assert.ok(first >= 0 && last <= rows && last - first <= 30, `${rows} ${top}: ${first}-${last}`);
        }
    assert.equal(scrollTo(5, 0, 640, 32), 0);
    assert.equal(scrollTo(100, 0, 640, 32), 101 * 32 - 640);
    assert.equal(scrollTo(2, 640, 640, 32), 64);
});

test('the front is what no feasible trial dominates', () => {
    const table = new TrialTable(['lr'], ['ms', 'mb']);
    const told: [number, number, number][] = [[0.8, 30, 0], [0.9, 50, 0], [0.7, 40, 0], [0.8, 30, 0], [0.99, 1, 0.5]];
    told.forEach(([value, ms, violation], i) => table.put(trial(i + 1, { value, violation, values: { acc: value, ms } })));
    table.put(trial(6, { state: 'running', value: 1, values: { ms: 0 } }));
    table.put(trial(7, { value: 2, values: { ms: null } }));
    assert.deepEqual(table.get(2)?.measures, [50, null]);
    assert.deepEqual(frontRows(table.list(), [true, false]).map((r) => r.id), [1, 2, 4]);
    assert.deepEqual(frontRows(table.list(), [true]).map((r) => r.id), [7]);
    assert.deepEqual(frontRows([], [true, false]), []);
    const feasible = table.list().filter((r) => r.id < 6);
    assert.equal(bestRow(feasible, true)?.id, 2, 'the best is one that keeps the constraints');
    assert.deepEqual(topRows(feasible, 5, true).map((r) => r.id), [2, 1, 4, 3, 5]);
});

function fold(id: number, point: number, n: number, more: Partial<TrialJson> = {}): TrialJson {
    return trial(id, { point, fold: n, folds: 3, ...more });
}

test('folds of a point show their mean, whatever order they come in', () => {
    const table = tableOf(fold(3, 1, 3, { value: 4 }), fold(1, 1, 1, { value: 2 }), fold(2, 1, 2, { state: 'running', value: 9 }));
    assert.deepEqual([table.get(2)?.mean, table.get(2)?.foldsDone], [3, 2]);
    assert.deepEqual(table.judged().map((r) => [r.id, r.value, r.state]), [[1, 3, 'running']]);
    table.put(fold(2, 1, 2, { value: 3 }));
    assert.deepEqual([table.get(1)?.mean, table.get(1)?.deviation], [3, 1]);
    assert.deepEqual(table.judged().map((r) => [r.id, r.value, r.state]), [[1, 3, 'completed']]);
});

test('the refit is judged by nobody, and a failed fold fails its point', () => {
    const table = tableOf(fold(1, 1, 1), fold(2, 1, 2, { state: 'failed', value: null }), fold(3, 1, 3, { state: 'stopped', value: null }),
        fold(4, 1, 0, { value: 99, refit: true }));
    assert.deepEqual(table.judged().map((r) => [r.id, r.state]), [[1, 'failed']]);
    assert.equal(table.get(4)?.mean, null);
});

test('the mean that stands for a best point is not taken for its first fold', () => {
    const table = tableOf(fold(1, 1, 1, { value: 0.5, mean: 0.5, fold_values: [0.4, 0.6, 0.5] }));
    assert.equal(table.get(1)?.value, 0.4);
});
