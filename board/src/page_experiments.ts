// SPDX-License-Identifier: Apache-2.0
//
// All experiments: how each stands, at a glance.
import { etaMs, ExperimentJson, time, whyText } from './api';
import { h, keyed, replace, setText, show } from './dom';
import * as f from './format';
import { progress } from './model';
import { Page } from './page';
import { algorithm } from './space';
import { Store } from './store';
import { CountsBar, empty, failure, skeleton, StatePill } from './widgets';

class ExperimentRow {
    readonly el: HTMLAnchorElement;
    private readonly id = h('span', { class: 'exp-id' });
    private readonly name = h('span', { class: 'exp-name' });
    private readonly sub = h('span', { class: 'exp-sub' });
    private readonly pill = new StatePill('running');
    private readonly bar = new CountsBar();
    private readonly progress = h('span', { class: 'exp-progress-text' });
    private readonly best = h('b');
    private readonly metric = h('span', { class: 'exp-sub' });
    private readonly eta = h('span', { class: 'exp-eta' });
    private readonly age = h('span', { class: 'exp-sub' });
    private readonly why = h('p', { class: 'exp-why' });

    constructor(id: number) {
        this.el = h('a', { class: 'card exp-row', href: `#/experiments/${id}` },
            h('div', { class: 'exp-title' }, h('div', { class: 'exp-line' }, this.name, this.id), this.sub),
            this.pill.el,
            h('div', { class: 'exp-progress' }, this.bar.el, this.progress),
            h('div', { class: 'exp-best' }, this.best, this.metric),
            h('div', { class: 'exp-when' }, this.eta, this.age), this.why);
    }

    set(e: ExperimentJson, now: number): void {
        const counts = e.counts ?? {};
        const limit = e.limits?.trials ?? e.spec?.limits?.trials ?? null;
        const p = progress(counts, limit, (counts.paused ?? 0) > 0);
        setText(this.id, `#${e.id}`);
        setText(this.name, e.name || 'unnamed');
        setText(this.sub, [e.algorithm ?? (e.spec ? algorithm(e.spec) : ''), e.project && e.project !== 'default' ? e.project : '', ...(e.tags ?? [])].filter(Boolean).join(' · '));
        this.pill.set(e.state);
        this.bar.set(counts, limit);
        setText(this.progress, `${f.count(p.done)} ${p.text}`);
        setText(this.best, f.objective(e.best?.value));
        setText(this.metric, e.objective?.metric ?? e.spec?.objective?.metric ?? '');
        const eta = e.state === 'running' ? etaMs(e.eta, now) : null;
        setText(this.eta, eta !== null ? `${f.duration(eta)} left` : e.ended ? `ended ${f.ago(time(e.ended), now)}` : '');
        setText(this.age, `created ${f.ago(time(e.created), now)}`);
        const why = whyText(e.why);
        setText(this.why, why);
        show(this.why, why !== '' && e.state !== 'completed');
    }
}

export class ExperimentsPage implements Page {
    readonly el = h('main', { class: 'page' });
    readonly title = 'Experiments';
    private readonly list = h('div', { class: 'exp-list' });
    private readonly counts = h('span', { class: 'count' });
    private readonly state = h('div');
    private readonly rows = new Map<string, ExperimentRow>();
    private shownState = '';

    constructor(private readonly store: Store) {
        this.el.append(h('header', { class: 'page-head' }, h('h1', null, 'Experiments'), this.counts), this.state, this.list);
        void store.loadExperiments();
    }

    update(now: number): void {
        const load = this.store.experimentsLoad;
        const items = [...this.store.experiments.values()].sort((a, b) => b.id - a.id);
        const kind = load.state === 'error' ? `error ${load.error.message}` : load.state === 'ready' && items.length === 0 ? 'empty' : load.state;
        if (kind !== this.shownState) {
            this.shownState = kind;
            if (load.state === 'error' && items.length === 0) replace(this.state, failure(load.error, () => void this.store.loadExperiments()));
            else if (load.state === 'loading' && items.length === 0) replace(this.state, skeleton(4));
            else if (items.length === 0)
                replace(this.state, empty('No experiments yet', 'Submit one and it appears here by itself:',
                    'magpie submit experiment.json', 'magpie run experiment.json --workers 2'));
            else replace(this.state);
        }
        const running = items.filter((e) => e.state === 'running').length;
        setText(this.counts, items.length === 0 ? '' : running > 0 ? `${f.count(items.length)}, ${f.count(running)} running` : f.count(items.length));
        keyed(this.list, this.rows, items, (e) => String(e.id), (e) => new ExperimentRow(e.id), (row, e) => row.set(e, now));
    }

    destroy(): void {
        this.rows.clear();
    }
}
