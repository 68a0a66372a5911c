# SPDX-License-Identifier: Apache-2.0
"""`magpie simulate` from outside: files, flags, programs, tables, pictures, errors."""
import csv
import io
import json
import os
import subprocess
import sys
import xml.dom.minidom

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

FILE = {
    "name": "digits",
    "objective": {"metric": "accuracy", "direction": "max"},
    "searchspace": {"lr": {"type": "DOUBLE", "range": [1e-4, 1e-1], "scale": "log"}, "units": ["INTEGER", [16, 64]]},
    "optimizer": {"algorithm": "asha", "reduction_factor": 3},
    "resource": {"unit": "epoch", "max": 9},
    "limits": {"trials": 60},
    "seed": 5,
    "trial": {"command": ["python3", "train.py", "--lr", "${lr}", "--units", "${units}"]},
}

PROGRAM = """
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    x = q["params"]["units"] / 64 * q["step"] / q["budget"]
    print(json.dumps({"value": x, "seconds": q["params"]["units"]}), flush=True)
"""


class Simulate(harness.Case):
    def simulate(self, *args, status=0):
        p = subprocess.run([harness.MAGPIE, "simulate", *args], capture_output=True, text=True, cwd=self.tmp, timeout=120)
        self.assertEqual(p.returncode, status, p.stderr + p.stdout)
        return p.stdout if status == 0 else p.stderr

    def lines(self, *args):
        return [json.loads(line) for line in self.simulate(*args, "--json").splitlines()]

    def file(self, **more):
        self.write("search.json", json.dumps({**FILE, **more}))
        return "search.json"

    def test_a_file_is_simulated_as_it_would_be_submitted(self):
        out = self.simulate(self.file(), "--workers", "4", "--step", "30s")
        self.assertIn("digits, asha with 4 workers", out)
        self.assertIn("epochs", out)
        self.assertRegex(out, r"best +accuracy 0\.\d+, trial \d+ \{\"lr\":")

    def test_the_same_call_gives_the_same_bytes(self):
        args = (self.file(), "--workers", "3,8", "--seeds", "3", "--duration", "straggler(0.5)", "--drop", "0.02",
                "--deaths", "30m/1m", "--json", "--svg", "a.svg", "--csv", "a.csv")
        first = self.simulate(*args), self.read("a.svg"), self.read("a.csv")
        second = self.simulate(*args), self.read("a.svg"), self.read("a.csv")
        self.assertEqual(first, second)
        xml.dom.minidom.parseString(first[1])
        rows = list(csv.DictReader(io.StringIO(first[2])))
        self.assertEqual({r["workers"] for r in rows}, {"3", "8"})
        self.assertEqual({r["seed"] for r in rows}, {"5", "6", "7"})
        self.assertIn("dropped", {r["end"] for r in rows})

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return f.read()

    def test_more_workers_end_sooner_and_a_table_says_so(self):
        rows = [r for r in self.lines(self.file(), "--workers", "1,4,16", "--seeds", "2") if r["kind"] == "summary"]
        self.assertEqual([r["workers"] for r in rows], [1, 4, 16])
        times = [r["seconds"]["mean"] for r in rows]
        self.assertGreater(times[0], 3 * times[1])
        self.assertGreater(times[1], 1.5 * times[2])
        self.assertEqual(rows[0]["utilisation"]["mean"], 1)
        self.assertGreater(rows[0]["utilisation"]["mean"], rows[2]["utilisation"]["mean"])
        table = self.simulate(self.file(), "--workers", "1,4,16", "--algorithm", "asha,random")
        self.assertEqual(len(table.splitlines()), 7)

    def test_no_file_searches_the_objectives_own_space(self):
        run = self.lines("--objective", "branin", "--algorithm", "random", "--trials", "30")[0]
        self.assertEqual((run["trials"], run["algorithm"]), (30, "random"))
        self.assertEqual(set(run["best"]["params"]), {"x1", "x2"})
        self.assertAlmostEqual(run["best"]["optimum"], 0.397887, 5)
        run = self.lines("--objective", "mfh3", "--algorithm", "hyperband")[0]
        self.assertEqual(max(r["budget"] for r in run["rungs"]), 100)

    def test_settings_come_from_file_second_file_and_flags_in_this_order(self):
        path = self.file(simulation={"workers": 2, "step": 5, "drop": 0.5, "lease": 0})
        self.write("setup.json", json.dumps({"drop": 0, "workers": 3}))
        run = self.lines(path, "--setup", "setup.json", "--step", "7")[0]
        self.assertEqual((run["workers"], run["drops"]), (3, 0))
        self.assertEqual(run["busy_seconds"], 7 * run["steps"])
        self.assertEqual(subprocess.run([harness.MAGPIE, "validate", self.path(path)], capture_output=True).returncode, 0)

    def test_a_program_measures_and_tells_how_long_it_takes(self):
        self.write("objective.py", PROGRAM)
        run = self.lines(self.file(), "--program", f"{sys.executable} objective.py", "--workers", "2")[0]
        self.assertEqual(run["state"], "completed")
        self.assertAlmostEqual(run["best"]["value"], run["best"]["params"]["units"] / 64)
        self.assertIsNone(run["best"]["truth"])
        self.assertGreater(run["busy_seconds"], 16 * run["steps"])

    def test_programs_that_fail_are_named_with_what_they_did(self):
        cases = {
            "import sys; sys.exit(3)": "ended with status 3 before it answered trial 1, step 1",
            "import os; os.kill(os.getpid(), 9)": "was killed by signal 9",
            "import time; input(); time.sleep(60)": "did not answer trial 1, step 1 within 0.5 s",
            "input(); print('hello', flush=True); input()": "answered \"hello\", which is no JSON",
            "input(); print('{}', flush=True); input()": "\"value\" is missing",
            "input(); print('{\"value\": \"x\"}', flush=True); input()": "\"value\" is a string",
            "input(); print('{\"value\": 1, \"seconds\": -1}', flush=True); input()": "\"seconds\" must be 0 to",
            "input(); print('x' * 100000, flush=True); input()": "more than 65536 bytes",
        }
        for body, says in cases.items():
            with self.subTest(body=body):
                self.write("bad.py", body)
                err = self.simulate(self.file(), "--program", f"{sys.executable} bad.py", "--timeout", "500ms" if "sleep" in body else "60s",
                                    status=2 if "answered \"hello" in says or "\"value\"" in says or "seconds" in says else 1)
                self.assertIn(says, err)
        err = self.simulate(self.file(), "--program", "/no/such/program", status=2)
        self.assertIn("cannot be started", err)

    def test_null_from_a_program_fails_the_trial_as_nan_does(self):
        self.write("odd.py", "import json, sys\nfor line in sys.stdin:\n    q = json.loads(line)\n"
                             "    print(json.dumps({'value': None if q['trial'] % 5 == 0 else 1.0 / q['trial']}), flush=True)\n")
        run = self.lines(self.file(), "--program", f"{sys.executable} odd.py")[0]
        self.assertEqual(run["counts"]["failed"], 12)

    def test_what_is_wrong_is_told_where_it_stands(self):
        err = self.simulate("--duration", "lognorml(1)", status=2)
        self.assertIn("--duration: no duration model \"lognorml\"; did you mean \"lognormal\"?", err)
        self.assertIn("--resource: expected MIN:MAX", self.simulate("--resource", "9", status=2))
        path = self.file(simulation={"workers": 0})
        self.assertRegex(self.simulate(path, status=2), r"search.json:\d+:\d+: /simulation/workers: must be")
        self.write("setup.json", '{"step": "0"}')
        self.assertRegex(self.simulate(self.file(), "--setup", "setup.json", status=2), r"setup.json:1:\d+: /step: a step")
        err = self.simulate(self.file(limits={}), status=2)
        self.assertIn("the search has no end: limit its trials or its time", err)
        self.simulate(self.file(), "--objective", "branin", "--algorithm", "random")  # two parameters: it suits
        asked = {k: v for k, v in FILE.items() if k != "trial"}
        self.write("one.json", json.dumps({**asked, "searchspace": {"x": ["DOUBLE", [0, 1]]}}))
        err = self.simulate("one.json", "--objective", "branin", status=2)
        self.assertIn("has 2 parameters, the search space has 1", err)
        self.assertIn("a program has no search space", self.simulate("--program", "cat", status=2))
        self.assertIn("no algorithm \"ahsa\"", self.simulate("--algorithm", "ahsa", status=2))


if __name__ == "__main__":
    harness.main()
