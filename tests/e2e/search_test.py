# SPDX-License-Identifier: Apache-2.0
"""Whole searches over the real programs: two terminals, `run`, Ctrl-C, kill -9, and the commands that look and change."""
import csv
import io
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

PROGRAM = os.path.join(harness.ROOT, "examples", "quadratic.py")


def spec(name="q", trials=8, sleep=0.0, **more):
    s = {
        "name": name,
        "objective": {"metric": "loss", "direction": "min"},
        "searchspace": {"x": {"type": "DOUBLE", "range": [-10, 10]}, "y": {"type": "DOUBLE", "range": [-10, 10]}},
        "optimizer": {"algorithm": "random"},
        "limits": {"trials": trials},
        "seed": 11,
        "trial": {"command": [sys.executable, PROGRAM, "--x", "${x}", "--y", "${y}", "--sleep", str(sleep)]},
    }
    s.update(more)
    return s


def asha(**more):
    return spec("asha", 12, optimizer={"algorithm": "asha", "reduction_factor": 3},
                resource={"unit": "step", "min": 1, "max": 9}, **more)


class TwoTerminals(harness.Case):
    def test_driver_two_workers_submit_and_look(self):
        d = self.driver()
        self.worker(d)
        self.worker(d)
        f = self.write("asha.json", asha(tags=["a"]))
        p = self.magpie("submit", f, "--url", d.http)
        self.assertIn('experiment 1 "asha"', p.stdout())
        p = self.magpie("watch", "1", "--url", d.http, timeout=90)
        self.assertRegex(p.stdout(), r'^experiment 1 "asha" completed after .*: .*completed')
        self.assertRegex(p.stdout(), r"best: trial \d+, loss [\d.]+ at step 9\n")
        self.assertRegex(p.stderr(), r"trials, \d+ running")
        self.assertNotIn("\033", p.stdout() + p.stderr())
        self.look(d)
        self.change(d)

    def test_several_objectives_from_file_to_front(self):
        d = self.driver()
        self.worker(d)
        url = ["--url", d.http]
        with open(os.path.join(harness.ROOT, "examples", "two-objectives.json")) as f:
            s = json.load(f)
        s["limits"]["trials"] = 24
        s["trial"]["command"][:2] = [sys.executable, os.path.join(harness.ROOT, "examples", "tradeoff.py")]
        f = self.write("two.json", s)
        self.assertRegex(self.magpie("plan", f).stdout(), r"(?m)^objective +maximize accuracy, minimize latency_ms$")
        self.magpie("submit", f, *url)
        self.magpie("watch", "1", *url, timeout=90)
        front = json.loads(self.magpie("best", "1", "--json", *url).stdout())["trials"]
        self.assertGreaterEqual(len(front), 2)
        for a in front:
            self.assertLessEqual(a["values"]["memory_mb"], 8)
            for b in front:
                self.assertFalse(b["values"]["accuracy"] > a["values"]["accuracy"] and
                                 b["values"]["latency_ms"] < a["values"]["latency_ms"])
        rows = self.magpie("best", "1", *url).stdout().splitlines()
        self.assertRegex(rows[0], r"^ *TRIAL +accuracy +latency_ms +PARAMETERS$")
        self.assertEqual(len(rows), 1 + len(front))
        text = self.magpie("show", "1", *url).stdout()
        self.assertRegex(text, r"(?m)^feasible +memory_mb <= 8$")
        self.assertRegex(text, rf"(?m)^pareto +{len(front)} trials")
        table = list(csv.DictReader(io.StringIO(self.magpie("export", "1", *url).stdout())))
        self.assertEqual(len(table), 24)
        self.assertEqual({float(r["values:accuracy"]) for r in table}, {float(r["value"]) for r in table})
        cheap = json.loads(self.magpie("trials", "1", "--sort", "values.latency_ms", "--json", "--filter", "values.memory_mb<=8",
                                       *url).stdout())["trials"]
        self.assertEqual(cheap, sorted(cheap, key=lambda t: t["values"]["latency_ms"]))
        self.assertIn(cheap[0]["trial"], [t["trial"] for t in front])

    def test_a_program_that_leaves_an_objective_out_fails_with_its_name(self):
        d = self.driver()
        self.worker(d)
        s = spec(trials=1)
        del s["objective"]
        s["objectives"] = [{"metric": "loss", "direction": "min"}, {"metric": "latency", "direction": "min"}]
        s["optimizer"] = {"algorithm": "nsga2"}
        self.magpie("submit", self.write("q.json", s), "--url", d.http)
        ended = lambda: d.get("/api/v1/experiments/1/trials?filter=state%3Dfailed")["trials"]
        x = harness.wait_until(ended, 30, "the trial to fail")[0]
        self.assertEqual(x["cause"], "no-metric")
        self.assertIn('never reported "latency"', x["reason"])

    def look(self, d):
        url = ["--url", d.http]
        x = json.loads(self.magpie("show", "1", "--json", *url).stdout())
        self.assertEqual(x["state"], "completed")
        self.assertEqual(json.loads(self.magpie("show", "asha", "--json", *url).stdout())["id"], 1)
        text = self.magpie("show", "1", *url).stdout()
        self.assertRegex(text, r"(?m)^state +completed$")
        self.assertRegex(text, r"(?m)^objective +minimize loss$")
        best = json.loads(self.magpie("best", "1", "--json", *url).stdout())
        self.assertEqual(best["trial"], x["best"]["trial"])
        self.assertRegex(self.magpie("best", "1", *url).stdout(), rf"^trial {best['trial']}: ")
        trials = json.loads(self.magpie("trials", "1", "--json", *url).stdout())["trials"]
        self.assertEqual([t["trial"] for t in trials], list(range(1, len(trials) + 1)))
        self.assertGreaterEqual(len(trials), 12)
        done = json.loads(self.magpie("trials", "1", "--json", "--filter", "state=completed", "--sort", "best",
                                      "--limit", "1", *url).stdout())["trials"]
        self.assertEqual(done[0]["trial"], best["trial"])
        rows = self.magpie("trials", "1", *url).stdout().splitlines()
        self.assertRegex(rows[0], r"^TRIAL +STATE +ATTEMPT +ERRORS +STEP +BUDGET +VALUE +PARAMETERS +WORKER +WHY$")
        self.assertEqual(len(rows), len(trials) + 1)
        listed = json.loads(self.magpie("list", "--json", *url).stdout())["experiments"]
        self.assertEqual([e["id"] for e in listed], [1])
        self.assertRegex(self.magpie("list", *url).stdout(), r"(?m)^ *1  asha +completed")
        self.assertEqual(json.loads(self.magpie("list", "--json", "--filter", "tag=b", *url).stdout())["experiments"], [])
        log = self.magpie("logs", "1", "1", "--attempt", "1", *url).stdout()
        self.assertTrue(log.startswith('::magpie {"step": 1'), log)
        self.assertEqual(self.magpie("logs", "1", "1", "--attempt", "1", "-f", *url).stdout(), log)
        self.magpie("logs", "1", "1", "--attempt", "99", *url, status=1)
        self.export(d, trials)
        v = json.loads(self.magpie("verify", "1", "--data", d.data, "--json").stdout())
        self.assertTrue(v["verified"])
        self.assertGreater(v["events"], 12)

    def export(self, d, trials):
        url = ["--url", d.http]
        text = self.magpie("export", "1", *url).stdout()
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual([int(r["trial"]) for r in rows], [t["trial"] for t in trials])
        self.assertEqual([float(r["param:x"]) for r in rows], [t["params"]["x"] for t in trials])
        self.assertEqual([r["state"] for r in rows], [t["state"] for t in trials])
        whole = json.loads(self.magpie("export", "1", "--format", "json", "--metrics", *url).stdout())
        self.assertEqual(whole["experiment"]["id"], 1)
        self.assertEqual([p["step"] for p in whole["trials"][0]["metrics"]][:1], [1])
        out = self.path("m.csv")
        self.magpie("export", "1", "--metrics", "-o", out, *url)
        with open(out) as f:
            points = list(csv.DictReader(f))
        self.assertEqual({p["metric"] for p in points}, {"loss", "step_time"})
        p = self.magpie("export", "1", "-o", self.path("none", "m.csv"), *url, status=1)
        self.assertIn("No such file or directory", p.stderr())

    def change(self, d):
        url = ["--url", d.http]
        self.magpie("note", "1", "a first look", *url)
        self.assertEqual(self.magpie("note", "1", *url).stdout(), "a first look\n")
        self.magpie("note", "1", "odd one", "--trial", "2", *url)
        self.assertEqual(self.magpie("note", "1", "--trial", "2", *url).stdout(), "odd one\n")
        self.assertEqual(self.magpie("note", "1", "--clear", *url).stdout(), "")
        self.assertEqual(self.magpie("tag", "1", "b", "c", *url).stdout(), "a, b, c\n")
        self.assertEqual(self.magpie("tag", "1", "a", "--remove", *url).stdout(), "b, c\n")
        p = self.magpie("fork", "1", "--set", "limits.trials=3", "--set", "optimizer.algorithm=random", "--drop",
                        "resource", "--drop", "optimizer.reduction_factor", "--name", "forked", *url)
        self.assertIn('experiment 2 "forked"', p.stdout())
        self.magpie("watch", "2", *url, timeout=60)
        x = json.loads(self.magpie("show", "forked", "--json", *url).stdout())
        self.assertEqual((x["limits"]["trials"], x["spec"]["optimizer"]["algorithm"]), (3, "random"))
        p = self.magpie("repeat", "2", "--best", "2", "--seeds", "2", *url)
        self.assertEqual(len(re.findall(r"(?m)^experiment [34] ", p.stdout())), 2)
        for i in ("3", "4"):
            self.magpie("watch", i, *url, timeout=60)
            self.assertEqual(json.loads(self.magpie("show", i, "--json", *url).stdout())["counts"]["completed"], 2)
        self.assertIn("is running", self.magpie("extend", "2", "--trials", "5", *url).stdout())
        self.magpie("watch", "2", *url, timeout=60)
        self.assertEqual(len(json.loads(self.magpie("trials", "2", "--json", *url).stdout())["trials"]), 5)

    def test_pause_resume_cancel_retry(self):
        d = self.driver()
        url = ["--url", d.http]
        f = self.write("q.json", spec(trials=50))
        self.assertEqual(self.magpie("submit", f, "-q", *url).stdout(), "1\n")
        self.assertIn("is paused", self.magpie("pause", "1", *url).stdout())
        self.worker(d, "--slots", "1")
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"], what="a worker")
        self.assertEqual(d.trials(1), [])
        self.assertIn("is running", self.magpie("resume", "1", *url).stdout())
        harness.wait_until(lambda: d.experiment(1)["counts"]["completed"] >= 2, what="two trials")
        self.assertIn("is cancelled", self.magpie("cancel", "1", *url).stdout())
        p = self.magpie("resume", "1", *url, status=1)
        self.assertEqual(p.stderr().count("\n"), 1)
        self.assertEqual(json.loads(self.magpie("cancel", "1", "--json", *url, status=None).stdout() or "{}").get("state",
                         "cancelled"), "cancelled")
        # A trial that failed is run again by hand, under a new number.
        bad = spec("bad", 2)
        bad["limits"]["failures"] = 1
        bad["trial"]["command"] = ["sh", "-c", "echo broken pipe organ; exit 3"]
        self.assertIn("experiment 2", self.magpie("submit", self.write("bad.json", bad), *url).stdout())
        p = self.magpie("watch", "2", "--until-paused", *url, status=1)
        self.assertIn('"bad" paused: 1 failed', p.stdout())
        t = d.trials(2)[0]
        self.assertEqual(t["state"], "failed")
        self.assertIn("exit status 3", t["reason"])
        self.assertIn("trial 2 runs trial 1's parameters again", self.magpie("retry", "2", "1", *url).stdout())
        p = self.magpie("retry", "2", "1", *url, status=2)
        self.assertIn("extend the experiment first", p.stderr())
        again = harness.wait_until(lambda: [t for t in d.trials(2) if t["trial"] == 2], what="trial 2")[0]
        self.assertEqual(again["params"], t["params"])

    def test_logs_follow_a_trial_to_its_end(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        s = spec(trials=1)
        s["trial"]["command"] = ["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done; "
                                 "echo '::magpie {\"step\": 1, \"metrics\": {\"loss\": 1}}'"]
        self.magpie("submit", self.write("q.json", s), "--url", d.http)
        self.assertIn("no trial 1", self.magpie("logs", "1", "1", "--url", d.http, status=1).stderr())
        p = self.start([harness.MAGPIE, "logs", "1", "1", "-f", "--url", d.http])
        harness.wait_until(lambda: "no trial 1 yet; waiting for it" in p.stderr(), what="a word that there is no trial yet")
        self.worker(d)
        harness.wait_until(lambda: "line 2" in p.stdout(), what="a line while it runs")
        self.assertNotIn("line 5", p.stdout())
        self.assertEqual(p.wait(), 0)
        self.assertEqual(p.stdout(), "".join(f"line {i}\n" for i in range(1, 6)) +
                         '::magpie {"step": 1, "metrics": {"loss": 1}}\n')

    def test_what_is_not_there_is_one_message(self):
        d = self.driver()
        url = ["--url", d.http]
        for line in (["show", "7"], ["best", "7"], ["trials", "no such name"], ["logs", "7", "1"], ["pause", "7"],
                     ["export", "a/../b?c"], ["verify", "7", "--data", d.data]):
            with self.subTest(line=line):
                p = self.magpie(*line, *(url if line[0] != "verify" else []), status=1)
                self.assertEqual(p.stderr().count("\n"), 1, p.stderr())
                self.assertEqual(p.stdout(), "")
        self.assertIn("no experiments", self.magpie("list", *url).stderr())
        self.magpie("submit", self.write("q.json", spec(trials=1)), *url)
        self.magpie("best", "1", *url, status=1)
        self.magpie("trials", "1", "--filter", "nonsense", *url, status=2)

    def test_the_data_folder_tells_where_its_driver_is(self):
        d = self.driver()
        self.assertEqual(self.magpie("list", "--data", d.data).stderr().count("no experiments"), 1)
        self.start([harness.MAGPIE, "worker", "--data", d.data, "--scratch", self.path("s")])
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"], what="a worker")
        self.assertEqual(d.stop(), 0)
        p = self.magpie("list", "--data", d.data, env={"MAGPIE_URL": "http://127.0.0.1:9"}, status=1)
        self.assertIn("127.0.0.1:9", p.stderr())

    def test_a_second_driver_on_the_store_is_refused(self):
        d = self.driver()
        p = self.magpie("driver", "--data", d.data, "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0", status=1)
        self.assertEqual(p.stdout(), "")
        self.assertIn(str(d.pid), p.stderr())
        self.assertTrue(d.alive())
        p = self.magpie("run", self.write("q.json", spec()), "--data", d.data, "--http", "127.0.0.1:0", status=1)
        self.assertIn(str(d.pid), p.stderr())
        self.assertIn("the driver does not start", p.stderr())


class Driver(harness.Case):
    def test_the_ready_line_is_all_that_standard_output_gets(self):
        d = self.driver()
        self.assertRegex(d.stdout(), r"^ready http=http://127\.0\.0\.1:\d+ nng=tcp://127\.0\.0\.1:\d+\n$")
        self.assertEqual(d.stop(), 0)
        self.assertEqual(d.stdout().count("\n"), 1)

    def test_ports_and_folders_that_cannot_be_had(self):
        d = self.driver()
        used = d.http.split("//")[1]
        p = self.magpie("driver", "--data", self.path("other"), "--http", used, "--listen", "tcp://127.0.0.1:0", status=None)
        self.assertNotEqual(p.wait(), 0)
        self.assertIn(used.split(":")[1], p.stderr())
        p = self.magpie("driver", "--data", self.write("file", "x"), status=None)
        self.assertIn("file", p.stderr())
        self.assertNotEqual(p.wait(), 0)
        p = self.magpie("driver", "--data", "/proc/magpie", status=1)
        self.assertIn("cannot make", p.stderr())

    def test_kill_9_in_the_middle_and_again(self):
        d = self.driver("--lease", "3s", "--heartbeat", "200ms")
        for _ in range(2):
            self.worker(d, "--slots", "1")
        self.magpie("submit", self.write("asha.json", asha()), "--url", d.http)
        for done in (2, 5, 8):
            harness.wait_until(lambda: len([t for t in d.trials(1) if t["step"]]) >= done, what=f"{done} trials")
            d.kill()
            d = d.restart()
        d.wait_state(1, timeout=60)
        v = json.loads(self.magpie("verify", "1", "--data", d.data, "--json").stdout())
        self.assertTrue(v["verified"], v)


class Run(harness.Case):
    def run_file(self, s, *flags, **more):
        f = self.write(s["name"] + ".json", s)
        return self.magpie("run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", *flags, timeout=90, **more)

    def test_a_search_in_one_command(self):
        p = self.run_file(asha(), "--workers", "2")
        out = p.stdout()
        self.assertRegex(out, r"(?m)^board: http://127\.0\.0\.1:\d+/$")
        self.assertRegex(out, r'(?m)^experiment 1 "asha", 2 workers$')
        self.assertRegex(out, r'(?m)^experiment 1 "asha" completed after ')
        self.assertRegex(out, r"(?m)^best: trial \d+, loss ")
        self.assertNotIn("\033", out + p.stderr())
        self.assertEqual([c for c in harness.descendants() if c != p.pid], [], "nothing is left running")

    def test_json_is_one_object_on_standard_output(self):
        p = self.run_file(spec(trials=4), "--workers", "2", "--json")
        r = json.loads(p.stdout())
        self.assertEqual((r["experiment"], r["state"], r["counts"]["completed"]), (1, "completed", 4))
        self.assertIn("loss", json.dumps(r) + "loss")
        self.assertIsInstance(r["best"]["value"], float)
        self.assertIn("board: ", p.stderr())

    def test_the_same_seed_gives_the_same_trials(self):
        bests = []
        for folder in ("one", "two"):
            f = self.write("q.json", spec(trials=6))
            p = self.magpie("run", f, "--data", self.path(folder), "--http", "127.0.0.1:0", "--workers", "2", "--json")
            bests.append(json.loads(p.stdout())["best"]["params"])
        self.assertEqual(bests[0], bests[1])

    def test_ctrl_c_drains_and_the_same_command_goes_on(self):
        s = spec(trials=12, sleep=0.2)
        f = self.write("q.json", s)
        line = [harness.MAGPIE, "run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", "--workers", "2"]
        p = self.start(line, "run")
        url = harness.wait_until(lambda: re.search(r"board: (http://\S+)/", p.stdout()), what="the board's URL").group(1)

        def done():
            status, _, body = harness.request(url, "GET", "/api/v1/experiments/1")
            return status == 200 and json.loads(body)["counts"]["completed"] >= 3

        harness.wait_until(done, what="three trials")
        p.signal(signal.SIGINT)
        self.assertEqual(p.wait(40), 1)
        self.assertIn("draining", p.stdout())
        self.assertRegex(p.stdout(), r"to go on:\n  \S*magpie run ")
        self.assertEqual([c for c in harness.descendants() if c != p.pid], [], "nothing is left running")
        again = self.start(line, "run")
        self.assertEqual(again.wait(60), 0)
        self.assertIn("going on with experiment 1", again.stdout())
        self.assertIn("12 completed", again.stdout())
        anew = self.start(line, "run")
        self.assertEqual(anew.wait(60), 0)
        self.assertIn('experiment 2 "q"', anew.stdout())

    def test_killed_with_everything_it_goes_on(self):
        s = spec(trials=10, sleep=0.2)
        f = self.write("q.json", s)
        line = [harness.MAGPIE, "run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", "--workers", "2"]
        p = self.start(line, "run")
        url = harness.wait_until(lambda: re.search(r"board: (http://\S+)/", p.stdout()), what="the board's URL").group(1)

        def done():
            status, _, body = harness.request(url, "GET", "/api/v1/experiments/1")
            return status == 200 and json.loads(body)["counts"]["completed"] >= 2

        harness.wait_until(done, what="two trials")
        harness.kill_descendants()
        again = self.start(line, "run")
        self.assertEqual(again.wait(60), 0)
        self.assertIn("going on with experiment 1", again.stdout())
        self.assertIn("10 completed", again.stdout())

    def test_killed_alone_it_takes_driver_and_workers_along(self):
        f = self.write("q.json", spec(trials=500, sleep=0.1))
        p = self.start([harness.MAGPIE, "run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", "--workers", "2"], "run")
        harness.wait_until(lambda: "2 workers" in p.stdout(), what="the start")
        harness.wait_until(lambda: len(harness.descendants()) >= 4, what="driver and workers")
        p.kill()
        harness.wait_gone(what="driver and workers to go")

    def test_killed_in_the_middle_of_its_trials_it_takes_all_along(self):
        # The driver ends before the trials do: the workers then have results and nobody to tell.
        f = self.write("q.json", spec(trials=500, sleep=1.0))
        p = self.start([harness.MAGPIE, "run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", "--workers", "2"], "run")
        harness.wait_until(lambda: len(self.programs()) == 2, what="two trials")
        p.kill()
        harness.wait_gone(what="driver, workers and trials to go")

    def test_killed_alone_the_same_command_goes_on_at_once(self):
        # While workers of the killed one still stop their trials: they tell the new driver.
        f = self.write("q.json", spec(trials=6, sleep=0.5))
        line = [harness.MAGPIE, "run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", "--workers", "2"]
        p = self.start(line, "run")
        harness.wait_until(lambda: len(self.programs()) == 2, what="two trials")
        p.kill()
        again = self.start(line, "run")
        self.assertEqual(again.wait(90), 0, again.stdout() + again.stderr())
        self.assertIn("going on with experiment 1", again.stdout())
        self.assertIn("6 completed", again.stdout())
        harness.wait_gone(what="the workers of the killed run to go")

    def programs(self):
        """The trial programs that run below this process."""
        return [c for c in harness.descendants() if harness.command_line(c)[:2] == [sys.executable, PROGRAM]]

    def test_a_search_whose_trials_fail_ends_and_says_why(self):
        s = spec(trials=30)
        s["trial"]["command"] = ["sh", "-c", "echo no such flag; exit 2"]
        s["limits"]["failures"] = 3
        p = self.run_file(s, "--workers", "2", status=1)
        self.assertIn("paused", p.stdout())
        self.assertRegex(p.stdout(), r"paused: .*fail")

    def test_keep_leaves_the_board_up(self):
        f = self.write("q.json", spec(trials=2))
        p = self.start([harness.MAGPIE, "run", f, "--data", self.path("data"), "--http", "127.0.0.1:0", "--workers", "1",
                        "--keep"], "run")
        harness.wait_until(lambda: "stay up" in p.stdout(), 60, "the end of the search")
        url = re.search(r"board: (http://\S+)/", p.stdout()).group(1)
        self.assertEqual(harness.request(url, "GET", "/")[0], 200)
        p.signal(signal.SIGINT)
        self.assertEqual(p.wait(30), 0)


class Workers(harness.Case):
    def test_many_started_at_once_leave_each_other_their_folders(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "5s")
        tmp = self.path("tmp")
        os.mkdir(tmp)
        for n in range(8):
            self.start([harness.MAGPIE, "worker", "--driver", d.nng, "--slots", "1", "--name", f"w{n}"], env={"TMPDIR": tmp})
        self.magpie("submit", self.write("q.json", spec(trials=40)), "--url", d.http)
        x = d.wait_state(1, timeout=60)
        self.assertEqual(x["counts"]["completed"], 40)


class Terminal(harness.Case):
    """What is drawn on a terminal: colour and a moving line there, none with NO_COLOR."""

    def on_terminal(self, env):
        import pty
        try:
            pid, fd = pty.fork()
        except OSError as e:
            self.skipTest(f"no terminals here: {e}")
        if pid == 0:
            os.environ.update(env)
            os.environ["TERM"] = "xterm"
            f = self.path("q.json")
            os.execv(harness.MAGPIE, [harness.MAGPIE, "run", f, "--data", self.path("data" + str(len(env))), "--http",
                                      "127.0.0.1:0", "--workers", "2"])
        out = b""
        while True:
            try:
                chunk = os.read(fd, 65536)
            except OSError:
                break
            if not chunk:
                break
            out += chunk
        os.close(fd)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, out)
        return out.decode()

    def test_a_bar_on_a_terminal_and_no_colour_when_asked_for(self):
        self.write("q.json", spec(trials=4, sleep=0.1))
        out = self.on_terminal({})
        self.assertIn("\r\033[K[", out)
        self.assertIn("\033[32mcompleted", out)
        out = self.on_terminal({"NO_COLOR": "1"})
        self.assertIn("\r\033[K[", out)
        self.assertNotRegex(out, r"\033\[\d*m")


if __name__ == "__main__":
    harness.main()
