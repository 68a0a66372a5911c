# SPDX-License-Identifier: Apache-2.0
"""Ranks, bootstrap intervals and the Wilcoxon signed-rank test; no package needed."""
import math
import random
import statistics


def ranks(values):
    """1 for the smallest; ties share their mean rank."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    out = [0.0] * len(values)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and values[order[j + 1]] == values[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2 + 1
        i = j + 1
    return out


def bootstrap(values, statistic=statistics.median, repeats=2000, level=0.95, seed=1):
    """The percentile interval of a statistic."""
    rng = random.Random(seed)
    n = len(values)
    drawn = sorted(statistic([values[rng.randrange(n)] for _ in range(n)]) for _ in range(repeats))
    edge = (1 - level) / 2
    return drawn[int(edge * (repeats - 1))], drawn[int((1 - edge) * (repeats - 1))]


def wilcoxon(a, b):
    """Two-sided p of the signed-rank test of paired samples, by the normal approximation with ties and a continuity
    correction; exact for 12 pairs or fewer without ties."""
    d = [x - y for x, y in zip(a, b) if x != y]
    n = len(d)
    if n == 0:
        return 1.0
    r = ranks([abs(x) for x in d])
    plus = sum(k for k, x in zip(r, d) if x > 0)
    if n <= 12 and len(set(map(abs, d))) == n:
        return _exact(n, int(round(min(plus, n * (n + 1) / 2 - plus))))
    ties = {}
    for x in d:
        ties[abs(x)] = ties.get(abs(x), 0) + 1
    mean = n * (n + 1) / 4
    var = n * (n + 1) * (2 * n + 1) / 24 - sum(t ** 3 - t for t in ties.values()) / 48
    if var <= 0:
        return 1.0
    z = max(0.0, abs(plus - mean) - 0.5) / math.sqrt(var)
    return math.erfc(z / math.sqrt(2))


def _exact(n, w):
    """P(min(W+, W-) <= w) under the null hypothesis."""
    counts = [1] + [0] * (n * (n + 1) // 2)
    for k in range(1, n + 1):
        for s in range(len(counts) - 1, k - 1, -1):
            counts[s] += counts[s - k]
    return min(1.0, 2 * sum(counts[:w + 1]) / 2 ** n)
