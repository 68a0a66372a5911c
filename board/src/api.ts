// SPDX-License-Identifier: Apache-2.0
//
// The driver's REST as the board sees it: the shapes, and one function to call it. Fields that a driver may leave out are optional.

export type TrialState = 'waiting' | 'running' | 'paused' | 'completed' | 'stopped' | 'failed' | 'cancelled';
export type ExperimentState = 'running' | 'paused' | 'completed' | 'cancelled' | 'failed';

export const TRIAL_STATES: readonly TrialState[] =
    ['completed', 'stopped', 'running', 'paused', 'waiting', 'failed', 'cancelled'];

export type ParamValue = number | string;
export type Counts = Partial<Record<TrialState, number>>;

/** Why something waits: a stable code and a sentence. */
export interface Why {
    code?: string;
    text?: string;
}

export interface TrialJson {
    trial: number;
    experiment?: number;
    attempt: number;
    state: TrialState;
    why?: Why | string | null;
    params: Record<string, ParamValue>;
    budget?: number | null;
    step?: number | null;
    value?: number | null;
    values?: Record<string, number | null>;
    violation?: number | null;
    worker?: string | null;
    reason?: string | null;
    failures?: number;
    losses?: number;
    created?: string | null;
    started?: string | null;
    ended?: string | null;
    bracket?: number | null;
    rung?: number | null;
    late?: number;
    where?: Record<string, unknown> | null;
    point?: number;
    fold?: number;
    folds?: number;
    fold_values?: (number | null)[]; // of a point's first trial
    refit?: boolean | Record<string, unknown>;
    [more: string]: unknown;
}

export interface ParamSpec {
    type: 'DOUBLE' | 'INTEGER' | 'DISCRETE' | 'CATEGORICAL';
    range?: [number, number];
    values?: ParamValue[];
    scale?: string;
    step?: number;
}

export interface Objective {
    metric: string;
    direction?: 'max' | 'min';
}

export interface Spec {
    name?: string;
    objective?: Objective;
    objectives?: Objective[];
    outcome_constraints?: { metric: string; min?: number; max?: number }[];
    searchspace: Record<string, ParamSpec | [string, unknown]>;
    optimizer?: { algorithm?: string; reduction_factor?: number; [option: string]: unknown } | string;
    resource?: { unit?: string; min?: number; max?: number };
    limits?: { trials?: number; time?: string | number; target?: number; parallel?: number };
    trial?: Record<string, unknown>;
    constraints?: unknown[];
    [key: string]: unknown;
}

export interface ExperimentJson {
    id: number;
    name: string;
    project?: string;
    state: ExperimentState;
    why?: Why | string | null;
    spec?: Spec;
    counts?: Counts;
    folds?: number;
    points?: number;
    points_ended?: number;
    best?: TrialJson | null;
    eta?: number | string | null;
    created?: string | null;
    started?: string | null;
    ended?: string | null;
    tags?: string[];
    notes?: string;
    objective?: Objective;
    objectives?: Objective[];
    algorithm?: string;
    warm_start?: { used: number; dropped: number } | null;
    limits?: { trials?: number | null; target?: number | null; [key: string]: unknown };
    [more: string]: unknown;
}

export interface WorkerJson {
    worker: string;
    state?: string;
    slots?: number;
    running?: unknown[];
    reserved?: unknown[];
    name?: string;
    host?: string;
    heard?: string;
    since?: string;
    [more: string]: unknown;
}

/** What went wrong, in the driver's words (RFC 9457) or the network's. */
export class ApiError extends Error {
    constructor(readonly status: number, readonly title: string, readonly detail: string) {
        super(detail || title);
    }

    get isOffline(): boolean {
        return this.status === 0;
    }
}

const TOKEN_KEY = 'magpie.token';

/** The driver's token, where it asks for one; kept for this browser session only. */
export function token(): string {
    try {
        return sessionStorage.getItem(TOKEN_KEY) ?? '';
    } catch {
        return '';
    }
}

export function setToken(text: string): void {
    try {
        sessionStorage.setItem(TOKEN_KEY, text);
    } catch {
        // A browser without storage asks again after a reload.
    }
}

export function authHeaders(): Record<string, string> {
    const t = token();
    return t ? { Authorization: `Bearer ${t}` } : {};
}

async function problem(answer: Response): Promise<ApiError> {
    let title = answer.statusText || `HTTP ${answer.status}`;
    let detail = '';
    try {
        const body = (await answer.json()) as { title?: string; detail?: string; issues?: { pointer?: string; detail?: string }[] };
        title = body.title ?? title;
        detail = body.detail ?? '';
        for (const issue of body.issues?.slice(0, 3) ?? []) detail += ` · ${issue.pointer ?? ''} ${issue.detail ?? ''}`;
    } catch {
        // Not a problem document: the status line must do.
    }
    return new ApiError(answer.status, title, detail);
}

async function call(path: string, init: RequestInit): Promise<Response> {
    let answer: Response;
    try {
        answer = await fetch(path, { ...init, headers: { ...authHeaders(), ...(init.headers ?? {}) } });
    } catch (error) {
        if ((error as Error).name === 'AbortError') throw error;
        throw new ApiError(0, 'The driver cannot be reached', 'Is it running? Start it with: magpie driver');
    }
    if (!answer.ok) throw await problem(answer);
    return answer;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return (await (await call(path, { signal: signal ?? null })).json()) as T;
}

export async function getText(path: string, signal?: AbortSignal): Promise<string> {
    return (await call(path, { signal: signal ?? null })).text();
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
    const answer = await call(path, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
    });
    const text = await answer.text();
    return (text ? JSON.parse(text) : {}) as T;
}

export const path = {
    experiments: '/api/v1/experiments',
    workers: '/api/v1/workers',
    events: '/api/v1/events',
    experiment: (id: number): string => `/api/v1/experiments/${id}`,
    trials: (id: number): string => `/api/v1/experiments/${id}/trials`,
    trial: (id: number, trial: number): string => `/api/v1/experiments/${id}/trials/${trial}`,
};

/** Goes through a paged list: `page` sees each page as it comes and returns false to stop. */
export async function pages<T>(
    url: string, key: string, sizes: readonly [number, number], page: (items: T[]) => boolean, signal?: AbortSignal,
    more: Record<string, string> = {}): Promise<void> {
    let cursor: string | number | null = null;
    let limit = sizes[0];
    do {
        const query = new URLSearchParams({ ...more, limit: String(limit) });
        if (cursor !== null) query.set('cursor', String(cursor));
        const answer: { next?: string | number | null; [key: string]: unknown } = await get(`${url}?${query}`, signal);
        if (!page((answer[key] as T[]) ?? [])) return;
        cursor = answer.next ?? null;
        limit = sizes[1];
    } while (cursor !== null);
}

export function whyText(why: Why | string | null | undefined): string {
    if (!why) return '';
    if (typeof why === 'string') return why;
    return why.text ?? why.code ?? '';
}

export function time(text: string | null | undefined): number | null {
    if (!text) return null;
    const t = Date.parse(text);
    return Number.isNaN(t) ? null : t;
}

/** The remaining milliseconds from `eta`: seconds, or the moment itself. */
export function etaMs(eta: number | string | null | undefined, now: number): number | null {
    if (eta === null || eta === undefined) return null;
    if (typeof eta === 'number') return eta >= 0 ? eta * 1000 : null;
    const t = Date.parse(eta);
    return Number.isNaN(t) ? null : Math.max(0, t - now);
}
