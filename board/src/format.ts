// SPDX-License-Identifier: Apache-2.0
//
// Numbers, durations and times as people read them. Pure; the current time is an argument.

const THIN = '\u202f'; // narrow no-break space between thousands
const MINUS = '\u2212';

function groups(digits: string): string {
    return digits.length <= 4 ? digits : digits.replace(/\B(?=(\d{3})+$)/g, THIN);
}

export function count(n: number): string {
    return (n < 0 ? MINUS : '') + groups(String(Math.abs(Math.round(n))));
}

/** About `digits` significant digits; whole numbers whole; powers of ten only where zeros would mislead. */
export function num(x: number | null | undefined, digits = 4): string {
    if (x === null || x === undefined) return '–';
    if (!Number.isFinite(x)) return Number.isNaN(x) ? 'NaN' : x > 0 ? '∞' : MINUS + '∞';
    const a = Math.abs(x);
    const sign = x < 0 ? MINUS : '';
    if (Number.isInteger(x) && a < 1e9) return sign + groups(String(a));
    if (a < 1e-3 || a >= 1e7) return sign + exponent(a, digits);
    const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(a)));
    const [whole = '0', part] = a.toFixed(Math.min(decimals, 12)).split('.');
    const trimmed = part?.replace(/0+$/, '');
    return sign + groups(whole) + (trimmed ? '.' + trimmed : '');
}

function exponent(a: number, digits: number): string {
    const [mantissa = '', power = ''] = a.toExponential(digits - 1).split('e');
    const short = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa;
    return `${short}e${power.replace('+', '').replace('-', MINUS)}`;
}

/** An objective value: a fixed number of significant digits, so that a column lines up. */
export function objective(x: number | null | undefined): string {
    if (x === null || x === undefined || !Number.isFinite(x)) return num(x);
    const a = Math.abs(x);
    if (a !== 0 && (a < 1e-4 || a >= 1e6)) return num(x, 4);
    const decimals = a >= 1000 ? 1 : a >= 100 ? 2 : a >= 10 ? 3 : a >= 0.01 || a === 0 ? 4 : 6;
    const [whole = '0', part] = a.toFixed(decimals).split('.');
    return (x < 0 ? MINUS : '') + groups(whole) + '.' + part;
}

/** A mean with its spread: "0.9121 ± 0.011". */
export function spread(mean: number | null, deviation: number | null): string {
    if (mean === null) return '–';
    return deviation === null ? objective(mean) : `${objective(mean)} ± ${num(deviation, 2)}`;
}

export function value(v: unknown): string {
    if (typeof v === 'number') return num(v);
    if (v === undefined) return '';
    if (typeof v === 'string') return v;
    return JSON.stringify(v);
}

export function duration(ms: number | null | undefined): string {
    if (ms === null || ms === undefined || !Number.isFinite(ms)) return '–';
    if (ms < 0) ms = 0;
    if (ms < 1000) return `${Math.round(ms)} ms`;
    const s = ms / 1000;
    if (s < 9.95) return `${s.toFixed(1)} s`;
    const whole = Math.round(s);
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return pair(Math.floor(whole / 60), 'm', whole % 60, 's');
    const minutes = Math.round(s / 60);
    if (minutes < 48 * 60) return pair(Math.floor(minutes / 60), 'h', minutes % 60, 'm');
    const hours = Math.round(s / 3600);
    return pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

function pair(a: number, ua: string, b: number, ub: string): string {
    return b === 0 ? `${a} ${ua}` : `${a} ${ua} ${String(b).padStart(2, '0')} ${ub}`;
}

/** How long ago; a date when that says more. */
export function ago(then: number | null, now: number): string {
    if (then === null) return '–';
    const ms = now - then;
    if (ms < 3000) return 'just now';
    const s = Math.floor(ms / 1000);
    if (s < 60) return `${s} s ago`;
    if (s < 3600) return `${Math.floor(s / 60)} min ago`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
    if (s < 7 * 86400) return `${Math.floor(s / 86400)} d ago`;
    return new Date(then).toLocaleDateString(undefined, { year: 'numeric', month: 'short', day: 'numeric' });
}

/** Local time of day; with the date when it is not today's. */
export function clock(then: number | null, now: number): string {
    if (then === null) return '–';
    const d = new Date(then);
    const time = d.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
    if (d.toDateString() === new Date(now).toDateString()) return time;
    return `${d.toLocaleDateString(undefined, { month: 'short', day: 'numeric' })}, ${time}`;
}

export function percent(part: number, whole: number): string {
    if (whole <= 0) return '–';
    const p = (100 * part) / whole;
    if (p > 0 && p < 1) return '<1 %';
    return `${Math.floor(p)} %`;
}

export function bytes(n: number): string {
    if (n < 1024) return `${n} B`;
    const units = ['KiB', 'MiB', 'GiB', 'TiB'];
    let i = -1;
    do {
        n /= 1024;
        i++;
    } while (n >= 1024 && i < units.length - 1);
    return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

/** A worker's name without the session's digits that make it unique. */
export function worker(id: string): string {
    return id.replace(/-[0-9a-f]{16}$/, '');
}

export function plural(n: number, one: string, many = one + 's'): string {
    return `${count(n)} ${n === 1 ? one : many}`;
}
