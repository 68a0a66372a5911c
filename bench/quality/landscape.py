# SPDX-License-Identifier: Apache-2.0
"""Seeded landscapes over mixed parameters: what the suites `mixed` and `curves` are made of.

Each numeric parameter counts by its place in [0, 1] (in its logarithm where it has one). An instance draws an optimum, a
rotated quadratic bowl of mild conditioning around it, ripples, a penalty for each value of a categorical, and shifts of the
numeric optimum by the categoricals' values, so that parameters interact. The best value is 0 and is reached.
"""
import math
import random


def unit(p, value):
    if p.kind == "cat":
        return 0.0
    if p.log:
        return (math.log(value) - math.log(p.lo)) / (math.log(p.hi) - math.log(p.lo))
    return (value - p.lo) / (p.hi - p.lo)


def _rotation(rng, n):
    """An orthonormal basis by Gram-Schmidt."""
    rows = []
    for _ in range(n):
        v = [rng.gauss(0, 1) for _ in range(n)]
        for r in rows:
            dot = sum(a * b for a, b in zip(v, r))
            v = [a - dot * b for a, b in zip(v, r)]
        norm = math.sqrt(sum(a * a for a in v))
        rows.append([a / norm for a in v])
    return rows


class Landscape:
    """Value >= 0 of the parameters `params` (those without `when`) of one instance."""

    def __init__(self, params, rng, conditioning=10.0, ripple=0.05, shift=0.15):
        self.numeric = [p for p in params if p.kind != "cat"]
        self.cats = [p for p in params if p.kind == "cat"]
        self.ripple = ripple
        n = len(self.numeric)
        self.center = [unit(p, p.draw(rng)) * 0.8 + 0.1 if p.kind == "float" else unit(p, p.draw(rng))
                       for p in self.numeric]
        self.basis = _rotation(rng, n)
        self.weight = [conditioning ** (-i / max(1, n - 1)) * 4 for i in range(n)]
        self.best = {p.name: rng.choice(p.values) for p in self.cats}
        self.penalty, self.moved = {}, {}
        for p in self.cats:
            for v in p.values:
                is_best = v == self.best[p.name]
                self.penalty[p.name, v] = 0.0 if is_best else rng.uniform(0.05, 1.0) / math.sqrt(len(self.cats))
                self.moved[p.name, v] = [0.0 if is_best else rng.gauss(0, shift) for _ in range(n)]

    def __call__(self, params):
        center, value = list(self.center), 0.0
        for p in self.cats:
            v = params[p.name]
            value += self.penalty[p.name, v]
            center = [c + m for c, m in zip(center, self.moved[p.name, v])]
        d = [unit(p, params[p.name]) - min(1.0, max(0.0, c)) for p, c in zip(self.numeric, center)]
        for w, axis in zip(self.weight, self.basis):
            value += w * sum(a * b for a, b in zip(axis, d)) ** 2
        return value + self.ripple * sum(1 - math.cos(6 * math.pi * x) for x in d) / max(1, len(d))


def instance_rng(kind, instance):
    return random.Random("%s:%d" % (kind, instance))
