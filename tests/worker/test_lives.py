#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Deaths and returns: workers and drivers killed, drained, restarted; what runs goes on."""
import json
import os
import signal
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
PYTHON = sys.executable
LEASE, BEAT = 1.0, 0.2
SLACK = 1.5 * harness.DEADLINE / 30  # starting Python and polling over REST, on a busy machine


def spec(trials=1, budget=40, kind="executor", **more):
    trial = {"executor": [PYTHON, PROGRAM, "executor"]} if kind == "executor" else {"command": [PYTHON, PROGRAM, "steps"]}
    s = {"name": "lives", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
         "searchspace": {"mode": {"type": "CATEGORICAL", "values": ["steps"]}, "x": ["DOUBLE", [0.0, 1.0]]},
         "optimizer": {"algorithm": "random"}, "resource": {"min": budget, "max": budget},
         "limits": {"trials": trials}, "trial": trial}
    s.update(more)
    return s


class Lives(harness.Case):
    def setUp(self):
        super().setUp()
        self.notes = self.path("notes")
        os.mkdir(self.notes)

    def start(self, **kw):
        return self.driver("--heartbeat", f"{BEAT}s", "--lease", f"{LEASE}s", **kw)

    def join(self, d, *flags, step_ms=50, env=None, **kw):
        full = {"PROGRAM_NOTES": self.notes, "PROGRAM_STEP_MS": str(step_ms), **(env or {})}
        return self.worker(d, *flags, env=full, **kw)

    def ran(self, trial):
        path = os.path.join(self.notes, f"trial-{trial}")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            return [json.loads(line) for line in f]

    def trial(self, d, x, n=1):
        return d.get(f"/api/v1/experiments/{x}/trials/{n}")

    def at_step(self, d, x, step, n=1):
        def reached():
            try:
                t = self.trial(d, x, n)
            except harness.HttpError:
                return None
            return t if (t["step"] or 0) >= step else None

        return harness.wait_until(reached, what=f"step {step} of trial {n}")

    def steps(self, d, x, n=1):
        """(attempt, step) of every recorded point."""
        page = d.get(f"/api/v1/experiments/{x}/trials/{n}/metrics?limit=1000")
        return [(m["attempt"], m["step"]) for m in page["metrics"]]

    def test_trials_of_a_killed_worker_go_on_from_their_checkpoint_elsewhere(self):
        for kind in ("executor", "command"):
            d = self.start()
            w = self.join(d, "--slots", "1", "--name", "first")
            x = d.submit(spec(kind=kind))
            self.at_step(d, x, 8)
            self.join(d, "--slots", "1", "--name", "second")
            harness.wait_until(lambda: len(d.get("/api/v1/workers")["workers"]) == 2)
            w.kill()
            killed = time.monotonic()
            harness.wait_until(lambda: len(self.ran(1)) == 2, what="the second attempt")
            self.assertLess(time.monotonic() - killed, LEASE + 2 * BEAT + SLACK)
            second = self.ran(1)[1]
            self.assertEqual(second["attempt"], 2)
            self.assertGreaterEqual(int(second["resume"]), 7, "no work is repeated beyond the last checkpoint")
            d.wait_state(x)
            t = self.trial(d, x)
            self.assertEqual((t["state"], t["value"], t["attempt"]), ("completed", 40.0, 2))
            self.assertGreaterEqual(t["losses"], 1)  # one more each time that a worker is not scheduled for a lease's time
            self.assertTrue(t["worker"].startswith("second-"), t)
            d.stop()
            for f in os.listdir(self.notes):
                os.unlink(os.path.join(self.notes, f))

    def test_a_killed_workers_programs_end_with_it(self):
        d = self.start()
        w = self.join(d, "--slots", "2")
        s = spec(trials=2, budget=10000)
        s["trial"] = {"command": [PYTHON, PROGRAM, "silent"]}
        x = d.submit(s)
        self.at_step(d, x, 1, 2)
        harness.wait_until(lambda: self.ran(1) and self.ran(2), what="both programs")
        pids = [self.ran(n)[0]["pid"] for n in (1, 2)]
        w.kill()
        for pid in pids:
            harness.wait_until(lambda: not running(pid), what=f"the end of program {pid}")

    def test_running_trials_survive_deaths_of_the_driver(self):
        d = self.start()
        w = self.join(d, "--slots", "2")
        x = d.submit(spec(trials=2, budget=60))
        for step in (5, 20, 35):
            self.at_step(d, x, step, 1)
            d.kill()
            d = d.restart()
        d.wait_state(x)
        for n in (1, 2):
            t = self.trial(d, x, n)
            self.assertEqual((t["state"], t["value"], t["attempt"], t["losses"]), ("completed", 60.0, 1, 0))
            self.assertEqual(len(self.ran(n)), 1, "started once")
            self.assertEqual(self.steps(d, x, n), [(1, s) for s in range(1, 61)], "no report is lost, none counts twice")
        self.assertTrue(w.alive())

    def test_results_of_trials_that_end_while_the_driver_is_down_arrive(self):
        d = self.start()
        self.join(d, "--slots", "2")
        x = d.submit(spec(trials=2, budget=12))
        self.at_step(d, x, 5, 2)
        d.kill()
        ended = [os.path.join(self.notes, f"ended-{n}") for n in (1, 2)]
        harness.wait_until(lambda: all(os.path.exists(p) for p in ended), what="the programs' results")
        d = d.restart()
        d.wait_state(x)
        self.assertEqual([(t["state"], t["attempt"], t["value"]) for t in d.trials(x)], [("completed", 1, 12.0)] * 2)

    def test_a_grant_that_never_arrived_comes_again_with_the_same_attempt(self):
        # The driver dies after the commit of the first grant and before its reply: bridge.reply is
        # hit once for hello, then for the poll's answer.
        d = self.start(env={"MAGPIE_FAULTS": "bridge.reply:2=kill"})
        self.join(d, "--slots", "1")
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"], what="the worker")
        try:
            d.submit(spec(budget=3))
        except (OSError, harness.HttpError):
            pass
        d.wait()
        self.assertEqual(self.ran(1), [], "the worker has not heard of it")
        d = d.restart(env={})
        x = d.get("/api/v1/experiments")["experiments"][0]["id"]
        d.wait_state(x)
        t = self.trial(d, x)
        self.assertEqual((t["state"], t["attempt"], t["losses"]), ("completed", 1, 0))
        self.assertEqual(len(self.ran(1)), 1)

    def test_lost_replies_change_nothing(self):
        # Every third reply never leaves; the worker asks again and gets the same.
        faults = ",".join(f"bridge.reply:{k}=fail" for k in (3, 5, 8, 12, 16, 21))
        d = self.start(env={"MAGPIE_FAULTS": faults}, )
        self.join(d, "--slots", "2", step_ms=5)
        x = d.submit(spec(trials=4, budget=10))
        d.wait_state(x, timeout=90)
        self.assertEqual([(t["state"], t["attempt"], t["value"]) for t in d.trials(x)], [("completed", 1, 10.0)] * 4)
        for n in range(1, 5):
            self.assertEqual(len(self.ran(n)), 1)

    def test_a_worker_killed_at_each_of_its_fault_points_loses_nothing(self):
        for point in ("worker.grant", "worker.start", "worker.report:2", "worker.publish:3", "worker.published:3", "worker.done"):
            d = self.start(data=self.path("data-" + point))
            w = self.join(d, "--slots", "1", step_ms=10, env={"MAGPIE_FAULTS": f"{point}=kill"})
            x = d.submit(spec(budget=10))
            self.assertEqual(w.wait(), -signal.SIGKILL, point)
            self.join(d, "--slots", "1", step_ms=10)
            d.wait_state(x)
            t = self.trial(d, x)
            self.assertEqual((t["state"], t["value"]), ("completed", 10.0), point)
            self.assertLessEqual(t["losses"], 1)
            d.stop()

    def test_draining_lets_trials_finish_and_takes_no_new_ones(self):
        d = self.start()
        w = self.join(d, "--slots", "1")
        x = d.submit(spec(trials=3, budget=12))
        self.at_step(d, x, 4)
        self.assertEqual(w.stop(), 0)
        trials = d.trials(x)
        self.assertEqual((trials[0]["state"], trials[0]["value"]), ("completed", 12.0))
        self.assertTrue(all(t["state"] != "running" and t["attempt"] <= 1 for t in trials[1:]), trials)
        self.assertEqual(self.ran(2), [])
        self.join(d, "--slots", "2", step_ms=5)
        d.wait_state(x)
        self.assertEqual([t["losses"] for t in d.trials(x)], [0, 0, 0])

    def test_a_second_signal_gives_trials_back_at_a_checkpoint(self):
        d = self.start()
        w = self.join(d, "--slots", "1")
        x = d.submit(spec(budget=60))
        self.at_step(d, x, 6)
        w.signal(signal.SIGTERM)
        harness.wait_until(lambda: "draining" in w.stderr())
        w.signal(signal.SIGTERM)
        self.assertEqual(w.wait(), 0)
        t = self.trial(d, x)
        self.assertEqual((t["state"], t["losses"]), ("waiting", 0), t)
        self.join(d, "--slots", "1", step_ms=5)
        d.wait_state(x)
        self.assertGreaterEqual(self.ran(1)[1]["resume"], 6)

    def test_a_worker_is_drained_over_rest(self):
        d = self.start()
        w = self.join(d, "--slots", "1")
        worker = harness.wait_until(lambda: d.get("/api/v1/workers")["workers"])[0]
        d.post(f"/api/v1/workers/{worker['worker']}:drain")
        self.assertEqual(w.wait(), 0)

    def test_a_stopped_worker_comes_back_late_and_politely(self):
        d = self.start()
        w = self.join(d, "--slots", "1", "--name", "sleepy", step_ms=20)
        x = d.submit(spec(budget=100))
        self.at_step(d, x, 10)
        w.signal(signal.SIGSTOP)
        self.join(d, "--slots", "1", "--name", "awake", step_ms=20)
        harness.wait_until(lambda: len(self.ran(1)) == 2, what="the second attempt")
        w.signal(signal.SIGCONT)
        d.wait_state(x)
        t = self.trial(d, x)
        self.assertEqual((t["state"], t["value"], t["attempt"]), ("completed", 100.0, 2))
        self.assertTrue(w.alive())

    def test_a_worker_that_comes_back_in_time_keeps_its_expired_trial(self):
        d = self.start()
        w = self.join(d, "--slots", "1", step_ms=20)
        x = d.submit(spec(budget=100))
        self.at_step(d, x, 10)
        w.signal(signal.SIGSTOP)
        harness.wait_until(lambda: self.trial(d, x)["state"] == "waiting", what="the lease's end")
        w.signal(signal.SIGCONT)
        d.wait_state(x)
        t = self.trial(d, x)
        self.assertEqual((t["state"], t["value"], t["attempt"]), ("completed", 100.0, 1))
        self.assertEqual(len(self.ran(1)), 1)

    def test_a_damaged_checkpoint_costs_only_the_way_from_the_one_before(self):
        d = self.start()
        w = self.join(d, "--slots", "1", step_ms=20)
        x = d.submit(spec(budget=30))
        storage = os.path.join(d.data, "storage")
        folder = os.path.join(storage, os.listdir(storage)[0], "experiments", str(x), "trials", "1", "checkpoints")

        def whole():
            names = os.listdir(folder) if os.path.exists(folder) else []
            return [f for f in names if os.path.exists(os.path.join(folder, f, "manifest.json"))]

        self.at_step(d, x, 10)
        harness.wait_until(lambda: len(whole()) >= 2, what="two checkpoints")  # steps may be ahead of them
        w.kill()
        harness.wait_until(lambda: self.trial(d, x)["state"] == "waiting", what="the lease's end")
        newest = max(whole(), key=lambda f: int(f.split("-")[0]))
        with open(os.path.join(folder, newest, "state"), "w") as f:
            f.write("999")
        self.join(d, "--slots", "1", step_ms=5)
        d.wait_state(x)
        resume = int(self.ran(1)[1]["resume"])
        self.assertLess(resume, int(newest.split("-")[0]))
        self.assertGreaterEqual(resume, int(newest.split("-")[0]) - 2)
        self.assertEqual(self.trial(d, x)["value"], 30.0)
        harness.wait_until(lambda: len(os.listdir(folder)) <= 2, what="old checkpoints to go")

    def test_cancelling_stops_programs_within_a_heartbeat(self):
        for kind in ("executor", "command"):
            d = self.start()
            self.join(d, "--slots", "2")
            x = d.submit(spec(trials=2, budget=10000, kind=kind))
            self.at_step(d, x, 2, 2)
            d.post(f"/api/v1/experiments/{x}:cancel")
            asked = time.monotonic()
            harness.wait_until(lambda: all(w["busy"] == 0 for w in d.get("/api/v1/workers")["workers"]))
            self.assertLess(time.monotonic() - asked, 2 * BEAT + SLACK)
            self.assertEqual({t["state"] for t in d.trials(x)}, {"cancelled"})
            d.stop()
            for f in os.listdir(self.notes):
                os.unlink(os.path.join(self.notes, f))


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


