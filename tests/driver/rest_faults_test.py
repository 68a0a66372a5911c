#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A store that cannot be written, a record that cannot be replayed, a driver that stood still."""
import ctypes
import json
import os
import signal
import sqlite3
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
from harness import wait_until

SPEC = {
    "name": "faults",
    "objective": {"metric": "acc", "direction": "max"},
    "searchspace": {"x": {"type": "DOUBLE", "range": [0, 1]}},
    "optimizer": {"algorithm": "random"},
    "limits": {"trials": 1000},
    "seed": 1,
}
X = "/api/v1/experiments/1"


def tell(n, value=1.0):
    return f"{X}/trials/{n}/tell", {"attempt": 1, "state": "completed", "value": value}


class Unwritable(harness.Case):
    def refused(self, d, method, path, body=None):
        code, head, data = d.raw(method, path, body)
        self.assertEqual((code, head["Content-Type"]), (503, "application/problem+json"), data)
        p = json.loads(data)
        self.assertEqual(p["status"], 503)
        self.assertTrue(p["detail"])
        return p

    def test_nothing_unstored_is_acknowledged_or_shown(self):
        d = self.driver(env={"MAGPIE_FAULTS": "store.commit:4=fail*"})
        d.submit(SPEC)
        d.post(X + "/ask", {"count": 2, "client": "c", "request": "a"})
        d.post(*tell(1, 0.5))
        before = d.get("/debug/digest")
        p = self.refused(d, "POST", *tell(2))
        self.assertIn("disk is full", p["detail"])
        self.assertEqual(d.get(X + "/trials/2")["state"], "running")
        self.refused(d, "POST", X + "/ask", {"client": "c", "request": "b"})
        self.refused(d, "POST", "/api/v1/experiments", SPEC)
        self.refused(d, "POST", X + ":cancel", {})
        self.refused(d, "POST", X + "/tell", {"results": [{"trial": 2, "attempt": 1, "state": "lost"}]})
        self.refused(d, "GET", "/readyz")
        self.assertEqual(d.raw("GET", "/healthz")[0], 200)
        self.assertTrue(d.get(X)["read_only"])
        self.assertEqual(d.get("/debug/digest"), before)
        self.assertEqual(len(d.get("/api/v1/experiments")["experiments"]), 1)
        self.assertIn("magpie_read_only 1", d.raw("GET", "/metrics")[2].decode())
        d.kill()
        d = d.restart(env={})
        self.assertEqual(d.get("/debug/digest"), before)
        self.assertEqual(d.post(*tell(2)), {"state": "completed"})

    def test_writes_come_back_by_themselves(self):
        d = self.driver(env={"MAGPIE_FAULTS": "store.commit:3=fail"})
        d.submit(SPEC)
        first = d.post(X + "/ask", {"client": "c", "request": "a"})
        self.refused(d, "POST", X + "/ask", {"client": "c", "request": "b"})
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        self.assertEqual(d.post(X + "/ask", {"client": "c", "request": "a"}), first)
        again = d.post(X + "/ask", {"client": "c", "request": "b"})
        self.assertEqual([t["trial"] for t in again["trials"]], [2])
        digest = d.get("/debug/digest")
        d.kill()
        self.assertEqual(d.restart(env={}).get("/debug/digest"), digest)

    def test_creation_and_delete_are_taken_back(self):
        d = self.driver(env={"MAGPIE_FAULTS": "store.commit:2=fail"})
        d.submit(SPEC)
        self.refused(d, "POST", "/api/v1/experiments", dict(SPEC, client="c", request="r"))
        self.assertEqual(d.raw("GET", "/api/v1/experiments/2")[0], 404)
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        i = d.post("/api/v1/experiments", dict(SPEC, client="c", request="r"), status=201)["id"]
        self.assertEqual(len(d.get("/api/v1/experiments")["experiments"]), 2)
        d.post(X + ":cancel")
        d.stop()
        d = d.restart(env={"MAGPIE_FAULTS": "store.commit:1=fail"})
        self.refused(d, "DELETE", X)
        self.assertEqual(d.get(X)["state"], "cancelled")
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        self.assertEqual(d.raw("DELETE", X)[0], 204)
        self.assertEqual([e["id"] for e in d.get("/api/v1/experiments")["experiments"]], [i])

    def test_everything_in_flight_gets_an_answer(self):
        d = self.driver(env={"MAGPIE_FAULTS": "store.commit:30=fail"})
        d.submit(SPEC)
        codes = []

        def client(k):
            for i in range(20):
                codes.append(d.raw("POST", X + "/ask", {"client": f"c{k}", "request": str(i)})[0])

        threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        self.assertEqual(len(codes), 160)
        self.assertEqual(set(codes), {200, 503})
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        acknowledged = codes.count(200)
        self.assertEqual(len(d.trials(1)), acknowledged)

    def test_really_full_disk(self):
        libc = ctypes.CDLL(None, use_errno=True)
        mount = self.path("small")
        os.mkdir(mount)
        if libc.mount(b"none", mount.encode(), b"tmpfs", 0, b"size=14m") != 0:
            self.skipTest("a file system cannot be mounted here")
        self.addCleanup(lambda: libc.umount2(mount.encode(), 2))
        d = self.driver(data=os.path.join(mount, "data"))
        d.submit(SPEC)
        d.post(X + "/ask", {"count": 1000})
        stored, n = 0, 0
        filler = os.path.join(mount, "filler")
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        while n < 1000:
            n += 1
            code = d.raw("POST", f"{X}/trials/{n}/tell",
                         {"attempt": 1, "state": "failed", "reason": "r" * 8000})[0]
            if code != 200:
                self.assertEqual(code, 503)
                break
            stored += 1
        self.assertLess(stored, 1000, "the disk never filled up")
        self.assertEqual(d.get(X)["counts"]["failed"], stored)
        os.unlink(filler)
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        d.post(*tell(n))
        d.stop()
        d = d.restart()
        self.assertEqual(d.get(X)["counts"]["failed"], stored)
        self.assertEqual(d.get(X)["counts"]["completed"], 1)
        d.stop()


