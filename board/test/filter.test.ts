// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrange, columns, parseFilter } from '../src/filter';
import { Row, TrialTable } from '../src/model';

const PARAMS = ['lr', 'opt', 'state'];

function rows(): Row[] {
    const table = new TrialTable(PARAMS);
    const put = (id: number, state: string, value: number | null, lr: number, opt: string | undefined, reason = ''): void => {
        const params: Record<string, number | string> = { lr, state: `p${id}` };
        if (opt) params.opt = opt;
        table.put({ trial: id, attempt: 1, state: state as 'completed', params, value, reason, worker: `gpu-${id % 2}` });
    };
    put(1, 'completed', 0.9, 0.1, 'sgd');
    put(2, 'failed', null, 0.01, 'adam', 'killed by signal 9 (out of memory)');
    put(3, 'completed', 0.8, 0.001, 'Adam');
    put(4, 'running', 0.5, 0.5, undefined);
    return table.list();
}

function ids(filter: string): number[] {
    const parsed = parseFilter(filter, PARAMS);
    assert.ok(parsed.ok, filter);
    return rows().filter((r) => !parsed.match || parsed.match(r, 0)).map((r) => r.id);
}

test('filters select by state, numbers, texts and parameters', () => {
    const cases: [string, number[]][] = [
        ['', [1, 2, 3, 4]], ['   ', [1, 2, 3, 4]], ['state:completed', [1, 3]], ['state:failed,running', [2, 4]],
        ['state!=completed', [2, 4]], ['value>0.85', [1]], ['value<=0.8', [3, 4]], ['lr<0.05 opt=adam', [2, 3]],
        ['opt:ad', [2, 3]], ['worker:gpu-1', [1, 3]], ['signal', [2]], ['"out of memory"', [2]], ['why:"signal 9"', [2]],
        ['#3', [3]], ['id=3', [3]], ['trial>2', [3, 4]], ['params.state=p4', [4]], ['lr=1e-1', [1]], ['params.lr>0.2', [4]], ['opt!=sgd', [2, 3, 4]],
    ];
    for (const [filter, want] of cases) assert.deepEqual(ids(filter), want, filter);
});

test('a wrong filter says what is wrong', () => {
    const cases: [string, RegExp][] = [
        ['lrr>1', /“lrr”.*did you mean “lr”/], ['state:done', /no state “done”: completed/], ['value>high', /“high” is not a number/],
        ['value>', /needs a value, for example value>0.5/], ['zzzzzzzz=1', /no column “zzzzzzzz”$/],
    ];
    for (const [filter, want] of cases) {
        const parsed = parseFilter(filter, PARAMS);
        assert.ok(!parsed.ok, filter);
        assert.match(parsed.error, want);
    }
});

test('orders put missing cells last and break ties by id', () => {
    const known = columns(PARAMS);
    const order = (key: string, down: boolean): number[] => arrange(rows(), null, { key, down }, known, 0).map((r) => r.id);
    assert.deepEqual(order('value', true), [1, 3, 4, 2]);
    assert.deepEqual(order('value', false), [4, 3, 1, 2]);
    assert.deepEqual(order('trial', true), [4, 3, 2, 1]);
    assert.deepEqual(order('state', false), [1, 3, 2, 4]);
    assert.deepEqual(order('opt', false), [3, 2, 1, 4]);
    assert.deepEqual(order('nonsense', false), [1, 2, 3, 4]);
});
