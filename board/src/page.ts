// SPDX-License-Identifier: Apache-2.0
import { Change } from './events';

/** What a page is to the frame around it. */
export interface Page {
    readonly el: HTMLElement;
    readonly title: string;
    /** Draws what the store holds; called after changes, at most once a frame, and once a second for the clocks. */
    update(now: number): void;
    /** The part of the address after the page's own. */
    route?(rest: string[]): void;
    event?(change: Change): void;
    key?(event: KeyboardEvent): boolean;
    destroy(): void;
}
