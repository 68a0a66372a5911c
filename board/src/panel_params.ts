// SPDX-License-Identifier: Apache-2.0
//
// "What makes it better?": one parameter against the objective, or all of them as parallel coordinates.
import { focusRange } from './best';
import { axis, Chart, GRID, Option, zoom } from './chart';
import { h, setText } from './dom';
import * as f from './format';
import { isCategory, isLog, paramSpec } from './space';
import { Row, topRows } from './model';
import { trialTip } from './panel_best';
import { OpenExperiment } from './store';
import { colour } from './theme';

/** Lines of the parallel picture: the best ones and an even sample of the rest. */
const LINES_MAX = 800;
/** Axes of it: more would be a hatching. */
const AXES_MAX = 14;

export class ScatterPanel {
    readonly el: HTMLElement;
    private readonly chart: Chart;
    private readonly choose = h('select', { class: 'select', 'aria-label': 'Parameter', onchange: () => this.update(true) });
    private drawn = '';
    private names = '';

    constructor(private readonly exp: OpenExperiment, pick: (trial: number) => void) {
        this.chart = new Chart('Parameter against objective', () => this.update(true), pick);
        this.el = h('div', { class: 'panel-body' }, h('div', { class: 'panel-tools' }, this.choose), this.chart.el);
    }

    update(force = false): void {
        const table = this.exp.table;
        const key = `${table.version}:${this.choose.value}`;
        if (!force && key === this.drawn) return;
        this.drawn = key;
        this.offer(table.params);
        const name = this.choose.value || table.params[0];
        if (name === undefined) return;
        const i = table.params.indexOf(name);
        const rows = table.judged().filter((r) => r.value !== null && r.params[i] !== undefined);
        const categories = this.categories(name, rows, i);
        const x = (r: Row): number => (categories ? categories.indexOf(String(r.params[i])) : (r.params[i] as number));
        this.chart.set(this.option(name, rows, x, categories), force);
        this.chart.setSpots(rows.map((r) => ({ x: x(r), y: r.value as number, trial: r.id })), (spot) => {
            const row = table.get(spot.trial);
            return row ? trialTip(row, this.exp) : [];
        }, !categories && isLog(this.exp.spec, name));
    }

    private offer(names: readonly string[]): void {
        if (names.join('\n') === this.names) return;
        this.names = names.join('\n');
        this.choose.replaceChildren(...names.map((n) => h('option', { value: n }, n)));
    }

    private categories(name: string, rows: readonly Row[], i: number): string[] | null {
        const spec = paramSpec(this.exp.spec, name);
        if (spec && isCategory(this.exp.spec, name)) return (spec.values ?? []).map(String);
        return rows.some((r) => typeof r.params[i] === 'string') ? [...new Set(rows.map((r) => String(r.params[i])))] : null;
    }

    private option(name: string, rows: Row[], x: (r: Row) => number, categories: string[] | null): Option {
        const range = focusRange(rows.map((r) => r.value as number), this.exp.maximize);
        const best = new Set(topRows(rows, 10, this.exp.maximize).map((r) => r.id));
        const big = rows.length > 3000;
        const dots = (part: Row[], c: string, opacity: number, size: number, z: number): Option => ({
            type: 'scatter', data: part.map((r) => [x(r), r.value]), symbolSize: size, itemStyle: { color: c, opacity }, silent: true, z,
            large: part.length > 3000, largeThreshold: 3000,
        });
        return {
            grid: GRID,
            dataZoom: zoom(),
            xAxis: categories ? axis({ type: 'category', data: categories, splitLine: { show: false }, name, nameLocation: 'middle' })
                : axis({ type: isLog(this.exp.spec, name) ? 'log' : 'value', splitLine: { show: false }, name, nameLocation: 'middle',
                    minInterval: paramSpec(this.exp.spec, name)?.type === 'INTEGER' ? 1 : undefined,
                    axisLabel: { color: colour('faint'), fontSize: 11, hideOverlap: true, formatter: (v: number) => f.num(v, 3) } }),
            yAxis: axis({ min: range?.[0], max: range?.[1],
                axisLabel: { color: colour('faint'), fontSize: 11, showMinLabel: false, showMaxLabel: false, formatter: (v: number) => f.num(v, 3) } }),
            series: [
                dots(rows.filter((r) => r.state !== 'completed' && !best.has(r.id)), colour('waiting'), 0.4, big ? 3 : 6, 1),
                dots(rows.filter((r) => r.state === 'completed' && !best.has(r.id)), colour('completed'), big ? 0.4 : 0.55, big ? 3 : 6, 2),
                dots(rows.filter((r) => best.has(r.id)), colour('accent'), 1, 9, 3),
            ],
        };
    }

