// SPDX-License-Identifier: Apache-2.0
//
// One experiment: how it stands, whether it gets better, what makes it better, and every trial.
import { etaMs, ParamValue, path, post, time, TrialState, TRIAL_STATES, whyText } from './api';
import { Drawer } from './drawer';
import { h, replace, setClass, setText, show } from './dom';
import { Change } from './events';
import * as f from './format';
import { bestRow, progress, Row, TrialTable } from './model';
import { Page } from './page';
import { AblationPanel, ImportancePanel } from './panel_bars';
import { BestPanel } from './panel_best';
import { CurvesPanel } from './panel_curves';
import { ParallelPanel, ScatterPanel } from './panel_params';
import { ParetoPanel } from './panel_pareto';
import { RungsPanel } from './panel_rungs';
import { algorithm } from './space';
import { OpenExperiment, Store } from './store';
import { TrialGrid } from './table';
import { act, command, confirmDialog, CountsBar, failure, icon, infoDialog, paramList, Segments, skeleton, StatePill } from './widgets';

const CHART_MS = 500;
const CHART_WHILE_LOADING = 1000; // trials
type View = 'pareto' | 'curves' | 'scatter' | 'parallel' | 'rungs' | 'importance' | 'ablation';

export class ExperimentPage implements Page {
    readonly el = h('main', { class: 'page' });
    private readonly exp: OpenExperiment;
    private body: Body | null = null;
    private shownState = '';
    private wanted = 0;

    constructor(private readonly store: Store, private readonly id: number) {
        this.exp = store.openExperiment(id);
    }

    get title(): string {
        const e = this.exp.json;
        if (!e) return `Experiment ${this.id}`;
        const limit = e.limits?.trials ?? null;
        const p = progress(this.exp.counts, limit, Boolean(e.spec?.resource));
        const how = e.state === 'running' && limit ? `${f.percent(p.done, limit)} ` : '';
        return `${how}${e.name || 'unnamed'} #${this.id}`;
    }

    route(rest: string[]): void {
        this.wanted = rest[0] === 'trials' ? Number(rest[1]) || 0 : 0;
        this.body?.open(this.wanted);
    }

    update(now: number): void {
        const load = this.exp.load;
        const kind = this.exp.json ? 'body' : load.state;
        if (kind !== this.shownState) {
            this.shownState = kind;
            this.body?.destroy();
            this.body = null;
            if (kind === 'body') {
                this.body = new Body(this.exp);
                replace(this.el, this.body.children);
                this.body.open(this.wanted);
            } else if (load.state === 'error') {
                replace(this.el, failure(load.error, () => {
                    this.shownState = '';
                    void this.exp.reload();
                }), h('p', { class: 'center' }, h('a', { href: '#/' }, 'All experiments')));
            } else {
                replace(this.el, skeleton(6));
            }
        }
        this.body?.update(now);
    }

    event(change: Change): void {
        this.body?.drawer.event(change);
    }

    key(event: KeyboardEvent): boolean {
        return this.body?.key(event) ?? false;
    }

    destroy(): void {
        this.body?.destroy();
        this.store.closeExperiment();
    }
}

class Body {
    readonly drawer: Drawer;
    readonly children: HTMLElement[];
    private readonly head: Head;
    private readonly summary: Summary;
    private readonly grid: TrialGrid;
    private readonly best: BestPanel;
    private readonly views: Views;
    private loading = true;
    private chartsAt = 0;
    private chartTimer: ReturnType<typeof setTimeout> | undefined;

    constructor(private readonly exp: OpenExperiment) {
        const pick = (trial: number): void => this.go(trial);
        this.head = new Head(exp);
        this.grid = new TrialGrid(exp, pick);
        this.summary = new Summary(exp, pick, (state) => this.grid.setFilter(this.grid.filteredState() === state ? '' : `state:${state}`));
        this.best = new BestPanel(exp, pick);
        this.views = new Views(exp, pick);
        this.drawer = new Drawer(exp, pick, (d) => {
            const next = this.grid.neighbour(this.opened, d);
            if (next) this.go(next);
        });
        const stack = h('div', { class: 'stack' }, this.head.el, this.summary.el, h('div', { class: 'panels' }, this.best.el, this.views.el), this.grid.el);
        this.children = [stack, this.drawer.el];
    }

    private opened = 0;

    private go(trial: number): void {
        location.hash = trial ? `#/experiments/${this.exp.id}/trials/${trial}` : `#/experiments/${this.exp.id}`;
    }

    open(trial: number): void {
        this.opened = trial;
        document.body.classList.toggle('with-drawer', trial > 0);
        this.drawer.open(trial);
        this.grid.open(trial);
        this.views.select(trial);
    }

