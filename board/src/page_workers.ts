// SPDX-License-Identifier: Apache-2.0
//
// Who does the work: each worker's slots, what runs in them, and when it was last heard.
import { path, post, time, WorkerJson } from './api';
import { h, keyed, replace, setText } from './dom';
import * as f from './format';
import { Page } from './page';
import { Store } from './store';
import { act, confirmDialog, empty, failure, skeleton, StatePill } from './widgets';

interface Running {
    experiment?: number;
    trial?: number;
}

function runningOf(w: WorkerJson, key: 'running' | 'reserved' = 'running'): Running[] {
    const list = w[key];
    return Array.isArray(list) ? (list as Running[]).filter((r) => typeof r === 'object' && r !== null) : [];
}

function text(...values: unknown[]): string {
    for (const v of values) if (typeof v === 'string' && v !== '') return v;
    return '';
}

class WorkerRow {
    readonly el: HTMLElement;
    private readonly name = h('b', { class: 'worker-name' });
    private readonly host = h('span', { class: 'exp-sub' });
    private readonly pill = new StatePill('running');
    private readonly slots = h('div', { class: 'slots' });
    private readonly slotsText = h('span', { class: 'exp-sub' });
    private readonly beat = h('span', { class: 'worker-beat' });
    private readonly offers = h('span', { class: 'exp-sub' });
    private readonly drain: HTMLButtonElement;
    private drawn = '';
    private id = '';

    constructor() {
        this.drain = h('button', { type: 'button', class: 'button small', title: 'Finish what runs, take nothing new, then leave', onclick: () => void this.ask() }, 'Drain');
        this.el = h('div', { class: 'card worker-row' }, h('div', { class: 'worker-title' }, this.name, this.host), this.pill.el,
            h('div', { class: 'worker-slots' }, this.slots, this.slotsText), h('div', { class: 'worker-when' }, this.beat, this.offers), this.drain);
    }

    set(w: WorkerJson, now: number): void {
        this.id = w.worker;
        const running = runningOf(w);
        const next = runningOf(w, 'reserved');
        const slots = Math.max(w.slots ?? running.length, running.length);
        const state = text(w.state) || 'connected';
        setText(this.name, text(w.name, w.worker));
        setText(this.host, text(w.host));
        this.pill.set(state);
        setText(this.slotsText, `${f.count(running.length)} of ${f.plural(slots, 'slot')} busy`);
        const beat = time(text(w.heard));
        setText(this.beat, beat === null ? '' : `heard ${f.ago(beat, now)}`);
        this.beat.classList.toggle('bad', beat !== null && state === 'silent');
        setText(this.offers, offersText(w));
        this.drain.hidden = state !== 'connected';
        const key = `${slots}:${JSON.stringify([running, next])}`;
        if (key !== this.drawn) {
            this.drawn = key;
            this.drawSlots(running, next, slots);
        }
    }

    private drawSlots(running: Running[], next: Running[], slots: number): void {
        const box = (r: Running, kind: string, title: string): HTMLElement => h('a', {
            class: `slot ${kind}`, href: `#/experiments/${r.experiment}/trials/${r.trial}`, title: `${title}: experiment ${r.experiment}, trial ${r.trial}`,
        }, `${r.trial ?? '?'}`);
        const boxes: HTMLElement[] = running.map((r) => box(r, 'busy', 'Running'));
        const free = Math.min(64, slots) - boxes.length;
        for (let i = 0; i < free; i++) boxes.push(h('span', { class: 'slot', title: 'free' }));
        replace(this.slots, boxes.slice(0, 64), next.slice(0, 64).map((r) => box(r, 'next', 'Reserved, next')));
    }

    private async ask(): Promise<void> {
        const name = this.name.textContent ?? '';
        const sure = await confirmDialog(`Drain ${name}?`, [h('p', null, 'Its running trials finish, it takes no new ones, and then it leaves.')], 'Drain', false);
        if (sure) await act(`${name} drains`, () => post(`${path.workers}/${encodeURIComponent(this.id)}:drain`));
    }
}

function offersText(w: WorkerJson): string {
    const offers: Record<string, unknown> = w;
    const out: string[] = [];
    if (typeof offers.gpus === 'number' && offers.gpus > 0) out.push(f.plural(offers.gpus, 'GPU'));
    if (typeof offers.cores === 'number' && offers.cores > 0) out.push(f.plural(offers.cores, 'core'));
    if (typeof offers.memory_mb === 'number' && offers.memory_mb > 0) out.push(f.bytes(offers.memory_mb * 1024 * 1024));
    if (Array.isArray(offers.labels)) out.push(...offers.labels.map(String));
    const use = (typeof w.use === 'object' && w.use !== null ? w.use : {}) as Record<string, unknown>;
    if (typeof use.load === 'number') out.push(`load ${f.num(use.load, 2)}`);
    return out.join(' · ');
}

export class WorkersPage implements Page {
    readonly el = h('main', { class: 'page' });
    readonly title = 'Workers';
    private readonly state = h('div');
    private readonly list = h('div', { class: 'exp-list' });
    private readonly counts = h('span', { class: 'count' });
    private readonly rows = new Map<string, WorkerRow>();
    private readonly unwatch: () => void;
    private shownState = '';

    constructor(private readonly store: Store) {
        this.el.append(h('header', { class: 'page-head' }, h('h1', null, 'Workers'), this.counts), this.state, this.list);
        this.unwatch = store.watchWorkers();
    }

    update(now: number): void {
        const load = this.store.workersLoad;
        const items = this.store.workers;
        const kind = load.state === 'error' ? `error ${load.error.message}` : load.state === 'ready' && items.length === 0 ? 'empty' : load.state;
        if (kind !== this.shownState) {
            this.shownState = kind;
            if (load.state === 'error' && items.length === 0) replace(this.state, failure(load.error, () => void this.store.loadWorkers()));
            else if (load.state === 'loading' && items.length === 0) replace(this.state, skeleton(3));
            else if (items.length === 0)
                replace(this.state, empty('No worker is connected', 'Start one on this machine, or on any that reaches the driver; it appears here by itself:',
                    'magpie worker --driver tcp://127.0.0.1:8471', 'magpie worker --driver tcp://127.0.0.1:8471 --slots 4'));
            else replace(this.state);
        }
        const busy = items.reduce((n, w) => n + runningOf(w).length, 0);
        const slots = items.reduce((n, w) => n + (w.slots ?? 0), 0);
        setText(this.counts, items.length === 0 ? '' : `${f.count(items.length)}, ${f.count(busy)} of ${f.plural(slots, 'slot')} busy`);
        keyed(this.list, this.rows, items, (w) => w.worker, () => new WorkerRow(), (row, w) => row.set(w, now));
    }

    destroy(): void {
        this.unwatch();
    }
}
