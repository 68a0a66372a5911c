// SPDX-License-Identifier: Apache-2.0
//
// Server-sent events from a byte stream, and how long to wait before connecting again. EventSource hides comments (the
// driver's heartbeat) and cannot send a token, so the stream is read with fetch and parsed here.

export interface Message {
    id: string;
    event: string;
    data: string;
}

/** Feed it text in any pieces; it calls back for whole messages (comments as event ":"). */
export class SseParser {
    private rest = '';
    private data: string[] = [];
    private event = '';
    private id: string | null = null; // of the message being read: it counts when that is whole
    lastId = '';

    constructor(private readonly emit: (message: Message) => void) {}

    feed(text: string): void {
        this.rest += text;
        for (;;) {
            const end = this.rest.search(/[\r\n]/);
            if (end < 0) return;
            // A carriage return at the very end may be half of a pair: wait for what follows.
            if (this.rest[end] === '\r' && end === this.rest.length - 1) return;
            const pair = this.rest[end] === '\r' && this.rest[end + 1] === '\n';
            const line = this.rest.slice(0, end);
            this.rest = this.rest.slice(end + (pair ? 2 : 1));
            this.line(line);
        }
    }

    private line(line: string): void {
        if (line === '') return this.dispatch();
        if (line.startsWith(':')) return this.emit({ id: this.lastId, event: ':', data: line.slice(1).trim() });
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (field === 'data') this.data.push(value);
        else if (field === 'event') this.event = value;
        else if (field === 'id' && !value.includes('\0')) this.id = value;
    }

    private dispatch(): void {
        this.lastId = this.id ?? this.lastId;
        this.id = null;
        if (this.data.length > 0)
            this.emit({ id: this.lastId, event: this.event || 'message', data: this.data.join('\n') });
        this.data = [];
        this.event = '';
    }
}

/** Milliseconds before attempt n (from 0): quick at first, at most five seconds, spread so that many tabs do not
 * come at once. `random` is in [0, 1). */
export function backoff(attempt: number, random: number): number {
    const base = Math.min(5000, 250 * 2 ** Math.min(attempt, 10));
    return Math.round(base * (0.75 + 0.5 * random));
}
