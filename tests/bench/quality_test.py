#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/search_pipe, and what bench/quality computes itself: functions, statistics, virtual time, kept rows."""
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.join(ROOT, "bench", "quality"))
import drive  # noqa: E402
import functions  # noqa: E402
import harness  # noqa: E402
import ours  # noqa: E402
import rows  # noqa: E402
import stats  # noqa: E402
import suites  # noqa: E402

PIPE = os.path.join(os.environ.get("MAGPIE_BUILD", os.path.join(ROOT, "build")), "bench", "search_pipe")


def experiment(**more):
    return {"objective": {"metric": "m", "direction": "min"}, "searchspace": {"x": ["DOUBLE", [0, 1]]}, "seed": 1,
            "limits": {"trials": 9}, "optimizer": {"algorithm": "random"}, **more}


def talk(*lines, args=(), status=0):
    """What search_pipe answers to these lines."""
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    p = subprocess.run([PIPE, *args], input=text, capture_output=True, text=True, timeout=60)
    assert p.returncode == status, (p.returncode, p.stderr)
    return [json.loads(line) for line in p.stdout.splitlines()] if status == 0 else p.stderr


class SearchPipe(unittest.TestCase):
    def test_many_trials_stay_pending_and_the_limit_of_trials_holds(self):
        out = talk({"op": "start", "experiment": experiment()}, {"op": "ask", "count": 1000}, {"op": "ask"},
                   *({"op": "tell", "trial": t, "value": t / 10} for t in range(9, 0, -1)), {"op": "best"})
        self.assertEqual(out[0]["algorithm"], "random")
        self.assertEqual([t["trial"] for t in out[1]["trials"]], list(range(1, 10)))
        self.assertEqual(out[2]["trials"], [])
        self.assertEqual(out[2]["why"]["code"], "trials-limit")
        self.assertEqual({x["state"] for x in out[3:12]}, {"completed"})
        self.assertEqual((out[12]["trial"], out[12]["value"]), (1, 0.1))

    def test_a_trial_pauses_at_its_rung_and_resumes_from_its_checkpoint(self):
        doc = experiment(resource={"min": 1, "max": 9}, optimizer={"algorithm": "asha"})
        reports = [{"op": "report", "trial": t, "step": 1, "value": v, "checkpoint": 1}
                   for t, v in ((1, .5), (2, .4), (3, .3))]
        out = talk({"op": "start", "experiment": doc}, {"op": "ask", "count": 3}, *reports, {"op": "ask"})
        self.assertEqual([x["action"] for x in out[2:5]], ["pause"] * 3)
        given = out[5]["trials"][0]
        self.assertEqual((given["trial"], given["attempt"], given["budget"], given["resume_from"]), (3, 2, 3, 1))

    def test_a_lost_trial_is_given_again_and_a_failed_one_is_not(self):
        out = talk({"op": "start", "experiment": experiment()}, {"op": "ask"}, {"op": "tell", "trial": 1, "state": "lost"},
                   {"op": "ask"}, {"op": "tell", "trial": 1, "state": "failed", "reason": "broken"}, {"op": "ask"})
        self.assertEqual(out[2]["state"], "waiting")
        self.assertEqual((out[3]["trials"][0]["trial"], out[3]["trials"][0]["attempt"]), (1, 2))
        self.assertEqual(out[4]["state"], "failed")
        self.assertEqual(out[5]["trials"][0]["trial"], 2)

    def test_a_wrong_line_is_answered_and_changes_nothing(self):
        start = {"op": "start", "experiment": experiment()}
        bad = ['[1', "7", {"op": "no"}, {"op": "ask", "count": 0}, {"op": "ask", "counts": 1}, {"op": "tell", "trial": 9},
               {"op": "tell", "trial": 1, "value": "x"}, {"op": "tell", "trial": 1, "state": "done"},
               {"op": "report", "trial": 1, "value": 1}, {"op": "ask", "now": -1},
               {"op": "start", "experiment": experiment(optimizer={"algorithm": "rendom"})}]
        out = talk({"op": "ask"}, start, {"op": "ask"}, *bad, {"op": "tell", "trial": 1, "value": 2}, {"op": "best"})
        self.assertIn("no search is started", out[0]["error"])
        for line, answer in zip(bad, out[3:]):
            self.assertIn("error", answer, line)
        self.assertIn('did you mean "random"', out[3 + len(bad) - 1]["error"])
        self.assertEqual(out[-1]["value"], 2)

    def test_equal_lines_give_equal_bytes(self):
        lines = [{"op": "start", "experiment": experiment(optimizer={"algorithm": "de"}, limits={"trials": 60})}]
        lines += [x for t in range(1, 61) for x in ({"op": "ask"}, {"op": "tell", "trial": t, "value": (t * 7) % 13})]
        self.assertEqual(talk(*lines), talk(*lines))

    def test_a_file_that_cannot_be_run_is_said_at_once(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            f.write("{}")
            f.flush()
            self.assertIn(f.name, talk(args=[f.name], status=2))


class Functions(unittest.TestCase):
    def test_named_functions_reach_their_published_optimum_there(self):
        at = {"branin": (math.pi, 2.275), "hartmann6": (.20169, .150011, .476874, .275332, .311652, .6573),
              "rosenbrock5": (1,) * 5, "ackley10": (7,) * 10}
        for name, problem in functions.named().items():
            point = dict(zip((p.name for p in problem.params), at[name]))
            self.assertAlmostEqual(problem.regret(point), 0, delta=1e-5, msg=name)

    def test_no_two_problems_of_the_learning_curves_share_a_seed(self):
        for split in ("tune", "report"):
            seeds = [seed for _, seed in suites.jobs("curves", split)]
            self.assertEqual(len(seeds), len(set(seeds)))

    def test_no_tuning_problem_or_seed_is_in_the_report(self):
        for suite in suites.SUITES:
            tune, report = suites.jobs(suite, "tune"), suites.jobs(suite, "report")
            self.assertFalse({seed for _, seed in tune} & {seed for _, seed in report}, suite)
            self.assertGreaterEqual(len({seed for _, seed in report}), 10, suite)
        self.assertEqual({p.split("-i")[1] for p, _ in suites.jobs("bbob", "report")}, {str(i) for i in range(6, 16)})
        self.assertEqual(len(suites.jobs("bbob", "report")), 24 * 3 * 10)


class Statistics(unittest.TestCase):
    def test_ties_share_their_rank(self):
        self.assertEqual(stats.ranks([3, 1, 3, 2]), [3.5, 1, 3.5, 2])

    def test_wilcoxon_agrees_with_published_values(self):
        # Hollander and Wolfe, depression scores (R's wilcox.test example): V = 40, two-sided exact p = 0.03906
        before = [1.83, .50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
        after = [.878, .647, .598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
        self.assertAlmostEqual(stats.wilcoxon(before, after), 0.03906, delta=1e-4)
        self.assertEqual(stats.wilcoxon([1, 2], [1, 2]), 1.0)
        self.assertLess(stats.wilcoxon(list(range(40)), [v + 1 + v / 100 for v in range(40)]), 1e-6)

    def test_a_bootstrap_interval_holds_the_median(self):
        rng = random.Random(3)
        values = [rng.gauss(5, 1) for _ in range(200)]
        lo, hi = stats.bootstrap(values)
        self.assertLess(lo, statistics.median(values))
        self.assertGreater(hi, statistics.median(values))
        self.assertAlmostEqual(hi - lo, 2 * 1.96 * 1.2533 / math.sqrt(200), delta=0.15)  # of a normal sample's median


class Asks:
    """A solver that gives out 1, 2, 3, … and notes how many are pending."""

    def __init__(self):
        self.n, self.open, self.most, self.told = 0, 0, 0, []

    def ask(self):
        self.n, self.open = self.n + 1, self.open + 1
        self.most = max(self.most, self.open)
        return self.n, {"x00": 1 / self.n}

    def tell(self, handle, value):
        self.open -= 1
        self.told.append(handle)


class Driving(unittest.TestCase):
    def problem(self, workers):
        p = suites.problem("parallel", "hartmann6-w%d" % workers)
        p.function = lambda params: params["x00"]
        p.optimum = 0
        return p

    def test_every_worker_holds_a_trial_and_each_finishes_once(self):
        for workers in (1, 8, 32):
            solver = Asks()
            curve = drive.run_trials(self.problem(workers), solver, 5)
            self.assertEqual(solver.most, workers)
            self.assertEqual(sorted(solver.told), list(range(1, 201)))
            self.assertEqual(solver.told == list(range(1, 201)), workers == 1)
            self.assertEqual((curve.n, curve.best), (200, 1 / 200))

    def test_a_curve_never_rises_and_ends_at_the_last_trial(self):
        curve = drive.Curve(57)
        for v in (5, 9, 3, 4) + (8,) * 52 + (1,):
            curve.add(v)
        self.assertEqual(curve.values[:3], [5, 5, 3])
        self.assertEqual(curve.values[-1], 1)
        self.assertEqual(len(curve.values), len(drive.checkpoints(57)))


class Rows(unittest.TestCase):
    def test_half_a_line_is_cut_off_and_packed_rows_are_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            rows.FOLDER, rows.KEPT = folder, os.path.join(folder, "kept")
            row = {"suite": "named", "problem": "branin", "solver": "a", "seed": 1, "final": 0.5}
            rows.append(row)
            with open(rows.path("named", "a"), "a") as f:
                f.write('{"suite":"na')
            rows.mend(rows.path("named", "a"))
            rows.append(dict(row, seed=2))
            self.assertEqual(rows.pack("named", "a"), 2)
            with open(rows.kept_path("named", "a"), "rb") as f:
                first = f.read()
            os.unlink(rows.path("named", "a"))
            self.assertEqual(rows.load("named", "a")[("branin", 1)], row)
            rows.pack("named", "a")
            with open(rows.kept_path("named", "a"), "rb") as f:
                self.assertEqual(f.read(), first)
            self.assertEqual(rows.solvers("named"), ["a"])

    def test_the_build_with_the_most_rows_is_reported_and_the_newest_of_equals(self):
        with tempfile.TemporaryDirectory() as folder:
            rows.FOLDER, rows.KEPT = folder, os.path.join(folder, "kept")
            for age, (build, seeds) in enumerate((("old", (1, 2)), ("new", (1, 2)), ("part", (1,)))):
                for seed in seeds:
                    rows.append({"suite": "named", "problem": "branin", "solver": "magpie-gp@" + build, "seed": seed, "final": 0})
                os.utime(rows.path("named", "magpie-gp@" + build), (1000 + age, 1000 + age))
            keys = {("branin", 1), ("branin", 2)}
            self.assertEqual(rows.newest("named", ["magpie-gp", "magpie-gp@old", "x"], keys), ["magpie-gp@new", "magpie-gp@old", "x"])
            self.assertEqual(rows.newest("named"), ["magpie-gp@part"])

    def test_a_solver_is_labelled_by_its_options(self):
        ours.BUILD = os.path.dirname(os.path.dirname(PIPE))
        s = ours.solver('magpie:{"algorithm": "de", "population": 20}', "abc")
        self.assertEqual(s["name"], "magpie-de,population=20@abc")
        self.assertEqual(ours.solver("magpie-auto", "abc")["optimizer"], {"algorithm": "auto"})


if __name__ == "__main__":
    harness.main()
