#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Search quality beside the peers from PyPI, on the same problems with the same seeds. See bench/README.md.

    python3 bench/quality run --suite named,bbob --solver magpie-auto --solver optuna-tpe [--split tune] [--only f01-d5]
    python3 bench/quality peers [--until 09:00]       every peer's rows, in the order of their worth
    python3 bench/quality report [--suite bbob] [--split report]
    python3 bench/quality summary                      the tables of bench/results/quality/report.txt
    python3 bench/quality pack                         rows of the cache into bench/results/quality
"""
import argparse
import datetime
import sys
import time

import ours
import report
import rows
import runner
import suites

# In the order of their worth: (suite, split, solver, part of the problem's name)
PEERS = (
    [("named", "report", "optuna-" + s, "") for s in ("tpe", "cmaes", "random")]
    + [("bbob", "tune", "optuna-" + s, "-d5-i%d" % i) for i in (1, 2) for s in ("tpe", "cmaes", "random")]
    + [("parallel", "report", "optuna-tpe", "")]
    + [("bbob", "tune", "optuna-" + s, "-d%d-i%d" % (d, i)) for i in (1, 2) for d in (2, 10) for s in ("tpe", "cmaes")]
    + [("bbob", "report", "optuna-" + s, "-d%d" % d) for d in (5, 2) for s in ("tpe", "cmaes", "random")]
    + [("mf", "report", "dehb", ""), ("curves", "report", "dehb", "-i6"), ("curves", "report", "syne-asha", "-i6")]
    + [("bbob", "report", "optuna-" + s, "-d10-i%d" % i) for i in (6, 7) for s in ("tpe", "cmaes", "random")]
    + [("bbob", "report", "optuna-gp", "-d5-i6")]
    + [("mixed", "report", "optuna-tpe-group", "-i%d" % i) for i in (6, 7)]
    + [("bbob", "report", "optuna-" + s, "-d10") for s in ("tpe", "cmaes", "random")]
    + [("mixed", "report", "optuna-tpe-group", "-i%d" % i) for i in (8, 9, 10)]
    + [("named", "report", "optuna-gp", "branin")]
    + [("named", "report", "optuna-" + s, "") for s in ("tpe-uni", "nsga2", "qmc")]
    + [("bbob", "report", "optuna-" + s, "-d5") for s in ("qmc", "nsga2")]
    + [("curves", "report", s, "-i%d" % i) for i in (7, 8, 9) for s in ("dehb", "syne-asha")]
    + [("curves", "report", "syne-bohb", "-i6")]
    + [("bbob", "report", "optuna-gp", "-d2-i6"), ("bbob", "report", "optuna-tpe-uni", "-d5")]
    + [("mixed", "report", "optuna-tpe-group", ""), ("bbob", "report", "optuna-gp", "-d10-i6")]
    + [("bbob", "report", "optuna-" + s, "-d%d" % d) for d in (2, 10) for s in ("qmc", "nsga2", "tpe-uni")]
    + [("bbob", "report", "optuna-gp", "")]
)

OURS = ["magpie-auto", "magpie-tpe", "magpie-cmaes"]
MAIN = ["optuna-tpe", "optuna-cmaes", "optuna-random"]
# Solvers are compared on the pairs that all of them have, so a peer with few rows has a table of its own: (suite, part, solvers)
SUMMARY = (
    [("bbob", "-d%d-" % d, OURS + MAIN) for d in (2, 5, 10)]
    + [("bbob", "-d5-", ["magpie-auto", "optuna-" + s]) for s in ("qmc", "nsga2", "tpe-uni")]
    + [("bbob", "-d5-i6", ["magpie-auto", "magpie-gp", "optuna-gp"])]
    + [("named", "", OURS + MAIN), ("parallel", "", ["magpie-auto", "optuna-tpe"])]
    + [("mixed", "", ["magpie-auto", "optuna-tpe-group"]), ("mf", "", ["magpie-auto", "magpie-dehb", "dehb"])]
    + [("curves", "", ["magpie-auto", "magpie-dehb", "dehb"]), ("curves", "", ["magpie-auto", "magpie-asha", "syne-asha"])]
    + [("curves", "", ["magpie-bohb", s]) for s in ("dehb", "syne-asha", "syne-bohb")]
)


def when(text):
    """"HH:MM" of the clock in UTC, or seconds from now; seconds since the epoch."""
    if not text:
        return float("inf")
    if ":" not in text:
        return time.time() + float(text)
    now = datetime.datetime.now(datetime.timezone.utc)
    hour, minute = (int(v) for v in text.split(":"))
    at = now.replace(hour=hour, minute=minute, second=0)
    return (at if at > now else at + datetime.timedelta(days=1)).timestamp()


def solver_of(text, tag):
    return ours.solver(text, tag) if text.startswith("magpie") else {"name": text}


def cmd_run(a):
    jobs = []
    for suite in a.suite.split(","):
        for text in a.solver:
            jobs += runner.missing(suite, a.split, solver_of(text, a.tag), a.only)
    return 0 if runner.run(jobs, a.jobs, a.deadline) else 1


def cmd_peers(a):
    ok = True
    for suite, split, solver, only in PEERS:
        if time.time() < a.deadline:
            ok = runner.run(runner.missing(suite, split, {"name": solver}, only), a.jobs, a.deadline) and ok
    return 0 if ok else 1


def cmd_report(a):
    for suite in a.suite.split(","):
        report.report(suite, a.split, a.solver, a.only)
    return 0


def cmd_summary(a):
    for suite, only, solvers in SUMMARY:
        report.report(suite, "report", solvers, only)
    return 0


def cmd_pack(a):
    for suite in a.suite.split(","):
        for solver in rows.newest(suite, a.solver):
            print("%s %s: %d rows" % (suite, solver, rows.pack(suite, solver)))
    return 0


def add_choice(p, solver_help, required=False):
    p.add_argument("--suite", default=",".join(suites.SUITES), help="one or more of %(default)s")
    p.add_argument("--solver", action="append", default=None, required=required, help=solver_help)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    p = sub.add_parser("run", help="compute missing rows")
    add_choice(p, "repeatable: magpie-ALGORITHM, 'magpie:{\"algorithm\": …, options}', optuna-tpe, …", True)
    p.add_argument("--tag", default="", help="names the build of magpie in its rows; default: the commit")
    sub.add_parser("peers", help="every peer's missing rows, in the order of their worth")
    for q in sub.choices.values():
        q.add_argument("--jobs", type=int, default=1)
        q.add_argument("--until", "--budget", default="", help="HH:MM (UTC) or seconds: start no search after it")
    add_choice(sub.add_parser("report", help="tables"), "repeatable; default: all that have rows")
    for name in ("run", "report"):
        sub.choices[name].add_argument("--split", choices=("tune", "report"), default="report")
        sub.choices[name].add_argument("--only", default="", help="problems whose name contains this")
    sub.add_parser("summary", help="the tables of bench/results/quality/report.txt")
    add_choice(sub.add_parser("pack", help="rows into bench/results/quality"), "repeatable; default: all")
    sub.add_parser("worker", help="used by the others")
    a = ap.parse_args()
    if a.command == "worker":
        import worker
        return worker.main()
    a.deadline = when(getattr(a, "until", ""))
    return {"run": cmd_run, "peers": cmd_peers, "report": cmd_report, "summary": cmd_summary,
            "pack": cmd_pack}[a.command](a)


if __name__ == "__main__":
    sys.exit(main())
