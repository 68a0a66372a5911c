# SPDX-License-Identifier: Apache-2.0
"""magpie.Client against real drivers: ask and tell over kill -9, watching over restarts, refusals that say what to mend."""
import os
import sys
import threading
import unittest.mock

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

sys.path.insert(0, harness.CLIENT)
import magpie_hpo as magpie
from magpie_hpo import client as client_module


def spec(trials=5, **more):
    s = {"name": "client", "objective": {"metric": "loss", "direction": "min"}, "seed": 3,
         "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"}, "limits": {"trials": trials}}
    s.update(more)
    return s


class Clients(harness.Case):
    def client(self, d, **more):
        return magpie.Client(d.http, d.token(), **more)


class AskAndTell(Clients):
    def test_a_search_in_ten_lines_and_its_results(self):
        d = self.driver()
        x = self.client(d).submit(spec(5))
        for t in x.each():
            self.assertEqual(t.report(1, t.params["x"] + 1, speed=3.0), "continue")
            self.assertEqual(t.tell(t.params["x"]), "completed")
        self.assertEqual(x.state, "completed")
        results = x.results(sort="best")
        self.assertEqual(len(results), 5)
        self.assertEqual(results[0]["trial"], x.best()["trial"])
        self.assertEqual(results[0]["value"], min(r["params"]["x"] for r in results))
        self.assertEqual(x.metrics(1)[0]["values"]["speed"], 3.0)
        self.assertEqual([t["trial"] for t in x.trials(limit=2)], [1, 2])
        self.assertEqual(list(x.trials(filter="state=failed")), [])
        self.assertEqual(x.ask(), [])

    def test_nothing_is_lost_and_nothing_runs_twice_when_the_driver_is_killed_meanwhile(self):
        d = self.driver()
        n, ran = 60, []
        x = self.client(d, patience=120).submit(spec(n))

        def search():
            for t in x.each(wait=1):
                ran.append((t.number, t.attempt))
                t.report(1, t.params["x"])
                ran[-1] += (t.tell(t.params["x"]),)

        thread = threading.Thread(target=search)
        thread.start()
        now = d
        for _ in range(5):
            seen = len(ran)
            harness.wait_until(lambda: len(ran) > seen + 5, what="some trials")
            now.kill()
            now = now.restart()
        thread.join(4 * harness.DEADLINE)
        self.assertEqual(sorted(ran), [(i, 1, "completed") for i in range(1, n + 1)])
        trials = x.results()
        self.assertEqual({t["state"] for t in trials}, {"completed"})
        self.assertEqual([t["value"] for t in trials], [t["params"]["x"] for t in trials])
        now.stop()
        self.magpie("verify", str(x.id), "--data", d.data)

    def test_a_client_that_was_started_again_finds_its_trials(self):
        d = self.driver()
        i = self.client(d).submit(spec(2)).id
        held = self.client(d, name="host-7").experiment(i).ask()[0]
        again = self.client(d, name="host-7").experiment(i)
        first = next(again.each())
        self.assertEqual((first.number, first.params), (held.number, held.params))
        self.assertEqual(self.client(d, name="other").experiment(i).reclaim(), [])
        self.assertEqual(first.tell(state="failed", reason="no luck"), "failed")
        self.assertEqual(again.trial(first.number)["reason"], "no luck")