    update(now: number): void {
        this.head.update(now);
        this.summary.update(now, this.grid.filteredState());
        this.grid.update();
        this.drawer.update();
        // While a long list is read the charts wait for the whole of it, and then for nothing.
        if (this.loading && !this.exp.loadingTrials) this.chartsAt = 0;
        this.loading = this.exp.loadingTrials;
        if (this.loading && this.exp.table.size > CHART_WHILE_LOADING) return;
        const wait = this.chartsAt + CHART_MS - performance.now();
        if (wait <= 0) {
            clearTimeout(this.chartTimer);
            this.chartTimer = undefined;
            const begin = performance.now();
            this.best.update();
            this.views.update();
            // Drawing never takes more than about a fifth of the time, however many trials there are.
            this.chartsAt = performance.now() + 4 * (performance.now() - begin);
        } else {
            this.chartTimer ??= setTimeout(() => {
                this.chartTimer = undefined;
                this.update(Date.now());
            }, wait);
        }
    }

    key(event: KeyboardEvent): boolean {
        if (event.key === 'Escape' && this.opened) this.go(0);
        else if (event.key === '/') this.grid.focusFilter();
        else return false;
        return true;
    }

    destroy(): void {
        clearTimeout(this.chartTimer);
        document.body.classList.remove('with-drawer');
        this.best.destroy();
        this.views.destroy();
        this.drawer.destroy();
        this.grid.destroy();
    }
}

// ---- head: name, state, actions, why ----

class Head {
    readonly el: HTMLElement;
    private readonly name = h('h1');
    private readonly pill = new StatePill('running');
    private readonly sub = h('p', { class: 'sub' });
    private readonly notes = h('p', { class: 'notes', hidden: true });
    private readonly actions = h('div', { class: 'actions' });
    private readonly why = h('div', { class: 'why', role: 'status', hidden: true });
    private readonly whyText = h('span');
    private readonly whyCommand = h('span', { class: 'why-command' });
    private drawn = '';

