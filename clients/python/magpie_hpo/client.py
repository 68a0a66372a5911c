# SPDX-License-Identifier: Apache-2.0
"""A driver's client: submit, ask and tell, watch, results. docs/PYTHON.md; the routes are PROTOCOL.md's, section 1."""
from __future__ import annotations

import importlib
import json
import os
import socket
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Union

from . import events, transport
from ._trial import numbers
from .errors import MagpieError
from .events import Event

ENDED = ("completed", "cancelled", "failed")
PAGE = 1000
LOOK = 0.3  # seconds between looks at a log that grows

Duration = Union[None, int, float, str]


def _query(**values: Any) -> str:
    given = {k: v for k, v in values.items() if v is not None}
    return "?" + urllib.parse.urlencode(given) if given else ""


class Results(List[Dict[str, Any]]):
    """Trials, one dict each."""

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each trial; parameters and metrics are columns `params.NAME` and `values.NAME`."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise MagpieError("to_pandas() needs pandas (pip install pandas)") from None
        rows = []
        for t in self:
            row = {k: v for k, v in t.items() if not isinstance(v, (dict, list))}
            for group in ("params", "values"):
                row.update({f"{group}.{k}": v for k, v in (t.get(group) or {}).items()})
            rows.append(row)
        return pandas.DataFrame(rows)


@dataclass
class Asked:
    """A trial to run: up to step `budget` (None: there are no steps), from `resume_from` where that is given."""

    experiment: "Experiment"
    number: int
    attempt: int
    params: Dict[str, Any]
    budget: Optional[int] = None
    resume_from: Optional[Dict[str, Any]] = None
    fold: Optional[int] = None
    folds: Optional[int] = None
    given: Dict[str, Any] = field(default_factory=dict, repr=False)

    def report(self, step: int, value: Any = None, checkpoint: Optional[str] = None, **values: Any) -> str:
        """Tells a step's objective and other metrics; answers `continue`, `pause` (this lease has ended) or `stop` (it is over)."""
        return self.experiment.report(self.number, self.attempt, step, value, checkpoint, **values)

    def tell(self, value: Any = None, state: str = "completed", reason: Optional[str] = None, **values: Any) -> str:
        """Ends it: completed (value: by default the last reported), failed or lost; answers the state it then has."""
        return self.experiment.tell(self.number, self.attempt, value, state, reason, **values)


