// SPDX-License-Identifier: Apache-2.0
//
// Everything that the board knows, in one place: experiments, workers, and the trials of the experiment that is open. Loaded by pages,
// kept up to date by events; whoever draws asks here and is told, at most once a frame, that something changed.
import { ApiError, Counts, ExperimentJson, get, Objective, pages, path, Spec, time, TrialJson, WorkerJson } from './api';
import { Change, changesOf, Point } from './events';
import { Link } from './connection';
import { CURVES_MAX, CurveSet } from './curves';
import { Message } from './sse';
import { ROWS_MAX, TrialTable } from './model';

export type Load = { state: 'loading' | 'ready' } | { state: 'error'; error: ApiError };

const FIRST_PAGE = 200;
const PAGE = 1000;
const RELOAD_WORKERS_MS = 5000;

function asApiError(error: unknown): ApiError {
    return error instanceof ApiError ? error : new ApiError(0, 'Unexpected answer', String(error));
}

/** One experiment with its trials. */
export class OpenExperiment {
    json: ExperimentJson | null = null;
    table = new TrialTable([]);
    curves = new CurveSet();
    load: Load = { state: 'loading' };
    loadingTrials = true;
    private abort = new AbortController();
    private meanwhile: Change[] = []; // events while a list is read that is not shown yet

    constructor(readonly id: number, private readonly changed: () => void) {}

    get spec(): Spec | undefined {
        return this.json?.spec;
    }

    /** Trials of a point; 1 without cross-validation. */
    get folds(): number {
        return this.json?.folds ?? 1;
    }

    get maximize(): boolean {
        return (this.json?.objective?.direction ?? this.spec?.objective?.direction ?? 'max') !== 'min';
    }

    get metric(): string {
        return this.json?.objective?.metric ?? this.spec?.objective?.metric ?? 'value';
    }

    /** One, or several: the first is the metric. */
    get objectives(): Objective[] {
        return this.json?.objectives ?? this.spec?.objectives ?? [{ metric: this.metric, direction: this.maximize ? 'max' : 'min' }];
    }

    /** What trials measure beside the metric: further objectives, then what outcome constraints bound. */
    private measures(): string[] {
        const bounded = (this.spec?.outcome_constraints ?? []).map((c) => c.metric).filter((m) => m !== this.metric);
        return [...new Set([...this.objectives.slice(1).map((o) => o.metric), ...bounded])];
    }

    /** By state: ours once all trials are here, the driver's until then. */
    get counts(): Counts {
        return (this.loadingTrials || this.table.full) && this.json?.counts ? this.json.counts : this.table.counts;
    }

    get start(): number {
        return time(this.json?.started) ?? time(this.json?.created) ?? 0;
    }

    /** Reads everything (again). What is shown stays until newer facts replace it. */
    async reload(): Promise<void> {
        this.abort.abort();
        this.abort = new AbortController();
        const signal = this.abort.signal;
        this.loadingTrials = true;
        this.meanwhile = [];
        try {
            const fresh = this.json === null;
            this.json = await get<ExperimentJson>(path.experiment(this.id), signal);
            const table = new TrialTable(Object.keys(this.json.spec?.searchspace ?? {}), this.measures());
            if (fresh) this.table = table;
            else this.curves = new CurveSet(); // points may be missing: they are fetched again
            this.load = { state: 'ready' };
            this.changed();
            await pages<TrialJson>(path.trials(this.id), 'trials', [FIRST_PAGE, PAGE], (items) => {
                for (const item of items) table.put(item);
                this.changed();
                return table.size < ROWS_MAX;
            }, signal, { sort: '-trial' });
            this.loadingTrials = false;
            performance.mark('magpie-all-rows');
            this.table = table;
            this.meanwhile.splice(0).forEach((c) => this.apply(c));
        } catch (error) {
            if (signal.aborted) return;
            this.loadingTrials = false;
            this.load = { state: 'error', error: asApiError(error) };
            if (this.load.error.status === 404) this.json = null;
        }
        this.changed();
    }

    /** Somebody deleted it. */
    gone(): void {
        this.close();
        this.json = null;
        this.loadingTrials = false;
        this.load = { state: 'error', error: new ApiError(404, 'This experiment was deleted', 'Its trials and their record are gone.') };
    }

    close(): void {
        this.abort.abort();
    }

    apply(change: Change): void {
        if (this.loadingTrials) this.meanwhile.push(change);
        if (change.kind === 'trial') this.table.put(change.trial);
        else if (change.kind === 'points') change.points.forEach((p) => this.point(p));
        else if (change.kind === 'experiment' && this.json) this.json = { ...this.json, ...change.experiment, spec: change.experiment.spec ?? this.json.spec };
    }

    private point(p: Point): void {
        const value = p.values[this.metric];
        if (value === undefined) return;
        this.table.point(p.trial, p.attempt, p.step, value);
        if (this.curves.curves.size >= CURVES_MAX && !this.curves.wants(p.trial)) this.makeRoom();
        this.curves.add(p.trial, p.attempt, p.step, value);
    }

    /** A new trial's curve pushes out the oldest one that has ended. */
    private makeRoom(): void {
        for (const id of this.curves.curves.keys()) {
            const state = this.table.get(id)?.state;
            if (state === 'running' || state === 'paused') continue;
            this.curves.drop(id);
            return;
        }
    }
}