    constructor(private readonly exp: OpenExperiment) {
        this.why.append(this.whyText, this.whyCommand);
        this.el = h('header', { class: 'exp-head' },
            h('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, h('a', { href: '#/' }, 'Experiments'), h('span', { 'aria-hidden': 'true' }, '/'), h('span', null, `#${exp.id}`)),
            h('div', { class: 'exp-head-line' }, h('div', { class: 'exp-head-name' }, this.name, this.pill.el), this.actions), this.sub, this.notes, this.why);
    }

    update(now: number): void {
        const e = this.exp.json;
        if (!e) return;
        setText(this.name, e.name || 'unnamed');
        this.pill.set(e.state);
        const spec = e.spec;
        const goal = this.exp.objectives.map((o) => `${o.direction === 'min' ? 'minimise' : 'maximise'} ${o.metric}`).join(', ');
        const why = whyText(e.why);
        const ended = e.state === 'completed';
        const rules = spec?.constraints?.length ?? 0;
        const known = e.warm_start?.used ?? 0;
        const parts = [algorithm(spec), goal, rules ? `${rules} constraint${rules === 1 ? '' : 's'}` : '', known ? `${known} earlier results known` : '', spec?.seed !== undefined ? `seed ${String(spec.seed)}` : '', `created ${f.ago(time(e.created), now)}`, ended ? why : '', ...(e.tags ?? [])];
        setText(this.sub, parts.filter(Boolean).join('  ·  '));
        setText(this.notes, e.notes ?? '');
        show(this.notes, Boolean(e.notes));
        setText(this.whyText, why);
        show(this.why, why !== '' && !ended);
        const tone = e.state === 'failed' ? ' bad' : this.exp.counts.running ? ' calm' : '';
        setClass(this.why, `why${tone}`);
        const key = `${e.state}:${typeof e.why === 'object' ? e.why?.code : ''}`;
        if (key === this.drawn) return;
        this.drawn = key;
        const needsWorker = typeof e.why === 'object' && /worker|taker|gpu/.test(e.why?.code ?? '') && e.spec?.trial !== undefined;
        replace(this.whyCommand, needsWorker && e.state === 'running' ? command('magpie worker') : null);
        this.drawActions(e.state);
    }

    private drawActions(state: string): void {
        const url = path.experiment(this.exp.id);
        const one = (name: string, label: string, run: () => void): HTMLElement =>
            h('button', { type: 'button', class: 'button', onclick: run }, icon(name), label);
        const open = state === 'running' || state === 'paused';
        replace(this.actions, one('file', 'Spec', () => void this.showSpec()),
            state === 'running' ? one('pause', 'Pause', () => void this.pause(url)) : null,
            state === 'paused' ? one('play', 'Resume', () => void act('It goes on', () => post(`${url}:resume`))) : null,
            state === 'running' || state === 'paused' || state === 'completed' ? one('plus', 'Extend', () => void this.extend(url)) : null,
            open ? one('stop', 'Cancel', () => void this.cancel(url)) : null);
    }

    private async showSpec(): Promise<void> {
        const text = JSON.stringify(this.exp.spec ?? {}, null, 2);
        await infoDialog('Specification, with every default written out', h('pre', { class: 'spec', tabindex: '0' }, text), text);
    }

    private async pause(url: string): Promise<void> {
        const now = h('input', { type: 'checkbox', id: 'pause-now' });
        const ok = await confirmDialog('Pause this experiment?', [h('p', null, 'No new trial starts. Running trials finish, and Resume goes on from there.'),
            h('label', { class: 'check', for: 'pause-now' }, now, 'Stop running trials at their next checkpoint')], 'Pause', false);
        if (ok) await act('Paused', () => post(`${url}:pause`, now.checked ? { stop: true } : {}));
    }

    private async cancel(url: string): Promise<void> {
        const open = this.exp.table.counts.running + this.exp.table.counts.waiting + this.exp.table.counts.paused;
        const ok = await confirmDialog('Cancel this experiment?',
            [h('p', null, `${f.plural(open, 'open trial')} will be cancelled. Finished trials and the best result stay. This cannot be undone.`)], 'Cancel experiment', true);
        if (ok) await act('Cancelled', () => post(`${url}:cancel`));
    }

    private async extend(url: string): Promise<void> {
        const limits = this.exp.json?.limits;
        const limit = limits?.trials;
        const time = typeof limits?.time === 'number' ? f.duration(limits.time * 1000) : 'no limit';
        const created = this.exp.json?.points ?? this.exp.table.size;
        const what = this.exp.folds > 1 ? 'Points' : 'Trials';
        const trials = h('input', { type: 'number', min: String(created), step: '1', id: 'extend-trials', placeholder: 'no change' });
        const span = h('input', { type: 'text', id: 'extend-time', placeholder: 'no change', autocomplete: 'off' });
        const target = h('input', { type: 'number', step: 'any', id: 'extend-target', placeholder: 'no change' });
        const field = (label: string, note: string, input: HTMLElement): HTMLElement =>
            h('label', { class: 'field', for: input.id }, h('span', null, label), input, h('small', null, note));
        const ok = await confirmDialog('Extend this experiment', [
            field(`${what} in all`, `now ${limit ? f.count(limit) : 'no limit'}, ${f.count(created)} created; 0: no limit`, trials),
            field('Time in all', `now ${time}; for example 90m or 2h, 0: no limit`, span),
            field('Target', `for ${this.exp.metric}, now ${f.num(limits?.target)}`, target),
        ], 'Extend', false);
        if (!ok) return;
        const body: Record<string, unknown> = {};
        if (trials.value) body.trials = Number(trials.value);
        if (span.value.trim()) body.time = span.value.trim();
        if (target.value) body.target = Number(target.value);
        if (Object.keys(body).length > 0) await act('Extended', () => post(`${url}:extend`, body));
    }
}

// ---- summary: progress, best, time ----

class Summary {
    readonly el: HTMLElement;
    private readonly big = h('b', { class: 'big' });
    private readonly bigNote = h('span', { class: 'big-note' });
    private readonly bar = new CountsBar();
    private readonly chips = new Map<TrialState, { el: HTMLButtonElement; n: HTMLElement }>();
    private readonly best: BestCard;
    private readonly eta = h('b', { class: 'big' });
    private readonly etaNote = h('span', { class: 'big-note' });
    private readonly facts = h('dl', { class: 'facts' });
    private readonly factTexts: Record<string, HTMLElement> = {};

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void, filter: (state: TrialState) => void) {
        const chips = h('div', { class: 'chips', role: 'group', 'aria-label': 'Show only trials in one state' });
        for (const state of TRIAL_STATES) {
            const n = h('b');
            const el = h('button', { type: 'button', class: `chip chip-${state}`, 'aria-pressed': 'false', onclick: () => filter(state) }, n, ` ${state}`);
            this.chips.set(state, { el, n });
            chips.append(el);
        }
        for (const name of ['elapsed', 'running now', 'trials per hour', 'median trial']) {
            const dd = h('dd');
            this.factTexts[name] = dd;
            this.facts.append(h('div', null, h('dt', null, name), dd));
        }
        this.best = new BestCard(exp, pick);
        this.el = h('div', { class: 'summary' },
            h('section', { class: 'card progress-card' }, h('h2', null, 'Progress'), h('div', { class: 'big-line' }, this.big, this.bigNote), this.bar.el, chips),
            this.best.el,
            h('section', { class: 'card time-card' }, h('h2', null, 'Time left'), h('div', { class: 'big-line' }, this.eta, this.etaNote), this.facts));
    }