class Experiment:
    """One experiment of a driver."""

    def __init__(self, client: "Client", number: int) -> None:
        self.client, self.id = client, number
        self.path = f"/api/v1/experiments/{number}"
        self._call = client.transport.call

    def __repr__(self) -> str:
        return f"Experiment({self.client.url}, {self.id})"

    def _post(self, action: str, body: Mapping[str, Any], wait: float = 0.0, again: bool = True) -> Any:
        return self._call("POST", self.path + action, body, wait, again)

    # ---- looking ----
    def info(self) -> Dict[str, Any]:
        """All that is known: state, why, counts, best, eta, spec, ..."""
        return dict(self._call("GET", self.path))

    @property
    def state(self) -> str:
        return str(self.info()["state"])

    def best(self) -> Optional[Dict[str, Any]]:
        """The best trial; None while there is none."""
        try:
            return dict(self._call("GET", self.path + "/best"))
        except transport.NotFound:
            return None

    def trial(self, number: int) -> Dict[str, Any]:
        return dict(self._call("GET", f"{self.path}/trials/{number}"))

    def trials(self, filter: Optional[str] = None, sort: Optional[str] = None, limit: Optional[int] = None) -> Iterator[Dict[str, Any]]:
        """Trials by id, or as sorted (`best`, `-value`, `param.lr`); filter as in `state=running|paused,value>0.9`."""
        if sort == "best":
            spec = self.info()["spec"]
            what = "mean" if spec.get("validation", {}).get("folds") else "value"
            sort = ("-" if (spec.get("objective") or spec["objectives"][0]).get("direction") == "max" else "") + what
        return self.client._pages(self.path + "/trials", "trials", filter, sort, limit)

    def results(self, filter: Optional[str] = None, sort: Optional[str] = None) -> Results:
        """Every trial, as a list of dicts with a to_pandas()."""
        return Results(self.trials(filter, sort))

    def pareto(self) -> List[Dict[str, Any]]:
        """With several objectives: the trials that no other dominates."""
        return list(self._call("GET", self.path + "/pareto")["trials"])

    def ablation(self) -> Dict[str, Any]:
        """Of an ablation study: {"base", "components"}, the one whose absence hurts most first."""
        return dict(self._call("GET", self.path + "/ablation"))

    def metrics(self, trial: int, attempt: Optional[int] = None) -> List[Dict[str, Any]]:
        """What a trial reported: {"step", "attempt", "time", "values", "late"} each."""
        path = f"{self.path}/trials/{trial}/metrics"
        out: List[Dict[str, Any]] = []
        cursor = None
        while True:
            page = self._call("GET", path + _query(attempt=attempt, limit=PAGE, cursor=cursor))
            out += page["metrics"]
            cursor = page.get("next")
            if cursor is None:
                return out

    def logs(self, trial: int, attempt: Optional[int] = None, tail: Optional[int] = None) -> str:
        """What a trial printed (of a running one: the end)."""
        path = f"{self.path}/trials/{trial}/log" + _query(attempt=attempt, tail=tail)
        status, _, data = self.client.transport.raw("GET", path)
        if status != 200:
            raise transport.error_of(status, data, f"GET {path}")
        return data.decode("utf-8", "replace")

    def follow_log(self, trial: int) -> Iterator[str]:
        """What a trial prints, as it comes, until it has ended."""
        at = 0
        while True:
            over = self.trial(trial).get("ended") is not None
            while True:
                path = f"{self.path}/trials/{trial}/log" + _query(offset=at, limit=1 << 20)
                status, headers, data = self.client.transport.raw("GET", path)
                if status not in (200, 404):
                    raise transport.error_of(status, data, f"GET {path}")
                if status == 404 or not data:
                    break
                at = int(headers.get("X-Log-Offset") or at) + len(data)
                yield data.decode("utf-8", "replace")
            if over:
                return
            time.sleep(LOOK)

    def watch(self) -> Iterator[Event]:
        """Its events, until it has ended; goes on over restarts of the driver. After a `reset` look afresh."""
        for event in events.follow(self.client.transport, self.id):
            if event.kind == "reset":
                event.data = self.info()
                over = event.data["state"] in ENDED
            else:
                over = event.kind == "deleted" or (event.kind == "experiment" and event.data.get("state") in ENDED)
            yield event
            if over:
                return

    def wait(self, timeout: Optional[float] = None) -> Dict[str, Any]:
        """Until it has ended or stands paused; what info() then says. TimeoutError after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            x = self.info()
            if x["state"] in (*ENDED, "paused"):
                return x
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"experiment {self.id} is {x['state']} after {timeout} s: {x.get('why')}")
            time.sleep(LOOK)

    # ---- changing ----
    def pause(self, stop: bool = False, reason: Optional[str] = None) -> Dict[str, Any]:
        """No new trials; with `stop` running ones stop at their next checkpoint."""
        return dict(self._post(":pause", {"stop": stop, **({"reason": reason} if reason else {})}))

    def resume(self) -> Dict[str, Any]:
        return dict(self._post(":resume", {}))

    def cancel(self, reason: Optional[str] = None) -> Dict[str, Any]:
        try:
            return dict(self._post(":cancel", {"reason": reason} if reason else {}))
        except transport.Conflict:  # perhaps it was done, and the answer lost with the driver
            x = self.info()
            if x["state"] == "cancelled":
                return x
            raise

    def extend(self, **totals: Any) -> Dict[str, Any]:
        """New totals: trials, time, target, parallel."""
        return dict(self._post(":extend", {**totals, **self.client._key()}))

    def note(self, notes: Optional[str] = None, tags: Optional[List[str]] = None) -> Dict[str, Any]:
        return dict(self._post(":note", {k: v for k, v in (("notes", notes), ("tags", tags)) if v is not None}))

    def enqueue(self, params: Mapping[str, Any], notes: Optional[str] = None) -> Dict[str, Any]:
        """A point of one's own, to be tried next."""
        return dict(self._post("/trials", {"params": params, **({"notes": notes} if notes else {}), **self.client._key()}))

    def cancel_trial(self, trial: int) -> Dict[str, Any]:
        return dict(self._post(f"/trials/{trial}:cancel", {}))

    def delete(self) -> None:
        """Of an ended one."""
        self._call("DELETE", self.path)

    # ---- asking and telling ----
    def _asked(self, answer: Mapping[str, Any]) -> List[Asked]:
        return [Asked(self, t["trial"], t["attempt"], t["params"], t.get("budget"), t.get("resume_from"), t.get("fold"),
                      t.get("folds"), t) for t in answer["trials"]]

    def ask(self, count: int = 1, wait: float = 0.0, lease: Duration = None) -> List[Asked]:
        """Up to `count` trials to run; waits up to `wait` seconds for one. None at all: see `state` (done, or wait more)."""
        return self._asked(self._ask(count, wait, lease))

    def _ask(self, count: int, wait: float, lease: Duration) -> Dict[str, Any]:
        body: Dict[str, Any] = {"count": count, "wait": wait, **self.client._key()}
        if lease is not None:
            body["lease"] = lease
        return dict(self._post("/ask", body, wait))

    def reclaim(self) -> List[Asked]:
        """The trials that a client of this name still holds: after a restart of one's own program."""
        return self._asked(self._post("/ask", {"reclaim": True, "client": self.client.name}))

    def each(self, wait: float = 20.0, lease: Duration = None) -> Iterator[Asked]:
        """Trials to run, one after the other, until the experiment has no more. First those that this client still holds."""
        yield from self.reclaim()
        while True:
            answer = self._ask(1, wait, lease)
            yield from self._asked(answer)
            if answer["state"] == "done" and not answer["trials"]:
                return

    def report(self, trial: int, attempt: int, step: int, value: Any = None, checkpoint: Optional[str] = None, **values: Any) -> str:
        point: Dict[str, Any] = {"step": step}
        if value is not None:
            point["value"] = numbers({"value": value})["value"]
        if values:
            point["values"] = numbers(values)
        body: Dict[str, Any] = {"attempt": attempt, "metrics": [point]}
        if checkpoint is not None:
            body["checkpoint"] = {"step": step, "uri": checkpoint}
        return str(self._post(f"/trials/{trial}/report", body)["action"])

    def heartbeat(self, trial: int, attempt: int) -> str:
        """Renews the lease of a trial that has nothing to report yet."""
        return str(self._post(f"/trials/{trial}/report", {"attempt": attempt, "metrics": []})["action"])

    def tell(self, trial: int, attempt: int, value: Any = None, state: str = "completed", reason: Optional[str] = None, **values: Any) -> str:
        body: Dict[str, Any] = {"attempt": attempt, "state": state}
        if value is not None:
            body["value"] = numbers({"value": value})["value"]
        if values:
            body["values"] = numbers(values)
        if reason is not None:
            body["reason"] = reason
        return str(self._post(f"/trials/{trial}/tell", body)["state"])


