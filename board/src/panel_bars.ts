// SPDX-License-Identifier: Apache-2.0
//
// Two tables that the driver computes, as bars: how much each parameter mattered, and what the absence of each component costs.
// They are read again when trials have changed, not more than once in a few seconds, and only while they are seen.
import { get, path } from './api';
import { h, replace, setText } from './dom';
import * as f from './format';
import { OpenExperiment } from './store';

const AGAIN_MS = 3000;

interface Importance {
    trials: number;
    best: number;
    caution?: string | null;
    parameters: { name: string; importance: number | null }[];
}

interface Component {
    kind: string;
    name?: string;
    value: number | null;
    deviation: number | null;
    delta?: number | null;
    runs: number;
    completed: number;
    trials: number[];
}

interface Ablation {
    direction: 'max' | 'min';
    base: Component;
    components: Component[];
}

function bar(name: HTMLElement | string, share: number, tone: string, text: string, note: string): HTMLElement {
    const fill = h('span', { class: `rung-fill ${tone}` });
    fill.style.width = `${Math.min(100, Math.max(0, 100 * share))}%`;
    return h('div', { class: 'rung bar-row' }, h('span', { class: 'rung-budget bar-name' }, name),
        h('span', { class: 'rung-bar', role: 'img', 'aria-label': text }, fill, h('span', { class: 'rung-count' }, text)), h('span', { class: 'rung-now' }, note));
}

abstract class BarsPanel<T> {
    readonly el: HTMLElement;
    protected readonly rows = h('div', { class: 'rungs bar-rows' });
    protected readonly note = h('p', { class: 'panel-note' });
    private drawn = '';
    private readAt = 0;
    private timer: ReturnType<typeof setTimeout> | undefined;
    private readonly abort = new AbortController();

    constructor(protected readonly exp: OpenExperiment, private readonly what: string) {
        this.el = h('div', { class: 'panel-body' }, this.rows, this.note);
    }

    protected abstract draw(answer: T): void;

    update(): void {
        const key = `${this.exp.table.version}:${this.exp.json?.state}`;
        if (key === this.drawn || this.timer !== undefined) return;
        const wait = this.readAt + AGAIN_MS - performance.now();
        if (this.readAt > 0 && wait > 0) {
            this.timer = setTimeout(() => {
                this.timer = undefined;
                this.update();
            }, wait);
            return;
        }
        this.drawn = key;
        this.readAt = performance.now();
        void this.read();
    }

    private async read(): Promise<void> {
        try {
            this.draw(await get<T>(`${path.experiment(this.exp.id)}/${this.what}`, this.abort.signal));
        } catch (error) {
            if (!this.abort.signal.aborted) setText(this.note, (error as Error).message);
        }
    }

    destroy(): void {
        clearTimeout(this.timer);
        this.abort.abort();
    }
}

export class ImportancePanel extends BarsPanel<Importance> {
    constructor(exp: OpenExperiment) {
        super(exp, 'importance');
    }

    static fits(exp: OpenExperiment): boolean {
        return Object.keys(exp.spec?.searchspace ?? {}).length > 1 && !exp.spec?.ablation;
    }

    protected draw(answer: Importance): void {
        const known = answer.parameters.filter((p) => p.importance !== null);
        replace(this.rows, known.map((p) => bar(p.name, p.importance as number, '', f.num(p.importance, 3), '')));
        const what = known.length > 0 ? `how much each parameter mattered for getting among the best ${f.count(answer.best)} of ${f.plural(answer.trials, 'trial')}` : '';
        setText(this.note, [what, answer.caution ?? ''].filter(Boolean).join('; '));
    }
}

export class AblationPanel extends BarsPanel<Ablation> {
    constructor(exp: OpenExperiment, private readonly pick: (trial: number) => void) {
        super(exp, 'ablation');
    }

    static fits(exp: OpenExperiment): boolean {
        return Boolean(exp.spec?.ablation);
    }

    protected draw(answer: Ablation): void {
        const sign = answer.direction === 'min' ? 1 : -1;
        const most = Math.max(...answer.components.map((c) => Math.abs(c.delta ?? 0)), 0) || 1;
        replace(this.rows, this.row(answer.base, 'nothing', 0, ''), answer.components.map((c) => {
            const harm = sign * (c.delta ?? 0);
            return this.row(c, `${c.kind} ${c.name ?? ''}`, Math.abs(harm) / most, harm < 0 ? 'bar-gain' : '');
        }));
        setText(this.note, `${this.exp.metric} without each component; the bar is the difference to having all of them`);
    }

    private row(c: Component, label: string, share: number, tone: string): HTMLElement {
        const first = c.trials[0];
        const name = first === undefined ? label : h('button', { type: 'button', class: 'link', onclick: () => this.pick(first), title: `Trial ${first}` }, label);
        const delta = typeof c.delta === 'number' ? ` (${c.delta > 0 ? '+' : ''}${f.num(c.delta, 3)})` : '';
        const text = c.value === null ? 'no result yet' : `${f.spread(c.value, c.deviation)}${delta}`;
        return bar(name, share, tone, text, `${f.count(c.completed)} of ${f.plural(c.runs, 'run')}`);
    }
}
