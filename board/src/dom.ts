// SPDX-License-Identifier: Apache-2.0
//
// The only way that this board makes elements. Text is always a text node, so a name, a parameter or
// a reason can never become markup; there is no innerHTML anywhere.

export type Child = Node | string | number | null | undefined | false;
type Handler = (event: any) => void;
export type Props = { [name: string]: string | number | boolean | null | undefined | Handler };

/** Makes an element: `class`, attributes, `on…` listeners; children are nodes or text. */
export function h<K extends keyof HTMLElementTagNameMap>(
    tag: K, props?: Props | null, ...children: (Child | Child[])[]): HTMLElementTagNameMap[K] {
    const el = document.createElement(tag);
    if (props) setProps(el, props);
    append(el, children);
    return el;
}

/** The same for SVG. */
export function svg(tag: string, props?: Props | null, ...children: (Child | Child[])[]): SVGElement {
    const el = document.createElementNS('http://www.w3.org/2000/svg', tag);
    if (props) setProps(el, props);
    append(el, children);
    return el;
}

function setProps(el: Element, props: Props): void {
    for (const [name, value] of Object.entries(props)) {
        if (value === null || value === undefined || value === false) continue;
        if (typeof value === 'function') el.addEventListener(name.slice(2), value);
        else el.setAttribute(name, value === true ? '' : String(value));
    }
}

function append(el: Element, children: (Child | Child[])[]): void {
    for (const child of children.flat()) {
        if (child === null || child === undefined || child === false) continue;
        el.append(typeof child === 'number' ? String(child) : child);
    }
}

/** Sets text only when it differs: no layout, no lost selection. */
export function setText(el: Node, text: string): void {
    if (el.textContent !== text) el.textContent = text;
}

export function setClass(el: Element, name: string): void {
    if (el.getAttribute('class') !== name) el.setAttribute('class', name);
}

export function show(el: HTMLElement, on: boolean): void {
    if (el.hidden === on) el.hidden = !on;
}

export function replace(el: Element, ...children: (Child | Child[])[]): void {
    el.replaceChildren();
    append(el, children);
}

/** Reuses the rows of `parent` by key, in the given order; `make` builds one, `update` fills it. */
export function keyed<T, R extends { el: HTMLElement }>(
    parent: HTMLElement, rows: Map<string, R>, items: readonly T[], key: (item: T) => string,
    make: (item: T) => R, update: (row: R, item: T) => void): void {
    const alive = new Set<string>();
    let at: ChildNode | null = parent.firstChild;
    for (const item of items) {
        const k = key(item);
        alive.add(k);
        let row = rows.get(k);
        if (!row) {
            row = make(item);
            rows.set(k, row);
        }
        update(row, item);
        if (row.el === at) at = at.nextSibling;
        else parent.insertBefore(row.el, at);
    }
    for (const [k, row] of rows) {
        if (alive.has(k)) continue;
        row.el.remove();
        rows.delete(k);
    }
}
