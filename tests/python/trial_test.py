# SPDX-License-Identifier: Apache-2.0
"""Training scripts that use magpie.trial, run by real workers: promoted, stopped, failing, killed."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

TRAIN = """
import os, random, signal, sys, time
import magpie_hpo as magpie

with magpie.trial(x=0.0) as t:
    random.seed(int(t.params["x"] * 1000))
    model = {"sum": 0.0, "epochs": []}
    for epoch in t.epochs(4, model=model):
        time.sleep(float(os.environ.get("STEP", "0")))
        model["sum"] += random.random()
        model["epochs"].append(os.getpid())
        t.report(epoch, total=model["sum"], starts=len(set(model["epochs"])))
"""


def spec(trials=1, **more):
    s = {"name": "python", "objective": {"metric": "total", "direction": "max"}, "seed": 3,
         "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"},
         "limits": {"trials": trials}, "trial": {"command": [sys.executable, "train.py"]}}
    s.update(more)
    return s


class Scripts(harness.Case):
    def begin(self, script, s, *flags, shell=None, env=None):
        """A driver, a worker and an experiment that runs the script."""
        path = self.write("train.py", script)
        s["trial"] = {"command": ["sh", "-c", shell.format(python=sys.executable, script=path)] if shell else
                      [sys.executable, path]}
        d = self.driver("--heartbeat", "0.2s", "--lease", "2s")
        self.env = {"PYTHONPATH": harness.CLIENT, **(env or {})}
        w = self.worker(d, *flags, env=self.env)
        return d, w, d.submit(s)

    def expected(self, x, epochs):
        random.seed(int(x * 1000))
        total = 0.0
        for _ in range(epochs):
            total += random.random()
        return total

    def log(self, d, i, n):
        status, _, body = d.raw("GET", f"/api/v1/experiments/{i}/trials/{n}/log")
        return body.decode() if status == 200 else ""


class Promoted(Scripts):
    def test_a_promoted_trial_goes_on_as_if_it_had_not_paused(self):
        d, _, i = self.begin(TRAIN, spec(12, optimizer={"algorithm": "asha", "reduction_factor": 2},
                                         resource={"min": 1, "max": 4}), "--slots", "2")
        d.wait_state(i, timeout=90)
        trials = d.trials(i)
        done = [t for t in trials if t["state"] == "completed"]
        self.assertGreaterEqual(len(done), 1)
        for t in trials:
            self.assertAlmostEqual(t["value"], self.expected(t["params"]["x"], t["step"]), places=12)
        for t in done:
            self.assertEqual(t["step"], 4)
            points = d.get(f"/api/v1/experiments/{i}/trials/{t['trial']}/metrics")["metrics"]
            self.assertEqual([p["step"] for p in points], [1, 2, 3, 4])
            self.assertGreaterEqual(points[-1]["values"]["starts"], 2)

    def test_a_drained_worker_pauses_it_at_a_checkpoint_and_another_goes_on(self):
        d, w, i = self.begin(TRAIN, spec(1, resource={"min": 40, "max": 40}), env={"STEP": "0.05"})
        at = lambda: d.trials(i) and (d.trials(i)[0]["step"] or 0) >= 3
        harness.wait_until(at, what="three epochs")
        w.signal(signal.SIGTERM)
        harness.wait_until(lambda: "draining" in w.stderr(), what="the drain")
        w.signal(signal.SIGTERM)  # the second: pause and give back
        self.worker(d, env={**self.env, "STEP": "0"})
        d.wait_state(i)
        t = d.trials(i)[0]
        self.assertAlmostEqual(t["value"], self.expected(t["params"]["x"], 40), places=12)
        points = d.get(f"/api/v1/experiments/{i}/trials/1/metrics?limit=1000")["metrics"]
        self.assertEqual(points[-1]["values"]["starts"], 2)


NOTES = """
import os, signal, sys, time
import magpie_hpo as magpie

real = signal.signal
t = magpie.trial(x=0.0)
def note(*_):
    print("SIGTERM came", flush=True)
