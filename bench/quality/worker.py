# SPDX-License-Identifier: Apache-2.0
"""Runs jobs in a virtual environment that has the peers: a JSON line a job on stdin, a JSON line a row on stdout."""
import json
import os
import sys
import time
import traceback

import drive
import suites


def make_solver(problem, job):
    family, _, name = job["solver"].partition("-")
    if family == "optuna":
        import peer_optuna
        return peer_optuna.Solver(problem, job["seed"], name), peer_optuna.versions()
    if family == "dehb":
        import peer_dehb
        return peer_dehb.Solver(problem, job["seed"]), peer_dehb.versions()
    if family == "syne":
        import peer_syne
        return peer_syne.Solver(problem, job["seed"], name), peer_syne.versions()
    if family == "magpie":
        import ours
        return ours.Solver(problem, job["seed"], job["optimizer"], job["pipe"]), job["versions"]
    raise ValueError("no solver family %r" % family)


def run(job):
    problem = suites.problem(job["suite"], job["problem"])
    start, cpu = time.perf_counter(), os.times()
    solver, versions = make_solver(problem, job)
    try:
        curve = drive.run_trials(problem, solver, job["seed"])
    finally:
        solver.close()
    end = os.times()
    spent = sum(end[:4]) - sum(cpu[:4])  # this process and the children that it waited for
    row = {k: job[k] for k in ("suite", "problem", "solver", "seed")}
    row.update(trials=curve.n, final=float("%.9g" % curve.best), curve=curve.values, cpu_s=round(spent, 2),
               wall_s=round(time.perf_counter() - start, 2), versions=versions)
    if "optimizer" in job:
        row["optimizer"] = job["optimizer"]
    return row


def main():
    # the peers print what they like; rows keep the real standard output to themselves
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = run(job)
        except Exception:  # noqa: BLE001  one failed search must not end the others
            answer = {"error": traceback.format_exc(limit=8), "job": job}
        print(json.dumps(answer), file=out, flush=True)
