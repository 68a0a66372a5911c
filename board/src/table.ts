// SPDX-License-Identifier: Apache-2.0
//
// The trial table: a hundred thousand rows, of which only the visible ones exist. Rows are recycled, texts are set only
// where they differ, the order is made anew at most a few times a second.
import { TRIAL_STATES, TrialState } from './api';
import { h, replace, setClass, setText, show } from './dom';
import { arrange, Column, columns, Order, parseFilter, Predicate } from './filter';
import * as f from './format';
import { FINISHED, Row, rowDuration } from './model';
import { OpenExperiment } from './store';
import { StatePill } from './widgets';
import { scrollTo, windowOf } from './window';

export const ROW_HEIGHT = 34;
const OVERSCAN = 6;
const ARRANGE_MS = 250;

interface Shown {
    key: string;
    title: string;
    width: string;
    right: boolean;
    text: (row: Row, now: number) => string;
}

class Line {
    readonly el = h('div', { class: 'tr', role: 'row' });
    readonly pill = new StatePill('waiting');
    readonly cells: HTMLElement[] = [];
    readonly texts: string[] = []; // what the cells say: reading it back from the page would cost more
    index = -1;
    marks = '';
}

export class TrialGrid {
    readonly el: HTMLElement;
    private readonly head = h('div', { class: 'tr th', role: 'row' });
    private readonly body = h('div', { class: 'tbody', role: 'rowgroup' });
    private readonly scroller = h('div', { class: 'tscroll', tabindex: '0', role: 'grid', 'aria-label': 'Trials' });
    private readonly input = h('input', { type: 'search', class: 'filter', placeholder: 'Filter: state:failed  lr>0.01  value>=0.9  text', 'aria-label': 'Filter trials', spellcheck: 'false', autocomplete: 'off' });
    private readonly error = h('span', { class: 'filter-error', role: 'alert' });
    private readonly countText = h('span', { class: 'count' });
    private readonly none = h('div', { class: 'table-empty', hidden: true });
    private readonly lines: Line[] = [];
    private shown: Shown[] = [];
    private known: Map<string, Column> = new Map();
    private paramsKey = '\0';
    private rows: Row[] = [];
    private match: Predicate | null = null;
    private order: Order = { key: 'trial', down: true };
    private arranged = '';
    private arrangedAt = 0;
    private timer: ReturnType<typeof setTimeout> | undefined;
    private cursor = 0; // id of the row with the keyboard's mark
    private opened = 0; // id of the row whose drawer is open
    private marked = false;

    constructor(private readonly exp: OpenExperiment, private readonly pick: (trial: number) => void) {
        this.scroller.append(this.head, this.body);
        const clear = h('div', { class: 'filterbox' }, this.input, this.error);
        this.el = h('section', { class: 'card table-card' },
            h('header', null, h('h2', null, 'Trials'), this.countText, clear), h('div', { class: 'tframe' }, this.scroller, this.none));
        this.scroller.addEventListener('scroll', () => this.draw(), { passive: true });
        this.scroller.addEventListener('keydown', (e) => this.keys(e));
        this.body.addEventListener('click', (e) => this.click(e));
        this.body.addEventListener('mouseover', (e) => this.explain(e));
        this.input.addEventListener('input', () => this.filterChanged());
        new ResizeObserver(() => this.draw()).observe(this.scroller);
    }

    focusFilter(): void {
        this.input.focus();
        this.input.select();
    }

    get filter(): string {
        return this.input.value;
    }

    setFilter(text: string): void {
        this.input.value = text;
        this.filterChanged();
    }

    open(trial: number): void {
        this.opened = trial;
        if (trial) this.cursor = trial;
        this.draw();
    }

    /** The trial above or below in the present order, for the drawer's arrows; 0 = none. */
    neighbour(trial: number, step: 1 | -1): number {
        const at = this.rows.findIndex((r) => r.id === trial);
        return at < 0 ? 0 : this.rows[at + step]?.id ?? 0;
    }

    update(): void {
        this.columnsChanged();
        const key = `${this.exp.table.version}:${this.exp.loadingTrials}:${this.input.value}:${this.order.key}:${this.order.down}`;
        if (key !== this.arranged) {
            const wait = this.arrangedAt + ARRANGE_MS - performance.now();
            if (wait > 0) {
                this.timer ??= setTimeout(() => {
                    this.timer = undefined;
                    this.update();
                }, wait);
            } else {
                this.arrange(key);
            }
        }
        this.draw();
    }

    private arrange(key: string): void {
        const begin = performance.now();
        const all = this.exp.table.list();
        this.rows = arrange(all, this.match, this.order, this.known, Date.now());
        this.arranged = key;
        this.arrangedAt = performance.now() + 10 * (performance.now() - begin); // at most a tenth of the time
        const partly = this.exp.loadingTrials ? ', reading …' : this.exp.table.full ? ' (the first 100 000 are kept here)' : '';
        const n = this.rows.length === all.length ? f.count(all.length) : `${f.count(this.rows.length)} of ${f.count(all.length)}`;
        setText(this.countText, n + partly);
        this.scroller.setAttribute('aria-rowcount', String(this.rows.length + 1));
        this.body.style.height = `${this.rows.length * ROW_HEIGHT}px`;
        this.emptyText(all.length);
    }

