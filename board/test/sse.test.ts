// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff, Message, SseParser } from '../src/sse';

const TEXT = ': hello\n\nid: 7\nevent: trial\ndata: {"a":\ndata: 1}\n\nid: 8\r\ndata: x\r\n\r\n\r\nevent: nothing\n\nid:9\rdata:no space\r\rdata: tail\n';

function parse(pieces: string[]): Message[] {
    const out: Message[] = [];
    const parser = new SseParser((m) => out.push(m));
    for (const p of pieces) parser.feed(p);
    return out;
}

test('messages are the same however the bytes are cut', () => {
    const whole = parse([TEXT]);
    assert.deepEqual(whole, [
        { id: '', event: ':', data: 'hello' },
        { id: '7', event: 'trial', data: '{"a":\n1}' },
        { id: '8', event: 'message', data: 'x' },
        { id: '9', event: 'message', data: 'no space' },
    ]);
    for (let cut = 1; cut < TEXT.length; cut++) assert.deepEqual(parse([TEXT.slice(0, cut), TEXT.slice(cut)]), whole, `cut at ${cut}`);
    assert.deepEqual(parse([...TEXT]), whole, 'byte by byte');
});

test('an unfinished message is not delivered', () => {
    assert.deepEqual(parse(['id: 1\ndata: half']), []);
    assert.deepEqual(parse(['id: 1\ndata: half\n']), []);
});

test('an id counts when its message is whole, with or without data', () => {
    const parser = new SseParser(() => undefined);
    const after = (text: string): string => {
        parser.feed(text);
        return parser.lastId;
    };
    assert.equal(after('data: x\nid: 5\n'), '', 'the blank line is missing');
    assert.equal(after('\n'), '5');
    assert.equal(after('id: 6\n\n'), '6', 'a message without data moves it too');
    assert.equal(after('data: y\n\n'), '6', 'a message without an id does not');
});

test('waiting before a new connection grows and stays bounded', () => {
    for (const random of [0, 0.5, 0.999]) {
        let last = 0;
        for (let n = 0; n < 40; n++) {
            const ms = backoff(n, random);
            assert.ok(ms >= last && ms >= 180 && ms <= 6250, `attempt ${n}: ${ms}`);
            last = ms;
        }
    }
});
