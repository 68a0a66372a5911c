# SPDX-License-Identifier: Apache-2.0
"""Runs one solver on one problem: one trial after another, or many at a time in virtual time."""
import heapq
import math
import random


def checkpoints(trials):
    """1, 2, 5, 10, then every 5 up to 50, every 10 beyond: where the curve of best regrets is kept."""
    marks = [1, 2] + list(range(5, 50, 5)) + list(range(50, trials, 10)) + [trials]
    return sorted({m for m in marks if m <= trials})


class Curve:
    """Best regret so far by number of finished trials."""

    def __init__(self, trials):
        self.marks, self.best, self.n, self.values = checkpoints(trials), math.inf, 0, []

    def add(self, regret):
        self.n += 1
        if regret < self.best:
            self.best = regret
        if len(self.values) < len(self.marks) and self.n == self.marks[len(self.values)]:
            self.values.append(float("%.6g" % self.best))


def run_trials(problem, solver, seed):
    """`solver` has ask() -> (handle, params) or None when it ends, and tell(handle, value). Returns the Curve."""
    curve = Curve(problem.trials)
    if problem.workers == 1 and problem.durations is None:
        while curve.n < problem.trials:
            asked = solver.ask()
            if asked is None:
                break
            handle, params = asked
            value = problem.function(params)
            solver.tell(handle, value)
            curve.add(value - problem.optimum)
        return curve
    return run_virtual(problem, solver, seed, curve)


def run_virtual(problem, solver, seed, curve):
    """Trials finish in the order of virtual time; the k-th trial's duration depends on (seed, k) alone."""
    rng = random.Random(seed)
    running, started, now = [], 0, 0.0
    while curve.n < problem.trials:
        while len(running) < problem.workers and started < problem.trials:
            asked = solver.ask()
            if asked is None:
                break
            handle, params = asked
            started += 1
            heapq.heappush(running, (now + problem.durations(rng, params), started, handle, params))
        if not running:
            break
        now, _, handle, params = heapq.heappop(running)
        value = problem.function(params)
        solver.tell(handle, value)
        curve.add(value - problem.optimum)
    return curve
