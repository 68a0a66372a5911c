# SPDX-License-Identifier: Apache-2.0
"""Syne Tune's multi-fidelity schedulers, called as its tuner calls them. The release has the stopping variant of ASHA alone:
a trial runs on unless a rung stops it, so nothing is ever paused or resumed."""
import datetime


def _class(name):
    from syne_tune.optimizer import baselines
    return {"asha": baselines.ASHA, "bohb": baselines.BOHB, "ashabore": baselines.ASHABORE,
            "ashacqr": baselines.ASHACQR}[name]


class Solver:
    def __init__(self, problem, seed, name):
        import logging
        import warnings

        import numpy
        from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
        logging.disable(logging.CRITICAL)
        warnings.filterwarnings("ignore")
        numpy.random.seed(seed)
        space = {}
        for p in problem.params:
            if p.kind == "cat":
                space[p.name] = choice(list(p.values))
            elif p.kind == "int":
                space[p.name] = (lograndint if p.log else randint)(int(p.lo), int(p.hi))
            else:
                space[p.name] = (loguniform if p.log else uniform)(p.lo, p.hi)
        self.top = problem.resource[1]
        self.scheduler = _class(name)(space, metric="value", time_attr="epoch", max_t=self.top, do_minimize=True,
                                      random_seed=seed, grace_period=problem.resource[0], reduction_factor=3)
        self.n, self.names = 0, [p.name for p in problem.params]

    def job(self):
        from syne_tune.backend.trial_status import Trial
        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        trial = Trial(trial_id=self.n, config=suggestion.config, creation_time=datetime.datetime.now())
        self.n += 1
        self.scheduler.on_trial_add(trial)
        return trial, {k: trial.config[k] for k in self.names}, 0, self.top

    def report(self, trial, step, value):
        result = {"value": value, "epoch": step}
        if step >= self.top:
            self.scheduler.on_trial_complete(trial, result)
            return False
        goes_on = self.scheduler.on_trial_result(trial, result) == "CONTINUE"
        if not goes_on:
            self.scheduler.on_trial_remove(trial)
        return goes_on

    def close(self):
        pass


def versions():
    from importlib.metadata import version
    return {"syne-tune": version("syne-tune"), "numpy": version("numpy")}
