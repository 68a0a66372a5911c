#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The event stream: order, resume, reset, filter, slow viewers; and webhooks."""
import http.server
import json
import os
import queue
import socket
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
from harness import wait_until

SPEC = {
    "name": "events",
    "objective": {"metric": "acc", "direction": "max"},
    "searchspace": {"x": {"type": "DOUBLE", "range": [0, 1]}},
    "optimizer": {"algorithm": "random"},
    "limits": {"trials": 1000},
    "seed": 1,
}


class Viewer:
    """Reads the stream on a thread. events: (id or None, event, data)."""

    def __init__(self, driver, query="", last=None, read=True):
        u = urllib.parse.urlsplit(driver.http)
        self.s = socket.create_connection((u.hostname, u.port))
        self.s.settimeout(60)
        head = f"GET /api/v1/events{query} HTTP/1.1\r\nHost: {u.netloc}\r\n"
        if last is not None:
            head += f"Last-Event-ID: {last}\r\n"
        self.s.sendall((head + "\r\n").encode())
        self.events, self.last, self.closed, self.comments = [], None, False, 0
        self.head = b""
        if read:
            threading.Thread(target=self.run, daemon=True).start()

    def chunks(self):
        f = self.s.makefile("rb")
        while (line := f.readline()) not in (b"\r\n", b""):
            self.head += line
        while True:
            size = f.readline()
            if not size or int(size, 16) == 0:
                return
            yield f.read(int(size, 16))
            f.readline()

    def run(self):
        rest, name, data = b"", None, None
        try:
            for chunk in self.chunks():
                rest += chunk
                while b"\n" in rest:
                    line, rest = rest.split(b"\n", 1)
                    line = line.decode()
                    if line.startswith("id: "):
                        self.last = int(line[4:])
                    elif line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data: "):
                        data = json.loads(line[6:])
                    elif line.startswith(":"):
                        self.comments += 1
                    elif line == "" and data is not None:
                        self.events.append((self.last, name, data))
                        name = data = None
        except OSError:
            pass
        self.closed = True

    def close(self):
        self.s.close()

    def named(self, name):
        return [e for e in list(self.events) if e[1] == name]


