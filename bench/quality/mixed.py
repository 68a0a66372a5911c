# SPDX-License-Identifier: Apache-2.0
"""The suite `mixed`: integers, logarithms, categoricals with many values and conditional parameters, as in users' files."""
from landscape import Landscape, instance_rng
from problem import Param, Problem


def _scales():
    """Learning-rate-like logs, integers with and without a log, one small categorical."""
    return [Param("lr", "float", 1e-5, 1.0, log=True), Param("decay", "float", 1e-6, 1e-1, log=True),
            Param("units", "int", 8, 1024, log=True), Param("layers", "int", 1, 8), Param("drop", "float", 0.0, 0.9),
            Param("act", "cat", values=("relu", "tanh", "gelu", "elu"))]


def _many():
    """A categorical of 30 values, one of 8, one of 3, and three numbers whose optimum they move."""
    return [Param("embedding", "cat", values=["e%02d" % i for i in range(30)]),
            Param("block", "cat", values=["b%d" % i for i in range(8)]), Param("norm", "cat", values=("none", "batch", "layer")),
            Param("lr", "float", 1e-4, 1e-1, log=True), Param("mix", "float", 0, 1), Param("rank", "int", 1, 64)]


def _whole():
    """Eight integers of different widths."""
    return [Param("n%d" % i, "int", 0, hi) for i, hi in enumerate((3, 5, 9, 15, 31, 63, 127, 1000))]


def _choices():
    """Ten categoricals of two to six values: an architecture, 60,480,000 points."""
    return [Param("op%d" % i, "cat", values=["v%d" % k for k in range(n)]) for i, n in enumerate((6, 6, 5, 5, 6, 4, 4, 7, 10, 10))]


def _flat(make):
    def build(name, instance):
        params = make()
        land = Landscape(params, instance_rng(name, instance))
        return params, land
    return build


def _branches(name, instance, key, branches, shared):
    """A categorical `key` that opens one branch of parameters; each branch is a landscape with an offset, one has 0."""
    rng = instance_rng(name, instance)
    params, lands, offset = [Param(key, "cat", values=sorted(branches))] + shared, {}, {}
    best = rng.choice(sorted(branches))
    common = Landscape(shared, rng) if shared else (lambda q: 0.0)
    for label in sorted(branches):
        own = branches[label]
        for p in own:
            p.when = (key, (label,))
        lands[label] = Landscape(own, rng)
        offset[label] = 0.0 if label == best else rng.uniform(0.05, 0.6)
        params = params + own
    return params, lambda q: common(q) + offset[q[key]] + lands[q[key]](q)


def _trainers(name, instance):
    """An optimizer's own parameters, beside shared ones."""
    branches = {
        "sgd": [Param("sgd_lr", "float", 1e-4, 1.0, log=True), Param("momentum", "float", 0, 0.99)],
        "adam": [Param("adam_lr", "float", 1e-5, 1e-1, log=True), Param("beta1", "float", 0.5, 0.999),
                 Param("beta2", "float", 0.8, 0.9999)],
        "rmsprop": [Param("rms_lr", "float", 1e-5, 1e-1, log=True), Param("alpha", "float", 0.5, 0.999)],
    }
    shared = [Param("batch", "int", 16, 512, log=True), Param("drop", "float", 0, 0.8), Param("depth", "int", 1, 6)]
    return _branches(name, instance, "trainer", branches, shared)


def _models(name, instance):
    """Combined choice of a model and its parameters: five branches of two to four."""
    branches = {
        "svm": [Param("c", "float", 1e-3, 1e3, log=True), Param("gamma", "float", 1e-4, 10.0, log=True)],
        "forest": [Param("trees", "int", 10, 500, log=True), Param("leaf", "int", 1, 20), Param("features", "float", 0.1, 1)],
        "boost": [Param("rounds", "int", 10, 1000, log=True), Param("eta", "float", 1e-3, 0.5, log=True),
                  Param("tree_depth", "int", 2, 12), Param("subsample", "float", 0.3, 1)],
        "knn": [Param("k", "int", 1, 100, log=True), Param("p", "float", 1, 4)],
        "mlp": [Param("width", "int", 8, 512, log=True), Param("mlp_lr", "float", 1e-5, 1e-1, log=True),
                Param("hidden", "int", 1, 5), Param("mlp_act", "cat", values=("relu", "tanh", "gelu"))],
    }
    return _branches(name, instance, "model", branches, [])


def _layers(name, instance):
    """One to four layers, each with a width and an activation of its own: parameters that appear with the number."""
    rng = instance_rng(name, instance)
    counts = ("1", "2", "3", "4")
    params = [Param("count", "cat", values=counts), Param("lr", "float", 1e-5, 1e-1, log=True)]
    lands = [Landscape(params[1:2], rng)]
    for i in range(4):
        own = [Param("width%d" % (i + 1), "int", 8, 512, log=True), Param("act%d" % (i + 1), "cat", values=("relu", "tanh", "gelu", "elu"))]
        lands.append(Landscape(own, rng))
        for p in own:
            p.when = ("count", counts[i:]) if i > 0 else None
        params = params + own
    best = rng.randrange(4)
    cost = [0.0 if i == best else rng.uniform(0.1, 0.4) for i in range(4)]

    def value(q):
        n = int(q["count"])
        return cost[n - 1] + lands[0](q) + sum(land(q) for land in lands[1:n + 1]) / n
    return params, value


KINDS = {"scales": _flat(_scales), "many": _flat(_many), "whole": _flat(_whole), "choices": _flat(_choices),
         "trainers": _trainers, "models": _models, "layers": _layers}
TRIALS = 150


def problem(name):
    kind, _, instance = name.rpartition("-i")
    params, function = KINDS[kind](kind, int(instance))
    return Problem("mixed", name, params, function, 0.0, TRIALS)


def jobs(split):
    """Two seeds on each instance."""
    instances = range(1, 6) if split == "tune" else range(6, 16)
    base = 100 if split == "tune" else 1000
    for repeat in range(2):
        for instance in instances:
            for kind in KINDS:
                yield "%s-i%d" % (kind, instance), base + 50 * repeat + instance
