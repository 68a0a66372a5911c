// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as f from '../src/format';

test('numbers keep about four digits and never mislead', () => {
    const cases: [number | null, string][] = [
        [0, '0'], [1, '1'], [-3, '−3'], [0.9134567, '0.9135'], [0.5, '0.5'], [12.3456, '12.35'], [1234.567, '1235'],
        [12345, '12\u202f345'], [0.001, '0.001'], [0.00012345, '1.234e−4'], [1e-5, '1e−5'], [3.2e8, '320\u202f000\u202f000'],
        [1.5e12, '1.5e12'], [NaN, 'NaN'], [Infinity, '∞'], [-Infinity, '−∞'], [null, '–'], [-0.25, '−0.25'],
    ];
    for (const [x, want] of cases) assert.equal(f.num(x), want, String(x));
});

test('objective values line up', () => {
    const cases: [number | null, string][] = [
        [0.9, '0.9000'], [0.91349, '0.9135'], [12.5, '12.500'], [123.456, '123.46'], [0.005, '0.005000'], [0, '0.0000'],
        [1e-7, '1e−7'], [-0.5, '−0.5000'], [54321.99, '54\u202f322.0'], [null, '–'],
    ];
    for (const [x, want] of cases) assert.equal(f.objective(x), want, String(x));
});

test('durations use two units at most', () => {
    const cases: [number | null, string][] = [
        [0, '0 ms'], [12.4, '12 ms'], [999, '999 ms'], [1000, '1.0 s'], [9940, '9.9 s'], [9960, '10 s'], [59_600, '1 m'],
        [61_000, '1 m 01 s'], [3_600_000, '1 h'], [3_660_000, '1 h 01 m'], [50 * 3_600_000, '2 d 02 h'], [-5, '0 ms'], [null, '–'],
    ];
    for (const [ms, want] of cases) assert.equal(f.duration(ms), want, String(ms));
});

test('ages, shares, sizes and plurals', () => {
    const now = 1_000_000_000_000;
    assert.equal(f.ago(now - 1000, now), 'just now');
    assert.equal(f.ago(now - 42_000, now), '42 s ago');
    assert.equal(f.ago(now - 3 * 60_000, now), '3 min ago');
    assert.equal(f.ago(now - 5 * 3_600_000, now), '5 h ago');
    assert.equal(f.ago(null, now), '–');
    assert.equal(f.percent(0, 10), '0 %');
    assert.equal(f.percent(1, 1000), '<1 %');
    assert.equal(f.percent(999, 1000), '99 %', 'not 100 before the end');
    assert.equal(f.percent(5, 0), '–');
    assert.equal(f.bytes(512), '512 B');
    assert.equal(f.bytes(1536), '1.5 KiB');
    assert.equal(f.worker('ada-1-4980b60fd9f8e371'), 'ada-1');
    assert.equal(f.worker('my-client'), 'my-client');
    assert.equal(f.plural(1, 'trial'), '1 trial');
    assert.equal(f.plural(10_000, 'trial'), '10\u202f000 trials');
});
