#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a suggestion costs Optuna, beside build/bench/bench-optimizers cost: 10 parameters, random finished trials, 100 pending.

    python3 bench/quality run --suite named --solver optuna-random     (makes the virtual environment, once)
    ~/.cache/magpie-bench/quality/bin/python bench/peer_suggest.py [--finished 10000] [--samples 30] [--sampler tpe …]

One JSON line a sampler; processor time in microseconds.
"""
import argparse
import json
import os
import random
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "quality"))


def history(study, finished, pending, space):
    import optuna
    rng = random.Random(7)
    draw = lambda: {k: rng.uniform(d.low, d.high) for k, d in space.items()}  # noqa: E731
    trials = []
    for _ in range(finished):
        params = draw()
        value = sum((v / 10 + 0.2) ** 2 for v in params.values())
        trials.append(optuna.trial.create_trial(params=params, distributions=space, value=value))
    study.add_trials(trials)
    for _ in range(pending):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, params=draw(), distributions=space))


def cost(name, finished, pending, samples):
    import optuna
    import peer_optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {"x%d" % i: optuna.distributions.FloatDistribution(-5, 5) for i in range(10)}
    study = optuna.create_study(sampler=peer_optuna.samplers()[name](1))
    history(study, finished, pending, space)
    spent = []
    for _ in range(samples):
        start = time.process_time()
        trial = study.ask(space)
        spent.append((time.process_time() - start) * 1e6)
        study.tell(trial, 1.0)
    spent.sort()
    print(json.dumps({"bench": "suggestion", "system": "optuna " + optuna.__version__, "sampler": name, "finished": finished,
                      "pending": pending, "samples": samples, "suggest_us": {"median": round(statistics.median(spent)),
                                                                            "p99": round(spent[min(samples - 1, samples * 99 // 100)])}}),
          flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--finished", type=int, default=10000)
    ap.add_argument("--pending", type=int, default=100)
    ap.add_argument("--samples", type=int, default=30)
    ap.add_argument("--sampler", action="append", help="repeatable; default: random, tpe, tpe-uni, nsga2")
    a = ap.parse_args()
    for name in a.sampler or ("random", "tpe", "tpe-uni", "nsga2"):
        cost(name, a.finished, a.pending, a.samples)


if __name__ == "__main__":
    main()
