# SPDX-License-Identifier: Apache-2.0
"""Runs one solver on one problem: one trial after another, many at a time in virtual time, or by evaluations and epochs where
the problem has a resource."""
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
    if problem.suite == "mf":
        return run_evaluations(problem, solver)
    if problem.suite == "curves":
        return Epochs(problem, solver, seed).run()
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


def run_evaluations(problem, solver):
    """One evaluation after another at whatever budget. `solver` has job() -> (handle, params, from step, budget) or None, and
    report(handle, step, value) -> True when the trial goes on beyond this step."""
    curve = Curve(problem.trials)
    while curve.n < problem.trials:
        job = solver.job()
        if job is None:
            break
        handle, params, _, budget = job
        value = problem.at(params, budget)
        solver.report(handle, budget, value)
        curve.add(value - problem.optimum)
    return curve


class TimeCurve:
    """The score over virtual time at 20 marks."""

    def __init__(self, end):
        self.marks = [end * (k + 1) / 20 for k in range(20)]
        self.best, self.values, self.n, self.busy = math.inf, [], 0, 0.0

    def pass_to(self, now):
        while len(self.values) < 20 and self.marks[len(self.values)] <= now:
            self.values.append(None if math.isinf(self.best) else float("%.6g" % self.best))


class Epochs:
    """Workers in virtual time, each training one configuration an epoch at a time."""

    def __init__(self, problem, solver, seed):
        self.problem, self.solver, self.seed = problem, solver, seed
        self.heap, self.idle, self.seq = [], problem.workers, 0
        self.curve, self.seen = TimeCurve(problem.time), math.inf

    def start(self, now):
        """Idle workers ask; one that is told to wait asks again after the next report."""
        while self.idle > 0:
            job = self.solver.job()
            if job is None:
                return
            handle, params, step, budget = job
            self.idle -= 1
            self.curve.n += 1
            self.push(now, handle, params, step, budget)

    def push(self, now, handle, params, step, budget):
        self.seq += 1
        heapq.heappush(self.heap, (now + self.problem.land.seconds(params), self.seq, handle, params, step + 1, budget))

    def epoch(self, now, handle, params, step, budget):
        value = self.problem.land.observe(params, step, self.seed)
        if value < self.seen:
            self.seen, self.curve.best = value, self.problem.land.error(params, step)
        if self.solver.report(handle, step, value) and step < budget:
            self.push(now, handle, params, step, budget)
        else:
            self.idle += 1

    def run(self):
        now = 0.0
        self.start(now)
        while self.heap:
            now, _, handle, params, step, budget = heapq.heappop(self.heap)
            self.curve.pass_to(min(now, self.problem.time))
            if now > self.problem.time:
                break
            self.epoch(now, handle, params, step, budget)
            self.start(now)
        self.curve.pass_to(self.problem.time)
        return self.curve
