// SPDX-License-Identifier: Apache-2.0
//
// Objective over steps: all kept trials as faint lines (one path, however many), the best ones and the selected one in
// colour.
import { focusRange } from './best';
import { axis, Chart, GRID, Option, Spot, zoom } from './chart';
import { CURVES_MAX, Curve, curveChoice } from './curves';
import { loadCurves } from './load_curves';
import { h, setText, show } from './dom';
import * as f from './format';
import { topRows } from './model';
import { trialTip } from './panel_best';
import { OpenExperiment } from './store';
import { colour } from './theme';

const BEST = 5;

export class CurvesPanel {
    readonly el: HTMLElement;
    private readonly chart: Chart;
    private readonly note = h('p', { class: 'panel-note' });
    private readonly none = h('p', { class: 'panel-empty', hidden: true });
    private drawn = '';
    private loading = false;
    private selected = 0;
    private hovered: number | null = null;

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void) {
        this.chart = new Chart('Objective over steps', () => this.update(true), pick, (trial) => {
            this.hovered = trial;
            this.update(true, false);
        });
        this.el = h('div', { class: 'panel-body' }, this.chart.el, this.none, this.note);
    }

    select(trial: number): void {
        this.selected = trial;
    }

    update(force = false, fetchMore = true): void {
        if (fetchMore) void this.fetch();
        const set = this.exp.curves;
        const key = `${set.version}:${this.loading || this.exp.loadingTrials}:${this.selected}:${this.exp.table.counts.completed}`;
        if (!force && key === this.drawn) return;
        this.drawn = key;
        const best = new Set(topRows(this.exp.table.list(), BEST, this.exp.maximize).map((r) => r.id));
        const curves = [...set.curves.values()];
        const values = curves.flatMap((c) => c.values.filter((v): v is number => v !== null && Number.isFinite(v)));
        show(this.none, values.length === 0);
        setText(this.none, this.loading || this.exp.loadingTrials ? 'Reading curves …' : 'No metric has been reported yet.');
        setText(this.note, this.noteText(curves.length, curves.filter((c) => best.has(c.trial)).length));
        this.chart.set(this.option(curves, best, focusRange(values, this.exp.maximize)));
        const spots: Spot[] = [];
        for (const c of curves) c.steps.forEach((x, i) => c.values[i] !== null && spots.push({ x, y: c.values[i] as number, trial: c.trial }));
        this.chart.setSpots(spots, (spot) => {
            const row = this.exp.table.get(spot.trial);
            return row ? [...trialTip({ ...row, value: spot.y, step: spot.x }, this.exp)] : [];
        });
    }

    private noteText(n: number, best: number): string {
        const all = this.exp.table.size;
        const drawn = n < all ? `${f.count(n)} of ${f.count(all)} trials: the best, the running and the newest` : `${f.plural(n, 'trial')}`;
        return n === 0 ? '' : `${drawn}${best === 0 ? '' : best === 1 ? '; the best in colour' : `; the best ${best} in colour`}.`;
    }

    private async fetch(): Promise<void> {
        if (this.loading || this.exp.loadingTrials || this.exp.load.state !== 'ready' || this.exp.table.size === 0) return;
        const rows = this.exp.table.list();
        const wanted = curveChoice(this.selected ? [this.selected] : [], topRows(rows, 100, this.exp.maximize).map((r) => r.id),
            rows.filter((r) => r.state === 'running').map((r) => r.id), rows.filter((r) => r.step !== null).map((r) => r.id), CURVES_MAX);
        const set = this.exp.curves;
        const missing = wanted.filter((id) => !set.fetched.has(id) && (this.exp.table.get(id)?.step ?? null) !== null && set.wants(id));
        if (missing.length === 0) return;
        this.loading = true;
        await loadCurves(this.exp, missing, () => this.update(false, false));
        this.loading = false;
        this.update();
    }

    private option(curves: Curve[], best: Set<number>, range: [number, number] | null): Option {
        const accented = (c: Curve): boolean => best.has(c.trial) || c.trial === this.selected || c.trial === this.hovered;
        const faint: (number | null)[][] = [];
        const single: (number | null)[][] = []; // a line of one point would not be seen
        for (const c of curves) {
            if (accented(c)) continue;
            if (c.steps.length === 1) {
                single.push([c.steps[0] as number, c.values[0] ?? null]);
                continue;
            }
            c.steps.forEach((x, i) => faint.push([x, c.values[i] ?? null]));
            faint.push([null, null]);
        }
        const unit = this.exp.spec?.resource?.unit ?? 'step';
        return {
            grid: GRID,
            dataZoom: zoom(),
            xAxis: axis({ minInterval: 1, splitLine: { show: false }, name: range ? unit : '', nameLocation: 'middle' }),
            yAxis: axis({ min: range?.[0], max: range?.[1],
                axisLabel: { color: colour('faint'), fontSize: 11, showMinLabel: false, showMaxLabel: false, formatter: (v: number) => f.num(v, 3) } }),
            series: [
                line('others', faint, colour('curve'), 1, 1),
                { name: 'single', type: 'scatter', data: single, symbolSize: 4, silent: true, z: 1, itemStyle: { color: colour('curve') } },
                ...curves.filter(accented).map((c) => this.accent(c)),
            ],
        };
    }

    private accent(c: Curve): Option {
        const strong = c.trial === this.selected || c.trial === this.hovered;
        const data = c.steps.map((x, i) => [x, c.values[i] ?? null]);
        return {
            ...line(`trial ${c.trial}`, data, colour(c.trial === this.selected ? 'pick' : 'accent'), strong ? 3 : 1.8, strong ? 4 : 3),
            showSymbol: data.length === 1 || strong, symbolSize: 6,
        };
    }

    destroy(): void {
        this.chart.destroy();
    }
}

function line(name: string, data: (number | null)[][], color: string, width: number, z: number): Option {
    return {
        name, type: 'line', data, silent: true, connectNulls: false, symbol: 'circle', showSymbol: false, z,
        lineStyle: { color, width, join: 'round' }, itemStyle: { color },
    };
}
