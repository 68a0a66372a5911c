# SPDX-License-Identifier: Apache-2.0
"""DEHB (Awad et al., IJCAI 2021) by its own ask and tell, with its benchmark's settings (eta 3, all else its defaults).

It starts every evaluation from nothing: the release cannot continue a configuration at a larger fidelity.
"""
import random
import shutil
import tempfile


class Solver:
    def __init__(self, problem, seed):
        import numpy
        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace
        from ConfigSpace import UniformFloatHyperparameter, UniformIntegerHyperparameter
        from dehb import DEHB
        from loguru import logger
        logger.remove()
        numpy.random.seed(seed)
        random.seed(seed)
        space = ConfigurationSpace(seed=seed)
        for p in problem.params:
            if p.kind == "cat":
                space.add(CategoricalHyperparameter(p.name, list(p.values)))
            elif p.kind == "int":
                space.add(UniformIntegerHyperparameter(p.name, lower=int(p.lo), upper=int(p.hi), log=p.log))
            else:
                space.add(UniformFloatHyperparameter(p.name, lower=p.lo, upper=p.hi, log=p.log))
        least, most = getattr(problem, "exact_resource", problem.resource)
        self.folder = tempfile.mkdtemp(prefix="magpie-dehb-")
        self.dehb = DEHB(f=lambda *a, **k: None, cs=space, dimensions=len(problem.params), min_fidelity=least,
                         max_fidelity=most, eta=3, n_workers=1, seed=seed, save_freq=None, output_path=self.folder)
        logger.remove()
        self.params = {p.name: p for p in problem.params}

    def job(self):
        info = self.dehb.ask()
        params = {}
        for name, p in self.params.items():
            value = info["config"][name]
            params[name] = str(value) if p.kind == "cat" else int(value) if p.kind == "int" else float(value)
        return info, params, 0, int(info["fidelity"])

    def report(self, info, step, value):
        if step < int(info["fidelity"]):
            return True
        self.dehb.tell(info, {"fitness": value, "cost": float(step)})
        return False

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def versions():
    from importlib.metadata import version
    return {"dehb": version("dehb"), "ConfigSpace": version("ConfigSpace"), "numpy": version("numpy")}