class Client:
    """A driver's client. The address is `url`, else MAGPIE_URL, else that of the driver on the data folder (`data`), else
    http://127.0.0.1:8470; the token is `token`, else MAGPIE_TOKEN, else the data folder's.

    Every request that changes something carries a key of its own (`name` and a number), so that it is repeated safely while the
    driver is away: for `patience` seconds, then Unreachable is raised."""

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, data: Optional[str] = None, name: Optional[str] = None,
                 patience: float = 60.0) -> None:
        folder = data or transport.data_folder()
        self.transport = transport.Transport(url or transport.find_url(folder), token or transport.find_token(folder), patience)
        self.url = self.transport.url
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"[-128:]

    def _key(self) -> Dict[str, str]:
        return {"client": self.name, "request": uuid.uuid4().hex}

    def _pages(self, path: str, what: str, filter: Optional[str], sort: Optional[str], limit: Optional[int]) -> Iterator[Dict[str, Any]]:
        cursor, left = None, limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self.transport.call("GET", path + _query(limit=size, cursor=cursor, filter=filter, sort=sort))
            yield from page[what]
            cursor = page.get("next")
            if cursor is None:
                return
            left = None if left is None else left - len(page[what])

    def submit(self, experiment: Union[Mapping[str, Any], str, "os.PathLike[str]"]) -> Experiment:
        """A new experiment, from a dict or a file (sent as it is, so that faults have its lines). Invalid lists every fault."""
        if isinstance(experiment, Mapping):
            body = json.dumps(experiment).encode()
        else:
            with open(experiment, "rb") as f:
                body = f.read()
        return Experiment(self, self.transport.call("POST", "/api/v1/experiments" + _query(**self._key()), body)["id"])

    def experiment(self, which: Union[int, str]) -> Experiment:
        """One by its number or name."""
        return Experiment(self, self.transport.call("GET", "/api/v1/experiments/" + urllib.parse.quote(str(which), safe=""))["id"])

    def experiments(self, filter: Optional[str] = None, sort: Optional[str] = None, limit: Optional[int] = None) -> Iterator[Dict[str, Any]]:
        return self._pages("/api/v1/experiments", "experiments", filter, sort, limit)

    def workers(self) -> List[Dict[str, Any]]:
        return list(self._pages("/api/v1/workers", "workers", None, None, None))

    def drain(self, worker: str) -> None:
        """A worker takes no new trial, finishes, goes."""
        self.transport.call("POST", f"/api/v1/workers/{urllib.parse.quote(worker, safe='')}:drain", {})

    def events(self) -> Iterator[Event]:
        """Everything that happens, for ever."""
        return events.follow(self.transport)

    def close(self) -> None:
        self.transport.close()
