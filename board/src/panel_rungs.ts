// SPDX-License-Identifier: Apache-2.0
//
// Successive halving as a funnel: one row a rung, how many trials got there, who runs to it, who waits on it.
import { h, replace } from './dom';
import * as f from './format';
import { Rung, rungBudgets, rungTable } from './rungs';
import { OpenExperiment } from './store';

export class RungsPanel {
    readonly el = h('div', { class: 'panel-body rungs' });
    private drawn = '';

    constructor(private readonly exp: OpenExperiment, private readonly pick: (trial: number) => void) {}

    static fits(exp: OpenExperiment): boolean {
        return rungBudgets(exp.spec).length > 1;
    }

    update(): void {
        if (String(this.exp.table.version) === this.drawn) return;
        this.drawn = String(this.exp.table.version);
        const rungs = rungTable(this.exp.table.list(), rungBudgets(this.exp.spec), this.exp.maximize);
        const most = Math.max(1, ...rungs.map((r) => r.reached));
        const several = new Set(rungs.map((r) => r.bracket)).size > 1;
        const unit = this.exp.spec?.resource?.unit ?? 'step';
        let last: number | null = null;
        const rows: HTMLElement[] = [];
        for (const rung of rungs) {
            if (several && rung.bracket !== last) rows.push(h('h3', null, `Bracket ${rung.bracket}`));
            last = rung.bracket;
            rows.push(this.row(rung, most, unit));
        }
        replace(this.el, rows.length > 0 ? rows : h('p', { class: 'panel-empty' }, 'No trial has started yet.'));
    }

    private row(rung: Rung, most: number, unit: string): HTMLElement {
        const bar = h('span', { class: 'rung-fill' });
        bar.style.width = `${(100 * rung.reached) / most}%`;
        const now = [rung.running > 0 ? `${f.count(rung.running)} running` : '', rung.paused > 0 ? `${f.count(rung.paused)} paused` : ''].filter(Boolean);
        const best = rung.best === null ? null
            : h('button', { type: 'button', class: 'link', onclick: () => this.pick(rung.bestTrial), title: `Trial ${rung.bestTrial}` }, f.objective(rung.best));
        return h('div', { class: 'rung' },
            h('span', { class: 'rung-budget' }, `${f.count(rung.budget)} ${unit}${rung.budget === 1 ? '' : 's'}`),
            h('span', { class: 'rung-bar' }, bar, h('span', { class: 'rung-count' }, f.count(rung.reached))),
            h('span', { class: 'rung-now' }, now.join(', ')),
            h('span', { class: 'rung-best' }, best));
    }
}
