# SPDX-License-Identifier: Apache-2.0
"""Optuna: trials that do nothing, one process, random points. peer_optuna.py memory|journal|sqlite TRIALS FOLDER"""
import json
import sys
import time

import optuna

VARIANT, TRIALS, WORK = sys.argv[1], int(sys.argv[2]), sys.argv[3]
optuna.logging.set_verbosity(optuna.logging.ERROR)


def storage():
    if VARIANT == "memory":
        return None
    if VARIANT == "sqlite":
        return f"sqlite:///{WORK}/study.db"
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    return JournalStorage(JournalFileBackend(f"{WORK}/study.journal"))


study = optuna.create_study(storage=storage(), sampler=optuna.samplers.RandomSampler(seed=1))
n = TRIALS if VARIANT != "sqlite" else max(20, TRIALS // 10)
t = time.perf_counter()
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=n)
ms = (time.perf_counter() - t) * 1e3 / n
print(json.dumps({"system": f"optuna {optuna.__version__}", "what": VARIANT, "slots": 1, "trials": n, "ms_per_trial": round(ms, 3),
                  "trials_per_s": round(1000 / ms, 1), "durable": VARIANT != "memory"}))