class Records(harness.Case):
    def test_broken_record_stops_nobody(self):
        d = self.driver()
        for i in range(1, 4):
            d.submit(dict(SPEC, name=f"e{i}"))
            d.post(f"/api/v1/experiments/{i}/ask", {"count": 2})
            d.post(f"/api/v1/experiments/{i}/trials/1/tell", {"attempt": 1, "state": "completed", "value": i})
        d.stop()
        db = sqlite3.connect(os.path.join(d.data, "magpie.db"))
        db.execute("UPDATE events SET text='{\"nonsense\":1}' WHERE id=?", (2 << 36 | 2,))
        db.execute("UPDATE experiments SET resolved='{' WHERE id=3")
        db.commit()
        db.close()
        d = d.restart()
        self.assertEqual(d.get("/api/v1/experiments/1")["state"], "running")
        for i, says in ((2, "event 2"), (3, "stored experiment")):
            x = d.get(f"/api/v1/experiments/{i}")
            self.assertEqual((x["state"], x["why"]["code"]), ("failed", "not-replayed"))
            self.assertIn(says, x["why"]["text"])
            for method, path, body in (("POST", "/ask", {}), ("GET", "/trials", None), ("POST", ":resume", {}),
                                       ("POST", "/trials/1/tell", {"attempt": 1, "state": "lost"}),
                                       ("POST", ":fork", {}), ("POST", "/trials", {"params": {}}), ("GET", "/result", None)):
                self.assertEqual(d.raw(method, f"/api/v1/experiments/{i}{path}", body)[0], 409, path)
            self.assertEqual(d.raw("GET", f"/api/v1/experiments/{i}/best")[0], 404)
            self.assertEqual(d.raw("GET", f"/api/v1/experiments/{i}/trials/1")[0], 409)
            self.assertEqual(d.raw("GET", f"/api/v1/experiments/{i}/curves?trials=1")[0], 409)
        self.assertIn("experiment=2", d.stderr())
        self.assertEqual(len(d.get("/api/v1/experiments?filter=state=failed")["experiments"]), 2)
        self.assertEqual(d.raw("GET", "/metrics")[0], 200)
        d.post("/api/v1/experiments/1/trials/2/tell", {"attempt": 1, "state": "completed", "value": 9})
        for i in (2, 3):
            self.assertEqual(d.raw("DELETE", f"/api/v1/experiments/{i}")[0], 204)
        self.assertEqual(len(d.get("/api/v1/experiments")["experiments"]), 1)

    def test_driver_that_stood_still_expires_nothing(self):
        d = self.driver()
        d.submit(SPEC)
        d.post(X + "/ask", {"count": 3, "lease": 1.5})
        d.signal(signal.SIGSTOP)
        end = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > end)
        d.signal(signal.SIGCONT)
        self.assertEqual(d.get(X)["counts"]["running"], 3)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            self.assertEqual(d.get(X)["counts"]["running"], 3)
        wait_until(lambda: d.get(X)["counts"]["running"] == 0, 10)

    def test_leases_get_a_full_term_after_a_restart(self):
        d = self.driver()
        d.submit(SPEC)
        d.post(X + "/ask", {"lease": 1.0})
        end = time.monotonic() + 0.7
        wait_until(lambda: time.monotonic() > end)
        d.kill()
        d = d.restart()
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            self.assertEqual(d.get(X + "/trials/1")["state"], "running")
        wait_until(lambda: d.get(X + "/trials/1")["state"] == "waiting", 10)

    def test_clean_stop_loses_nothing(self):
        d = self.driver("--durability", "normal")
        d.submit(SPEC)
        d.post(X + "/ask", {"count": 50})
        digest = d.get("/debug/digest")
        self.assertEqual(d.stop(), 0)
        self.assertEqual(d.restart().get("/debug/digest"), digest)


if __name__ == "__main__":
    harness.main()
