# SPDX-License-Identifier: Apache-2.0
"""magpie_hpo.executor: one process for many trials, arguments by name, failures that cost their trial and nothing else."""
import json
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

sys.path.insert(0, harness.CLIENT)
from magpie_hpo import MagpieError, _trial, call, channel

PROGRAM = """
import os, sys, time
import magpie_hpo
print("loaded once")
LOADED = []

def train(x, kind, budget, seed, hparams, reporter, trial, missing=7, **others):
    LOADED.append(1)
    assert magpie_hpo.trial() is trial and magpie_hpo.current() is trial
    assert hparams == {"x": x, "kind": kind, "spare": others["spare"]}, hparams
    assert (budget, seed, missing, list(others)) == (None, 3, 7, ["spare"]), (budget, seed, missing, others)
    print("trial", trial.number, "says", kind)
    if kind == "raise":
        raise ValueError("bad luck")
    if kind == "exit":
        sys.exit(9)
    if kind == "die":
        os._exit(4)
    if kind == "text":
        return {"total": 4, "model": "a/path"}
    if kind == "none":
        trial.report(1, total=5)
        return None
    if kind == "wrong":
        return {"accuracy": 1}
    if kind == "list":
        return [1]
    return len(LOADED)

def steps(x, reporter):
    for step in range(10**6):
        reporter.broadcast(step, step)
        time.sleep(0.02)

def needs(x, momentum):
    return 1

def budgeted(reporter, hparams):
    for epoch in range(hparams["budget"]):
        reporter.broadcast(epoch / 100)
    return hparams["budget"]

NUMBER = 3
"""

KINDS = ["fine", "raise", "exit", "text", "none", "wrong", "list", "die", "last"]


def spec(what, **more):
    s = {"name": "executor", "objective": {"metric": "total", "direction": "max"}, "seed": 3,
         "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"}, "limits": {"trials": 1},
         "trial": {"executor": [sys.executable, "-m", "magpie_hpo.executor", what]}}
    s.update(more)
    return s


