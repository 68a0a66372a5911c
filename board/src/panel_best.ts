// SPDX-License-Identifier: Apache-2.0
//
// "Is it getting better?": every value as a dot, the best so far as a line, over trials or over time.
import { bestCurve, focusRange } from './best';
import { axis, Chart, GRID, Option, Spot, zoom } from './chart';
import { h, setText, show } from './dom';
import * as f from './format';
import { Row } from './model';
import { OpenExperiment } from './store';
import { colour } from './theme';
import { Segments } from './widgets';

export class BestPanel {
    readonly el: HTMLElement;
    private readonly chart: Chart;
    private readonly tabs: Segments<'trial' | 'time'>;
    private readonly none = h('p', { class: 'panel-empty', hidden: true });
    private drawn = '';

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void) {
        this.chart = new Chart('Best value so far', () => this.update(true), pick);
        this.tabs = new Segments('Over', [['trial', 'by trial'], ['time', 'over time']], 'trial', () => this.update(true));
        this.el = h('section', { class: 'card panel' },
            h('header', null, h('h2', null, 'Best so far'), this.tabs.el), h('div', { class: 'panel-body' }, this.chart.el, this.none));
    }

    update(force = false): void {
        const key = `${this.exp.table.version}:${this.exp.loadingTrials}:${this.exp.json?.state}`;
        if (!force && key === this.drawn) return;
        this.drawn = key;
        const rows = this.exp.table.judged();
        const by = this.tabs.value;
        const curve = bestCurve(rows, this.exp.maximize, by, this.exp.start);
        const points = [...curve.other, ...curve.completed];
        const range = focusRange(points.map((p) => p[1]), this.exp.maximize);
        show(this.none, points.length === 0);
        setText(this.none, this.exp.loadingTrials ? 'Reading trials …' : 'The first value appears here.');
        this.chart.set(this.option(curve.completed, curve.other, curve.line, range), force);
        this.chart.setSpots(points.map(([x, y, trial]) => ({ x, y, trial })), (spot) => this.describe(spot));
    }

    private option(completed: number[][], other: number[][], line: number[][], range: [number, number] | null): Option {
        const big = completed.length + other.length > 3000;
        const dots = (name: string, data: number[][], c: string, opacity: number): Option => ({
            name, type: 'scatter', data, symbolSize: big ? 3 : 6, itemStyle: { color: c, opacity }, silent: true,
            large: big, largeThreshold: 3000, z: 1, clip: true,
        });
        const target = this.exp.json?.limits?.target ?? undefined;
        const improved = line.slice(0, 400);
        return {
            grid: GRID,
            dataZoom: zoom(),
            xAxis: axis({
                type: 'value', min: 0, splitLine: { show: false }, minInterval: this.tabs.value === 'trial' ? 1 : 1000,
                axisLabel: {
                    color: colour('faint'), fontSize: 11, hideOverlap: true,
                    formatter: (v: number) => (this.tabs.value === 'trial' ? f.count(v) : f.duration(v)),
                },
            }),
            yAxis: axis({
                min: range?.[0], max: range?.[1],
                axisLabel: { color: colour('faint'), fontSize: 11, showMinLabel: false, showMaxLabel: false, formatter: (v: number) => f.num(v, 3) },
            }),
            series: [
                dots('on the way', other, colour('waiting'), big ? 0.35 : 0.45),
                dots('completed', completed, colour('completed'), big ? 0.45 : 0.6),
                {
                    name: 'best', type: 'line', step: 'end', data: line, symbol: 'none', silent: true, z: 3,
                    lineStyle: { color: colour('accent'), width: 2.5 },
                    markLine: target === undefined || !range ? undefined : {
                        silent: true, symbol: 'none', data: [{ yAxis: target }],
                        lineStyle: { color: colour('stopped'), type: 'dashed' },
                        label: { formatter: `target ${f.num(target)}`, color: colour('muted'), position: 'insideStartTop', fontSize: 11 },
                    },
                },
                { name: 'improvements', type: 'scatter', data: improved.slice(0, -1), symbolSize: 8, silent: true, z: 4,
                    itemStyle: { color: colour('surface'), borderColor: colour('accent'), borderWidth: 2 } },
            ],
        };
    }

    private describe(spot: Spot): (HTMLElement | null)[] {
        const row = this.exp.table.get(spot.trial);
        return row ? trialTip(row, this.exp) : [];
    }

    destroy(): void {
        this.chart.destroy();
    }
}

/** What a tooltip says of a trial. */
export function trialTip(row: Row, exp: OpenExperiment): (HTMLElement | null)[] {
    const names = exp.table.params;
    const shown = names.map((name, i) => [name, row.params[i]] as const).filter(([, v]) => v !== undefined).slice(0, 8);
    return [
        h('div', { class: 'tip-head' }, h('b', null, `Trial ${row.id}`), h('span', { class: `pill state-${row.state}` }, row.state)),
        h('div', { class: 'tip-value' }, h('span', null, exp.metric), h('b', null, f.objective(row.value))),
        row.folds > 1 && row.fold > 0 ? h('div', { class: 'tip-row' }, h('span', null, `over ${row.foldsDone} of ${row.folds} folds`), h('span', null, f.spread(row.mean, row.deviation))) : null,
        ...exp.table.measures.map((name, i) => h('div', { class: 'tip-row' }, h('span', null, name), h('span', null, f.objective(row.measures[i] ?? null)))),
        row.violation > 0 ? h('div', { class: 'tip-row' }, h('span', null, 'breaks the constraints by'), h('span', null, f.num(row.violation, 3))) : null,
        row.step === null ? null : h('div', { class: 'tip-row' }, h('span', null, exp.spec?.resource?.unit ?? 'step'), h('span', null, f.count(row.step))),
        ...shown.map(([name, v]) => h('div', { class: 'tip-row' }, h('span', null, name), h('span', null, f.value(v)))),
    ];
}