class Sessions(harness.Case):
    def one_trial(self, d):
        x = d.submit({"name": "one", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                      "searchspace": {"x": ["DOUBLE", [0.0, 1.0]]}, "optimizer": {"algorithm": "random"},
                      "limits": {"trials": 4},
                      "trial": {"executor": [os.path.join(harness.BUILD, "bench", "sleeper"), "1"]}})
        d.wait_state(x)
        return x

    def test_workers_come_over_ipc_and_tcp(self):
        ipc = "ipc://" + self.path("socket")
        d = self.driver(listen=f"tcp://127.0.0.1:0,{ipc}")
        tcp, same = d.nng.split(",")
        self.assertEqual(same, ipc)
        self.assertNotEqual(urllib.parse.urlsplit(tcp).port, 0)
        for url in (ipc, tcp):
            w = self.worker(d, "--slots", "1", url=url)
            self.one_trial(d)
            self.assertEqual(w.stop(), 0)

    def test_the_next_address_is_tried_when_one_does_not_answer(self):
        d = self.driver()
        self.worker(d, "--slots", "1", url="ipc://" + self.path("nobody") + "," + d.nng)
        self.one_trial(d)

    def test_a_worker_waits_for_its_driver(self):
        ipc = "ipc://" + self.path("later")
        w = self.worker(None, "--slots", "1", url=ipc)
        harness.wait_until(lambda: "driver-unreachable" in w.stderr())
        d = self.driver(listen=ipc)
        self.one_trial(d)

    def test_wrong_flags_end_with_one_clear_message(self):
        d = self.driver()
        for flags, want in ((["--driver", "gopher://x"], "driver address gopher://x"),
                            (["--name", "a b"], "--name \"a b\""), (["--labels", "x,a/b"], "--labels: \"a/b\""),
                            (["--gpus", "one two!"], "GPU \"two!\"")):
            p = self.magpie("worker", "--driver", d.nng, *flags, status=2)
            self.assertIn(want, p.stderr())
            self.assertEqual(len(p.stderr().strip().splitlines()), 1, p.stderr())

    def test_a_worker_of_another_protocol_version_is_told_so(self):
        d = self.driver()
        p = self.start([PEER, d.nng, '{"type":"hello","seq":1,"protocol":99,"anything":[]}'])
        self.assertEqual(p.wait(), 0)
        answer = json.loads(p.stdout())
        self.assertEqual((answer["type"], answer["code"]), ("refused", "version"))
        self.assertIn("protocol version 99", answer["error"])
        self.one_trial_after(d)

    def test_a_worker_that_does_not_know_folds_gets_no_trial_with_validation(self):
        d = self.driver()
        spec = {"name": "folds", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"}, "limits": {"trials": 1},
                "trial": {"command": ["true"]}}
        hello = {"type": "hello", "seq": 1, "protocol": 1, "version": "0.0.9", "worker": "old-1", "name": "old", "host": "h",
                 "pid": 1, "slots": 4}
        ask = {"type": "next", "session": "*", "seq": 2, "wait_ms": 300}

        def grants(**more):
            p = self.start([PEER, d.nng, json.dumps({**hello, **more}), json.dumps(ask)])
            self.assertEqual(p.wait(), 0, p.stderr())
            return [(g["experiment"], g.get("folds")) for g in json.loads(p.stdout().splitlines()[1]).get("grants", [])]

        by_ratio = d.submit({**spec, "validation": {"train_ratio": 0.5}})
        by_folds = d.submit({**spec, "validation": {"folds": 2}})
        self.assertEqual(grants(), [])
        self.assertEqual(grants(can=["time travel"]), [])
        plain = d.submit(spec)
        self.assertEqual(grants(worker="old-2"), [(plain, None)])
        self.assertEqual(sorted(grants(worker="new", can=["folds"])), [(by_ratio, 1), (by_folds, 2), (by_folds, 2)])

    def test_a_worker_leaves_a_driver_of_another_version_with_one_message(self):
        url = "ipc://" + self.path("old")
        refusal = ('{"type":"refused","code":"version","seq":1,"error":"the worker speaks protocol version 1, this '
                   'side version 2"}')
        other = self.start([PEER, "--serve", url, refusal])
        harness.wait_until(lambda: "ready" in other.stdout())
        w = self.worker(None, "--slots", "1", url=url)
        self.assertEqual(w.wait(), 2)
        self.assertIn("magpie worker: the worker speaks protocol version 1", w.stderr())

    def one_trial_after(self, d):
        self.worker(d, "--slots", "1")
        self.one_trial(d)

    def test_messages_of_strangers_are_refused_one_by_one(self):
        d = self.driver()
        for text, code in (("rubbish", "invalid"), ('{"type":"next"}', "invalid"), ("[]", "invalid"),
                           ('{"type":"next","session":"0123","seq":1}', "session"),
                           ('{"type":"beat","seq":1}', "session"), ('{"type":"work","seq":1,"session":"x"}', "session")):
            p = self.start([PEER, d.nng, text])
            self.assertEqual(p.wait(), 0, p.stderr())
            self.assertEqual(json.loads(p.stdout())["code"], code, text)
        self.one_trial_after(d)


PEER = os.path.join(harness.BUILD, "tests", "worker", "peer")

if __name__ == "__main__":
    harness.main()
