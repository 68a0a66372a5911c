// SPDX-License-Identifier: Apache-2.0
//
// Several objectives: one against another, the Pareto front in front. Trials that break an outcome constraint are pale.
import { axis, Chart, GRID, Option, zoom } from './chart';
import { h, setText } from './dom';
import * as f from './format';
import { frontRows, Row } from './model';
import { trialTip } from './panel_best';
import { OpenExperiment } from './store';
import { colour } from './theme';

export class ParetoPanel {
    readonly el: HTMLElement;
    private readonly chart: Chart;
    private readonly note = h('p', { class: 'panel-note pareto-note' });
    private readonly choose = h('select', { class: 'select', 'aria-label': 'Second objective', onchange: () => this.update(true) });
    private drawn = '';
    private names = '';

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void) {
        this.chart = new Chart('Objectives against each other', () => this.update(true), pick);
        this.el = h('div', { class: 'panel-body' }, h('div', { class: 'panel-tools' }, this.choose), this.chart.el, this.note);
    }

    static fits(exp: OpenExperiment): boolean {
        return exp.objectives.length > 1;
    }

    update(force = false): void {
        const table = this.exp.table;
        const others = this.exp.objectives.slice(1);
        if (others.length === 0) return;
        this.offer(others.map((o) => o.metric));
        const key = `${table.version}:${this.choose.value}`;
        if (!force && key === this.drawn) return;
        this.drawn = key;
        const at = Math.max(0, others.findIndex((o) => o.metric === this.choose.value));
        const y = (r: Row): number => r.measures[at] as number;
        const rows = table.judged().filter((r) => r.state === 'completed' && r.value !== null && typeof r.measures[at] === 'number');
        const front = frontRows(rows, this.exp.objectives.map((o) => o.direction !== 'min'));
        this.chart.set(this.option(rows, front, y), force);
        this.chart.setSpots(rows.map((r) => ({ x: r.value as number, y: y(r), trial: r.id })), (spot) => {
            const row = table.get(spot.trial);
            return row ? trialTip(row, this.exp) : [];
        }, false);
        const broken = rows.filter((r) => r.violation > 0).length;
        setText(this.note, `${f.plural(front.length, 'trial')} on the front of ${f.count(rows.length)}` + (broken > 0 ? `; ${f.count(broken)} break the outcome constraints` : ''));
    }

    private offer(names: readonly string[]): void {
        if (names.join('\n') === this.names) return;
        this.names = names.join('\n');
        this.choose.replaceChildren(...names.map((n) => h('option', { value: n }, n)));
    }

    private option(rows: Row[], front: Row[], y: (r: Row) => number): Option {
        const on = new Set(front.map((r) => r.id));
        const big = rows.length > 3000;
        const dots = (part: Row[], c: string, opacity: number, size: number, z: number): Option => ({
            type: 'scatter', data: part.map((r) => [r.value, y(r)]), symbolSize: size, itemStyle: { color: c, opacity }, silent: true, z,
            large: part.length > 3000, largeThreshold: 3000,
        });
        const line = [...front].sort((a, b) => (a.value as number) - (b.value as number)).map((r) => [r.value, y(r)]);
        const two = this.exp.objectives.length === 2;
        const label = { color: colour('faint'), fontSize: 11, hideOverlap: true, formatter: (v: number) => f.num(v, 3) };
        return {
            grid: GRID,
            dataZoom: zoom(),
            xAxis: axis({ scale: true, splitLine: { show: false }, name: this.exp.metric, nameLocation: 'middle', axisLabel: label }),
            yAxis: axis({ scale: true, axisLabel: { ...label, showMinLabel: false, showMaxLabel: false } }),
            series: [
                dots(rows.filter((r) => r.violation > 0), colour('waiting'), 0.35, big ? 3 : 6, 1),
                dots(rows.filter((r) => r.violation === 0 && !on.has(r.id)), colour('completed'), big ? 0.4 : 0.55, big ? 3 : 6, 2),
                { type: 'line', data: two ? line : [], showSymbol: false, silent: true, z: 2, lineStyle: { color: colour('accent'), width: 1.5, opacity: 0.6 } },
                dots(front, colour('accent'), 1, 9, 3),
            ],
        };
    }

    destroy(): void {
        this.chart.destroy();
    }
}
