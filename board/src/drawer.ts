// SPDX-License-Identifier: Apache-2.0
//
// One trial, whole: parameters, every metric, where it ran, its attempts, the end of its log, and what can be done with it.
import { get, getText, ParamValue, path, post, TrialJson, time } from './api';
import { axis, Chart, GRID, Option } from './chart';
import { h, replace, setText, show } from './dom';
import { Change } from './events';
import * as f from './format';
import { MetricPoint, trialMetrics } from './load_curves';
import { FINISHED, rowDuration } from './model';
import { OpenExperiment } from './store';
import { colour } from './theme';
import { act, confirmDialog, icon, paramList, StatePill } from './widgets';

const LOG_EVERY_MS = 2000;
const LOG_BYTES = 64 * 1024;

export class Drawer {
    readonly el: HTMLElement;
    private readonly title = h('h2', null);
    private readonly pill = new StatePill('waiting');
    private readonly why = h('p', { class: 'drawer-why' });
    private readonly facts = h('dl', { class: 'facts' });
    private readonly actions = h('div', { class: 'actions' });
    private readonly params = h('div');
    private readonly metrics = h('div', { class: 'mini-charts' });
    private readonly attempts = h('div', { class: 'attempts' });
    private readonly where = h('div');
    private readonly log = h('pre', { class: 'log', tabindex: '0', 'aria-label': 'Log' });
    private readonly logNote = h('span', { class: 'section-note' });
    private readonly sections: Record<string, HTMLElement>;
    private trial = 0;
    private detail: TrialJson | null = null;
    private points = new Map<number, MetricPoint>(); // by step
    private charts = new Map<string, Chart>();
    private abort = new AbortController();
    private logTimer: ReturnType<typeof setTimeout> | undefined;
    private lastVersion = '';
    private staleTimer: ReturnType<typeof setTimeout> | undefined;

