// SPDX-License-Identifier: Apache-2.0
//
// One connection to the driver's event stream that heals itself: it resumes after the last event seen, notices a silent
// driver by its missing heartbeat, and says at any time how it stands. Runs in the shared worker, or in the page where
// the browser has none.
import { backoff, Message, SseParser } from './sse';

/** A comment comes every 15 seconds; two missing ones mean that nobody is there. */
const SILENCE_MS = 40_000;
/** Events are handed on in groups this often. */
const GROUP_MS = 40;

export type Link =
    | { state: 'connecting' }
    | { state: 'live'; since: number }
    | { state: 'lost'; since: number; attempt: number; text: string }
    | { state: 'denied'; status: number; text: string };

export class Connection {
    link: Link = { state: 'connecting' };
    private abort: AbortController | null = null;
    private retry: ReturnType<typeof setTimeout> | undefined;
    private silence: ReturnType<typeof setTimeout> | undefined;
    private group: Message[] = [];
    private groupTimer: ReturnType<typeof setTimeout> | undefined;
    private lastId = '';
    private lostSince = 0;
    private attempt = 0;
    private everLive = false;

    constructor(
        private readonly url: string,
        private headers: Record<string, string>,
        private readonly onLink: (link: Link) => void,
        private readonly onMessages: (messages: Message[]) => void) {}

    start(): void {
        clearTimeout(this.retry);
        this.abort?.abort();
        void this.run();
    }

    /** New credentials: used at once when the driver had refused the old ones. */
    setHeaders(headers: Record<string, string>): void {
        const same = JSON.stringify(headers) === JSON.stringify(this.headers);
        this.headers = headers;
        if (!same && this.link.state !== 'live') this.start();
    }

    private async run(): Promise<void> {
        const abort = new AbortController();
        this.abort = abort;
        let text = 'The connection ended';
        try {
            const headers: Record<string, string> = { ...this.headers, Accept: 'text/event-stream' };
            if (this.lastId) headers['Last-Event-ID'] = this.lastId;
            this.heard();
            const answer = await fetch(this.url, { headers, signal: abort.signal, cache: 'no-store' });
            if (answer.status === 401 || answer.status === 403)
                return this.setLink({ state: 'denied', status: answer.status, text: `HTTP ${answer.status}` });
            if (!answer.ok || !answer.body) throw new Error(`HTTP ${answer.status}`);
            this.opened();
            await this.read(answer.body, abort.signal);
        } catch (error) {
            text = (error as Error).name === 'AbortError' ? 'No sign of life' : (error as Error).message;
        } finally {
            clearTimeout(this.silence);
        }
        if (this.abort === abort) this.lost(text);
    }

    private opened(): void {
        // Events between the page's first look and this moment may be missing: look again.
        if (this.everLive && !this.lastId) this.push({ id: '', event: 'reset', data: '{}' });
        this.everLive = true;
        this.attempt = 0;
        this.lostSince = 0;
        this.setLink({ state: 'live', since: Date.now() });
    }

    private async read(body: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<void> {
        const reader = body.getReader();
        const decoder = new TextDecoder();
        const parser = new SseParser((m) => this.push(m));
        parser.lastId = this.lastId;
        for (;;) {
            const { done, value } = await reader.read();
            if (done || signal.aborted) return;
            this.heard();
            parser.feed(decoder.decode(value, { stream: true }));
            this.lastId = parser.lastId;
        }
    }

    private push(message: Message): void {
        if (message.event === ':') return;
        this.group.push(message);
        this.groupTimer ??= setTimeout(() => this.flush(), GROUP_MS);
    }

    private flush(): void {
        this.groupTimer = undefined;
        const group = this.group;
        this.group = [];
        this.onMessages(group);
    }

    private heard(): void {
        clearTimeout(this.silence);
        this.silence = setTimeout(() => this.abort?.abort(), SILENCE_MS);
    }

    private lost(text: string): void {
        this.lostSince ||= Date.now();
        this.setLink({ state: 'lost', since: this.lostSince, attempt: this.attempt, text });
        this.retry = setTimeout(() => void this.run(), backoff(this.attempt++, Math.random()));
    }

    private setLink(link: Link): void {
        this.link = link;
        this.onLink(link);
    }
}
