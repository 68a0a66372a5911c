// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { curveChoice, CurveSet, CURVES_MAX } from '../src/curves';
import { changesOf } from '../src/events';
import { progress } from '../src/model';
import { isCategory, isLog, paramSpec } from '../src/space';

const of = (event: string, data: unknown): unknown => changesOf({ id: '1', event, data: typeof data === 'string' ? data : JSON.stringify(data) });

test('events become changes', () => {
    const trial = { trial: 7, experiment: 3, attempt: 1, state: 'running', params: {} };
    assert.deepEqual(of('trial', trial), [{ kind: 'trial', experiment: 3, trial }]);
    assert.deepEqual(of('experiment', { id: 3, name: 'x', state: 'running' }), [{ kind: 'experiment', experiment: { id: 3, name: 'x', state: 'running' } }]);
    assert.deepEqual(of('deleted', { experiment: 3 }), [{ kind: 'gone', id: 3 }]);
    assert.deepEqual(of('worker', { worker: 'w1' }), [{ kind: 'worker', worker: { worker: 'w1' } }]);
    assert.deepEqual(of('metrics', { experiment: 3, points: [{ trial: 7, attempt: 2, step: 4, values: { a: 1, b: null } }] }),
        [{ kind: 'points', experiment: 3, points: [{ trial: 7, attempt: 2, step: 4, values: { a: 1, b: null } }] }]);
    assert.deepEqual(of('reset', ''), [{ kind: 'reset' }]);
});

test('an unknown or broken event changes nothing', () => {
    const cases: [string, unknown][] = [
        ['trial', '{'], ['trial', 'null'], ['trial', '[]'], ['trial', { trial: 'x' }], ['trial', { trial: 1 }], ['experiment', { name: 'no id' }],
        ['metrics', { experiment: 3, points: [{ trial: 1 }] }], ['metrics', { points: [{ trial: 1, step: 1, values: {} }] }],
        ['deleted', {}], ['worker', {}], ['something-new', { id: 1 }],
    ];
    for (const [event, data] of cases) assert.deepEqual(of(event, data), [], `${event} ${JSON.stringify(data)}`);
});

test('a curve is by step; the newest attempt of a step is shown, in whatever order points come', () => {
    const set = new CurveSet();
    for (const [attempt, step, value] of [[1, 3, 0.3], [1, 1, 0.1], [2, 3, 0.35], [1, 3, 0.99], [2, 4, 0.4], [1, 2, 0.2]] as const)
        set.add(7, attempt, step, value);
    assert.deepEqual(set.curves.get(7), { trial: 7, steps: [1, 2, 3, 4], values: [0.1, 0.2, 0.35, 0.4], attempts: [1, 1, 2, 2] });
});

test('the set of curves is bounded', () => {
    const set = new CurveSet();
    for (let t = 1; t <= CURVES_MAX + 50; t++) set.add(t, 1, 1, t);
    assert.equal(set.curves.size, CURVES_MAX);
    assert.ok(!set.wants(CURVES_MAX + 1) && set.wants(1));
    set.drop(1);
    assert.ok(set.wants(CURVES_MAX + 1));
});

test('curves are chosen: selected, best, running, newest', () => {
    assert.deepEqual(curveChoice([9], [1, 2], [3], [1, 2, 3, 4, 5], 6), [9, 1, 2, 3, 5, 4]);
    assert.deepEqual(curveChoice([], [1, 2], [3], [1, 2, 3], 2), [1, 2]);
});

test('progress counts started trials where most pause, ended ones elsewhere', () => {
    const counts = { completed: 3, stopped: 1, failed: 1, paused: 90, running: 4, waiting: 1 };
    assert.deepEqual(progress(counts, 200, true), { done: 99, ended: 5, text: 'of 200 trials started' });
    assert.deepEqual(progress(counts, 200, false), { done: 5, ended: 5, text: 'of 200 trials ended' });
    assert.deepEqual(progress({ completed: 1, running: 2 }, null, false), { done: 1, ended: 1, text: 'trial ended' });
    assert.deepEqual(progress({ completed: 2 }, null, false).text, 'trials ended');
});

test('both forms of a search space are read', () => {
    const spec = { objective: { metric: 'm' }, searchspace: {
        lr: { type: 'DOUBLE' as const, range: [0, 1] as [number, number], scale: 'log' }, k: ['DISCRETE', [1, 2]] as [string, unknown],
        n: ['INTEGER', [1, 9]] as [string, unknown] } };
    assert.ok(isLog(spec, 'lr') && !isLog(spec, 'n') && !isLog(undefined, 'lr'));
    assert.ok(isCategory(spec, 'k') && !isCategory(spec, 'n') && !isCategory(spec, 'absent'));
    assert.deepEqual(paramSpec(spec, 'n'), { type: 'INTEGER', range: [1, 9] });
});