    constructor(private readonly exp: OpenExperiment, private readonly go: (trial: number) => void, private readonly step: (d: 1 | -1) => void) {
        const button = (name: string, label: string, run: () => void): HTMLElement =>
            h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick: run }, icon(name));
        const section = (title: string, body: HTMLElement, note?: HTMLElement): HTMLElement =>
            h('section', null, h('h3', null, title, note ?? null), body);
        this.sections = {
            params: section('Parameters', this.params),
            metrics: section('Metrics', this.metrics),
            attempts: section('History', this.attempts),
            where: section('Where it ran', this.where),
            log: section('Log', this.log, this.logNote),
        };
        this.el = h('aside', { class: 'drawer', 'aria-label': 'Trial', hidden: true, tabindex: '-1' },
            h('header', null, this.title, this.pill.el, h('span', { class: 'grow' }),
                button('left', 'Previous trial in the table', () => this.step(-1)), button('right', 'Next trial in the table', () => this.step(1)),
                button('close', 'Close (Esc)', () => this.go(0))),
            h('div', { class: 'drawer-body' }, this.why, this.facts, this.actions, Object.values(this.sections)));
    }

    get isOpen(): boolean {
        return this.trial > 0;
    }

    open(trial: number): void {
        if (trial === this.trial) return;
        this.reset();
        this.trial = trial;
        show(this.el, trial > 0);
        if (trial === 0) return;
        setText(this.title, `Trial ${trial}`);
        void this.load();
        void this.loadMetrics();
        this.sections.log!.hidden = !this.hasProgram;
        void this.loadLog();
        this.update();
    }

    private reset(): void {
        this.abort.abort();
        this.abort = new AbortController();
        clearTimeout(this.logTimer);
        clearTimeout(this.staleTimer);
        this.staleTimer = undefined;
        for (const chart of this.charts.values()) chart.destroy();
        this.charts.clear();
        this.points.clear();
        this.detail = null;
        this.lastVersion = '';
        for (const el of [this.params, this.metrics, this.attempts, this.where, this.facts, this.actions, this.log]) el.replaceChildren();
        setText(this.logNote, '');
    }

    /** Asked trials run in somebody else's program: the driver has no output of theirs. */
    private get hasProgram(): boolean {
        return this.exp.spec?.trial !== undefined;
    }

    // ---- loading ----

    private async load(): Promise<void> {
        const signal = this.abort.signal;
        try {
            this.detail = await get<TrialJson>(path.trial(this.exp.id, this.trial), signal);
            this.exp.table.put(this.detail);
            this.fillDetail(this.detail);
        } catch (error) {
            if (!signal.aborted) setText(this.why, (error as Error).message);
        }
    }

    private async loadMetrics(): Promise<void> {
        const signal = this.abort.signal;
        try {
            for (const p of await trialMetrics(this.exp.id, this.trial, signal)) this.addPoint(p);
            this.drawMetrics();
        } catch {
            // Live points still come; opening the trial again reads the whole.
        }
    }

    private async loadLog(): Promise<void> {
        const signal = this.abort.signal;
        clearTimeout(this.logTimer);
        if (!this.hasProgram) return;
        try {
            const text = await getText(`${path.trial(this.exp.id, this.trial)}/log?tail=${LOG_BYTES}`, signal);
            const atEnd = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 8;
            if (this.log.textContent !== text) {
                this.log.textContent = text;
                if (atEnd) this.log.scrollTop = this.log.scrollHeight;
            }
            setText(this.logNote, text === '' ? 'nothing printed yet' : text.length >= LOG_BYTES ? `the last ${f.bytes(LOG_BYTES)}` : '');
            show(this.log, text !== '');
        } catch (error) {
            if (signal.aborted) return;
            show(this.log, false);
            setText(this.logNote, (error as { status?: number }).status === 404 ? 'none kept for this trial' : 'cannot be read now');
        }
        if (this.exp.table.get(this.trial)?.state === 'running') this.logTimer = setTimeout(() => void this.loadLog(), LOG_EVERY_MS);
    }

    event(change: Change): void {
        if (!this.trial) return;
        if (change.kind === 'points' && change.experiment === this.exp.id) {
            const mine = change.points.filter((p) => p.trial === this.trial);
            for (const p of mine) this.addPoint(p);
            if (mine.length > 0) this.drawMetrics();
        }
        // The list's rows are short: what only the detail has is read again, not more than once a second.
        if (change.kind === 'trial' && change.experiment === this.exp.id && change.trial.trial === this.trial)
            this.staleTimer ??= setTimeout(() => {
                this.staleTimer = undefined;
                void this.load();
                void this.loadLog();
            }, 1000);
        if (change.kind === 'reset') {
            void this.load();
            void this.loadMetrics();
        }
    }

    private addPoint(p: MetricPoint): void {
        const old = this.points.get(p.step);
        if (old && (old.attempt ?? 0) > (p.attempt ?? 0)) return;
        this.points.set(p.step, old && old.attempt === p.attempt ? { ...p, values: { ...old.values, ...p.values } } : p);
    }

    // ---- drawing ----

    update(): void {
        const row = this.exp.table.get(this.trial);
        if (!this.trial || !row) return;
        const now = Date.now();
        this.pill.set(row.state);
        setText(this.why, row.text);
        show(this.why, row.text !== '');
        this.why.classList.toggle('bad', row.state === 'failed');
        const unit = this.exp.spec?.resource?.unit ?? 'step';
        const key = `${this.exp.json?.state}:${row.mean}:${row.foldsDone}:${row.state}:${row.attempt}:${row.step}:${row.value}:${row.worker}:${f.duration(rowDuration(row, now))}`;
        if (key === this.lastVersion) return;
        this.lastVersion = key;
        const fact = (name: string, text: string): HTMLElement => h('div', null, h('dt', null, name), h('dd', null, text));
        replace(this.facts, fact(this.exp.metric, f.objective(row.value)),
            fact(unit, row.step === null ? '–' : row.budget === null ? f.count(row.step) : `${f.count(row.step)} of ${f.count(row.budget)}`),
            fact('duration', f.duration(rowDuration(row, now))), fact('attempt', row.attempt > 0 ? f.count(row.attempt) : 'not started'),
            ...(row.folds > 0 ? [fact('fold', row.fold === 0 ? `refit of ${row.point}` : `${row.fold} of ${row.folds}`),
                row.folds > 1 && row.fold > 0 ? fact(`mean of ${row.foldsDone} folds`, f.spread(row.mean, row.deviation)) : null] : []),
            fact('worker', f.worker(row.worker) || '–'), fact('failures · losses', `${row.failures} · ${row.losses}`));
        const params: Record<string, ParamValue> = {};
        this.exp.table.params.forEach((name, i) => {
            const v = row.params[i];
            if (v !== undefined) params[name] = v;
        });
        replace(this.params, Object.keys(params).length > 0 ? paramList(params) : h('p', { class: 'muted' }, 'No parameter is active.'));
        this.drawActions(FINISHED.has(row.state), row.state);
    }

    private drawActions(ended: boolean, state: string): void {
        const one = (name: string, label: string, title: string, run: () => void): HTMLElement =>
            h('button', { type: 'button', class: 'button small', title, onclick: run }, icon(name), label);
        const url = path.trial(this.exp.id, this.trial);
        const again = one('retry', 'Run again', 'A new trial with the same parameters', () => {
            void act(`Trial ${this.trial} will run again`, () => post(`${url}:retry`));
        });
        const cancel = one('stop', 'Cancel trial', 'End it now; its parameters are not tried again', () => void this.cancel(url));
        const open = this.exp.json?.state === 'running' || this.exp.json?.state === 'paused';
        replace(this.actions, !ended && open ? cancel : null, ended && state !== 'completed' ? again : null);
    }

    private async cancel(url: string): Promise<void> {
        const trial = this.trial;
        const sure = await confirmDialog(`Cancel trial ${trial}?`, [h('p', null, 'It ends now and counts as cancelled. The others go on.')], 'Cancel trial', true);
        if (sure) await act(`Trial ${trial} is cancelled`, () => post(`${url}:cancel`));
    }

    private fillDetail(t: TrialJson): void {
        const now = Date.now();
        const line = (name: string, when: string | null | undefined): HTMLElement | null =>
            when ? h('div', { class: 'event' }, h('time', { datetime: when, title: when }, f.clock(time(when), now)), h('span', null, name)) : null;
        const list = Array.isArray(t.attempts) ? (t.attempts as Record<string, unknown>[]) : [];
        replace(this.attempts, line('created', t.created), line('first started', t.started),
            list.map((a) => attemptLine(a, now)), line(`ended: ${t.state}`, t.ended),
            t.late ? h('div', { class: 'event' }, h('span', null, `${f.plural(t.late, 'late message')} kept, without effect`)) : null);
        const where = t.where && typeof t.where === 'object' ? Object.entries(t.where) : [];
        replace(this.where, where.length > 0 ? paramList(flat(where)) : null);
        show(this.sections.where as HTMLElement, where.length > 0);
        show(this.sections.attempts as HTMLElement, this.attempts.childElementCount > 0);
    }

    private drawMetrics(): void {
        const points = [...this.points.values()].sort((a, b) => a.step - b.step);
        const names = new Set<string>();
        for (const p of points) for (const name of Object.keys(p.values)) names.add(name);
        const ordered = [...names].sort((a, b) => Number(b === this.exp.metric) - Number(a === this.exp.metric) || (a < b ? -1 : 1)).slice(0, 12);
        for (const name of ordered) {
            let chart = this.charts.get(name);
            if (!chart) {
                chart = new Chart(`${name} over steps`, () => this.drawMetrics(), () => undefined);
                this.charts.set(name, chart);
                this.metrics.append(h('figure', null, h('figcaption', null, name), chart.el));
            }
            const data = points.filter((p) => name in p.values).map((p) => [p.step, p.values[name] ?? null] as [number, number | null]);
            chart.set(miniOption(name, data, name === this.exp.metric));
            chart.setSpots(data.filter((d): d is [number, number] => d[1] !== null).map(([x, y]) => ({ x, y, trial: x })),
                (s) => [h('div', { class: 'tip-value' }, h('span', null, `step ${f.count(s.x)}`), h('b', null, f.num(s.y, 5)))]);
        }
        show(this.sections.metrics as HTMLElement, ordered.length > 0);
    }

    destroy(): void {
        this.reset();
    }
}