class Events(harness.Case):
    def begin(self, spec=None):
        d = self.driver()
        return d, f"/api/v1/experiments/{d.submit(dict(SPEC, **(spec or {})))}"

    def view(self, d, *args, **kw):
        v = Viewer(d, *args, **kw)
        self.addCleanup(v.close)
        if kw.get("read", True):
            wait_until(lambda: v.head and (v.last is not None or v.events), what="the stream to open")
        return v

    def trial_state(self, v, n):
        seen = [e[2] for e in v.named("trial") if e[2]["trial"] == n]
        return seen[-1]["state"] if seen else None

    def test_changes_come_in_order_with_rising_ids(self):
        d, x = self.begin()
        v = self.view(d)
        self.assertIn(b"text/event-stream", v.head)
        d.post(x + "/ask", {"count": 2})
        wait_until(lambda: self.trial_state(v, 2) == "running")
        d.post(x + "/trials/1/report", {"attempt": 1, "metrics": [{"step": 1, "value": 0.5, "values": {"loss": 2}}]})
        wait_until(lambda: v.named("metrics"))
        m = v.named("metrics")[0][2]
        self.assertEqual((m["experiment"], m["points"]),
                         (1, [{"trial": 1, "attempt": 1, "step": 1, "values": {"acc": 0.5, "loss": 2}}]))
        d.post(x + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 0.75})
        wait_until(lambda: self.trial_state(v, 1) == "completed")
        wait_until(lambda: v.named("experiment") and v.named("experiment")[-1][2]["counts"]["completed"] == 1)
        self.assertEqual(v.named("experiment")[-1][2]["best"]["value"], 0.75)
        ids = [e[0] for e in v.events]
        self.assertEqual(ids, sorted(ids))
        second = d.submit(SPEC)
        wait_until(lambda: any(e[2]["id"] == second for e in v.named("experiment")))
        d.post(f"/api/v1/experiments/{second}:cancel")
        d.raw("DELETE", f"/api/v1/experiments/{second}")
        wait_until(lambda: v.named("deleted"))
        self.assertEqual(v.named("deleted")[0][2], {"id": second})

    def test_resume_gives_what_was_missed_and_nothing_else(self):
        d, x = self.begin()
        v = self.view(d)
        d.post(x + "/ask", {"count": 3})
        wait_until(lambda: self.trial_state(v, 3) == "running")
        last = v.last
        v.close()
        d.post(x + "/trials/2/tell", {"attempt": 1, "state": "completed", "value": 1})
        w = self.view(d, last=last)
        wait_until(lambda: w.named("trial"))
        self.assertEqual([e[2]["trial"] for e in w.named("trial")], [2])
        self.assertEqual(w.named("reset"), [])
        self.assertGreater(w.last, last)
        again = self.view(d, last=w.last, read=False)
        again_events = []
        threading.Thread(target=lambda: again_events.extend(again.chunks()), daemon=True).start()
        d.post(x + "/trials/3/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: b'"trial":3' in b"".join(again_events))
        self.assertNotIn(b'data: {"trial":2,', b"".join(again_events))

    def test_unknown_ids_reset_and_ids_rise_over_restarts(self):
        d, x = self.begin()
        v = self.view(d)
        d.post(x + "/ask", {"count": 3})
        wait_until(lambda: self.trial_state(v, 3) == "running")
        last = v.last
        for bad in ("nonsense", "-5", str(last + 1000)):
            w = self.view(d, last=bad)
            wait_until(lambda: w.named("reset"))
        d.kill()
        d = d.restart()
        w = self.view(d, last=last)
        old = self.view(d, last=last - 2)
        wait_until(lambda: old.named("reset"))
        d.post(x + "/ask")
        wait_until(lambda: self.trial_state(w, 4) == "running")
        self.assertGreater(w.last, last)
        self.assertEqual(w.named("reset"), [])

    def test_filter_shows_one_experiment_on_resume_too(self):
        d, x = self.begin()
        other = d.submit(dict(SPEC, name="other"))
        v = self.view(d, "?experiment=other")
        last = v.last
        d.post(x + "/ask")
        d.post(f"/api/v1/experiments/{other}/ask")
        wait_until(lambda: v.named("trial"))
        self.assertEqual({e[2]["experiment"] for e in v.named("trial")}, {other})
        w = self.view(d, f"?experiment={other}", last=last)
        wait_until(lambda: w.named("trial"))
        self.assertEqual({e[2]["experiment"] for e in w.named("trial")}, {other})
        self.assertEqual(d.raw("GET", "/api/v1/events?experiment=nobody")[0], 404)

    def test_many_points_are_coalesced(self):
        d, x = self.begin()
        d.post(x + "/ask")
        v = self.view(d)
        for s in range(1, 201):
            d.post(x + "/trials/1/report", {"attempt": 1, "metrics": [{"step": s, "value": s}]})
        def points():
            return [p["step"] for e in v.named("metrics") for p in e[2]["points"]]
        wait_until(lambda: points() and points()[-1] == 200)
        self.assertEqual(points(), list(range(1, 201)))
        self.assertLess(len(v.named("metrics")), 150)

    def test_viewer_that_does_not_read_is_dropped(self):
        d, x = self.begin({"limits": {"trials": 100000}})
        v = self.view(d, read=False)
        wait_until(lambda: "magpie_event_viewers 1" in d.raw("GET", "/metrics")[2].decode())
        for i in range(400):
            d.post(x + "/ask", {"count": 1000})
            if "magpie_event_viewers 0" in d.raw("GET", "/metrics")[2].decode():
                return
            if i >= 99:
                break
        wait_until(lambda: "magpie_event_viewers 0" in d.raw("GET", "/metrics")[2].decode())

    def test_what_could_not_be_stored_is_never_told(self):
        d = self.driver(env={"MAGPIE_FAULTS": "store.commit:3=fail"})
        x = f"/api/v1/experiments/{d.submit(SPEC)}"
        v = self.view(d)
        d.post(x + "/ask")
        wait_until(lambda: self.trial_state(v, 1) == "running")
        self.assertEqual(d.raw("POST", x + "/ask", {"count": 5})[0], 503)
        wait_until(lambda: v.named("reset"))
        wait_until(lambda: d.raw("GET", "/readyz")[0] == 200)
        d.post(x + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: self.trial_state(v, 1) == "completed")
        self.assertEqual({e[2]["trial"] for e in v.named("trial")}, {1})


class Hooks(harness.Case):
    def setUp(self):
        super().setUp()
        got = self.got = queue.Queue()
        self.status = [200]

        class Handler(http.server.BaseHTTPRequestHandler):
            status = self.status

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                code = self.status.pop(0) if len(self.status) > 1 else self.status[0]
                self.send_response(code)
                self.end_headers()
                got.put((code, dict(json.loads(body), key=self.headers["Idempotency-Key"])))

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def settled(self, d, x, notices=1):
        """Are so many events there beside the ask and the tell?"""
        return d.get(x)["events"] >= 2 + notices

    def begin(self, on, limits):
        d = self.driver()
        spec = dict(SPEC, limits=limits, notify={"url": self.url, "on": on})
        return d, f"/api/v1/experiments/{d.submit(spec)}"

    def test_end_and_target(self):
        d, x = self.begin(["end", "target"], {"trials": 5, "target": 0.9})
        d.post(x + "/ask")
        d.post(x + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 0.95})
        first, second = self.got.get(timeout=20), self.got.get(timeout=20)
        self.assertEqual([m["event"] for _, m in (first, second)], ["target", "end"])
        self.assertEqual(first[1]["experiment"]["best"]["value"], 0.95)
        self.assertEqual(second[1]["experiment"]["state"], "completed")

    def test_failure_is_told_and_tried_again(self):
        self.status[:] = [500, 200]
        d, x = self.begin(["failure"], {"trials": 5, "failures": 2})
        d.post(x + "/ask", {"count": 2})
        for n in (1, 2):
            d.post(f"{x}/trials/{n}/tell", {"attempt": 1, "state": "failed", "reason": "broken"})
        self.assertEqual(d.get(x)["state"], "paused")
        codes = [self.got.get(timeout=20), self.got.get(timeout=20)]
        self.assertEqual([c for c, _ in codes], [500, 200])
        self.assertEqual(codes[1][1]["event"], "failure")
        d.post(x + ":resume")
        d.post(x + ":pause")
        d.post(x + ":cancel")
        self.assertTrue(self.got.empty())

    def test_an_id_stays_the_same_until_the_notice_is_taken(self):
        self.status[:] = [503, 200]
        d, x = self.begin(["end"], {"trials": 1})
        d.post(x + "/ask")
        d.post(x + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        first, second = self.got.get(timeout=20)[1], self.got.get(timeout=20)[1]
        self.assertEqual(first["id"], second["id"])
        self.assertRegex(first["id"], rf"^[0-9a-f]{{32}}/{first['experiment']['id']}/\d+/end$")
        self.assertEqual([first["key"], second["key"]], [f'"{first["id"]}"'] * 2)

    def test_a_notice_that_nobody_took_comes_again_after_a_kill_and_one_that_was_taken_does_not(self):
        self.status[:] = [500]
        d, x = self.begin(["target", "end"], {"trials": 5, "target": 0.5})
        d.post(x + "/ask")
        d.post(x + "/trials/1/tell", {"attempt": 1, "state": "completed", "value": 0.9})
        refused = self.got.get(timeout=20)[1]
        d.kill()
        while not self.got.empty():
            self.got.get()
        self.status[:] = [200]
        d = d.restart()
        taken = [self.got.get(timeout=20)[1] for _ in range(2)]
        self.assertEqual([m["event"] for m in taken], ["target", "end"])
        self.assertEqual(taken[0]["id"], refused["id"])
        self.assertEqual(taken[1]["experiment"]["best"]["value"], 0.9)
        wait_until(lambda: self.settled(d, x, 2), what="both to be recorded")
        d.kill()
        d = d.restart()
        d.get(x)
        d.stop()
        self.assertTrue(self.got.empty(), "both were taken")
        self.magpie("verify", x.rsplit("/", 1)[1], "--data", d.data)

    def test_a_notice_is_given_up_when_its_time_is_over(self):
        self.status[:] = [500]
        d = self.driver()
        x = d.submit(dict(SPEC, limits={"trials": 1}, notify={"url": self.url, "on": ["end"], "retry": "1s"}))
        d.post(f"/api/v1/experiments/{x}/ask")
        d.post(f"/api/v1/experiments/{x}/trials/1/tell", {"attempt": 1, "state": "completed", "value": 1})
        wait_until(lambda: self.settled(d, f"/api/v1/experiments/{x}"), what="it to be given up")
        self.assertIn("notify not-delivered url=", d.stderr())
        self.assertGreaterEqual(self.got.qsize(), 2)


if __name__ == "__main__":
    harness.main()
