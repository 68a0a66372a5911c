# SPDX-License-Identifier: Apache-2.0
"""Tables from the rows: mean ranks, wins a function, medians with bootstrap intervals, Wilcoxon p.

Solvers are compared on the (problem, seed) pairs that all of them have; the tables say how many these are.
"""
import re
import statistics

import rows
import stats
import suites

GROUPS = (("separable", range(1, 6)), ("moderate", range(6, 10)), ("ill-conditioned", range(10, 15)),
          ("multimodal", range(15, 20)), ("weakly structured", range(20, 25)))


def table(suite, split, solvers, only=""):
    """solver -> {(problem, seed): row} on the pairs of that split that all have."""
    wanted = {key for key in suites.jobs(suite, split) if only in key[0]}
    have = {s: {k: r for k, r in rows.load(suite, s).items() if k in wanted} for s in solvers}
    common = set.intersection(*(set(t) for t in have.values())) if have else set()
    return {s: {k: t[k] for k in sorted(common)} for s, t in have.items()}


def mean_ranks(tab):
    """solver -> ranks, one a pair; by final regret."""
    solvers = list(tab)
    out = {s: [] for s in solvers}
    for key in (tab[solvers[0]] if solvers else ()):
        for s, r in zip(solvers, stats.ranks([tab[t][key]["final"] for t in solvers])):
            out[s].append(r)
    return out


def function_of(problem):
    """The problem without its instance or seed: what wins and medians are counted by."""
    return re.sub(r"-[is]\d+", "", problem) if problem[0] != "f" else problem.split("-")[0]


def pair_wins(tab, a, b):
    """On how many functions (or problems) a's mean rank over its instances and seeds is better than b's."""
    by = {}
    for key in tab[a]:
        x, y = tab[a][key]["final"], tab[b][key]["final"]
        by.setdefault(function_of(key[0]), []).append((x > y) - (x < y))
    won = sum(sum(v) < 0 for v in by.values())
    return won, sum(sum(v) == 0 for v in by.values()), len(by)


def print_ranks(title, tab):
    pairs = len(next(iter(tab.values()), ()))
    print("\n%s: %d pairs of problem and seed" % (title, pairs))
    if not pairs:
        return
    means = mean_ranks(tab)
    for s in sorted(means, key=lambda s: statistics.fmean(means[s])):
        lo, hi = stats.bootstrap(means[s], statistics.fmean, 500)
        print("  %-44s mean rank %.3f  [%.3f, %.3f]" % (s, statistics.fmean(means[s]), lo, hi))


def print_pairs(tab, ours, theirs):
    for a in ours:
        for b in theirs:
            x = [tab[a][k]["final"] for k in tab[a]]
            y = [tab[b][k]["final"] for k in tab[a]]
            if not x:
                continue
            won, tied, n = pair_wins(tab, a, b)
            better = sum(u < v for u, v in zip(x, y)) + 0.5 * sum(u == v for u, v in zip(x, y))
            print("  %s against %s: better on %d of %d functions (%d tied), in %.1f %% of the pairs, Wilcoxon p %.2g"
                  % (a, b, won, n, tied, 100 * better / len(x), stats.wilcoxon(_ranked(x, y), _ranked(y, x))))


def _ranked(x, y):
    """Regrets of different problems are not comparable: the test runs on log regrets."""
    import math
    return [math.log10(max(u, 1e-12)) for u in x]


def print_groups(tab, a, b):
    """Where a loses against b: share of pairs won by group of BBOB functions and dimension."""
    dims = sorted({k[0].split("-")[1] for k in tab[a]}, key=lambda d: int(d[1:]))
    print("  %s wins against %s, %% of pairs (rows: groups; columns: %s)" % (a, b, ", ".join(dims)))
    for name, members in GROUPS:
        cells = []
        for d in dims:
            keys = [k for k in tab[a] if int(k[0][1:3]) in members and k[0].split("-")[1] == d]
            won = sum((tab[a][k]["final"] < tab[b][k]["final"]) + 0.5 * (tab[a][k]["final"] == tab[b][k]["final"])
                      for k in keys)
            cells.append("%5.0f" % (100 * won / len(keys)) if keys else "    -")
        print("    %-18s %s" % (name, " ".join(cells)))


def print_medians(tab):
    problems = sorted({function_of(k[0]) for t in tab.values() for k in t})
    for p in problems:
        print("  %s" % p)
        lines = []
        for s, t in tab.items():
            values = [r["final"] for k, r in t.items() if function_of(k[0]) == p]
            if values:
                lo, hi = stats.bootstrap(values)
                lines.append((statistics.median(values), "    %-44s median %.4g  [%.4g, %.4g]  mean %.4g  n %d"
                              % (s, statistics.median(values), lo, hi, statistics.fmean(values), len(values))))
        for _, line in sorted(lines):
            print(line)


def report(suite, split, solvers, only):
    solvers = rows.newest(suite, solvers, {key for key in suites.jobs(suite, split) if only in key[0]})
    tab = table(suite, split, solvers, only)
    ours = [s for s in solvers if s.startswith("magpie")]
    theirs = [s for s in solvers if not s.startswith("magpie")]
    print("== %s, %s%s" % (suite, split, ", problems with %s" % only if only else ""))
    if suite == "bbob":
        print_ranks("all dimensions", tab)
        for d in (2, 5, 10):
            part = {s: {k: r for k, r in t.items() if "-d%d-" % d in k[0]} for s, t in tab.items()}
            if any(part.values()):
                print_ranks("dimension %d" % d, part)
                print_pairs(part, ours, theirs)
        for a in ours:
            for b in theirs:
                if tab[a]:
                    print_groups(tab, a, b)
        return
    print_medians(tab)
    print_ranks("all problems", tab)
    print_pairs(tab, ours, theirs)