export class Store {
    link: Link = { state: 'connecting' };
    readonly experiments = new Map<number, ExperimentJson>();
    experimentsLoad: Load = { state: 'loading' };
    workers: WorkerJson[] = [];
    workersLoad: Load = { state: 'loading' };
    open: OpenExperiment | null = null;
    private readonly listeners = new Set<() => void>();
    private readonly messageListeners = new Set<(change: Change) => void>();
    private scheduled = false;
    private workersTimer: ReturnType<typeof setTimeout> | undefined;
    private wantsWorkers = false;
    private wantsExperiments = false;
    private everLive = false;
    private newer = new Set<number>(); // experiments that events told of while the list is read

    onChange(listener: () => void): () => void {
        this.listeners.add(listener);
        return () => this.listeners.delete(listener);
    }

    /** Every single change, as it comes (the drawer follows one trial's metrics by it). */
    onEvent(listener: (change: Change) => void): () => void {
        this.messageListeners.add(listener);
        return () => this.messageListeners.delete(listener);
    }

    /** Draws are at most one a frame; a hidden tab draws once a second at most, by its timers' throttling. */
    changed = (): void => {
        if (this.scheduled) return;
        this.scheduled = true;
        const run = (): void => {
            this.scheduled = false;
            for (const listener of this.listeners) listener();
        };
        if (document.hidden) setTimeout(run, 1000);
        else requestAnimationFrame(run);
    };

    setLink(link: Link): void {
        const live = link.state === 'live';
        const failed = this.experimentsLoad.state === 'error' || this.open?.load.state === 'error';
        // What happened between the page's first look and the stream's first event was told to nobody: look again.
        const late = live && !this.everLive;
        this.everLive ||= live;
        this.link = link;
        if (late || (live && failed)) this.reloadAll();
        if (link.state === 'live' && this.wantsWorkers) void this.loadWorkers();
        this.changed();
    }

    messages(messages: readonly Message[]): void {
        for (const message of messages)
            for (const change of changesOf(message)) this.apply(change);
        this.changed();
    }

    private apply(change: Change): void {
        if (change.kind === 'reset') return this.reloadAll();
        if (change.kind === 'experiment') this.mergeExperiment(change.experiment);
        if (change.kind === 'gone') {
            this.newer.add(change.id);
            this.experiments.delete(change.id);
            if (this.open?.id === change.id) this.open.gone();
        }
        if (change.kind === 'worker') this.workersChanged();
        if (this.open && isAbout(change, this.open.id)) this.open.apply(change);
        for (const listener of this.messageListeners) listener(change);
    }

    private mergeExperiment(json: ExperimentJson): void {
        const old = this.experiments.get(json.id);
        this.newer.add(json.id);
        this.experiments.set(json.id, { ...old, ...json, spec: json.spec ?? old?.spec });
    }

    reloadAll(): void {
        if (this.wantsExperiments) void this.loadExperiments();
        if (this.wantsWorkers) void this.loadWorkers();
        if (this.open) void this.open.reload();
    }

    async loadExperiments(): Promise<void> {
        this.wantsExperiments = true;
        const seen = new Set<number>();
        this.newer.clear();
        try {
            await pages<ExperimentJson>(path.experiments, 'experiments', [100, PAGE], (items) => {
                for (const item of items) {
                    seen.add(item.id);
                    this.take(item);
                }
                this.experimentsLoad = { state: 'ready' };
                this.changed();
                return true;
            });
            for (const id of this.experiments.keys()) if (!seen.has(id) && !this.newer.has(id)) this.experiments.delete(id);
        } catch (error) {
            this.experimentsLoad = { state: 'error', error: asApiError(error) };
        }
        this.changed();
    }

    /** An experiment of the list: what an event told meanwhile stays. */
    private take(item: ExperimentJson): void {
        const told = this.experiments.get(item.id);
        if (!this.newer.has(item.id)) this.experiments.set(item.id, item);
        else if (told) this.experiments.set(item.id, { ...item, ...told, spec: told.spec ?? item.spec });
    }

    async loadWorkers(): Promise<void> {
        this.wantsWorkers = true;
        const workers: WorkerJson[] = [];
        try {
            await pages<WorkerJson>(path.workers, 'workers', [PAGE, PAGE], (items) => {
                workers.push(...items);
                return true;
            });
            this.workers = workers;
            this.workersLoad = { state: 'ready' };
        } catch (error) {
            this.workersLoad = { state: 'error', error: asApiError(error) };
        }
        this.changed();
    }

    private workersChanged(): void {
        if (!this.wantsWorkers) return;
        this.workersTimer ??= setTimeout(() => {
            this.workersTimer = undefined;
            void this.loadWorkers();
        }, 300);
    }

    /** The workers' page looks again and again: beats are no events. */
    watchWorkers(): () => void {
        void this.loadWorkers();
        const timer = setInterval(() => {
            if (this.link.state === 'live' && !document.hidden) void this.loadWorkers();
        }, RELOAD_WORKERS_MS);
        return () => {
            clearInterval(timer);
            this.wantsWorkers = false;
        };
    }

    openExperiment(id: number): OpenExperiment {
        if (this.open?.id === id) return this.open;
        this.closeExperiment();
        this.open = new OpenExperiment(id, this.changed);
        void this.open.reload();
        return this.open;
    }

    closeExperiment(): void {
        this.open?.close();
        this.open = null;
    }
}

function isAbout(change: Change, id: number): boolean {
    if (change.kind === 'trial' || change.kind === 'points') return change.experiment === id;
    return change.kind === 'experiment' && change.experiment.id === id;
}
