// SPDX-License-Identifier: Apache-2.0
//
// Small pieces that several pages share.
import { ApiError, Counts, ParamValue, TrialState, TRIAL_STATES } from './api';
import { Child, h, setClass, setText, show, svg } from './dom';
import * as f from './format';
import { total } from './model';

/** A state as a coloured word; the shape before it says the same without colour. */
export class StatePill {
    readonly el = h('span', { class: 'pill' });

    constructor(state: string) {
        this.set(state);
    }

    set(state: string): void {
        setClass(this.el, `pill state-${state}`);
        setText(this.el, state);
    }
}

/** Counts by state as one bar. */
export class CountsBar {
    readonly el = h('div', { class: 'countsbar', role: 'img' });
    private readonly parts = new Map<TrialState, HTMLElement>();

    constructor() {
        for (const state of TRIAL_STATES) {
            const part = h('span', { class: `part fill-${state}` });
            this.parts.set(state, part);
            this.el.append(part);
        }
    }

    /** `limit`: trials planned in all; what is missing stays empty. */
    set(counts: Counts, limit: number | null): void {
        const sum = total(counts);
        const whole = Math.max(sum, limit ?? 0, 1);
        for (const [state, part] of this.parts) {
            const n = counts[state] ?? 0;
            show(part, n > 0);
            part.style.flexGrow = String(n / whole);
        }
        const words = TRIAL_STATES.filter((s) => counts[s]).map((s) => `${f.count(counts[s] ?? 0)} ${s}`);
        this.el.setAttribute('aria-label', words.join(', ') || 'no trials yet');
        this.el.title = words.join(' · ');
    }
}

export function command(text: string): HTMLElement {
    const button = h('button', { class: 'copy', type: 'button', 'aria-label': `Copy: ${text}`, title: 'Copy' }, icon('copy'));
    button.addEventListener('click', () => {
        void navigator.clipboard?.writeText(text).then(() => {
            button.classList.add('done');
            setTimeout(() => button.classList.remove('done'), 1200);
        });
    });
    return h('div', { class: 'command' }, h('code', null, text), button);
}

/** A place where something will be, with what to do next. */
export function empty(title: string, text: Child, ...commands: string[]): HTMLElement {
    return h('div', { class: 'empty' }, h('div', { class: 'empty-mark', 'aria-hidden': 'true' }, icon('feather')), h('h2', null, title),
        h('p', null, text), commands.map(command));
}

export function failure(error: ApiError, retry: () => void): HTMLElement {
    return h('div', { class: 'empty failure', role: 'alert' }, h('h2', null, error.title), h('p', null, error.detail),
        h('button', { type: 'button', class: 'button', onclick: retry }, 'Try again'));
}

export function skeleton(rows: number): HTMLElement {
    return h('div', { class: 'skeleton', 'aria-label': 'Loading', role: 'status' }, Array.from({ length: rows }, () => h('div', null)));
}

/** Parameters as name and value, one a line. */
export function paramList(params: Record<string, ParamValue>): HTMLElement {
    return h('dl', { class: 'params' }, Object.entries(params).map(([name, v]) =>
        h('div', null, h('dt', { title: name }, name), h('dd', { title: String(v) }, f.value(v)))));
}

const ICONS: Record<string, string> = {
    copy: 'M9 9h10v11H9z M6 15H5V4h10v1',
    close: 'M6 6l12 12M18 6L6 18',
    pause: 'M9 6v12M15 6v12',
    play: 'M8 5.500v13l10.500-6.500z',
    stop: 'M7 7h10v10H7z',
    plus: 'M12 5v14M5 12h14',
    sun: 'M12 8a4 4 0 100 8 4 4 0 000-8M12 3v1.500M12 19.500V21M3 12h1.500M19.500 12H21M5.600 5.600l1.100 1.100M17.300 17.300l1.100 1.100M5.600 18.400l1.100-1.100M17.300 6.700l1.100-1.100',
    moon: 'M19.500 14.500A8 8 0 019.500 4.500a8 8 0 1010 10z',
    auto: 'M12 4a8 8 0 100 16 8 8 0 000-16M12 4v16M12 8h4.500M12 12h8M12 16h4.500',
    search: 'M10.500 4.500a6 6 0 100 12 6 6 0 000-12M15 15l5 5',
    retry: 'M5 12a7 7 0 107-7c-2.500 0-4.500 1-6 3M5 4v4h4',
    feather: 'M20 4c-6 0-11 3-12.500 8.500L6 18l5.500-1.500C17 15 20 10 20 4zM6 18l8-8M4 20l2-2',
    file: 'M7 3.500h7l4 4v13H7z M14 3.500v4h4M10 12h5M10 16h5',
    left: 'M14.500 6l-6 6 6 6',
    right: 'M9.500 6l6 6-6 6',
};