class Served(harness.Case):
    def begin(self, function="train", **more):
        self.program = self.write("program.py", PROGRAM)
        d = self.driver("--heartbeat", "0.2s")
        self.worker(d, "--slots", "1", env={"PYTHONPATH": harness.CLIENT})
        return d, d.submit(spec(f"{self.program}:{function}", **more))

    def log(self, d, i, n):
        def kept():
            status, _, body = d.raw("GET", f"/api/v1/experiments/{i}/trials/{n}/log")
            return body.decode() if status == 200 else None

        return harness.wait_until(kept, what=f"the log of trial {n}")

    def test_each_end_of_a_function_is_its_trials_alone(self):
        space = {"x": ["DOUBLE", [0, 1]], "kind": ["CATEGORICAL", KINDS], "spare": ["INTEGER", [1, 9]]}
        d, i = self.begin(searchspace=space, limits={"trials": len(KINDS), "retries": 0}, points=[{"kind": k} for k in KINDS])
        d.wait_state(i)
        got = {t["params"]["kind"]: t for t in d.trials(i)}
        self.assertEqual([(k, got[k]["state"], got[k]["value"]) for k in ("fine", "text", "none", "last")],
                         [("fine", "completed", 1), ("text", "completed", 4), ("none", "completed", 5), ("last", "completed", 1)])
        for kind, cause, reason in (("raise", "program", "ValueError: bad luck"), ("exit", "program", "SystemExit: 9"),
                                    ("wrong", "configuration", "returned accuracy, but the objective is \"total\""),
                                    ("list", "program", "train returned list"), ("die", "program", "exit status 4")):
            self.assertEqual((got[kind]["state"], got[kind]["cause"]), ("failed", cause))
            self.assertIn(reason, got[kind]["reason"])
        # One process until it died: its output is the trial's during which it came.
        self.assertIn("Traceback", self.log(d, i, 2))
        self.assertEqual(self.log(d, i, 4), "trial 4 says text\nmodel: a/path\n")
        self.assertEqual(sum("loaded once" in self.log(d, i, n) for n in (3, 4, 5, 6, 7, 8)), 0)

    def test_a_stopped_function_ends_at_its_next_broadcast(self):
        d, i = self.begin("steps", limits={"trials": 2, "parallel": 1})
        harness.wait_until(lambda: d.trials(i) and (d.trials(i)[0]["step"] or 0) >= 2, what="two steps")
        d.post(f"/api/v1/experiments/{i}/trials/1:cancel", {})
        harness.wait_until(lambda: len(d.trials(i)) > 1 and (d.trials(i)[1]["step"] or 0) >= 1, what="the next trial")
        self.assertEqual(d.trials(i)[0]["state"], "cancelled")

    def test_a_budget_ends_with_what_the_function_returned(self):
        d, i = self.begin("budgeted", optimizer={"algorithm": "asha", "reduction_factor": 2}, resource={"min": 1, "max": 4},
                          limits={"trials": 6})
        d.wait_state(i)
        trials = d.trials(i)
        self.assertIn(4, [t["step"] for t in trials])
        for t in trials:
            self.assertEqual((t["value"], t["step"]), (t["budget"], t["budget"]))

    def test_what_cannot_be_run_says_what_to_mend(self):
        d, i = self.begin("needs")
        d.wait_state(i)
        t = d.trials(i)[0]
        self.assertEqual(t["cause"], "configuration")
        self.assertIn('needs wants "momentum", which this trial does not have (it has x;', t["reason"])
        for what, reason in ((f"{self.program}:nothing", "has no nothing"), (f"{self.program}:NUMBER", "is no function but int"),
                             ("no.such.module:f", "No module named 'no'"), ("x.py:f", "there is no file x.py")):
            i = d.submit(spec(what))
            d.wait_state(i)
            t = d.trials(i)[0]
            self.assertEqual((t["state"], t["cause"]), ("failed", "configuration"))
            self.assertIn("cannot load " + what, t["reason"])
            self.assertIn(reason, t["reason"])

    def test_by_hand_it_calls_the_function_once(self):
        program = self.write("program.py", PROGRAM)

        def run(*args):
            return subprocess.run([sys.executable, "-m", "magpie_hpo.executor", *args], capture_output=True, text=True,
                                  env={**os.environ, "PYTHONPATH": harness.CLIENT}, cwd=self.tmp)
        p = run(program + ":budgeted", "budget=3")
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(p.stdout.splitlines()[-1], "result  metric 3")
        p = run(program + ":budgeted", "budget")
        self.assertEqual(p.returncode, 2)
        self.assertIn("write NAME=VALUE", p.stderr)
        p = run()
        self.assertEqual((p.returncode, p.stderr[:6]), (2, "usage:"))
        p = run(program + ":nothing")
        self.assertEqual(p.returncode, 2)
        self.assertRegex(p.stderr, r"^\S+program.py:nothing: \S+program.py has no nothing\n$")

    def test_the_programs_share_of_a_trial_is_small(self):
        ours, theirs = socket.socketpair()
        program = self.write("noop.py", "def train(x):\n    return x\n")
        p = subprocess.Popen([sys.executable, "-m", "magpie_hpo.executor", program + ":train"], pass_fds=[theirs.fileno()],
                             env={**os.environ, "PYTHONPATH": harness.CLIENT, "MAGPIE_FD": str(theirs.fileno())})
        theirs.close()
        lines = ours.makefile("rb")
        self.assertIn(b"ready", lines.readline())

        def cpu():
            with open(f"/proc/{p.pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before, n = cpu(), 2000
        for i in range(n):
            ours.sendall(json.dumps({"type": "start", "trial": i, "params": {"x": i}, "metric": "total"}).encode() + b"\n")
            self.assertEqual(json.loads(lines.readline()), {"type": "result", "status": "completed", "metrics": {"total": i}, "trial": i})
            self.assertEqual(lines.readline(), b'{"type":"ready"}\n')
        self.assertLess((cpu() - before) / n, 0.001)
        lines.close()
        ours.close()
        self.assertEqual(p.wait(30), 0)


class Arguments(harness.Case):
    def trial(self, **params):
        ch = channel.Terminal({})
        ch.start.metric = "total"
        return _trial.Trial(ch, params)

    def test_they_are_matched_by_name_whatever_their_kind(self):
        c = call.Call(lambda a, /, b, *args, budget=5, c=3, **rest: (a, b, budget, c, rest))
        args, kwargs = c.arguments(self.trial(a=1, b=2, z=9), None)
        self.assertEqual((args, kwargs), ([1], {"b": 2, "budget": None, "z": 9}))
        # A parameter of the search space goes before the reserved name.
        self.assertEqual(c.arguments(self.trial(a=1, b=2, budget=8), None)[1]["budget"], 8)

    def test_a_class_and_a_method_are_functions_too(self):
        class Net:
            def __init__(self, units):
                self.units = units

            def __call__(self, lr):
                return lr

            def fit(self, lr):
                return {"total": lr * self.units}

        self.assertEqual(call.Call(Net(3))(self.trial(lr=2)), {"total": 2})
        self.assertEqual(call.Call(Net(3).fit)(self.trial(lr=2)), {"total": 6})
        with self.assertRaises(MagpieError):
            call.load("no-colon")


if __name__ == "__main__":
    harness.main()
