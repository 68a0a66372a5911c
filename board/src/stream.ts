// SPDX-License-Identifier: Apache-2.0
//
// The page's end of the event stream: through the shared worker, or a connection of its own without one.
import { authHeaders, path } from './api';
import { Connection, Link } from './connection';
import { Message } from './sse';
import type { FromWorker, ToWorker } from './stream_worker';

declare const STREAM_WORKER_PATH: string;

const PING_MS = 30_000;

export interface Stream {
    /** Try at once, with the present token. */
    retry(): void;
}

export function openStream(onLink: (link: Link) => void, onMessages: (messages: Message[]) => void): Stream {
    if (typeof SharedWorker === 'undefined') return ownStream(onLink, onMessages);
    let worker: SharedWorker;
    try {
        worker = new SharedWorker(STREAM_WORKER_PATH, { name: 'magpie-events' });
    } catch {
        return ownStream(onLink, onMessages);
    }
    const port = worker.port;
    const say = (type: ToWorker['type']): void => port.postMessage({ type, headers: authHeaders() } satisfies ToWorker);
    port.onmessage = (event: MessageEvent<FromWorker>) => {
        if (event.data.type === 'link') onLink(event.data.link);
        else onMessages(event.data.messages);
    };
    say('hello');
    setInterval(() => say('ping'), PING_MS);
    window.addEventListener('pagehide', () => say('bye'));
    window.addEventListener('pageshow', (event) => {
        if (!event.persisted) return;
        say('hello');
        onMessages([{ id: '', event: 'reset', data: '{}' }]); // frozen meanwhile: what came then is lost
    });
    return { retry: () => say('retry') };
}

function ownStream(onLink: (link: Link) => void, onMessages: (messages: Message[]) => void): Stream {
    const connection = new Connection(path.events, authHeaders(), onLink, onMessages);
    connection.start();
    return {
        retry: () => {
            connection.setHeaders(authHeaders());
            if (connection.link.state !== 'live') connection.start();
        },
    };
}
