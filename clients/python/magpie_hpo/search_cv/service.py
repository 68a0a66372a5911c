# SPDX-License-Identifier: Apache-2.0
"""The driver behind a search: one that runs already, or one of the search's own for as long as it lasts."""
import contextlib
import http.client
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
import urllib.parse

from ..errors import MagpieError

READY = 30.0  # seconds for a driver to start
PATIENCE = 120.0  # seconds in which a driver that went away must be back
AGAIN = 0.2  # seconds between two tries
REPLY = 60.0  # seconds for an answer; the longest wait that the search asks for is shorter


class Driver:
    """Every request may be repeated without harm (it names its client and number, or its trial and step), so each is, word for
    word, until it is answered."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url if "//" in url else "http://" + url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url must be a driver's address such as http://127.0.0.1:8470, not {url!r}")
        self.url = url
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=REPLY)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if os.environ.get("MAGPIE_TOKEN"):
            self._headers["Authorization"] = "Bearer " + os.environ["MAGPIE_TOKEN"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        end = time.monotonic() + PATIENCE
        while True:
            try:
                status, reply = self._exchange(method, path, data)
                if status != 503:
                    break
                trouble = _problem(reply)
            except (OSError, http.client.HTTPException) as e:
                self._connection.close()
                trouble = f"{type(e).__name__}: {e}"
            if time.monotonic() > end:
                raise MagpieError(f"the driver at {self.url} did not answer for {PATIENCE:.0f} s: {trouble}")
            time.sleep(AGAIN)
        if not 200 <= status < 300:
            raise ValueError(f"the driver at {self.url} refuses: {_problem(reply)}")
        return json.loads(reply) if reply else None

    def _exchange(self, method, path, data):
        self._connection.request(method, path, data, self._headers)
        r = self._connection.getresponse()
        return r.status, r.read()

    def submit(self, spec):
        key = os.urandom(12).hex()
        return self.call("POST", f"/api/v1/experiments?client=search-cv&request={key}", spec)["id"]

    def cancel(self, experiment):
        """Once, without patience: for a search that ends by an exception."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._connection.close()
            self._exchange("POST", f"/api/v1/experiments/{experiment}:cancel", b"{}")

    def close(self):
        self._connection.close()


def _problem(reply):
    """What a problem object says, every issue of a refused file included."""
    try:
        p = json.loads(reply)
        issues = [f"{i.get('pointer', '')}: {i['detail']}" for i in p.get("issues", [])]
        return "; ".join(issues) or p.get("detail") or p.get("title") or str(p)
    except (ValueError, AttributeError, KeyError):
        return reply[:200].decode(errors="replace")


@contextlib.contextmanager
def connect(url):
    with contextlib.ExitStack() as stack:
        driver = Driver(url if url is not None else stack.enter_context(_own_driver()))
        stack.callback(driver.close)
        yield driver


@contextlib.contextmanager
def _own_driver():
    """The address of a new driver, which is gone afterwards with all that it kept."""
    folder = tempfile.mkdtemp(prefix="magpie-search-")
    p = None
    try:
        p = subprocess.Popen([_program(), "driver", "--data", os.path.join(folder, "data"), "--http", "127.0.0.1:0",
                              "--listen", f"ipc://{folder}/nng", "--durability", "normal"], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True, env={"MAGPIE_LOG": "error", **os.environ})
        yield _ready(p)
    finally:
        if p is not None:
            p.kill()
            p.wait()
            p.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _program():
    found = os.environ.get("MAGPIE") or shutil.which("magpie")
    if not found:
        raise MagpieError("no program magpie in PATH: install it, set MAGPIE to it, or give the url of a driver")
    return found


def _ready(p):
    if not select.select([p.stdout], [], [], READY)[0]:
        raise MagpieError(f"the driver did not start within {READY:.0f} s")
    line = p.stdout.readline()
    for field in line.split():
        if field.startswith("http="):
            return field[5:]
    raise MagpieError(f"the driver did not start: {line.strip() or 'it ended with status %s' % p.wait()}")
