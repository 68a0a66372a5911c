// SPDX-License-Identifier: Apache-2.0
//
// Reading a search space, in its long form and in Maggy's short one.
import { ParamSpec, Spec } from './api';

export function paramSpec(spec: Spec | undefined, name: string): ParamSpec | undefined {
    const p = spec?.searchspace?.[name];
    if (!p) return undefined;
    if (!Array.isArray(p)) return p;
    const [type, list] = p as [ParamSpec['type'], unknown];
    if (type === 'DOUBLE' || type === 'INTEGER') return { type, range: list as [number, number] };
    return { type, values: list as (number | string)[] };
}

export function isLog(spec: Spec | undefined, name: string): boolean {
    return paramSpec(spec, name)?.scale === 'log';
}

export function algorithm(spec: Spec | undefined): string {
    const o = spec?.optimizer;
    return (typeof o === 'string' ? o : o?.algorithm) ?? 'auto';
}

/** Whether the values are a list rather than a range. */
export function isCategory(spec: Spec | undefined, name: string): boolean {
    const type = paramSpec(spec, name)?.type;
    return type === 'CATEGORICAL' || type === 'DISCRETE';
}
