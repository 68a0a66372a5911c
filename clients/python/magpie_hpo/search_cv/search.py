# SPDX-License-Identifier: Apache-2.0
"""The search itself: points come from the driver, their folds run as units of their own, what they scored goes back.

A point's value after f folds is the mean of its first f folds, in the order of the folds, whichever
ended first; so early stopping decides on the same numbers however the units were scheduled.
"""
import heapq
import time

RENEW = 60.0  # seconds between signs of life for the points at hand; their lease is five minutes
HELD = 10.0  # seconds for which an ask may wait when nothing else is to do


class Point:
    """One trial: its scores by fold and what became of it."""

    def __init__(self, answer, params):
        self.trial, self.params, self.results = answer["trial"], params, {}
        self.state, self.reason = "running", None
        self.told = 0  # folds that the driver knows of
        self.take(answer)

    def take(self, answer):
        """Given (again), up to ``budget`` folds."""
        self.attempt, self.budget, self.state = answer["attempt"], answer["budget"], "running"

    def prefix(self):
        """The number of folds that have ended without a gap."""
        n = 0
        while n in self.results:
            n += 1
        return n


class Search:
    """``experiment`` is the client's; ``value`` gives the mean of some folds' results, None when there
    is none. ``own_values``: report each fold's own score instead of the mean so far."""

    def __init__(self, experiment, pool, points, n_folds, value, say, own_values=False):
        self._call, self._base, self._client = experiment.client.transport.call, experiment.path, experiment.client.name
        self._pool, self._points, self._n, self._value, self._say = pool, points, n_folds, value, say
        self._own = own_values
        self._queue, self._running, self._open = [], {}, {}
        self._done, self._asks, self._renewed = False, 0, time.monotonic()
        self.points = {}

    def run(self):
        """Until the experiment is done; returns the points by trial."""
        while True:
            self._fill()
            if not self._running:
                if self._done:
                    return [self.points[k] for k in sorted(self.points)]
                continue
            for (trial, fold), result in self._pool.wait(RENEW):
                self._landed(self._running.pop((trial, fold)), fold, result)
            self._renew()

    # ---- work for the pool ----

    def _fill(self):
        while self._pool.free() > 0:
            if not self._queue and not self._ask():
                return
            while self._queue and self._pool.free() > 0:
                trial, fold = heapq.heappop(self._queue)
                point = self.points[trial]
                if point.state == "running" and fold not in point.results and (trial, fold) not in self._running:
                    self._running[(trial, fold)] = point
                    self._pool.submit((trial, fold), point.params, fold)

    def _ask(self):
        """Points for the idle; whether there are any. Waits for them only when nothing runs."""
        if self._done:
            return False
        self._asks += 1
        answer = self._call("POST", self._base + "/ask",
                            {"count": self._pool.free(), "client": self._client, "request": f"ask-{self._asks}",
                             "wait": 0 if self._running else HELD})
        self._done = answer["state"] == "done"
        for t in answer["trials"]:
            self._begin(t)
        return bool(self._queue)

    def _begin(self, answer):
        point = self.points.get(answer["trial"])
        if point is None:
            point = self.points[answer["trial"]] = Point(answer, self._points.decode(answer["params"]))
        else:
            point.take(answer)
        self._open[point.trial] = point
        for fold in range(point.budget or self._n):
            if fold not in point.results:
                heapq.heappush(self._queue, (point.trial, fold))
        self._advance(point)

    # ---- what the pool brings ----

    def _landed(self, point, fold, result):
        point.results[fold] = result
        if point.state == "running":
            self._advance(point)

    def _advance(self, point):
        """Tells the driver of the folds that now stand in a row, one by one, until it says stop."""
        for n in range(point.told + 1, min(point.prefix(), point.budget or self._n) + 1):
            value = self._value([point.results[i] for i in range(n)])
            if value is None:
                return self._tell(point, "failed", reason=(point.results[n - 1].get("error") or "the score is not finite")[:2000])
            point.told = n
            own = self._value([point.results[n - 1]]) if self._own else value
            answer = self._call("POST", f"{self._base}/trials/{point.trial}/report",
                                {"attempt": point.attempt, "metrics": [{"step": n, "value": own}]})
            if answer["action"] != "continue":
                return self._close(point, "paused" if answer["action"] == "pause" else "stopped", answer)
        if point.prefix() >= (point.budget or self._n):
            self._tell(point, "completed")

    def _tell(self, point, state, reason=None):
        body = {"attempt": point.attempt, "state": state}
        if state == "completed":
            body["value"] = self._value([point.results[i] for i in range(point.prefix())])
        else:
            body["reason"] = reason
        answer = self._call("POST", f"{self._base}/trials/{point.trial}/tell", body)
        self._close(point, answer["state"], answer, reason)

    def _close(self, point, state, answer, reason=None):
        point.state = answer.get("state", state) if answer.get("late") else state
        point.reason = reason or answer.get("reason")
        self._open.pop(point.trial, None)
        self._say(point)

    def _renew(self):
        now = time.monotonic()
        if now - self._renewed < RENEW:
            return
        self._renewed = now
        for point in list(self._open.values()):
            answer = self._call("POST", f"{self._base}/trials/{point.trial}/report", {"attempt": point.attempt, "metrics": []})
            if answer["action"] != "continue":
                self._close(point, "stopped", answer)
