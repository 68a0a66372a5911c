#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random search with a barrier and without: the claim of Maggy (Meister et al., DistributedML 2020), which says that asynchronous
trials need 33 to 58 % less time than bulk-synchronous ones, for a fixed number of them and at the same accuracy.

The same trials (points, curves and times are the same whoever runs them) are played three ways in virtual time: in stages of as many
trials as there are workers, each stage as long as its slowest trial; without a barrier; and without a barrier, with the median rule,
for which trials must report while they run. The space is that of Maggy's own example (kernel, pool, dropout); a step takes longer
with a larger kernel and less with larger pools, and workers differ a little.

usage: bench/maggy.py [MAGPIE] [SEEDS]     (build/magpie 20); one JSON line for each number of workers"""
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile

MAGPIE = sys.argv[1] if len(sys.argv) > 1 else "build/magpie"
SEEDS = int(sys.argv[2]) if len(sys.argv) > 2 else 20
TRIALS, EPOCHS = 128, 20

EXPERIMENT = {
    "name": "maggy",
    "objective": {"metric": "accuracy", "direction": "max"},
    "searchspace": {"kernel": ["INTEGER", [2, 8]], "pool": ["INTEGER", [2, 8]], "dropout": ["DOUBLE", [0.01, 0.99]]},
    "optimizer": {"algorithm": "random"},
    "resource": {"unit": "epoch", "max": EPOCHS},
    "limits": {"trials": TRIALS},
    "seed": 1,
    "simulation": {"step": 30, "duration": {"model": "lognormal(0.2)", "by": {"kernel": 3, "pool": 0.5}}, "objective": "curve(0.005)"},
}
MEDIAN = {"rule": "median", "min_trials": 5, "min_step": 4}


def play(workers, folder, **more):
    path, table = os.path.join(folder, "search.json"), os.path.join(folder, "jobs.csv")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**EXPERIMENT, **more}, f)
    out = subprocess.run([MAGPIE, "simulate", path, "--workers", str(workers), "--seeds", str(SEEDS), "--json", "--csv", table],
                         check=True, capture_output=True, text=True).stdout
    runs = [r for r in map(json.loads, out.splitlines()) if r["kind"] == "run"]
    with open(table, encoding="utf-8") as f:
        return runs, list(csv.DictReader(f))


def with_barrier(jobs, seed, workers):
    """Stages of `workers` trials, each as long as its slowest."""
    took = {int(j["trial"]): float(j["end_s"]) - float(j["start_s"]) for j in jobs if int(j["seed"]) == seed}
    times = [took[t] for t in sorted(took)]
    return sum(max(times[i:i + workers]) for i in range(0, len(times), workers))


def less(new, old):
    shares = [1 - a / b for a, b in zip(new, old)]
    return {"mean": round(statistics.mean(shares), 4), "error": round(statistics.stdev(shares) / len(shares) ** 0.5, 4),
            "least": round(min(shares), 4), "most": round(max(shares), 4)}


def main():
    with tempfile.TemporaryDirectory() as folder:
        for workers in (4, 8, 16, 32):
            free, jobs = play(workers, folder)
            stopping, _ = play(workers, folder, early_stopping=MEDIAN)
            barrier = [with_barrier(jobs, r["seed"], workers) for r in free]
            print(json.dumps({
                "bench": "maggy", "workers": workers, "trials": TRIALS, "seeds": SEEDS,
                "barrier_s": round(statistics.mean(barrier), 1),
                "free_s": round(statistics.mean(r["seconds"] for r in free), 1),
                "free_median_s": round(statistics.mean(r["seconds"] for r in stopping), 1),
                "less_time": less([r["seconds"] for r in free], barrier),
                "less_time_median": less([r["seconds"] for r in stopping], barrier),
                "accuracy": round(statistics.mean(r["best"]["truth"] for r in free), 4),
                "accuracy_median": round(statistics.mean(r["best"]["truth"] for r in stopping), 4),
                "busy": round(statistics.mean(r["utilisation"] for r in free), 4),
            }), flush=True)


if __name__ == "__main__":
    main()