    private emptyText(all: number): void {
        show(this.none, this.rows.length === 0);
        setText(this.none, all > 0 ? 'No trial matches this filter.' : this.exp.loadingTrials ? 'Reading trials …'
            : 'No trial yet: the first one appears here as soon as a worker or a client asks for it.');
    }

    private filterChanged(): void {
        const parsed = parseFilter(this.input.value, this.exp.table.params, this.exp.table.measures);
        setText(this.error, parsed.ok ? '' : parsed.error);
        this.input.setAttribute('aria-invalid', String(!parsed.ok));
        if (!parsed.ok) return;
        this.match = parsed.match;
        this.arrangedAt = 0;
        this.scroller.scrollTop = 0;
        this.update();
    }

    // ---- columns ----

    private columnsChanged(): void {
        const params = this.exp.table.params;
        const key = params.join('\n') + `|${this.exp.table.measures.join('\n')}|${this.exp.metric}|${this.exp.spec?.resource?.unit}|${this.exp.folds}`;
        if (key === this.paramsKey) return;
        this.paramsKey = key;
        this.known = columns(params, this.exp.table.measures);
        this.shown = this.allColumns(params);
        this.el.style.setProperty('--columns', this.shown.map((c) => c.width).join(' '));
        replace(this.head, this.shown.map((c) => this.headCell(c)));
        this.lines.splice(0).forEach((line) => line.el.remove());
        this.arrangedAt = 0;
        this.arranged = '';
    }

    private allColumns(params: readonly string[]): Shown[] {
        const unit = this.exp.spec?.resource?.unit ?? 'step';
        const fixed = (key: string, title: string, width: string, right: boolean, text: Shown['text']): Shown => ({ key, title, width, right, text });
        return [
            fixed('trial', 'trial', '72px', true, (r) => String(r.id)),
            fixed('state', 'state', '118px', false, (r) => r.state),
            fixed('value', this.exp.metric, `${Math.max(104, 34 + 8 * Math.min(this.exp.metric.length, 18))}px`, true, (r) => f.objective(r.value)),
            ...(this.exp.folds > 1 ? [fixed('mean', 'mean of folds', '160px', true, (r: Row) => f.spread(r.mean, r.deviation)),
                fixed('fold', 'fold', '96px', true, foldText)] : []),
            ...this.exp.table.measures.map((name, i) => fixed(`values.${name}`, name, `${Math.min(150, Math.max(92, 34 + 8 * name.length))}px`, true,
                (r: Row) => f.objective(r.measures[i] ?? null))),
            fixed('step', unit, '92px', true, (r) => progressText(r)),
            ...params.map((name, i) => fixed(`params.${name}`, name, `${Math.min(150, Math.max(92, 34 + 8 * name.length))}px`, true,
                (r: Row) => f.value(r.params[i]))),
            fixed('duration', 'duration', '104px', true, (r, now) => f.duration(rowDuration(r, now))),
            fixed('attempt', 'attempt', '88px', true, (r) => (r.attempt > 0 ? String(r.attempt) : '–')),
            fixed('worker', 'worker', '132px', false, (r) => f.worker(r.worker)),
            fixed('ended', 'ended', '112px', false, (r, now) => f.clock(r.ended, now)),
            fixed('why', 'why', 'minmax(220px, 1fr)', false, (r) => r.text),
        ];
    }

    private headCell(c: Shown): HTMLElement {
        const button = h('button', { type: 'button', class: 'sort', title: `Sort by ${c.title}`, onclick: () => this.sort(c.key) }, c.title);
        const cell = h('div', { class: c.right ? 'td right' : 'td', role: 'columnheader', 'data-key': c.key }, button);
        cell.setAttribute('aria-sort', this.sortMark(c.key));
        return cell;
    }

    private sortMark(key: string): string {
        return this.order.key !== key ? 'none' : this.order.down ? 'descending' : 'ascending';
    }

    private sort(key: string): void {
        const firstDown = key === 'trial' || key === 'ended' || key === 'duration' || ((key === 'value' || key === 'mean') && this.exp.maximize);
        this.order = this.order.key === key ? { key, down: !this.order.down } : { key, down: firstDown };
        for (const cell of this.head.children) cell.setAttribute('aria-sort', this.sortMark(cell.getAttribute('data-key') ?? ''));
        this.arrangedAt = 0;
        this.update();
    }

    // ---- rows ----

