#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""REST against a real driver: ask, report and tell to the letter, guards, limits, lists."""
import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
from harness import wait_until

SPEC = {
    "name": "rest",
    "objective": {"metric": "acc", "direction": "max"},
    "searchspace": {"x": {"type": "DOUBLE", "range": [0, 1]}, "k": {"type": "CATEGORICAL", "values": ["a", "b"]}},
    "optimizer": {"algorithm": "random"},
    "limits": {"trials": 20},
    "seed": 1,
}
ASHA = dict(SPEC, name="asha", optimizer={"algorithm": "asha", "reduction_factor": 2},
            resource={"unit": "epoch", "min": 1, "max": 4}, limits={"trials": 8})


class Rest(harness.Case):
    def begin(self, spec=None, **kw):
        d = self.driver(**kw)
        i = d.submit({k: v for k, v in dict(SPEC, **(spec or {})).items() if v is not None})
        return d, f"/api/v1/experiments/{i}"

    def problem(self, d, method, path, body=None, status=400, headers=None):
        code, head, data = d.raw(method, path, body, headers)
        self.assertEqual(code, status, data)
        self.assertEqual(head["Content-Type"], "application/problem+json", data)
        p = json.loads(data)
        self.assertEqual(p["status"], status)
        self.assertTrue(p["title"] and p["type"])
        return p

    # ---- ask ----

    def test_ask_gives_trials_and_why(self):
        d, x = self.begin({"limits": {"trials": 3, "parallel": 2}})
        a = d.post(x + "/ask", {"count": 5})
        self.assertEqual(a["state"], "running")
        self.assertEqual([t["trial"] for t in a["trials"]], [1, 2])
        for t in a["trials"]:
            self.assertEqual((t["attempt"], t["budget"], t["resume_from"]), (1, None, None))
            self.assertTrue(0 <= t["params"]["x"] <= 1 and t["params"]["k"] in "ab")
        a = d.post(x + "/ask")
        self.assertEqual((a["state"], a["trials"], a["why"]["code"]), ("waiting", [], "parallel-limit"))
        self.assertTrue(a["why"]["text"])
        d.post(x + ":pause")
        self.assertEqual(d.post(x + "/ask")["state"], "waiting")
        d.post(x + ":resume")
        for n in (1, 2):
            d.post(f"{x}/trials/{n}/tell", {"attempt": 1, "state": "completed", "value": n})
        self.assertEqual([t["trial"] for t in d.post(x + "/ask", {"count": 5})["trials"]], [3])
        d.post(f"{x}/trials/3/tell", {"attempt": 1, "state": "completed", "value": 0})
        self.assertEqual(d.post(x + "/ask")["state"], "done")
        self.assertEqual(d.get(x)["state"], "completed")
        self.assertEqual(d.get(x + "/best")["trial"], 2)

    def test_why_names_the_missing_worker(self):
        d, x = self.begin({"trial": {"command": ["true"]}})
        self.assertEqual(d.get(x)["why"]["code"], "no-worker")
        self.assertEqual(d.post(x + "/trials", {"params": {"x": 0.5, "k": "a"}}, status=201)["why"]["code"], "no-worker")
        d, x = self.begin(data=self.path("asked"))
        self.assertEqual(d.get(x)["why"]["code"], "no-taker")

    def test_repeated_request_gets_the_same_trials(self):
        d, x = self.begin()
        body = {"count": 2, "client": "c", "request": "r"}
        a = d.post(x + "/ask", body)
        self.assertEqual(d.post(x + "/ask", body), a)
        d.post(f"{x}/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        self.assertEqual(d.post(x + "/ask", body), a)
        self.assertNotEqual(d.post(x + "/ask", dict(body, client="d"))["trials"], a["trials"])
        self.problem(d, "POST", x + "/ask", dict(body, count=3), 409)
        d.kill()
        d = d.restart()
        self.assertEqual(d.post(x + "/ask", body), a)
        self.problem(d, "POST", x + "/ask", dict(body, count=3), 409)

    def test_reply_lost_between_commit_and_answer(self):
        for point in ("store.commit", "store.committed", "driver.reply"):
            with self.subTest(point):
                d = self.driver(data=self.path("data-" + point), env={"MAGPIE_FAULTS": f"{point}:3=kill"})
                x = f"/api/v1/experiments/{d.submit(SPEC)}"
                body = {"count": 3, "client": "c", "request": "r1"}
                first = d.post(x + "/ask", body)
                lost = dict(body, request="r2")
                with self.assertRaises((OSError, http.client.HTTPException)):
                    d.post(x + "/ask", lost)
                d = d.restart(env={})
                self.assertEqual(d.post(x + "/ask", body), first)
                again = d.post(x + "/ask", lost)
                self.assertEqual([t["trial"] for t in again["trials"]], [4, 5, 6])
                self.assertEqual(d.post(x + "/ask", lost), again)
                self.assertEqual(len(d.trials(1)), 6)

    def test_repeated_post_of_an_experiment(self):
        d = self.driver()
        body = dict(SPEC, client="c", request="one")
        a = d.post("/api/v1/experiments", body, status=201)
        self.assertEqual(d.post("/api/v1/experiments", body, status=201)["id"], a["id"])
        self.problem(d, "POST", "/api/v1/experiments", dict(body, seed=2), 409)
        d.kill()
        d = d.restart()
        self.assertEqual(d.post("/api/v1/experiments", body, status=201)["id"], a["id"])
        b = d.post("/api/v1/experiments?client=c&request=two", SPEC, status=201)
        self.assertEqual(d.post("/api/v1/experiments?client=c&request=two", SPEC, status=201)["id"], b["id"])
        self.assertEqual(len(d.get("/api/v1/experiments")["experiments"]), 2)

    def test_repeated_extend_and_enqueue(self):
        d, x = self.begin({"limits": {"trials": 2}})
        e = {"trials": 5, "client": "c", "request": "e"}
        self.assertEqual(d.post(x + ":extend", e)["limits"]["trials"], 5)
        d.post(x + ":extend", {"trials": 9})
        self.assertEqual(d.post(x + ":extend", e)["limits"]["trials"], 9)
        self.problem(d, "POST", x + ":extend", dict(e, trials=6), 409)
        q = {"params": {"x": 0.25, "k": "b"}, "client": "c", "request": "q"}
        t = d.post(x + "/trials", q, status=201)
        self.assertEqual((t["trial"], t["state"], t["params"]), (1, "waiting", {"x": 0.25, "k": "b"}))
        self.assertEqual(d.post(x + "/trials", q, status=201)["trial"], 1)
        self.assertEqual(d.post(x + "/ask")["trials"][0]["trial"], 1)
        self.problem(d, "POST", x + "/trials", {"params": {"x": 2, "k": "b"}}, 422)

    def test_ask_waits_and_is_served_in_order(self):
        d, x = self.begin({"limits": {"trials": 2, "parallel": 1}})
        d.post(x + "/ask")
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(d.post(x + "/ask", {"wait": "20s"}))) for _ in range(2)]
        for t in threads:
            t.start()
        wait_until(lambda: "magpie_http_connections 2" in d.raw("GET", "/metrics")[2].decode()
                   or "magpie_http_connections 3" in d.raw("GET", "/metrics")[2].decode())
        self.assertEqual(answers, [])
        d.post(f"{x}/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: len(answers) == 1)
        self.assertEqual(answers[0]["trials"][0]["trial"], 2)
        d.post(f"{x}/trials/2/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: len(answers) == 2)
        self.assertEqual(answers[1]["state"], "done")
        for t in threads:
            t.join()

    def test_wait_ends_by_itself_and_with_the_driver(self):
        d, x = self.begin({"limits": {"trials": 5, "parallel": 1}})
        d.post(x + "/ask")
        self.assertEqual(d.post(x + "/ask", {"wait": 0.05})["state"], "waiting")
        out = []
        t = threading.Thread(target=lambda: out.append(d.raw("POST", x + "/ask", {"wait": "60s"})))
        t.start()
        wait_until(lambda: "magpie_http_connections 2" in d.raw("GET", "/metrics")[2].decode())
        self.assertEqual(d.stop(), 0)
        t.join()
        self.assertEqual(json.loads(out[0][2])["state"], "waiting")

    def test_client_that_goes_does_not_take_a_trial(self):
        d, x = self.begin({"limits": {"trials": 5, "parallel": 1}})
        d.post(x + "/ask")
        u = urllib.parse.urlsplit(d.http)
        body = json.dumps({"wait": "60s"})
        s = socket.create_connection((u.hostname, u.port))
        s.sendall((f"POST {x}/ask HTTP/1.1\r\nHost: {u.netloc}\r\nContent-Type: application/json\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        wait_until(lambda: "magpie_http_connections 2" in d.raw("GET", "/metrics")[2].decode())
        s.close()
        wait_until(lambda: "magpie_http_connections 1" in d.raw("GET", "/metrics")[2].decode())
        d.post(f"{x}/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        self.assertEqual(d.get(x)["counts"]["running"], 0)

    def test_leases(self):
        d, x = self.begin()
        d.post(x + "/ask", {"lease": 0.3, "client": "c"})
        self.assertEqual(d.get(x + "/trials/1")["lease_ms"], 300)
        d.post(f"{x}/trials/1/report", {"attempt": 1})
        wait_until(lambda: d.get(x + "/trials/1")["state"] == "waiting", 10)
        r = d.post(f"{x}/trials/1/report", {"attempt": 1, "metrics": [{"step": 1, "value": 0.5}]})
        self.assertEqual(r, {"action": "continue"}, "its last holder takes it back")
        wait_until(lambda: d.get(x + "/trials/1")["state"] == "waiting", 10)
        a = d.post(x + "/ask", {"lease": "0", "client": "e"})["trials"][0]
        self.assertEqual((a["trial"], a["attempt"]), (1, 2))
        self.assertIsNone(d.get(x + "/trials/1")["lease_ms"])
        late = d.post(f"{x}/trials/1/report", {"attempt": 1, "metrics": [{"step": 2, "value": 0.6}]})
        self.assertEqual(late, {"action": "stop", "late": True, "attempt": 2, "state": "running"})
        late = d.post(f"{x}/trials/1/tell", {"attempt": 1, "state": "completed", "value": 9})
        self.assertEqual(late, {"state": "running", "late": True, "attempt": 2})
        self.assertEqual(d.get(x + "/trials/1")["late"], 2)
        mine = d.post(x + "/ask", {"reclaim": True, "client": "e"})["trials"]
        self.assertEqual([(t["trial"], t["attempt"]) for t in mine], [(1, 2)])
        self.assertEqual(d.post(x + "/ask", {"reclaim": True, "client": "c"})["trials"], [])
        self.problem(d, "POST", x + "/ask", {"lease": "0"}, 422)
        self.problem(d, "POST", x + "/ask", {"reclaim": True}, 422)

    # ---- report and tell ----

    def test_rungs_pause_and_resume(self):
        d = self.driver()
        x = f"/api/v1/experiments/{d.submit(ASHA)}"
        a = d.post(x + "/ask", {"count": 4, "client": "c", "lease": "0"})["trials"]
        self.assertEqual([t["budget"] for t in a], [1] * 4)
        for t in a:
            where = f"{x}/trials/{t['trial']}/report"
            body = {"attempt": 1, "metrics": [{"step": 1, "value": t["trial"] / 10}], "checkpoint": {"step": 1, "uri": "u:1"}}
            r = d.post(where, body)
            self.assertEqual(r, {"action": "pause"})
            self.assertEqual(d.post(where, body), r)
        again = d.post(x + "/ask", {"client": "c", "lease": "0"})["trials"][0]
        self.assertEqual((again["attempt"], again["resume_from"]), (2, {"step": 1, "checkpoint": "u:1"}))
        self.assertGreater(again["budget"], 1)
        where = f"{x}/trials/{again['trial']}"
        self.assertEqual(d.post(where + "/report", {"attempt": 1, "metrics": [{"step": 1, "value": again["trial"] / 10}]})["action"],
                         "pause", "the same question gets the same answer after the promotion")
        r = d.post(where + "/tell", {"attempt": 2, "state": "completed", "value": 0.9})
        self.assertIn(r["state"], ("paused", "completed"))
        self.assertEqual(d.post(where + "/tell", {"attempt": 2, "state": "completed", "value": 0.9}), r)

    def test_values_that_are_none(self):
        for bad in ("null", "NaN", "Infinity", "-Infinity", '"NaN"', '"inf"'):
            with self.subTest(bad):
                d, x = self.begin(data=self.path("d" + bad.strip('"-')+str(len(bad))))
                d.post(x + "/ask", {"count": 2})
                code, _, data = d.raw("POST", x + "/trials/1/report",
                                      '{"attempt":1,"metrics":[{"step":1,"values":{"loss":%s,"acc":0.5}}]}' % bad)
                self.assertEqual((code, json.loads(data)), (200, {"action": "continue"}))
                self.assertEqual(d.get(x + "/trials/1/metrics")["metrics"][0]["values"], {"loss": None, "acc": 0.5})
                code, _, data = d.raw("POST", x + "/trials/1/tell", '{"attempt":1,"state":"completed","value":%s}' % bad)
                self.assertEqual((code, json.loads(data)["state"]), (200, "failed"), data)
                code, _, data = d.raw("POST", x + "/trials/2/report", '{"attempt":1,"metrics":[{"step":4,"value":%s}]}' % bad)
                self.assertEqual((code, json.loads(data)["action"]), (200, "stop"), data)
                t = d.get(x + "/trials/2")
                self.assertEqual(t["state"], "failed")
                self.assertIn("4", t["reason"])
                d.stop()

    def test_batches_answer_each_entry(self):
        d, x = self.begin()
        d.post(x + "/ask", {"count": 3})
        r = d.post(x + "/report", {"reports": [{"trial": 1, "attempt": 1, "metrics": [{"step": 1, "value": 1}]},
                                               {"trial": 77, "attempt": 1}, {"trial": 2, "attempt": 1, "colour": 1}, 5]})["reports"]
        self.assertEqual(r[0], {"trial": 1, "action": "continue"})
        self.assertEqual((r[1]["status"], r[1]["trial"]), (404, 77))
        self.assertEqual((r[2]["status"], r[2]["issues"][0]["pointer"]), (422, "/colour"))
        self.assertEqual(r[3]["status"], 422)
        before = int(d.raw("GET", "/metrics")[2].decode().split("\nmagpie_commits_total ")[1].split()[0])
        r = d.post(x + "/tell", {"results": [{"trial": t, "attempt": 1, "state": "completed", "value": t} for t in (1, 2, 3, 9)]})["results"]
        after = int(d.raw("GET", "/metrics")[2].decode().split("\nmagpie_commits_total ")[1].split()[0])
        self.assertEqual([e.get("state") for e in r], ["completed"] * 3 + [None])
        self.assertEqual(r[3]["status"], 404)
        self.assertEqual(after - before, 1)

    def test_several_objectives_give_a_front(self):
        d, x = self.begin({"objective": None, "objectives": [{"metric": "acc", "direction": "max"},
                                                             {"metric": "ms", "direction": "min"}],
                           "optimizer": {"algorithm": "nsga2"},
                           "outcome_constraints": [{"metric": "mb", "max": 100}]})
        self.assertEqual(d.get(x)["objectives"][1], {"metric": "ms", "direction": "min"})
        self.assertEqual(d.get(x + "/pareto")["trials"], [])
        d.post(x + "/ask", {"count": 4})
        told = [(0.8, 30, 50), (0.9, 50, 50), (0.7, 40, 50), (0.99, 1, 150)]
        for n, (acc, ms, mb) in enumerate(told, 1):
            at = f"{x}/trials/{n}"
            p = self.problem(d, "POST", at + "/tell", {"attempt": 1, "state": "completed", "value": acc}, 422)
            self.assertIn('reported no "ms"', p["detail"])
            d.post(at + "/report", {"attempt": 1, "metrics": [{"step": 1, "values": {"mb": mb}}]})
            d.post(at + "/tell", {"attempt": 1, "state": "completed", "values": {"acc": acc, "ms": ms}})
        front = d.get(x + "/pareto")
        self.assertEqual([t["trial"] for t in front["trials"]], [1, 2])
        self.assertEqual(front["trials"][0]["values"], {"acc": 0.8, "ms": 30, "mb": 50})
        self.assertEqual(front["objectives"][0], {"metric": "acc", "direction": "max"})
        t = d.get(x + "/trials/4")
        self.assertAlmostEqual(t["violation"], 0.5)
        self.assertEqual(d.get(x)["pareto"], 2)
        self.assertEqual(d.get(x + "/best")["trial"], 2)
        p = self.problem(d, "POST", x + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1,
                                                           "values": {"acc": 1}}, 422)
        self.assertEqual(p["issues"][0]["pointer"], "/values/acc")

    def test_the_front_of_one_objective_is_its_best(self):
        d, x = self.begin()
        self.assertEqual(d.get(x + "/pareto")["trials"], [])
        d.post(x + "/ask", {"count": 2})
        for n in (1, 2):
            d.post(f"{x}/trials/{n}/tell", {"attempt": 1, "state": "completed", "value": n})
        self.assertEqual([t["trial"] for t in d.get(x + "/pareto")["trials"]], [2])

    def test_lost_and_failed(self):
        d, x = self.begin()
        d.post(x + "/ask", {"count": 2})
        self.assertEqual(d.post(x + "/trials/1/tell", {"attempt": 1, "state": "lost"}), {"state": "waiting"})
        self.assertEqual(d.post(x + "/trials/1/tell", {"attempt": 1, "state": "lost"}), {"state": "waiting"})
        self.assertEqual(d.post(x + "/ask")["trials"][0], self.given(d, x, 1))
        self.assertEqual(d.post(x + "/trials/2/tell", {"attempt": 1, "state": "failed", "reason": "boom"}), {"state": "failed"})
        self.assertEqual(d.get(x + "/trials/2")["reason"], "boom")
        t = d.post(x + "/trials/2:retry", status=201)
        self.assertEqual((t["rerun_of"], t["params"]), (2, d.get(x + "/trials/2")["params"]))
        c = d.post(f"{x}/trials/{t['trial']}:cancel", {"reason": "no"})
        self.assertEqual((c["state"], c["reason"]), ("cancelled", "no"))

    def given(self, d, x, n):
        t = d.get(f"{x}/trials/{n}")
        self.assertEqual(t["attempt"], 2)
        return {"trial": n, "attempt": 2, "params": t["params"], "budget": None, "resume_from": None}

    # ---- limits ----

    def test_limits_at_the_limit_and_one_beyond(self):
        d, x = self.begin({"limits": {"trials": 5000}})
        ask = x + "/ask"
        self.assertEqual(len(d.post(ask, {"count": 1000})["trials"]), 1000)
        self.problem(d, "POST", ask, {"count": 1001}, 422)
        self.problem(d, "POST", ask, {"count": 0}, 422)
        d.post(ask, {"client": "c" * 128, "request": "r" * 64})
        self.problem(d, "POST", ask, {"client": "c" * 129}, 422)
        self.problem(d, "POST", ask, {"client": "c", "request": "r" * 65}, 422)
        report = x + "/trials/1/report"
        steps = [{"step": i, "value": 1} for i in range(1, 1002)]
        d.post(report, {"attempt": 1, "metrics": steps[:1000]})
        self.problem(d, "POST", report, {"attempt": 1, "metrics": steps}, 422)
        values = {f"m{i}": 1 for i in range(65)}
        self.problem(d, "POST", report, {"attempt": 1, "metrics": [{"step": 2000, "values": values}]}, 422)
        values.popitem()
        d.post(report, {"attempt": 1, "metrics": [{"step": 2000, "values": values}]})
        tell = x + "/trials/2/tell"
        self.problem(d, "POST", tell, {"attempt": 1, "state": "failed", "reason": "x" * 8193}, 422)
        d.post(tell, {"attempt": 1, "state": "failed", "reason": "x" * 8192})
        entry = {"trial": 3, "attempt": 1, "state": "completed", "value": 1}
        self.problem(d, "POST", x + "/tell", {"results": [entry] * 1001}, 422)
        self.assertEqual(len(d.post(x + "/tell", {"results": [entry] * 1000})["results"]), 1000)
        self.assertEqual(len(d.get(x + "/trials?limit=1000")["trials"]), 1000)
        self.problem(d, "GET", x + "/trials?limit=1001", None, 422)

    def test_sizes(self):
        d = self.driver()
        def spec(size):
            text = json.dumps(dict(SPEC, notes=""))
            return text[:-1] + " " * (size - len(text)) + "}"
        code, _, data = d.raw("POST", "/api/v1/experiments", spec(1 << 20))
        self.assertEqual(code, 201, data[:300])
        self.problem(d, "POST", "/api/v1/experiments", spec((1 << 20) + 1), 413)
        code = d.raw("POST", "/api/v1/experiments/1/ask", '{"count":1' + " " * ((4 << 20) - 11) + "}")[0]
        self.assertEqual(code, 200)
        try:
            code = d.raw("POST", "/api/v1/experiments/1/ask", '{"count":1' + " " * ((4 << 20) - 10) + "}")[0]
            self.assertEqual(code, 413)
        except OSError:
            pass  # refused while it was being sent
        code = d.raw("GET", "/healthz", headers={"X": "y" * 40000})[0]
        self.assertEqual(code, 400)
        self.assertEqual(d.raw("GET", "/" + "a" * 5000)[0], 404)
        self.assertEqual(d.get("/readyz")["status"], "ready")

    # ---- wrong requests ----

    def test_wrong_requests_say_what_is_wrong(self):
        d, x = self.begin()
        d.post(x + "/ask")
        for method, path, body, status, says in [
            ("GET", "/api/v1/nothing", None, 404, "openapi"),
            ("GET", "/api/v1/experiments/77", None, 404, "77"),
            ("GET", x + "/trials/9", None, 404, "no trial 9"),
            ("GET", x + "/trials/one", None, 404, "no trial one"),
            ("POST", x + "/trials/9/tell", {"attempt": 1, "state": "lost"}, 404, "no trial 9"),
            ("POST", "/healthz", {}, 405, "GET"),
            ("PUT", x, {}, 405, "GET, DELETE"),
            ("POST", x + "/ask", "{", 400, "line 1"),
            ("POST", x + "/ask", "[]", 422, "object"),
            ("POST", x + "/ask", {"cuont": 1}, 422, ""),
            ("POST", x + "/trials/1/tell", {"attempt": 1}, 422, ""),
            ("POST", x + "/trials/1/tell", {"attempt": 1, "state": "done"}, 422, ""),
            ("POST", x + "/trials/1/tell", {"state": "completed", "value": 1}, 422, ""),
            ("POST", x + "/trials/1/tell", {"attempt": 1, "state": "completed"}, 422, "value"),
            ("POST", x + "/trials/1/report", {"attempt": 1, "metrics": [{"value": 1}]}, 422, ""),
            ("DELETE", x, None, 409, "cancel it first"),
            ("GET", x + "/trials?sort=colour", None, 422, ""),
            ("GET", x + "/trials?filter=colour=1", None, 422, ""),
            ("GET", x + "/trials?cursor=zz", None, 422, ""),
            ("GET", x + "/importance?quantile=1", None, 422, "above 0 and below 1"),
            ("GET", x + "/importance?quantile=0.1x", None, 422, "above 0 and below 1"),
            ("GET", x + "/importance?objective=beauty", None, 422, "no objective"),
            ("POST", "/api/v1/workers/nobody:drain", {}, 404, "nobody"),
        ]:
            with self.subTest(path=path, body=body):
                p = self.problem(d, method, path, body, status)
                self.assertIn(says, p.get("detail", ""))
        p = self.problem(d, "POST", "/api/v1/experiments", dict(SPEC, searchspce={}, limits={"trials": -1}), 422)
        self.assertGreaterEqual(len(p["issues"]), 2)
        for i in p["issues"]:
            self.assertTrue(i["line"] >= 1 and i["column"] >= 1 and i["detail"], i)
        self.assertEqual(self.problem(d, "GET", x + "/best", None, 404)["status"], 404)

    def test_guards(self):
        d, x = self.begin()
        self.problem(d, "GET", x, None, 403, {"Host": "evil.example"})
        self.problem(d, "GET", x, None, 403, {"Origin": "http://evil.example"})
        self.problem(d, "GET", x, None, 403, {"Origin": "null"})
        host = urllib.parse.urlsplit(d.http).netloc
        self.assertEqual(d.raw("GET", x, headers={"Origin": "http://" + host})[0], 200)
        self.assertEqual(d.raw("GET", x, headers={"Host": "LOCALHOST:1"})[0], 200)
        self.problem(d, "POST", x + "/ask", "{}", 415, {"Content-Type": "text/plain"})
        self.problem(d, "POST", x + "/ask", "{}", 415, {"Content-Type": "application/jsonp"})
        self.assertEqual(d.raw("POST", x + "/ask", "{}", {"Content-Type": "Application/JSON; charset=utf-8"})[0], 200)
        self.problem(d, "GET", x, None, 401, {"Authorization": "Bearer wrong"})
        self.assertEqual(harness.request(d.http, "GET", x)[0], 200, "a process of the same user needs no token")
        self.assertEqual(os.stat(os.path.join(d.data, "token")).st_mode & 0o777, 0o600)
        token = d.token()
        self.assertGreaterEqual(len(token), 32)
        d.kill()
        d = d.restart(flags=["--require-token"])
        self.assertEqual(d.token(), token)
        self.assertEqual(harness.request(d.http, "GET", x)[0], 401)
        self.assertEqual(harness.request(d.http, "GET", "/healthz")[0], 200)
        self.assertEqual(d.raw("GET", x)[0], 200)
        self.assertNotIn(token, d.stderr())

    @unittest.skipUnless(os.getuid() == 0, "only root can become another user")
    def test_other_users_need_the_token(self):
        d, x = self.begin()
        code = ("import encodings.idna,http.client,os,sys; os.setgid(65534); os.setuid(65534); c=http.client.HTTPConnection(sys.argv[1]);"
                "c.request('GET',sys.argv[2],headers=dict([sys.argv[3].split('=',1)]) if len(sys.argv)>3 else {});"
                "print(c.getresponse().status)")
        host = urllib.parse.urlsplit(d.http).netloc
        p = self.start_program([sys.executable, "-c", code, host, x])
        self.assertEqual(p, "401")
        self.assertEqual(self.start_program([sys.executable, "-c", code, host, x, "Authorization=Bearer " + d.token()]), "200")
        self.assertEqual(self.start_program([sys.executable, "-c", code, host, "/healthz"]), "200")

    def start_program(self, argv):
        p = self.start(argv)
        p.wait()
        return p.stdout().strip() or p.stderr()

    def test_any_other_address_needs_the_token(self):
        d = self.driver(http="0.0.0.0:0")
        port = urllib.parse.urlsplit(d.http).port
        local = f"http://127.0.0.1:{port}"
        self.assertEqual(harness.request(local, "GET", "/api/v1/experiments")[0], 401)
        self.assertEqual(harness.request(local, "GET", "/api/v1/experiments", headers={"Authorization": "Bearer " + d.token()})[0], 200)

    def test_https(self):
        cert, key = self.path("cert.pem"), self.path("key.pem")
        made = self.start(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                           "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert])
        self.assertEqual(made.wait(), 0, made.stderr())
        os.chmod(key, 0o644)
        refused = self.magpie("driver", "--data", self.path("data"), "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0",
                              "--tls-cert", cert, "--tls-key", key, status=None)
        self.assertNotEqual(refused.wait(), 0)
        self.assertIn("chmod 600", refused.stderr())
        os.chmod(key, 0o600)
        d = self.driver("--tls-cert", cert, "--tls-key", key)
        self.assertTrue(d.http.startswith("https://127.0.0.1:"))
        u = urllib.parse.urlsplit(d.http)
        c = http.client.HTTPSConnection(u.hostname, u.port, context=ssl.create_default_context(cafile=cert), timeout=20)
        c.request("POST", "/api/v1/experiments", json.dumps(SPEC), {"Content-Type": "application/json"})
        r = c.getresponse()
        self.assertEqual((r.status, json.loads(r.read())["id"]), (201, 1))
        for n in range(1, 4):
            c.request("POST", "/api/v1/experiments/1/ask", "{}", {"Content-Type": "application/json"})
            self.assertEqual(json.loads(c.getresponse().read())["trials"][0]["trial"], n)
        c.close()
        self.assertEqual(d.stop(), 0)

    def test_pipelined_requests_are_answered_in_order(self):
        d, x = self.begin({"limits": {"trials": 5, "parallel": 1}})
        d.post(x + "/ask")
        u = urllib.parse.urlsplit(d.http)
        s = socket.create_connection((u.hostname, u.port))
        s.settimeout(20)
        body = json.dumps({"wait": 0.2})
        head = f"Host: {u.netloc}\r\nContent-Type: application/json\r\n"
        s.sendall(f"POST {x}/ask HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}GET /healthz HTTP/1.1\r\nHost: {u.netloc}\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := s.recv(65536):
            data += chunk
        self.assertLess(data.index(b'"waiting"'), data.index(b'"status":"ok"'))

    # ---- lists ----

    def test_lists_page_sort_and_filter(self):
        d, x = self.begin()
        d.post(x + "/ask", {"count": 12})
        for n in range(1, 9):
            d.post(f"{x}/trials/{n}/tell", {"attempt": 1, "state": "completed", "value": (n * 7) % 5})
        every = [t["trial"] for t in d.trials(1)]
        self.assertEqual(every, list(range(1, 13)))
        def walk(query):
            out, cursor = [], ""
            while cursor is not None:
                page = d.get(f"{x}/trials?limit=3" + (query and "&" + query) + (cursor and "&cursor=" + cursor))
                out += page["trials"]
                cursor = page["next"]
            return out
        self.assertEqual([t["trial"] for t in walk("")], every)
        self.assertEqual([t["trial"] for t in walk("sort=-trial")], every[::-1])
        up = [t["value"] for t in walk("sort=value")]
        self.assertEqual(up[:8], sorted(up[:8]))
        self.assertEqual(up[8:], [None] * 4)
        down = [(t["value"], t["trial"]) for t in walk("sort=-value")]
        self.assertEqual([v for v, _ in down[:8]], sorted(up[:8], reverse=True))
        self.assertEqual(sorted(t for _, t in down), every)
        self.assertEqual([t["trial"] for t in walk("state=running")], [9, 10, 11, 12])
        self.assertEqual([t["trial"] for t in walk("filter=state=running|completed,trial<=2")], [1, 2])
        self.assertEqual(sorted(t["trial"] for t in walk("filter=param.k=a")),
                         [t["trial"] for t in d.trials(1) if t["params"]["k"] == "a"])
        self.assertTrue(all(t["value"] > 2 for t in walk("filter=value>2&sort=value")))
        for n in range(4):
            d.submit(dict(SPEC, name=f"n{n}", tags=["even"] if n % 2 == 0 else []))
        page = d.get("/api/v1/experiments?limit=2&sort=-id")
        self.assertEqual([e["id"] for e in page["experiments"]], [5, 4])
        page = d.get(f"/api/v1/experiments?limit=2&sort=-id&cursor={page['next']}")
        self.assertEqual([e["id"] for e in page["experiments"]], [3, 2])
        self.assertEqual([e["name"] for e in d.get("/api/v1/experiments?filter=tag=even")["experiments"]], ["n0", "n2"])
        self.assertEqual(d.get("/api/v1/experiments/n3")["id"], 5)
        self.assertNotIn("spec", d.get("/api/v1/experiments")["experiments"][0])

    def test_metrics_by_page(self):
        d, x = self.begin()
        d.post(x + "/ask")
        for s in range(1, 8):
            d.post(x + "/trials/1/report", {"attempt": 1, "metrics": [{"step": s, "value": s, "values": {"loss": -s}}]})
        points, cursor = [], 0
        while cursor is not None:
            page = d.get(f"{x}/trials/1/metrics?limit=3&cursor={cursor}")
            points += page["metrics"]
            cursor = page["next"]
        self.assertEqual([(p["step"], p["attempt"], p["values"]) for p in points],
                         [(s, 1, {"acc": s, "loss": -s}) for s in range(1, 8)])

    def test_a_report_sent_again_shows_its_points_once(self):
        d, x = self.begin()
        d.post(x + "/ask")
        report = {"attempt": 1, "metrics": [{"step": s, "value": s, "values": {"loss": -s}} for s in (1, 2, 3)]}
        for _ in range(3):
            self.assertEqual(d.post(x + "/trials/1/report", report), {"action": "continue"})
        # The same step with something else to say is news.
        d.post(x + "/trials/1/report", {"attempt": 1, "metrics": [{"step": 3, "values": {"speed": 7}}]})
        points = [(p["step"], p["values"]) for p in d.get(x + "/trials/1/metrics?limit=100")["metrics"]]
        self.assertEqual(points, [(s, {"acc": s, "loss": -s}) for s in (1, 2, 3)] + [(3, {"speed": 7})])
        curve = d.get(x + "/curves?trials=1")["curves"][0]
        self.assertEqual((curve["steps"], curve["values"]), ([1, 2, 3], [1, 2, 3]))

    # ---- what people do ----

    def test_notes_fork_repeat_delete(self):
        d, x = self.begin({"tags": ["t"]})
        d.post(x + "/ask", {"count": 3})
        for n in (1, 2, 3):
            d.post(f"{x}/trials/{n}/tell", {"attempt": 1, "state": "completed", "value": n})
        self.assertEqual(d.post(x + ":note", {"tags": ["a", "b"], "notes": "hm"})["tags"], ["a", "b"])
        self.assertEqual(d.post(x + "/trials/1:note", {"notes": "odd"})["notes"], "odd")
        f = d.post(x + ":fork", {"limits": {"trials": 7}, "tags": None}, status=201)
        self.assertEqual((f["spec"]["limits"]["trials"], f["spec"]["seed"], f["tags"]), (7, 1, []))
        self.assertIn("experiment 1", f["notes"])
        r = d.post(x + ":repeat", {"best": 2, "seeds": 2}, status=201)["experiments"]
        self.assertEqual(len(r), 2)
        best = [d.get(f"{x}/trials/{n}")["params"] for n in (3, 2)]
        for e in r:
            got = d.post(f"/api/v1/experiments/{e['id']}/ask", {"count": 9})["trials"]
            self.assertEqual([t["params"] for t in got], best)
        d.kill()
        d = d.restart()
        self.assertEqual(d.get(x + "/trials/1")["notes"], "odd")
        self.assertEqual(d.get(x)["notes"], "hm")
        c = d.post(x + ":cancel", {"reason": "enough"})
        self.assertEqual((c["state"], c["why"]["text"]), ("cancelled", "enough"))
        self.assertEqual(d.post(x + "/ask")["state"], "done")
        self.assertEqual(d.raw("DELETE", x)[0], 204)
        self.problem(d, "GET", x, None, 404)
        d.kill()
        d = d.restart()
        self.problem(d, "GET", x, None, 404)
        self.assertEqual(d.submit(SPEC), 5, "ids are never given twice")

    def test_second_driver_is_refused(self):
        d = self.driver()
        p = self.magpie("driver", "--data", d.data, "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0", status=None)
        self.assertNotEqual(p.wait(), 0)
        self.assertIn(f"pid {d.pid} on host", p.stderr())
        self.assertEqual(d.get("/healthz")["status"], "ok")

    def test_openapi_has_every_route_and_no_other(self):
        d = self.driver()
        doc = d.get("/openapi.json")
        self.assertEqual(doc["openapi"], "3.1.0")
        with open(os.path.join(harness.ROOT, "driver", "rest.c")) as f:
            source = f.read()
        defines = {"API": "/api/v1"}
        defines["EXPERIMENT"] = "/api/v1/experiments/{id}"
        defines["TRIAL"] = defines["EXPERIMENT"] + "/trials/{trial}"
        rows = set()
        for method, prefix, path in re.findall(r'\{HTTP_(\w+), (API|EXPERIMENT|TRIAL)? ?(?:"([^"]*)")?, rest_', source):
            rows.add((method.lower(), defines.get(prefix, "") + path))
        self.assertGreater(len(rows), 35)
        said = {(m, p) for p, item in doc["paths"].items() for m in item}
        self.assertEqual(said, rows)
        for path, item in doc["paths"].items():
            for method, op in item.items():
                names = [p["name"] for p in op["parameters"] if p["in"] == "path"]
                self.assertEqual(names, re.findall(r"\{(\w+)\}", path))
                filled = path.replace("{id}", "999").replace("{trial}", "1").replace("{worker}", "w")
                code = d.raw(method.upper(), filled, {} if method == "post" else None)[0] if path != "/api/v1/events" else 200
                self.assertNotEqual(code, 405, path)
        with open(os.path.join(harness.ROOT, "PROTOCOL.md")) as f:
            written = f.read()
        for path in doc["paths"]:
            self.assertIn(re.sub(r"^.*(/|:)(?=[^/:]*$)", r"\1", path), written, f"{path} is not in PROTOCOL.md")
        ids = [op["operationId"] for item in doc["paths"].values() for op in item.values()]
        self.assertEqual(len(ids), len(set(ids)))
        with open(os.path.join(harness.ROOT, "docs", "experiment.schema.json")) as f:
            self.assertEqual(d.get("/schema/experiment.json"), json.load(f))

    def test_board_is_served_with_a_policy(self):
        d = self.driver()
        code, head, data = d.raw("GET", "/")
        self.assertEqual(code, 200)
        self.assertTrue(head["Content-Type"].startswith("text/html"))
        self.assertIn("default-src", head["Content-Security-Policy"])
        self.assertEqual(head["X-Content-Type-Options"], "nosniff")
        self.assertEqual(d.raw("GET", "/", headers={"If-None-Match": head["ETag"]})[0], 304)
        self.assertEqual(d.raw("GET", "/", headers={"Host": "evil.example"})[0], 403)
        code, head, data = d.raw("HEAD", "/")
        self.assertEqual((code, data), (200, b""))

    def test_metrics_for_prometheus(self):
        d, x = self.begin()
        d.post(x + "/ask", {"count": 3})
        text = d.raw("GET", "/metrics")[2].decode()
        self.assertIn('magpie_trials{state="running"} 3\n', text)
        for line in text.splitlines():
            self.assertRegex(line, r'^(# (HELP|TYPE) magpie_\w+ .+|magpie_\w+(\{\w+="[^"]*"\})? [-0-9.e+]+)$')


if __name__ == "__main__":
    harness.main()
