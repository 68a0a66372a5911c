// SPDX-License-Identifier: Apache-2.0
//
// The shared worker: one event stream for all tabs of this board. Tabs say hello and bye; a tab that went without a bye is
// forgotten when it misses its pings.
import { path } from './api';
import { Connection, Link } from './connection';
import { Message } from './sse';

export type ToWorker = { type: 'hello' | 'ping' | 'bye' | 'retry'; headers: Record<string, string> };
export type FromWorker = { type: 'link'; link: Link } | { type: 'messages'; messages: Message[] };

const PING_LIMIT_MS = 90_000;

interface Scope {
    onconnect: ((event: MessageEvent) => void) | null;
}

const ports = new Map<MessagePort, number>(); // last ping
let connection: Connection | null = null;

function tell(message: FromWorker): void {
    const now = Date.now();
    for (const [port, seen] of ports) {
        if (now - seen > PING_LIMIT_MS) ports.delete(port);
        else port.postMessage(message);
    }
}

function hear(port: MessagePort, message: ToWorker): void {
    if (message.type === 'bye') {
        ports.delete(port);
        return;
    }
    const known = ports.has(port);
    ports.set(port, Date.now());
    if (!connection) {
        connection = new Connection(path.events, message.headers, (link) => tell({ type: 'link', link }),
            (messages) => tell({ type: 'messages', messages }));
        connection.start();
    } else if (message.type === 'retry') {
        connection.setHeaders(message.headers);
        if (connection.link.state !== 'live') connection.start();
    } else if (!known) {
        connection.setHeaders(message.headers);
        port.postMessage({ type: 'link', link: connection.link } satisfies FromWorker);
        // A tab that slept through its pings has missed events.
        if (message.type === 'ping')
            port.postMessage({ type: 'messages', messages: [{ id: '', event: 'reset', data: '{}' }] } satisfies FromWorker);
    }
}

(self as unknown as Scope).onconnect = (event) => {
    const port = event.ports[0] as MessagePort;
    port.onmessage = (e: MessageEvent<ToWorker>) => hear(port, e.data);
};
