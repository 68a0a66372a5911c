// SPDX-License-Identifier: Apache-2.0
//
// Rungs of successive halving as a table: how many trials reached each budget and what they do there. Budgets are
// min·eta^k below max, and max itself, in integers, as in the driver.
import { isBetter, Row } from './model';
import { Spec } from './api';

export interface Rung {
    bracket: number;
    budget: number;
    reached: number; // reported a step at this budget or beyond
    running: number; // on their way to it
    paused: number; // wait at it for a promotion
    best: number | null;
    bestTrial: number;
}

/** The budgets that the rows were given, rising; the schedule's own ones where the spec tells them. */
export function rungBudgets(spec: Spec | undefined): number[] {
    const min = spec?.resource?.min ?? 1;
    const max = spec?.resource?.max;
    if (!spec?.resource || !max || min < 1) return [];
    const options = typeof spec.optimizer === 'object' ? spec.optimizer : {};
    const eta = options.reduction_factor ?? 3;
    if (!(eta > 1)) return [max];
    const out: number[] = [];
    for (let b = min; b < max && out.length < 64; b = Math.floor(b * eta)) out.push(b);
    out.push(max);
    return out;
}

export function rungTable(rows: readonly Row[], budgets: readonly number[], maximize: boolean): Rung[] {
    const brackets = [...new Set(rows.map((r) => r.bracket ?? 0))].sort((a, b) => a - b);
    const out: Rung[] = [];
    for (const bracket of brackets) {
        const mine = rows.filter((r) => (r.bracket ?? 0) === bracket);
        const given = new Set(mine.map((r) => r.budget));
        const first = Math.min(...[...given].filter((b): b is number => b !== null));
        for (const budget of budgets) if (budget >= first) out.push(oneRung(mine, bracket, budget, maximize));
    }
    return out;
}

function oneRung(rows: readonly Row[], bracket: number, budget: number, maximize: boolean): Rung {
    const rung: Rung = { bracket, budget, reached: 0, running: 0, paused: 0, best: null, bestTrial: 0 };
    for (const row of rows) {
        if (row.budget === budget && row.state === 'running') rung.running++;
        if (row.budget === budget && row.state === 'paused') rung.paused++;
        if (row.step === null || row.step < budget) continue;
        rung.reached++;
        // Only a trial that stopped here shows its value of this rung; larger ones show a later one.
        if (row.value === null || row.budget !== budget) continue;
        if (rung.best === null || isBetter(row.value, rung.best, maximize)) {
            rung.best = row.value;
            rung.bestTrial = row.id;
        }
    }
    return rung;
}
