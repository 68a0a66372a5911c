// SPDX-License-Identifier: Apache-2.0
//
// Light, dark, or as the system says. The colours live in the style sheet; canvas drawings read them from there.

export type Theme = 'auto' | 'light' | 'dark';

const KEY = 'magpie.theme';
const listeners = new Set<() => void>();
let cache = new Map<string, string>();

export function theme(): Theme {
    try {
        const t = localStorage.getItem(KEY);
        return t === 'light' || t === 'dark' ? t : 'auto';
    } catch {
        return 'auto';
    }
}

export function setTheme(t: Theme): void {
    try {
        localStorage.setItem(KEY, t);
    } catch {
        // Without storage the choice lasts as long as the page.
    }
    apply(t);
}

function apply(t: Theme): void {
    if (t === 'auto') document.documentElement.removeAttribute('data-theme');
    else document.documentElement.setAttribute('data-theme', t);
    cache = new Map();
    for (const listener of listeners) listener();
}

export function startTheme(): void {
    apply(theme());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => apply(theme()));
}

export function onTheme(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
}

/** A colour of the style sheet, by its custom property. */
export function colour(name: string): string {
    let c = cache.get(name);
    if (c === undefined) {
        c = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
        cache.set(name, c);
    }
    return c;
}