    destroy(): void {
        this.chart.destroy();
    }
}

export class ParallelPanel {
    readonly el: HTMLElement;
    private readonly chart: Chart;
    private readonly note = h('p', { class: 'panel-note' });
    private drawn = '';

    constructor(private readonly exp: OpenExperiment) {
        this.chart = new Chart('Parameters and objective as parallel coordinates', () => this.update(true), () => undefined);
        this.el = h('div', { class: 'panel-body' }, this.chart.el, this.note);
    }

    update(force = false): void {
        const table = this.exp.table;
        if (!force && String(table.version) === this.drawn) return;
        this.drawn = String(table.version);
        const rows = table.judged().filter((r) => r.value !== null && r.state !== 'failed');
        const best = topRows(rows, Math.max(3, Math.ceil(rows.length / 20)), this.exp.maximize).slice(0, 100);
        const chosen = new Set(best);
        const rest = rows.filter((r) => !chosen.has(r));
        const every = Math.max(1, Math.ceil(rest.length / (LINES_MAX - best.length)));
        const sample = rest.filter((_, i) => i % every === 0);
        const left = rows.length > sample.length + best.length ? ` (${f.count(sample.length + best.length)} of ${f.count(rows.length)} drawn)` : '';
        const axes = table.params.length > AXES_MAX ? ` The first ${AXES_MAX} of ${table.params.length} parameters.` : '';
        setText(this.note, rows.length === 0 ? 'No value yet.' : `The best ${best.length > 1 ? `${f.count(best.length)} ` : ''}in colour${left}. Drag along an axis to keep a part of it.${axes}`);
        this.chart.set(this.option(sample, best), force);
    }

    private option(rest: Row[], best: Row[]): Option {
        const names = this.exp.table.params.slice(0, AXES_MAX);
        const category = names.map((name) => isCategory(this.exp.spec, name));
        const line = (r: Row): (number | string | undefined)[] => [...r.params.slice(0, AXES_MAX).map((v, i) => (v === undefined ? '-' : category[i] ? String(v) : v)), r.value as number];
        const series = (rows: Row[], color: string, opacity: number, width: number, z: number): Option => ({
            type: 'parallel', data: rows.map(line), silent: true, z, lineStyle: { color, opacity, width }, inactiveOpacity: 0.03, activeOpacity: opacity,
            progressive: 0, smooth: 0.15,
        });
        return {
            parallel: { left: 48, right: 60, top: 38, bottom: 26, axisExpandable: false,
                parallelAxisDefault: {
                    nameTextStyle: { color: colour('muted'), fontSize: 11 }, nameGap: 14, nameTruncate: { maxWidth: Math.max(28, 480 / (names.length + 1)) },
                    axisLine: { lineStyle: { color: colour('line') } }, axisTick: { show: false }, minorTick: { show: false },
                    axisLabel: { color: colour('muted'), fontSize: 10, textBorderColor: colour('surface'), textBorderWidth: 3, formatter: (v: number | string) => (typeof v === 'number' ? f.num(v, 3) : v) },
                    areaSelectStyle: { width: 14, color: colour('accent'), opacity: 0.25, borderWidth: 0 },
                } },
            parallelAxis: [
                ...names.map((name, dim) => this.axis(name, dim)),
                { dim: names.length, name: this.exp.metric, scale: true, type: 'value', nameTextStyle: { color: colour('accent'), fontSize: 11, fontWeight: 600 } },
            ],
            series: [series(rest, colour('curve'), 0.55, 1, 1), series(best, colour('accent'), 0.8, 1.5, 2)],
        };
    }

    private axis(name: string, dim: number): Option {
        const spec = paramSpec(this.exp.spec, name);
        if (spec && isCategory(this.exp.spec, name))
            return { dim, name, type: 'category', data: (spec.values ?? []).map(String), boundaryGap: true };
        return { dim, name, type: isLog(this.exp.spec, name) ? 'log' : 'value', min: spec?.range?.[0], max: spec?.range?.[1], scale: true,
            minInterval: spec?.type === 'INTEGER' ? 1 : undefined };
    }

    destroy(): void {
        this.chart.destroy();
    }
}
