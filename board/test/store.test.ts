// SPDX-License-Identifier: Apache-2.0
//
// What the board knows after lists and events came in any order. The driver is a function that answers when it is told to.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Store } from '../src/store';

type Answer = (json: unknown) => void;

function completed(n: number): object {
    return { id: 1, name: 'a', state: 'running', counts: { completed: n }, spec: { searchspace: {} } };
}

function event(n: number): { id: string; event: string; data: string } {
    return { id: '9', event: 'experiment', data: JSON.stringify({ experiment: { id: 1, state: 'running', counts: { completed: n } } }) };
}

/** Requests that wait for their answers, by path. */
function driver(): { asked: (part: string) => Promise<Answer> } {
    const waiting: { url: string; answer: Answer }[] = [];
    const browser = globalThis as unknown as Record<string, unknown>;
    browser.document = { hidden: true };
    browser.fetch = (url: string) => new Promise((resolve) => {
        waiting.push({ url: String(url), answer: (json) => resolve(new Response(JSON.stringify(json), { headers: { 'Content-Type': 'application/json' } })) });
    });
    return {
        asked: async (part) => {
            for (;;) {
                const at = waiting.findIndex((w) => w.url.includes(part));
                if (at >= 0) return waiting.splice(at, 1)[0]!.answer;
                await new Promise((resolve) => setImmediate(resolve));
            }
        },
    };
}

async function settle(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

test('what happened before the stream was there is looked at again', async () => {
    const d = driver();
    const store = new Store();
    const open = store.openExperiment(1);
    (await d.asked('/experiments/1'))(completed(26));
    (await d.asked('/trials'))({ trials: [], next: null });
    await settle(() => !open.loadingTrials);
    store.setLink({ state: 'live', since: 0 });
    (await d.asked('/experiments/1'))(completed(30));
    (await d.asked('/trials'))({ trials: [], next: null });
    await settle(() => !open.loadingTrials);
    assert.equal(open.json?.counts?.completed, 30);
    store.setLink({ state: 'lost', since: 0, attempt: 1, text: '' });
    store.setLink({ state: 'live', since: 1 }); // the stream resumes after the last event: nothing is missing
    store.messages([event(31)]);
    assert.equal(open.json?.counts?.completed, 31);
    assert.equal(open.loadingTrials, false);
});

test('a list that was read before an event does not take it back', async () => {
    const d = driver();
    const store = new Store();
    const loaded = store.loadExperiments();
    const answer = await d.asked('/experiments?');
    store.messages([event(30), { id: '10', event: 'deleted', data: JSON.stringify({ experiment: 2 }) }]);
    answer({ experiments: [completed(26), { id: 2, state: 'completed', counts: {} }], next: null });
    await loaded;
    assert.deepEqual([...store.experiments.keys()], [1]);
    assert.equal(store.experiments.get(1)?.counts?.completed, 30);
    assert.equal(store.experiments.get(1)?.name, 'a');
});
