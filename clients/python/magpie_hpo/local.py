# SPDX-License-Identifier: Apache-2.0
"""A driver and workers of one's own, for a search that is one call. They end with this process, however it ends."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import types
from typing import Dict, List, Optional, Type

from .client import Client
from .errors import MagpieError

READY = 60.0  # seconds in which a driver is ready: a long record is replayed first
LEAVE = 20.0  # seconds in which a worker or driver ends
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def find_magpie(given: Optional[str] = None) -> str:
    """The `magpie` program: as given, MAGPIE_BIN, on the PATH, or in the build folder of the checkout that this package is in."""
    named = given or os.environ.get("MAGPIE_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise MagpieError(f"{named} is no program (it was named by {'the argument' if given else 'MAGPIE_BIN'})")
        return os.path.abspath(named)
    built = os.path.join(_HERE, "..", "..", "build", "magpie")
    found = shutil.which("magpie") or (os.path.abspath(built) if os.access(built, os.X_OK) else None)
    if found is None:
        raise MagpieError("the program `magpie` is not found: install magpie, put it on the PATH, or name it in MAGPIE_BIN")
    return found


class Local:
    """A driver with workers on this machine; `with` it. Their logs lie in the data folder."""

    def __init__(self, data: str, slots: Optional[int] = None, magpie: Optional[str] = None) -> None:
        self.data = os.path.abspath(data)
        self._magpie = find_magpie(magpie)
        self._slots = slots
        self._processes: List["subprocess.Popen[bytes]"] = []
        self.url = ""

    def _start(self, name: str, argv: List[str]) -> "subprocess.Popen[bytes]":
        """Its log is `name`.log. MAGPIE_PARENT: it ends when this process does, kill -9 included."""
        env: Dict[str, str] = {k: v for k, v in os.environ.items() if k not in ("MAGPIE_FD", "MAGPIE_URL", "MAGPIE_DRIVER")}
        env["MAGPIE_PARENT"] = str(os.getpid())
        env["PYTHONPATH"] = os.pathsep.join([_HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
        with open(os.path.join(self.data, name + ".log"), "ab") as log:
            p = subprocess.Popen([self._magpie, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)
        self._processes.append(p)
        return p

    def log_tail(self, name: str) -> str:
        """The end of a log, for errors."""
        try:
            with open(os.path.join(self.data, name + ".log"), encoding="utf-8", errors="replace") as f:
                return "\n".join(f.read().splitlines()[-5:])
        except OSError:
            return ""

    def _address(self) -> Optional[Dict[str, str]]:
        try:
            with open(os.path.join(self.data, "address"), encoding="utf-8") as f:
                return dict(w.split("=", 1) for w in f.read().split() if "=" in w) or None
        except OSError:
            return None

    def __enter__(self) -> "Local":
        os.makedirs(self.data, exist_ok=True)
        try:
            os.remove(os.path.join(self.data, "address"))
        except FileNotFoundError:
            pass
        try:
            driver = self._start("driver", ["driver", "--data", self.data, "--http", "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0"])
            end = time.monotonic() + READY
            while True:
                address = self._address()
                if address is not None:
                    break
                if driver.poll() is not None or time.monotonic() > end:
                    raise MagpieError(f"the driver did not start:\n{self.log_tail('driver')}")
                time.sleep(0.01)
            self.url = address["http"]
            slots = ["--slots", str(self._slots)] if self._slots is not None else []
            self._start("worker", ["worker", "--driver", address["nng"], "--data", self.data,
                                   "--scratch", os.path.join(self.data, "scratch"), *slots])
        except BaseException:
            self.close()
            raise
        return self

    def client(self) -> Client:
        return Client(self.url, data=self.data)

    def worker_ended(self) -> bool:
        """Did the worker end by itself?"""
        return self._processes[-1].poll() is not None

    def close(self) -> None:
        """Workers first, then the driver; what does not end is killed."""
        for p in reversed(self._processes):
            for _ in range(2):  # a worker's second signal: do not wait for trials
                if p.poll() is None:
                    p.terminate()
                    try:
                        p.wait(LEAVE / 10)
                    except subprocess.TimeoutExpired:
                        continue
            try:
                p.wait(LEAVE)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self._processes = []

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[types.TracebackType]) -> None:
        self.close()


def python() -> str:
    """The interpreter for trials: this one."""
    return sys.executable or "python3"
