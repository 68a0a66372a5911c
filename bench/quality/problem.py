# SPDX-License-Identifier: Apache-2.0
"""What a search is measured on: a list of parameters, a function to minimise and its best value.

Every solver gets the same Problem through the adapters in ours.py and peer_*.py. A Problem never tells a solver its
name: only parameters, the number of trials and, where there is one, the resource.
"""
import math


class Param:
    """One parameter. kind: "float", "int" or "cat"; `when` = (parent's name, values for which this one is active)."""

    def __init__(self, name, kind, lo=0.0, hi=1.0, log=False, values=(), when=None):
        self.name, self.kind, self.lo, self.hi, self.log = name, kind, lo, hi, log
        self.values, self.when = tuple(values), when

    def magpie(self):
        """This parameter in an experiment file's searchspace."""
        if self.kind == "cat":
            spec = {"type": "CATEGORICAL", "values": list(self.values)}
        else:
            spec = {"type": "DOUBLE" if self.kind == "float" else "INTEGER", "range": [self.lo, self.hi]}
            if self.log:
                spec["scale"] = "log"
        if self.when:
            spec["when"] = {self.when[0]: list(self.when[1])}
        return spec

    def active(self, params):
        """Given the parents' values in `params` (a child never precedes its parent in a Problem's list)."""
        return self.when is None or (self.when[0] in params and params[self.when[0]] in self.when[1])

    def draw(self, rng):
        """Uniform in its scale; for peers that bring no sampler of their own, and for tests."""
        if self.kind == "cat":
            return self.values[rng.randrange(len(self.values))]
        if self.kind == "int":
            if not self.log:
                return rng.randint(int(self.lo), int(self.hi))
            return min(int(self.hi), int(math.floor(math.exp(rng.uniform(math.log(self.lo), math.log(self.hi + 1))))))
        if self.log:
            return math.exp(rng.uniform(math.log(self.lo), math.log(self.hi)))
        return rng.uniform(self.lo, self.hi)


def floats(n, lo, hi):
    return [Param("x%02d" % i, "float", lo, hi) for i in range(n)]


class Problem:
    """`function(params)` -> value to minimise; `optimum` is its best value (0 regret)."""

    workers = 1       # trials at a time
    resource = None   # (least, most) steps of a trial, where it has them
    durations = None  # None = one after another; else a function(random.Random, params) -> virtual seconds

    def __init__(self, suite, name, params, function, optimum, trials):
        self.suite, self.name, self.params = suite, name, params
        self.function, self.optimum, self.trials = function, optimum, trials
        self.conditional = any(p.when for p in params)

    def regret(self, params):
        return self.function(params) - self.optimum


def vector(params):
    """The values in the order of the names, for functions over the reals."""
    return [params[k] for k in sorted(params)]
