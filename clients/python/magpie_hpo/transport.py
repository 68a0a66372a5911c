# SPDX-License-Identifier: Apache-2.0
"""HTTP to a driver: one connection a thread, repeated while the driver is away, refusals as exceptions."""
from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import threading
import time
import urllib.parse
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from .errors import MagpieError

Body = Union[None, bytes, Mapping[str, Any]]
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between tries
ANSWER_TIMEOUT = 60.0  # seconds for an answer, besides what the request itself waits


class Unreachable(MagpieError, ConnectionError):
    """No driver answered in time."""


class HttpError(MagpieError):
    """The driver refused: `status`, `title`, `detail`, and `issues`, a list of {"pointer", "line", "column", "detail"}."""

    def __init__(self, status: int, problem: Mapping[str, Any], what: str) -> None:
        self.status = status
        self.problem = dict(problem)
        self.title = str(problem.get("title") or "")
        self.detail = str(problem.get("detail") or self.title or f"HTTP status {status}")
        self.issues: List[Dict[str, Any]] = list(problem.get("issues") or [])
        lines = [f"{what}: {status}: {self.detail}"]
        for i in self.issues:
            place = f" (line {i['line']}, column {i.get('column')})" if i.get("line") else ""
            lines.append(f"  {i.get('pointer') or '/'}{place}: {i.get('detail')}")
        super().__init__("\n".join(lines))


class Invalid(HttpError):
    """400, 413, 415 or 422: what was sent is wrong; `issues` says where."""


class Denied(HttpError):
    """401 or 403: the token is missing or wrong, or this address is not for you."""


class NotFound(HttpError):
    """404."""


class Conflict(HttpError):
    """409: the state forbids it, or the same request came before with another body."""


_KINDS = {400: Invalid, 413: Invalid, 415: Invalid, 422: Invalid, 401: Denied, 403: Denied, 404: NotFound, 409: Conflict}


def error_of(status: int, data: bytes, what: str) -> HttpError:
    try:
        problem = json.loads(data)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return _KINDS.get(status, HttpError)(status, problem, what)


def data_folder() -> str:
    """The driver's default data folder."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(base, "magpie")


def _line(folder: str, name: str) -> Optional[str]:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            return f.readline().strip() or None
    except OSError:
        return None


def find_url(folder: str) -> str:
    """MAGPIE_URL, else the driver that runs on the data folder, else the usual address."""
    env = os.environ.get("MAGPIE_URL")
    if env:
        return env
    for word in (_line(folder, "address") or "").split():
        if word.startswith("http="):
            return word[5:]
    return "http://127.0.0.1:8470"


def find_token(folder: str) -> Optional[str]:
    return os.environ.get("MAGPIE_TOKEN") or _line(folder, "token")


class Transport:
    """Requests to one driver. Threads may share it."""

    def __init__(self, url: str, token: Optional[str], patience: float) -> None:
        u = urllib.parse.urlsplit(url if "://" in url else "http://" + url)
        if u.scheme not in ("http", "https") or not u.hostname:
            raise MagpieError(f"{url} is no address of a driver: write http://HOST:PORT")
        self.url = f"{u.scheme}://{u.netloc}".rstrip("/")
        self._host, self._port, self._tls = u.hostname, u.port, u.scheme == "https"
        self._token, self.patience = token, patience
        self._local = threading.local()

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """A connection of its own."""
        if self._tls:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=ssl.create_default_context(cafile=os.environ.get("MAGPIE_CA_BUNDLE") or None))
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def headers(self, body: Optional[bytes]) -> Dict[str, str]:
        h = {"Accept": "application/json"}
        if self._token:
            h["Authorization"] = "Bearer " + self._token
        if body is not None:
            h["Content-Type"] = "application/json"
        return h

    def _once(self, method: str, path: str, body: Optional[bytes], timeout: float) -> Tuple[int, Mapping[str, str], bytes]:
        c: Optional[http.client.HTTPConnection] = getattr(self._local, "connection", None)
        if c is None:
            c = self._local.connection = self.connect(timeout)
        try:
            if c.sock is None:
                c.timeout = timeout
                c.connect()  # it sets TCP_NODELAY itself
            else:
                c.sock.settimeout(timeout)
            c.request(method, path, body, self.headers(body))
            r = c.getresponse()
            data = r.read()
        except BaseException:
            self.close()
            raise
        if r.will_close:
            self.close()
        return r.status, dict(r.headers.items()), data

    def close(self) -> None:
        """Ends this thread's connection."""
        c = getattr(self._local, "connection", None)
        self._local.connection = None
        if c is not None:
            c.close()

    def raw(self, method: str, path: str, body: Body = None, wait: float = 0.0,
            again: bool = True) -> Tuple[int, Mapping[str, str], bytes]:
        """One exchange. While the driver is away, or cannot write (503), it is tried again for `patience` seconds; with `again`
        False only where nothing can have been done. Refusals are returned like answers."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        end, pause = time.monotonic() + self.patience, FIRST_PAUSE
        while True:
            try:
                status, headers, answer = self._once(method, path, data, ANSWER_TIMEOUT + wait)
                if status != 503:
                    return status, headers, answer
                failed: Exception = error_of(status, answer, f"{method} {path}")
            except ConnectionRefusedError as e:
                failed = e
            except (OSError, http.client.HTTPException) as e:
                if not again:
                    raise Unreachable(f"{self.url}: {method} {path}: {e or type(e).__name__}; whether it was done is unknown") from e
                failed = e
            if time.monotonic() + pause > end:
                if isinstance(failed, HttpError):
                    raise failed
                raise Unreachable(f"{self.url}: no driver answers ({failed or type(failed).__name__}); start one with `magpie driver`, "
                                  "or name it in MAGPIE_URL") from failed
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def call(self, method: str, path: str, body: Body = None, wait: float = 0.0, again: bool = True) -> Any:
        """One exchange in JSON; an HttpError for a refusal."""
        status, _, data = self.raw(method, path, body, wait, again)
        if not 200 <= status < 300:
            raise error_of(status, data, f"{method} {path}")
        return json.loads(data) if data else None
