// SPDX-License-Identifier: Apache-2.0
//
// Which rows of a long table exist in the page: the visible ones and a few around them.

export interface Range {
    first: number; // index of the first row drawn
    last: number; // one past the last
}

export function windowOf(scrollTop: number, viewport: number, rowHeight: number, rows: number, overscan: number): Range {
    if (rows <= 0 || viewport <= 0) return { first: 0, last: 0 };
    const top = Math.max(0, Math.min(scrollTop, rows * rowHeight - viewport));
    const first = Math.max(0, Math.floor(top / rowHeight) - overscan);
    const last = Math.min(rows, Math.ceil((top + viewport) / rowHeight) + overscan);
    return { first, last };
}

/** The scroll position that brings row `index` wholly into view, the present one when it is. */
export function scrollTo(index: number, scrollTop: number, viewport: number, rowHeight: number): number {
    const top = index * rowHeight;
    if (top < scrollTop) return top;
    if (top + rowHeight > scrollTop + viewport) return top + rowHeight - viewport;
    return scrollTop;
}
