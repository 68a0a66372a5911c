// SPDX-License-Identifier: Apache-2.0
//
// ECharts as this board uses it: only the parts it draws, a canvas that follows its box and the theme, and hovering of our own. ECharts'
// own tooltip writes HTML with inline styles, which the page's policy forbids; ours is made of elements, and finds
// the nearest of ten thousand points in a fraction of a millisecond.
import { LineChart, ParallelChart, ScatterChart } from 'echarts/charts';
import { DataZoomInsideComponent, GridComponent, MarkLineComponent, ParallelComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';
import { Child, h, replace, show } from './dom';
import { colour, onTheme } from './theme';

echarts.use([LineChart, ScatterChart, ParallelChart, GridComponent, ParallelComponent, DataZoomInsideComponent, MarkLineComponent, CanvasRenderer]);

export type Option = Record<string, unknown>;

export interface Spot {
    x: number;
    y: number;
    trial: number;
}

export const FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

/** One chart in a box. Drawn only while the box is on the screen. */
export class Chart {
    readonly el = h('div', { class: 'chart' });
    private readonly canvas = h('div', { class: 'chart-canvas' });
    private readonly ring = h('div', { class: 'chart-ring', hidden: true });
    private readonly tip = h('div', { class: 'chart-tip', hidden: true });
    private chart: echarts.ECharts | null = null;
    private pending: { option: Option; replaceAll: boolean } | null = null;
    private visible = false;
    private spots: readonly Spot[] = [];
    private logX = false;
    private hovered: Spot | null = null;
    private describe: (spot: Spot) => Child[] = () => [];
    private readonly undo: (() => void)[] = [];

    constructor(label: string, private readonly redraw: () => void, private readonly pick: (trial: number) => void,
        private readonly onHover: (trial: number | null) => void = () => undefined) {
        this.el.setAttribute('role', 'img');
        this.el.setAttribute('aria-label', label);
        this.el.append(this.canvas, this.ring, this.tip);
        const sizes = new ResizeObserver(() => {
            if (this.chart && this.canvas.clientWidth > 0) {
                this.chart.resize();
                this.leave();
            }
        });
        sizes.observe(this.canvas);
        const seen = new IntersectionObserver((entries) => {
            this.visible = entries.at(-1)?.isIntersecting ?? false;
            this.flush();
        });
        seen.observe(this.el);
        this.undo.push(() => sizes.disconnect(), () => seen.disconnect(), onTheme(() => this.redraw()));
        this.canvas.addEventListener('mousemove', (e) => this.move(e));
        this.canvas.addEventListener('mouseleave', () => this.leave());
        this.canvas.addEventListener('click', () => this.hovered && this.pick(this.hovered.trial));
    }

    /** The next picture; only the newest of several is drawn. */
    set(option: Option, replaceAll = false): void {
        this.pending = { option, replaceAll: replaceAll || (this.pending?.replaceAll ?? false) };
        this.flush();
    }

    /** What the mouse can find, and what to say of it. */
    setSpots(spots: readonly Spot[], describe: (spot: Spot) => Child[], logX = false): void {
        this.spots = spots;
        this.describe = describe;
        this.logX = logX;
    }

    destroy(): void {
        for (const f of this.undo) f();
        this.chart?.dispose();
    }

    private flush(): void {
        if (!this.pending || !this.visible || this.canvas.clientWidth === 0) return;
        const { option, replaceAll } = this.pending;
        this.pending = null;
        this.chart ??= echarts.init(this.canvas, null, { renderer: 'canvas' });
        this.chart.setOption({ animation: false, textStyle: { fontFamily: FONT, color: colour('muted') }, ...option },
            replaceAll ? { notMerge: true } : { replaceMerge: ['series'] });
    }

    private move(event: MouseEvent): void {
        const at = { x: event.offsetX, y: event.offsetY };
        const found = this.nearest(at.x, at.y);
        this.canvas.classList.toggle('over-point', found !== null);
        if (!found) return this.leave();
        if (this.hovered?.trial !== found.spot.trial) this.onHover(found.spot.trial);
        this.hovered = found.spot;
        replace(this.tip, this.describe(found.spot));
        show(this.tip, true);
        show(this.ring, true);
        this.ring.style.transform = `translate(${found.px}px, ${found.py}px)`;
        const left = found.px + 14 + this.tip.offsetWidth > this.canvas.clientWidth ? found.px - 14 - this.tip.offsetWidth : found.px + 14;
        const top = Math.max(0, Math.min(found.py - 16, this.canvas.clientHeight - this.tip.offsetHeight));
        this.tip.style.transform = `translate(${Math.max(0, left)}px, ${top}px)`;
    }

    private leave(): void {
        if (this.hovered) this.onHover(null);
        this.hovered = null;
        show(this.tip, false);
        show(this.ring, false);
    }

    /** The nearest spot within reach of the mouse. Axes are linear in what convertToPixel takes, or logarithmic. */
    private nearest(x: number, y: number): { spot: Spot; px: number; py: number } | null {
        const chart = this.chart;
        if (!chart || this.spots.length === 0) return null;
        const sx = axisScale(chart, 'xAxisIndex', this.logX);
        const sy = axisScale(chart, 'yAxisIndex', false);
        if (!sx || !sy) return null;
        let best: Spot | null = null;
        let bestDistance = 28 * 28;
        for (const spot of this.spots) {
            const dx = sx(spot.x) - x;
            const dy = sy(spot.y) - y;
            const d = dx * dx + dy * dy;
            if (d < bestDistance) {
                best = spot;
                bestDistance = d;
            }
        }
        return best && { spot: best, px: sx(best.x), py: sy(best.y) };
    }
}

/** Value to pixel along one axis, from two known points of it. */
function axisScale(chart: echarts.ECharts, axis: 'xAxisIndex' | 'yAxisIndex', log: boolean): ((v: number) => number) | null {
    const a = chart.convertToPixel({ [axis]: 0 }, 1) as unknown as number;
    const b = chart.convertToPixel({ [axis]: 0 }, log ? 10 : 2) as unknown as number;
    if (!Number.isFinite(a) || !Number.isFinite(b)) return null;
    return log ? (v) => a + (b - a) * Math.log10(v) : (v) => a + (b - a) * (v - 1);
}

/** An axis in the board's manner. */
export function axis(more: Option): Option {
    return {
        type: 'value',
        scale: true,
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { color: colour('faint'), fontSize: 11, hideOverlap: true },
        splitLine: { lineStyle: { color: colour('grid') } },
        nameTextStyle: { color: colour('faint'), fontSize: 11 },
        nameGap: 26,
        ...more,
    };
}

export const GRID: Option = { left: 12, right: 18, top: 16, bottom: 30, containLabel: true };

/** Wheel and drag along both axes; shift for the vertical one, so that a page can still be scrolled with the plain wheel. */
export function zoom(): Option[] {
    return [
        { type: 'inside', xAxisIndex: 0, filterMode: 'none', zoomOnMouseWheel: 'ctrl', moveOnMouseMove: true, moveOnMouseWheel: false },
        { type: 'inside', yAxisIndex: 0, filterMode: 'none', zoomOnMouseWheel: 'shift', moveOnMouseMove: true, moveOnMouseWheel: false },
    ];
}
