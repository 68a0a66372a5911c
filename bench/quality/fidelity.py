# SPDX-License-Identifier: Apache-2.0
"""Problems with a resource: `mf` (DEHB's own protocol) and `curves` (learning curves on workers in virtual time).

`mf`: the multi-fidelity Hartmann functions of mf-prior-bench (bias 0.5, noise 0.1, fidelity 1 to 100) and counting-ones with 50
categorical and 50 continuous parameters (Falkner et al., ICML 2018; fidelity 576/100 to 93312/100 draws), 300 evaluations of whatever
fidelity; scored is the best value seen at any of them, as DEHB's own benchmark does. DEHB counts its fidelities down from the
largest by 3; magpie counts its rungs up, and gets least budgets that end near the largest by 3: 4, 12, 36, 100 and 12, 36, 108, 324, 933.

`curves`: a configuration's error falls by a power law from a common start to its own asymptote, at its own speed, so that
curves cross; noise on every epoch; wide networks take longer an epoch. Scored is the noise-free error of the incumbent (the
best error reported so far, at any epoch), over virtual time.
"""
import math
import random

from functions import (HARTMANN3_A, HARTMANN3_BEST, HARTMANN3_P, HARTMANN6_A, HARTMANN6_BEST, HARTMANN6_P,
                       HARTMANN_ALPHA, hartmann)
from landscape import Landscape, instance_rng, unit
from problem import Param, Problem, floats, vector

EVALUATIONS = 300


def mf_hartmann(x, z, a, p, seed, bias=0.5, noise=0.1, z_max=100):
    left = 1 - math.log(z) / math.log(z_max)
    value = hartmann(x, a, p, [v - bias * left for v in HARTMANN_ALPHA])
    return value + abs(random.Random(hash((seed, z) + tuple(x))).gauss(0, 1)) * noise * left


def counting_ones(params, z, rng):
    total = 0.0
    for v in params.values():
        total += int(v) if isinstance(v, str) else sum(rng.random() < v for _ in range(z)) / z
    return -total / len(params)


def mf(name):
    kind, _, seed = name.partition("-s")
    if kind == "ones":
        params = [Param("cat%02d" % i, "cat", values=("0", "1")) for i in range(50)] + floats(50, 0, 1)
        rng = random.Random("ones:" + seed)
        p = Problem("mf", name, params, None, -1.0, EVALUATIONS)
        p.at, p.resource = lambda q, z: counting_ones(q, z, rng), (12, 933)
        p.exact_resource = (576 / 100, 93312 / 100)
        return p
    a, c, best = {"mfh3": (HARTMANN3_A, HARTMANN3_P, HARTMANN3_BEST), "mfh6": (HARTMANN6_A, HARTMANN6_P, HARTMANN6_BEST)}[kind]
    p = Problem("mf", name, floats(len(a[0]), 0, 1), None, best, EVALUATIONS)
    p.at, p.resource, p.exact_resource = lambda q, z: mf_hartmann(vector(q), z, a, c, int(seed)), (4, 100), (1, 100)
    return p


def mf_jobs(split):
    for seed in range(20) if split == "tune" else range(1000, 1020):
        for kind in ("mfh3", "mfh6", "ones"):
            yield "%s-s%d" % (kind, seed), seed


# ---- learning curves ----

EPOCHS = 81
TIME = {4: 2400.0, 25: 800.0}  # virtual time: about 30 and 10 whole trainings a worker


class Curves:
    def __init__(self, instance):
        rng = instance_rng("curves", instance)
        self.params = [Param("lr", "float", 1e-4, 1.0, log=True), Param("decay", "float", 1e-6, 1e-2, log=True),
                       Param("drop", "float", 0.0, 0.8), Param("width", "int", 16, 512, log=True),
                       Param("batch", "int", 16, 256, log=True), Param("act", "cat", values=("relu", "tanh", "gelu"))]
        self.floor = rng.uniform(0.03, 0.15)
        self.quality = Landscape(self.params, rng)
        self.speed = Landscape(self.params[:1] + self.params[4:5], rng, ripple=0)
        self.instance = instance

    def asymptote(self, q):
        return self.floor + 0.6 * (1 - math.exp(-0.8 * self.quality(q)))

    def error(self, q, epoch):
        """Noise-free. Fast learners' distance halves within an epoch or two, slow ones' within fifteen."""
        half = 1.5 * 10 ** min(1.0, 1.5 * self.speed(q))
        end = self.asymptote(q)
        return end + max(0.0, 0.9 - end) * (1 + epoch / half) ** -1.3

    def observe(self, q, epoch, seed):
        key = repr(sorted(q.items())) + ":%d:%d:%d" % (epoch, seed, self.instance)
        return self.error(q, epoch) + random.Random(key).gauss(0, 0.004)

    def seconds(self, q):
        """Of one epoch: 0.6 to 1.6 by width."""
        return 0.6 + unit(self.params[3], q["width"])


def curves(name):
    _, instance, workers = name.split("-")
    land = Curves(int(instance[1:]))
    p = Problem("curves", name, land.params, None, 0.0, None)
    p.workers, p.land, p.resource, p.time = int(workers[1:]), land, (1, EPOCHS), TIME[int(workers[1:])]
    return p


def curves_jobs(split):
    """Every instance and number of workers has seeds of its own, so that no two pairs hold the same draws of random trials."""
    instances, base, n = (range(1, 4), 0, 4) if split == "tune" else (range(6, 10), 1000, 10)
    kinds = [(i, w) for i in instances for w in (4, 25)]
    for k in range(n):
        for at, (instance, workers) in enumerate(kinds):
            yield "curves-i%d-w%d" % (instance, workers), base + at * n + k
