// SPDX-License-Identifier: Apache-2.0
//
// The frame: top bar, connection state, routes.
import { setToken } from './api';
import { h, replace, setClass, setText, show } from './dom';
import * as f from './format';
import { Page } from './page';
import { ExperimentPage } from './page_experiment';
import { ExperimentsPage } from './page_experiments';
import { WorkersPage } from './page_workers';
import { Store } from './store';
import { openStream, Stream } from './stream';
import { setTheme, startTheme, theme, Theme } from './theme';
import { empty, icon } from './widgets';

/** Until the stream stands, the first lists wait this long for it; later they do not. */
const STREAM_FIRST_MS = 600;

class App {
    private readonly store = new Store();
    private readonly outlet = h('div', { class: 'outlet' });
    private readonly link = h('button', { type: 'button', class: 'link-state', title: 'Try again now', onclick: () => this.stream.retry() });
    private readonly banner = h('div', { class: 'banner', role: 'alert', hidden: true });
    private readonly nav = new Map<string, HTMLAnchorElement>();
    private stream!: Stream;
    private page: Page | null = null;
    private pageKey = '';

    start(root: HTMLElement): void {
        startTheme();
        const item = (key: string, href: string, text: string): HTMLElement => {
            const a = h('a', { href }, text);
            this.nav.set(key, a);
            return a;
        };
        replace(root,
            h('a', { class: 'skip', href: '#content', onclick: (e: Event) => this.skip(e) }, 'Skip to content'),
            h('header', { class: 'topbar' }, h('a', { class: 'brand', href: '#/' }, h('span', { class: 'brand-mark', 'aria-hidden': 'true' }, icon('feather')), 'magpie'),
                h('nav', { 'aria-label': 'Main' }, item('experiments', '#/', 'Experiments'), item('workers', '#/workers', 'Workers')),
                h('span', { class: 'grow' }), this.link, themeButton()),
            this.banner, this.outlet);
        this.store.onChange(() => this.update());
        this.store.onEvent((change) => this.page?.event?.(change));
        this.stream = openStream((link) => this.linkChanged(link), (messages) => this.store.messages(messages));
        window.addEventListener('hashchange', () => this.route());
        document.addEventListener('keydown', (e) => this.key(e));
        setInterval(() => this.update(), 1000);
        this.update();
        const first = setTimeout(() => this.begin?.(), STREAM_FIRST_MS);
        this.begin = () => {
            clearTimeout(first);
            this.begin = null;
            this.early = this.store.link.state !== 'live';
            this.route();
        };
    }

    private begin: (() => void) | null = null;

    private early = false; // lists were read before the stream stood: something may be missing between

    private linkChanged(link: Store['link']): void {
        this.store.setLink(link);
        if (link.state === 'live' && this.early) {
            this.early = false;
            this.store.reloadAll();
        }
        if (link.state !== 'connecting') this.begin?.();
        if (link.state === 'denied' && link.status === 401) this.askToken();
    }

    private skip(event: Event): void {
        event.preventDefault();
        const main = this.outlet.querySelector<HTMLElement>('main');
        main?.setAttribute('tabindex', '-1');
        main?.focus();
    }

    // ---- routes ----

    private route(): void {
        const parts = location.hash.replace(/^#\/?/, '').split('/').filter(Boolean);
        const [section = 'experiments', id, ...rest] = parts;
        const number = Number(id);
        const key = section === 'experiments' && Number.isInteger(number) && number > 0 ? `experiment ${number}` : section;
        if (key !== this.pageKey) {
            this.page?.destroy();
            this.pageKey = key;
            this.page = this.make(key, number);
            replace(this.outlet, this.page.el);
            window.scrollTo(0, 0);
        }
        this.page?.route?.(rest);
        for (const [name, a] of this.nav) {
            if (name === section) a.setAttribute('aria-current', 'page');
            else a.removeAttribute('aria-current');
        }
        this.update();
    }

    private make(key: string, id: number): Page {
        if (key === 'workers') return new WorkersPage(this.store);
        if (key.startsWith('experiment ')) return new ExperimentPage(this.store, id);
        if (key === 'experiments') return new ExperimentsPage(this.store);
        const el = h('main', { class: 'page' }, empty('There is no such page', h('a', { href: '#/' }, 'All experiments')));
        return { el, title: 'Not found', update: () => undefined, destroy: () => undefined };
    }

    private key(event: KeyboardEvent): void {
        if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
        const target = event.target as HTMLElement;
        const typing = target.matches('input, select, textarea');
        if (typing && event.key === 'Escape') target.blur();
        else if (!typing && this.page?.key?.(event)) event.preventDefault();
    }

    // ---- drawing ----

    private update(): void {
        const now = Date.now();
        this.drawLink(now);
        this.page?.update(now);
        const title = `${this.page?.title ?? 'board'} · magpie`;
        if (document.title !== title) document.title = title;
    }

    private drawLink(now: number): void {
        const link = this.store.link;
        const texts = { connecting: 'connecting …', live: 'live', lost: 'reconnecting …', denied: 'refused' };
        setText(this.link, link.state === 'denied' && link.status === 401 ? 'token needed' : texts[link.state]);
        setClass(this.link, `link-state link-${link.state}`);
        this.link.disabled = link.state === 'live' || link.state === 'connecting';
        const gone = link.state === 'lost' && now - link.since > 1500;
        show(this.banner, gone);
        if (link.state === 'lost' && gone)
            setText(this.banner, `The driver has not answered since ${f.clock(link.since, now)} (${f.duration(now - link.since)}). ` +
                'What you see is from then. Nothing acknowledged is lost, and this page goes on by itself as soon as the driver is back.');
    }

    private askToken(): void {
        if (document.querySelector('dialog[open]')) return;
        const input = h('input', { type: 'password', id: 'token', autocomplete: 'off', required: true });
        const dialog = h('dialog', { class: 'dialog', 'aria-label': 'Token' }, h('form', { method: 'dialog' }, h('h2', null, 'This driver asks for its token'),
            h('p', null, 'It lies in the file “token” in the driver’s data folder. It is kept until this browser window is closed.'),
            h('label', { class: 'field', for: 'token' }, h('span', null, 'Token'), input),
            h('div', { class: 'dialog-actions' }, h('button', { type: 'submit', class: 'button primary' }, 'Open the board'))));
        dialog.addEventListener('close', () => {
            dialog.remove();
            setToken(input.value.trim());
            this.stream.retry();
            this.store.reloadAll();
        });
        document.body.append(dialog);
        dialog.showModal();
    }
}

function themeButton(): HTMLElement {
    const order: Theme[] = ['auto', 'light', 'dark'];
    const names: Record<Theme, string> = { auto: 'auto', light: 'sun', dark: 'moon' };
    const button = h('button', { type: 'button', class: 'icon-button' });
    const draw = (): void => {
        const t = theme();
        replace(button, icon(names[t]));
        const label = `Colours: ${t === 'auto' ? 'as the system' : t}`;
        button.title = label;
        button.setAttribute('aria-label', label);
    };
    button.addEventListener('click', () => {
        setTheme(order[(order.indexOf(theme()) + 1) % order.length] as Theme);
        draw();
    });
    draw();
    return button;
}

new App().start(document.getElementById('app') as HTMLElement);