export function icon(name: string): SVGElement {
    return svg('svg', { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] ?? '' }));
}

/** Asks before something that cannot be undone. Resolves to whether it was confirmed; `body` may hold inputs. */
export function confirmDialog(title: string, body: Child[], action: string, danger: boolean): Promise<boolean> {
    return new Promise((resolve) => {
        const ok = h('button', { type: 'submit', value: 'ok', class: danger ? 'button danger' : 'button primary' }, action);
        const dialog = h('dialog', { class: 'dialog', 'aria-label': title },
            h('form', { method: 'dialog' }, h('h2', null, title), body,
                h('div', { class: 'dialog-actions' },
                    h('button', { type: 'button', class: 'button', onclick: () => dialog.close('') }, 'Not now'), ok)));
        dialog.addEventListener('close', () => {
            dialog.remove();
            resolve(dialog.returnValue === 'ok');
        });
        document.body.append(dialog);
        dialog.showModal();
        if (dialog.querySelector('input') === null) ok.focus();
    });
}

/** Shows something until it is closed; `copy` is what its button takes along. */
export function infoDialog(title: string, body: HTMLElement, copy: string): Promise<void> {
    return new Promise((resolve) => {
        const dialog = h('dialog', { class: 'dialog wide', 'aria-label': title }, h('form', { method: 'dialog' }, h('h2', null, title), body,
            h('div', { class: 'dialog-actions' },
                h('button', { type: 'button', class: 'button', onclick: () => void navigator.clipboard?.writeText(copy).then(() => toast('Copied')) }, icon('copy'), 'Copy'),
                h('button', { type: 'submit', class: 'button primary' }, 'Close'))));
        dialog.addEventListener('close', () => {
            dialog.remove();
            resolve();
        });
        document.body.append(dialog);
        dialog.showModal();
    });
}

/** A short message at the bottom of the page; errors stay longer. */
export function toast(text: string, bad = false): void {
    let stack = document.querySelector<HTMLElement>('.toasts');
    if (!stack) {
        stack = h('div', { class: 'toasts', role: 'status', 'aria-live': 'polite' });
        document.body.append(stack);
    }
    const el = h('div', { class: bad ? 'toast bad' : 'toast' }, text);
    stack.append(el);
    setTimeout(() => el.remove(), bad ? 9000 : 3500);
}

/** Runs an action of the user and says how it went. */
export async function act(what: string, run: () => Promise<unknown>): Promise<boolean> {
    try {
        await run();
        toast(what);
        return true;
    } catch (error) {
        const e = error as ApiError;
        toast(e.title && e.detail ? `${e.title}: ${e.detail}` : e.message, true);
        return false;
    }
}

/** Buttons of which one is chosen, with the arrow keys too. */
export class Segments<K extends string> {
    readonly el: HTMLElement;
    private readonly buttons = new Map<K, HTMLButtonElement>();

    constructor(label: string, items: readonly [K, string][], private chosen: K, private readonly onChoose: (key: K) => void) {
        this.el = h('div', { class: 'segments', role: 'tablist', 'aria-label': label });
        for (const [key, text] of items) {
            const button = h('button', { type: 'button', role: 'tab', onclick: () => this.choose(key) }, text);
            button.addEventListener('keydown', (e) => this.keys(e));
            this.buttons.set(key, button);
            this.el.append(button);
        }
        this.mark();
    }

    get value(): K {
        return this.chosen;
    }

    offer(key: K, on: boolean): void {
        const button = this.buttons.get(key);
        if (button) show(button, on);
    }

    /** Chooses as a click would. */
    set(key: K): void {
        this.choose(key);
    }

    private choose(key: K): void {
        this.chosen = key;
        this.mark();
        this.onChoose(key);
    }

    private mark(): void {
        for (const [key, button] of this.buttons) {
            button.setAttribute('aria-selected', String(key === this.chosen));
            button.tabIndex = key === this.chosen ? 0 : -1;
        }
    }

    private keys(event: KeyboardEvent): void {
        const d = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
        if (d === 0) return;
        const keys = [...this.buttons].filter(([, b]) => !b.hidden).map(([k]) => k);
        const next = keys[(keys.indexOf(this.chosen) + d + keys.length) % keys.length] as K;
        this.choose(next);
        this.buttons.get(next)?.focus();
        event.preventDefault();
    }
}