class Looking(Clients):
    def test_watching_goes_on_over_a_restart_and_ends_with_the_experiment(self):
        d = self.driver()
        c = self.client(d)
        x = c.submit(spec(2))
        seen, started = [], threading.Event()

        def watch():
            for event in self.client(d, patience=120).experiment(x.id).watch():
                seen.append(event)
                started.set()

        thread = threading.Thread(target=watch)
        thread.start()
        self.assertTrue(started.wait(harness.DEADLINE))
        x.ask()[0].tell(0.5)
        harness.wait_until(lambda: any(e.kind == "trial" for e in seen), what="a trial's event")
        d.kill()
        d.restart()
        for t in x.each():
            t.tell(0.25)
        thread.join(harness.DEADLINE)
        self.assertFalse(thread.is_alive())
        self.assertEqual(seen[0].kind, "reset")
        self.assertEqual(seen[-1].data["state"], "completed")

    def test_logs_of_a_real_trial_are_read_and_followed(self):
        d = self.driver("--heartbeat", "0.2s")
        script = "import time\nfor i in range(5): print('line', i, flush=True); time.sleep(0.1)\nprint('::magpie {\"result\": {\"loss\": 1}}')"
        x = self.client(d).submit(spec(1, trial={"command": [sys.executable, "-c", script]}))
        self.worker(d)
        harness.wait_until(lambda: list(x.trials()), what="the trial")
        text = "".join(x.follow_log(1))
        self.assertEqual(x.wait(60)["state"], "completed")
        whole = harness.wait_until(lambda: x.logs(1), what="the log")
        self.assertTrue(whole.startswith("line 0\nline 1\n"))
        self.assertTrue(whole.endswith(text[-20:]), text)
        self.assertEqual(self.client(d).workers()[0]["slots"] >= 1, True)

    def test_pause_resume_extend_enqueue_note_cancel_delete(self):
        d = self.driver()
        c = self.client(d)
        x = c.submit(spec(1))
        self.assertEqual(x.pause(reason="lunch")["state"], "paused")
        self.assertEqual(x.ask(), [])
        self.assertEqual(x.resume()["state"], "running")
        x.enqueue({"x": 0.75})
        t = x.ask()[0]
        self.assertEqual(t.params, {"x": 0.75})
        t.tell(1)
        self.assertEqual(x.state, "completed")
        self.assertEqual(x.extend(trials=3)["state"], "running")
        x.note("fine", tags=["a"])
        self.assertEqual([e["id"] for e in c.experiments(filter="tag=a")], [x.id])
        self.assertEqual(c.experiment("client").id, x.id)
        self.assertEqual(x.cancel()["state"], "cancelled")
        self.assertEqual(x.cancel()["state"], "cancelled")
        x.delete()
        with self.assertRaises(magpie.NotFound):
            x.info()

    def test_pandas_is_asked_for_by_name(self):
        rows = client_module.Results([{"trial": 1, "value": 2.0, "params": {"lr": 0.1}, "values": {"loss": 2.0}}])
        with unittest.mock.patch.dict(sys.modules, {"pandas": None}):
            with self.assertRaisesRegex(magpie.MagpieError, "pip install pandas"):
                rows.to_pandas()
        fake = unittest.mock.Mock()
        with unittest.mock.patch.dict(sys.modules, {"pandas": fake}):
            rows.to_pandas()
        fake.DataFrame.assert_called_once_with([{"trial": 1, "value": 2.0, "params.lr": 0.1, "values.loss": 2.0}])


class Refused(Clients):
    def test_every_fault_of_a_file_is_named_with_its_place(self):
        d = self.driver()
        path = self.write("bad.json", '{\n  "objective": {"metric": "loss"},\n  "serchspace": {}\n}\n')
        with self.assertRaises(magpie.Invalid) as caught:
            self.client(d).submit(path)
        self.assertEqual(caught.exception.status, 422)
        self.assertGreaterEqual(len(caught.exception.issues), 1)
        self.assertIn("line 3", str(caught.exception))
        self.assertIn("searchspace", str(caught.exception))

    def test_token_absence_and_address_are_told_apart(self):
        d = self.driver("--require-token")
        with self.assertRaises(magpie.Denied):
            list(magpie.Client(d.http, "wrong").experiments())
        with unittest.mock.patch.dict(os.environ):
            os.environ.pop("MAGPIE_TOKEN", None)
            os.environ.pop("MAGPIE_URL", None)
            self.assertEqual(list(magpie.Client(data=d.data).experiments()), [])  # address and token of the data folder
        d.kill()
        with self.assertRaisesRegex(magpie.Unreachable, "start one with `magpie driver`"):
            magpie.Client(d.http, patience=0.2).workers()
        with self.assertRaisesRegex(magpie.MagpieError, "http://HOST:PORT"):
            magpie.Client("ftp://x")


if __name__ == "__main__":
    harness.main()