    /** Fills the visible lines. Cheap: at most a screenful, and only texts that differ are written. */
    draw(): void {
        const headHeight = this.head.offsetHeight;
        const { first, last } = windowOf(this.scroller.scrollTop, this.scroller.clientHeight - headHeight, ROW_HEIGHT, this.rows.length, OVERSCAN);
        while (this.lines.length < last - first) this.lines.push(this.newLine());
        if (last > 0 && !this.marked) {
            this.marked = true;
            performance.mark('magpie-first-rows');
        }
        const now = Date.now();
        this.lines.forEach((line, i) => {
            // Line i always takes the rows i, i + n, i + 2n …: scrolling by one row rewrites one line.
            const n = this.lines.length;
            const index = first + ((i - (first % n) + n) % n);
            const row = index < last ? this.rows[index] : undefined;
            show(line.el, row !== undefined);
            if (row) this.fill(line, index, row, now);
        });
    }

    private newLine(): Line {
        const line = new Line();
        for (const c of this.shown) {
            const cell = h('div', { class: c.right ? 'td right' : 'td', role: 'gridcell' });
            if (c.key === 'state') cell.append(line.pill.el);
            line.cells.push(cell);
            line.el.append(cell);
        }
        this.body.append(line.el);
        return line;
    }

    private fill(line: Line, index: number, row: Row, now: number): void {
        if (line.index !== index) {
            line.index = index;
            line.el.style.transform = `translateY(${index * ROW_HEIGHT}px)`;
            line.el.setAttribute('aria-rowindex', String(index + 2));
        }
        const marks = `tr${row.id === this.opened ? ' opened' : ''}${row.id === this.cursor ? ' cursor' : ''}${index % 2 ? ' odd' : ''}`;
        if (line.marks !== marks) setClass(line.el, (line.marks = marks));
        this.shown.forEach((c, i) => {
            const cell = line.cells[i] as HTMLElement;
            const text = c.text(row, now);
            if (line.texts[i] === text) return;
            line.texts[i] = text;
            if (c.key === 'trial') line.el.setAttribute('data-trial', text);
            if (c.key === 'state') line.pill.set(row.state);
            else cell.textContent = text;
        });
    }

    private click(event: MouseEvent): void {
        const el = (event.target as HTMLElement).closest<HTMLElement>('.tr');
        const id = Number(el?.dataset.trial);
        if (!id || String(getSelection()) !== '') return;
        this.cursor = id;
        this.pick(id);
    }

    /** A cell that is cut off, or a state with a reason, says the whole in its tooltip. */
    private explain(event: MouseEvent): void {
        const cell = (event.target as HTMLElement).closest<HTMLElement>('.td');
        const row = this.exp.table.get(Number(cell?.parentElement?.dataset.trial));
        if (!cell || !row) return;
        const isState = cell.querySelector('.pill') !== null;
        cell.title = isState ? row.text : cell.scrollWidth > cell.clientWidth ? cell.textContent ?? '' : '';
    }

    private keys(event: KeyboardEvent): void {
        const pageRows = Math.max(1, Math.floor(this.scroller.clientHeight / ROW_HEIGHT) - 2);
        const steps: Record<string, number> = {
            ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: pageRows, PageUp: -pageRows, Home: -this.rows.length, End: this.rows.length,
        };
        const step = steps[event.key];
        if (event.target !== this.scroller || event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.key === 'Enter' && this.cursor) {
            this.pick(this.cursor);
        } else if (step !== undefined && this.rows.length > 0) {
            this.moveCursor(step);
        } else {
            return;
        }
        event.preventDefault();
    }

    private moveCursor(step: number): void {
        const at = this.rows.findIndex((r) => r.id === this.cursor);
        const next = at < 0 ? 0 : Math.max(0, Math.min(this.rows.length - 1, at + step));
        this.cursor = this.rows[next]?.id ?? 0;
        this.reveal(next);
        if (this.opened) this.pick(this.cursor);
        this.draw();
    }

    private reveal(index: number): void {
        const view = this.scroller.clientHeight - this.head.offsetHeight;
        this.scroller.scrollTop = scrollTo(index, this.scroller.scrollTop, view, ROW_HEIGHT);
    }

    /** Whether the filter is exactly "this state": the chips above show it. */
    filteredState(): TrialState | null {
        const m = /^state:(\w+)$/.exec(this.input.value.trim());
        return TRIAL_STATES.find((s) => s === m?.[1]) ?? null;
    }

    destroy(): void {
        clearTimeout(this.timer);
    }
}

/** "2/5" of point 6; the refit trains on everything. */
function foldText(r: Row): string {
    return r.fold === 0 ? `refit of ${r.point}` : `${r.point}: ${r.fold}/${r.folds}`;
}

function progressText(r: Row): string {
    if (r.step === null) return r.budget === null ? '–' : `0 / ${f.count(r.budget)}`;
    if (r.budget === null || (FINISHED.has(r.state) && r.step >= r.budget)) return f.count(r.step);
    return `${f.count(r.step)} / ${f.count(r.budget)}`;
}