if "WATCH" in os.environ:
    signal.signal(signal.SIGTERM, note)
with t:
    for step in range(1, 100000):
        t.report(step, total=step)
        time.sleep(0.02)
        if "ASK" in os.environ and t.should_stop():
            print("asked:", t.order, flush=True)
            break
print("ended in peace", flush=True)
"""


class Ordered(Scripts):
    def ends(self, shell=None, state="cancelled", **env):
        d, w, i = self.begin(NOTES, spec(1), shell=shell, env=env)
        harness.wait_until(lambda: d.trials(i) and (d.trials(i)[0]["step"] or 0) >= 2, what="two steps")
        d.post(f"/api/v1/experiments/{i}:cancel", {})
        harness.wait_until(lambda: "ended in peace" in self.log(d, i, 1), what="the script to end by itself")
        self.assertEqual(d.trials(i)[0]["state"], state)
        return self.log(d, i, 1)

    def test_a_stop_comes_over_the_descriptor_without_a_signal(self):
        log = self.ends(ASK="1", WATCH="1")
        self.assertIn("asked: stop", log)
        self.assertNotIn("SIGTERM", log)
        self.assertNotIn("::magpie", log)

    def test_a_script_that_never_asks_ends_too(self):
        self.assertNotIn("SIGTERM", self.ends(WATCH="1"))

    def test_without_the_descriptor_it_prints_lines_and_heeds_sigterm(self):
        log = self.ends(shell="exec 3>&-; exec {python} {script}", ASK="1")
        self.assertIn('::magpie {"step":1,"metrics":{"total":1}}', log)
        self.assertIn("asked: stop", log)


BAD = """
import sys
import magpie_hpo as magpie
t = magpie.trial(x=0.0)
if sys.argv[1:] == ["with"]:
    t.__enter__()
if t.params["kind"] == "configuration":
    raise magpie.ConfigurationError("3 heads do not divide 64")
if t.params["kind"] == "memory":
    raise MemoryError("no room")
if t.params["kind"] == "exit":
    print("I go")
    sys.exit(7)
t.report(1, total=1)
t.result(total=5)
[][int(t.params["x"])]
"""


class Failing(Scripts):
    def test_the_reason_is_the_exceptions_and_the_log_has_its_traceback(self):
        kinds = ["configuration", "memory", "exit", "index"]
        s = spec(4, searchspace={"x": ["DOUBLE", [0, 1]], "kind": ["CATEGORICAL", kinds]}, limits={"trials": 4, "retries": 0},
                 points=[{"kind": k, "x": 0.5} for k in kinds])
        d, _, i = self.begin(BAD, s)
        d.wait_state(i)
        got = [(t["state"], t["cause"], t["reason"]) for t in d.trials(i)]
        self.assertEqual([g[:2] for g in got], [("failed", "configuration"), ("failed", "out-of-memory"), ("failed", "program"),
                                                ("failed", "program")])
        self.assertRegex(got[0][2], r"ConfigurationError: 3 heads do not divide 64$")
        self.assertEqual(got[1][2], "MemoryError: no room")
        self.assertIn("exit status 7; last line: I go", got[2][2])
        self.assertEqual(got[3][2], "IndexError: list index out of range")
        harness.wait_until(lambda: "Traceback (most recent call last)" in self.log(d, i, 4), what="the traceback")

    def test_a_final_value_of_its_own_counts(self):
        script = "import magpie_hpo as m\nwith m.trial(x=0) as t:\n    t.report(1, total=1)\n    t.result(total=5)\n"
        d, _, i = self.begin(script, spec(1))
        d.wait_state(i)
        s = spec(1, trial={"command": ["sh", "-c", f"exec 3>&-; exec {sys.executable} {self.path('train.py')}"]})
        lines = d.submit(s)
        d.wait_state(lines)
        self.assertEqual([d.trials(i)[0]["value"], d.trials(lines)[0]["value"]], [5, 5])


if __name__ == "__main__":
    harness.main()
