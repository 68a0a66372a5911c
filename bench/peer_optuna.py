#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""magpie beside Optuna on the same disk in the same run: one client that asks and tells no-op random trials.

    python3 -m venv VENV && VENV/bin/pip install optuna
    VENV/bin/python bench/peer_optuna.py --dir DIR [--trials N]

Prints one JSON line a system (Optuna on SQLite and on its journal file) and then the ratios.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def optuna_rate(kind, folder, trials, budget):
    import optuna
    from optuna.distributions import FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        if kind == "sqlite":
            storage = optuna.storages.RDBStorage(f"sqlite:///{work}/study.db")
        else:
            from optuna.storages.journal import JournalFileBackend
            storage = optuna.storages.JournalStorage(JournalFileBackend(f"{work}/study.journal"))
        study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
        space = {"lr": FloatDistribution(1e-4, 0.1, log=True), "units": IntDistribution(32, 512)}
        start, n = time.perf_counter(), 0
        while n < trials and time.perf_counter() - start < budget:
            trial = study.ask(space)
            n += 1
            study.tell(trial, n % 997)
        seconds = time.perf_counter() - start
    line = {"system": f"optuna {optuna.__version__}", "storage": kind, "trials": n, "seconds": round(seconds, 3),
            "trials_per_s": round(n / seconds, 1)}
    print(json.dumps(line), flush=True)
    return n / seconds


def magpie_rate(folder, build):
    out = subprocess.run([os.path.join(build, "bench", "ask_tell"), "--dir", folder, "--only", "one"],
                         check=True, stdout=subprocess.PIPE, env={**os.environ, "MAGPIE_LOG": "warn"}, text=True).stdout
    rate = 0.0
    for text in out.splitlines():
        print(text, flush=True)
        line = json.loads(text)
        rate = line.get("trials_per_s", rate)
    return rate


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--dir", default=".", help="on the disk to measure")
    ap.add_argument("--trials", type=int, default=500, help="of Optuna, at most")
    ap.add_argument("--budget", type=float, default=30, help="seconds for each storage of Optuna")
    ap.add_argument("--build", default=os.path.join(ROOT, "build"))
    a = ap.parse_args()
    try:
        import optuna  # noqa: F401
    except ImportError:
        sys.exit("peer_optuna: this Python has no optuna; see --help for how to install it")
    ours = magpie_rate(a.dir, a.build)
    for kind in ("sqlite", "journal"):
        theirs = optuna_rate(kind, a.dir, a.trials, a.budget)
        print(json.dumps({"ratio": f"magpie to optuna on {kind}", "value": round(ours / theirs, 1)}), flush=True)


if __name__ == "__main__":
    main()