    update(now: number, filtered: TrialState | null): void {
        const e = this.exp.json;
        if (!e) return;
        const counts = this.exp.counts;
        const limit = e.limits?.trials ?? e.spec?.limits?.trials ?? null;
        const points = this.exp.folds > 1 ? (e.points_ended ?? 0) : null;
        const p = progress(counts, limit, Boolean(e.spec?.resource), points);
        setText(this.big, f.count(p.done));
        setText(this.bigNote, p.text);
        this.bar.set(counts, limit === null ? null : limit * this.exp.folds);
        for (const [state, chip] of this.chips) {
            const n = counts[state] ?? 0;
            setText(chip.n, f.count(n));
            show(chip.el, n > 0 || state === 'completed' || state === 'running');
            chip.el.setAttribute('aria-pressed', String(filtered === state));
        }
        this.best.update(now);
        this.updateTime(now, counts.running ?? 0, p.done);
    }

    private updateTime(now: number, running: number, done: number): void {
        const e = this.exp.json;
        if (!e) return;
        const start = time(e.started) ?? time(e.created);
        const end = time(e.ended);
        const eta = e.state === 'running' ? etaMs(e.eta, now) : null;
        setText(this.eta, end !== null && e.state !== 'running' ? 'Done' : e.state === 'paused' ? 'Paused' : eta === null ? '–' : f.duration(eta));
        setText(this.etaNote, end !== null && e.state !== 'running' ? f.clock(end, now) : eta !== null ? `about ${f.clock(now + eta, now).slice(0, -3)}` : e.state === 'running' ? 'not known yet' : '');
        const elapsed = start === null ? null : (end ?? now) - start;
        setText(this.factTexts.elapsed as HTMLElement, f.duration(elapsed));
        setText(this.factTexts['running now'] as HTMLElement, f.count(running));
        setText(this.factTexts['trials per hour'] as HTMLElement, elapsed !== null && elapsed > 1000 && done > 0 ? f.num((done * 3.6e6) / elapsed, 3) : '–');
        setText(this.factTexts['median trial'] as HTMLElement, f.duration(this.medianDuration()));
    }

    private medianVersion = -1;
    private median: number | null = null;
    private medianTable: TrialTable | null = null;

    private medianDuration(): number | null {
        const table = this.exp.table;
        if (this.medianTable === table && table.version - this.medianVersion < 20 && table.version >= this.medianVersion) return this.median;
        this.medianTable = table;
        this.medianVersion = table.version;
        const all: number[] = [];
        for (const r of table.rows) if (r?.state === 'completed' && r.started !== null && r.ended !== null) all.push(r.ended - r.started);
        all.sort((a, b) => a - b);
        this.median = all.length > 0 ? (all[all.length >> 1] as number) : null;
        return this.median;
    }
}

class BestCard {
    readonly el: HTMLElement;
    private readonly value = h('b', { class: 'big' });
    private readonly note = h('span', { class: 'big-note' });
    private readonly params = h('div', { class: 'best-params' });
    private readonly open: HTMLButtonElement;
    private trial = 0;
    private drawn = '';

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void) {
        this.open = h('button', { type: 'button', class: 'link', onclick: () => this.trial && pick(this.trial) });
        this.el = h('section', { class: 'card best-card' }, h('h2', null, 'Best trial'), h('div', { class: 'big-line' }, this.value, this.note, this.open), this.params);
    }

    update(now: number): void {
        const best = this.bestRow();
        const key = best ? `${best.id}:${best.attempt}:${best.value}:${best.step}` : '';
        if (key === this.drawn && key !== '') return;
        this.drawn = key;
        this.trial = best?.id ?? 0;
        setText(this.value, f.objective(best?.value));
        const folds = best && this.exp.folds > 1 ? ` ± ${f.num(best.deviation, 2)} over ${best.folds} folds` : '';
        setText(this.note, best ? `${this.exp.metric}${folds}` : 'no value yet');
        setText(this.open, best ? `${this.exp.folds > 1 ? 'point' : 'trial'} ${best.id}` : '');
        this.open.title = best ? f.ago(best.ended, now) : '';
        const params: Record<string, ParamValue> = {};
        if (best)
            this.exp.table.params.forEach((name, i) => {
                const v = best.params[i];
                if (v !== undefined) params[name] = v;
            });
        replace(this.params, best ? paramList(params) : null);
    }

    private cacheVersion = -1;
    private cacheTable: TrialTable | null = null;
    private cached: Row | null = null;

    /** The driver's word while the trials are still being read, ours afterwards. */
    private bestRow(): Row | null {
        const table = this.exp.table;
        if (this.exp.loadingTrials && this.exp.json?.best) {
            table.put(this.exp.json.best);
            const row = table.get(this.exp.json.best.trial);
            return row ? { ...row, value: this.exp.json.best.value ?? null, deviation: Number(this.exp.json.best.deviation ?? 0) } : null;
        }
        if (this.cacheTable === table && this.cacheVersion === table.version) return this.cached;
        this.cacheTable = table;
        this.cacheVersion = table.version;
        this.cached = bestRow(this.exp.json?.folds ? table.judged().filter((r) => r.folds < 2 || r.state === 'completed') : table.rows, this.exp.maximize);
        return this.cached;
    }
}

