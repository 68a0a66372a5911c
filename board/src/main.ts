// SPDX-License-Identifier: Apache-2.0
import { h, replace } from './dom';

declare const STREAM_WORKER_PATH: string;

async function start(app: HTMLElement): Promise<void> {
    const answer = await fetch('/api/v1/experiments');
    const { experiments } = (await answer.json()) as { experiments: { id: number; name: string; state: string }[] };
    replace(app, h('h1', null, 'magpie'),
        h('ul', { 'data-stream': STREAM_WORKER_PATH }, experiments.map((e) => h('li', null, `${e.id} ${e.name} ${e.state}`))));
}

void start(document.getElementById('app') as HTMLElement);