function miniOption(name: string, data: [number, number | null][], main: boolean): Option {
    const c = colour(main ? 'accent' : 'running');
    const label = { color: colour('faint'), fontSize: 10, hideOverlap: true, formatter: (v: number) => f.num(v, 3) };
    return {
        grid: { ...GRID, top: 8, bottom: 4, left: 4, right: 10 },
        xAxis: axis({ minInterval: 1, splitLine: { show: false }, axisLabel: label, splitNumber: 3 }),
        yAxis: axis({ splitNumber: 3, axisLabel: label }),
        series: [{ name, type: 'line', data, symbolSize: 5, showSymbol: data.length <= 30, silent: true, lineStyle: { color: c, width: 2 }, itemStyle: { color: c } }],
    };
}

function attemptLine(a: Record<string, unknown>, now: number): HTMLElement {
    const words = [`attempt ${String(a.attempt ?? '?')}`];
    for (const key of ['worker', 'holder', 'state', 'reason']) if (typeof a[key] === 'string' && a[key]) words.push(a[key] as string);
    const when = typeof a.started === 'string' ? a.started : null;
    return h('div', { class: 'event' }, h('time', null, when ? f.clock(time(when), now) : ''), h('span', null, words.join(' · ')));
}

function flat(entries: [string, unknown][]): Record<string, ParamValue> {
    const out: Record<string, ParamValue> = {};
    for (const [key, v] of entries) {
        if (v !== null && typeof v === 'object' && !Array.isArray(v))
            for (const [inner, w] of Object.entries(v)) out[`${key} ${inner}`] = f.value(w);
        else if (v !== null && v !== '') out[key] = typeof v === 'number' ? v : f.value(v);
    }
    return out;
}