// ---- the second panel: several views of which one is drawn ----

class Views {
    readonly el: HTMLElement;
    private readonly curves: CurvesPanel;
    private readonly scatter: ScatterPanel;
    private readonly parallel: ParallelPanel;
    private readonly rungs: RungsPanel;
    private readonly pareto: ParetoPanel;
    private readonly importance: ImportancePanel;
    private readonly ablation: AblationPanel;
    private readonly tabs: Segments<View>;
    private readonly all: [View, HTMLElement][];
    private chosenByHand = false;

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void) {
        this.curves = new CurvesPanel(exp, pick);
        this.scatter = new ScatterPanel(exp, pick);
        this.parallel = new ParallelPanel(exp);
        this.rungs = new RungsPanel(exp, pick);
        this.pareto = new ParetoPanel(exp, pick);
        this.importance = new ImportancePanel(exp);
        this.ablation = new AblationPanel(exp, pick);
        this.all = [['curves', this.curves.el], ['scatter', this.scatter.el], ['parallel', this.parallel.el], ['rungs', this.rungs.el], ['pareto', this.pareto.el],
            ['importance', this.importance.el], ['ablation', this.ablation.el]];
        this.tabs = new Segments<View>('View', [['pareto', 'Pareto'], ['curves', 'Curves'], ['scatter', 'Parameter'], ['parallel', 'Parallel'], ['rungs', 'Rungs'],
            ['importance', 'Importance'], ['ablation', 'Ablation']], 'curves', () => {
            this.chosenByHand = true;
            this.choose();
        });
        this.tabs.offer('rungs', RungsPanel.fits(exp));
        this.tabs.offer('pareto', ParetoPanel.fits(exp));
        this.tabs.offer('importance', ImportancePanel.fits(exp));
        this.tabs.offer('ablation', AblationPanel.fits(exp));
        this.el = h('section', { class: 'card panel' }, h('header', null, h('h2', null, 'Compare'), this.tabs.el), this.all.map(([, el]) => el));
        this.choose();
    }

    private choose(): void {
        for (const [key, el] of this.all) show(el, key === this.tabs.value);
        this.update();
    }

    select(trial: number): void {
        this.curves.select(trial);
        if (this.tabs.value === 'curves') this.curves.update();
    }

    /** Without steps there are no curves: the parameters are the better first view. */
    private settle(): void {
        if (this.chosenByHand || this.exp.loadingTrials || this.exp.table.size === 0) return;
        this.chosenByHand = true;
        if (ParetoPanel.fits(this.exp) || AblationPanel.fits(this.exp)) {
            this.tabs.set(AblationPanel.fits(this.exp) ? 'ablation' : 'pareto');
            return;
        }
        const steps = this.exp.table.rows.some((r) => r && r.step !== null && r.step > 1);
        if (!steps && !this.exp.spec?.resource) this.tabs.set('scatter');
    }

    update(): void {
        this.settle();
        const view = this.tabs.value;
        if (view === 'curves') this.curves.update();
        else if (view === 'pareto') this.pareto.update();
        else if (view === 'scatter') this.scatter.update();
        else if (view === 'parallel') this.parallel.update();
        else if (view === 'importance') this.importance.update();
        else if (view === 'ablation') this.ablation.update();
        else this.rungs.update();
    }

    destroy(): void {
        this.curves.destroy();
        this.scatter.destroy();
        this.pareto.destroy();
        this.parallel.destroy();
        this.importance.destroy();
        this.ablation.destroy();
    }
}
