# SPDX-License-Identifier: Apache-2.0
"""Optuna's samplers behind ask and tell, defined by run, so that conditional parameters work as its users write them."""
import warnings


def samplers():
    """Name -> function(seed) -> sampler, each with the release's own defaults except what the name says."""
    from optuna import samplers as s
    return {
        "tpe": lambda seed: s.TPESampler(seed=seed),
        "tpe-uni": lambda seed: s.TPESampler(seed=seed, multivariate=False),
        "tpe-group": lambda seed: s.TPESampler(seed=seed, multivariate=True, group=True),
        "cmaes": lambda seed: s.CmaEsSampler(seed=seed),
        "gp": lambda seed: s.GPSampler(seed=seed),
        "nsga2": lambda seed: s.NSGAIISampler(seed=seed),
        "qmc": lambda seed: s.QMCSampler(seed=seed),
        "random": lambda seed: s.RandomSampler(seed=seed),
    }


class Solver:
    def __init__(self, problem, seed, name):
        import optuna
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore")
        self.problem = problem
        self.study = optuna.create_study(sampler=samplers()[name](seed))

    def ask(self):
        trial = self.study.ask()
        params = {}
        for p in self.problem.params:
            if p.active(params):
                params[p.name] = self._value(trial, p)
        return trial, params

    @staticmethod
    def _value(trial, p):
        if p.kind == "cat":
            return trial.suggest_categorical(p.name, list(p.values))
        if p.kind == "int":
            return trial.suggest_int(p.name, int(p.lo), int(p.hi), log=p.log)
        return trial.suggest_float(p.name, p.lo, p.hi, log=p.log)

    def tell(self, trial, value):
        self.study.tell(trial, value)

    def close(self):
        pass


def versions():
    import cmaes
    import optuna
    out = {"optuna": optuna.__version__, "cmaes": cmaes.__version__}
    try:
        import torch
        out["torch"] = torch.__version__
    except ImportError:
        pass
    return out
