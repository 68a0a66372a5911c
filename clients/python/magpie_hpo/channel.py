# SPDX-License-Identifier: Apache-2.0
"""How a trial talks to what runs it: over the descriptor MAGPIE_FD, by `::magpie` lines, or to a person.

PROTOCOL.md, section 3. No threads: orders are read when somebody asks for them."""
from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import types
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Union

from .errors import ProtocolError

Number = Union[int, float, None]
START_TIMEOUT = 30.0  # seconds in which a worker answers `ready`

_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


@dataclass
class Start:
    """What a trial is given."""

    params: Dict[str, Any] = field(default_factory=dict)
    experiment: Optional[int] = None
    trial: Optional[int] = None
    attempt: Optional[int] = None
    budget: Optional[int] = None
    resume_from: Optional[str] = None
    resume_step: int = 0
    trial_dir: Optional[str] = None
    checkpoint_dir: Optional[str] = None
    seed: int = 0
    metric: Optional[str] = None
    direction: Optional[str] = None
    every: int = 1
    fold: Optional[int] = None
    folds: Optional[int] = None
    split: Dict[str, Any] = field(default_factory=dict)
    spec: Dict[str, Any] = field(default_factory=dict)


def start_of(message: Mapping[str, Any]) -> Start:
    """The trial that a `start` message describes."""
    get = message.get
    resume = get("resume_from") or {}
    checkpoint = get("checkpoint") or {}
    return Start(
        params=get("params") or {}, experiment=get("experiment"), trial=get("trial"), attempt=get("attempt"),
        budget=get("budget"), resume_from=resume.get("path"), resume_step=resume.get("step") or 0,
        trial_dir=get("trial_dir"), checkpoint_dir=get("checkpoint_dir"), seed=get("seed") or 0, metric=get("metric"),
        direction=get("direction"), every=checkpoint.get("every") or 1, fold=get("fold"), folds=get("folds"),
        split=get("split") or {}, spec=get("spec") or {})


def _number_of(env: Mapping[str, str], name: str) -> Optional[int]:
    text = env.get(name)
    return int(text) if text else None


def start_from_environment(env: Mapping[str, str]) -> Start:
    """The trial that the variables of a command describe; an empty one when there are none."""
    s = Start(experiment=_number_of(env, "MAGPIE_EXPERIMENT"), trial=_number_of(env, "MAGPIE_TRIAL"),
              attempt=_number_of(env, "MAGPIE_ATTEMPT"), budget=_number_of(env, "MAGPIE_BUDGET"),
              resume_from=env.get("MAGPIE_RESUME_FROM") or None, resume_step=_number_of(env, "MAGPIE_RESUME_STEP") or 0,
              trial_dir=env.get("MAGPIE_TRIAL_DIR") or None, checkpoint_dir=env.get("MAGPIE_CHECKPOINT_DIR") or None,
              seed=_number_of(env, "MAGPIE_SEED") or 0, fold=_number_of(env, "MAGPIE_FOLD"),
              folds=_number_of(env, "MAGPIE_FOLDS"))
    if s.folds:
        s.split = {"seed": _number_of(env, "MAGPIE_FOLD_SEED") or 0, "stratified": env.get("MAGPIE_FOLD_STRATIFIED") == "1"}
        if "MAGPIE_TRAIN_RATIO" in env:
            s.split["train_ratio"] = float(env["MAGPIE_TRAIN_RATIO"])
        if "MAGPIE_FOLD_COLUMN" in env:
            s.split["fold_column"] = env["MAGPIE_FOLD_COLUMN"]
    path = env.get("MAGPIE_PARAMS")
    if path:
        with open(path, encoding="utf-8") as f:
            s.params = json.load(f)
    return s


class Channel:
    """The base: says nothing and hears nothing."""

    start: Start

    def report(self, step: int, metrics: Mapping[str, Number]) -> None:
        raise NotImplementedError

    def checkpoint(self, step: int, path: str) -> None:
        raise NotImplementedError

    def result(self, status: str, metrics: Mapping[str, Number]) -> None:
        raise NotImplementedError

    def error(self, reason: str, cause: str) -> None:
        raise NotImplementedError

    def order(self) -> Optional[str]:
        """`stop` or `pause` once it was ordered. Never waits."""
        return None


class Descriptor(Channel):
    """JSON lines over the socket that MAGPIE_FD names. An executor uses one for trial after trial."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._have = b""
        self._lines: List[bytes] = []
        self._order: Optional[str] = None
        self._open = True
        self._tail = b"}\n"
        self.start = Start()

    # ---- hearing ----
    def _receive(self, flags: int = 0) -> bool:
        """Reads once; False when nothing is there (without waiting) or at the end."""
        try:
            data = self._sock.recv(65536, flags)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._open = False
            self._order = "stop"
            return False
        parts = (self._have + data).split(b"\n")
        self._have = parts.pop()
        self._lines += parts
        return True

    def _message(self) -> Dict[str, Any]:
        message = _decode(self._lines.pop(0).decode())
        if not isinstance(message, dict):
            raise ProtocolError(f"the worker sent {message!r}")
        return message

    def next_start(self) -> Optional[Start]:
        """Waits for the next trial; None: the program is to end."""
        while True:
            while self._lines:
                message = self._message()
                kind = message.get("type")
                if kind == "start":
                    self._order = None
                    self.start = start_of(message)
                    self._tail = b',"trial":%d}\n' % (self.start.trial or 0)
                    return self.start
                if kind == "exit":
                    return None
            if not self._open or not self._receive():
                if not self._open:
                    return None

    def order(self) -> Optional[str]:
        if self._open:
            self._receive(socket.MSG_DONTWAIT)
        while self._lines:
            message = self._message()
            kind = message.get("type")
            if kind == "exit":
                self._open = False
                self._order = "stop"
            elif kind in ("stop", "pause") and message.get("trial") == self.start.trial and self._order != "stop":
                self._order = kind
        return self._order

    # ---- saying ----
    def _say(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:  # the worker is gone: the trial is to end
            self._open = False
            self._order = "stop"

    def ready(self, versions: Optional[Mapping[str, str]] = None) -> None:
        self._say(_encode({"type": "ready", "versions": versions} if versions else {"type": "ready"}).encode() + b"\n")

    def report(self, step: int, metrics: Mapping[str, Number]) -> None:
        self._say(b'{"type":"report","step":%d,"metrics":%b' % (step, _encode(metrics).encode()) + self._tail)

    def checkpoint(self, step: int, path: str) -> None:
        self._say(b'{"type":"checkpoint","step":%d,"path":%b' % (step, _encode(path).encode()) + self._tail)

    def result(self, status: str, metrics: Mapping[str, Number], and_ready: bool = False) -> None:
        more = b',"metrics":' + _encode(metrics).encode() if metrics else b""
        last = b'{"type":"ready"}\n' if and_ready else b""
        self._say(b'{"type":"result","status":"%b"' % status.encode() + more + self._tail + last)

    def error(self, reason: str, cause: str, and_ready: bool = False) -> None:
        last = b'{"type":"ready"}\n' if and_ready else b""
        self._say(b'{"type":"error","reason":%b,"cause":"%b"' % (_encode(reason).encode(), cause.encode()) + self._tail + last)


class Lines(Channel):
    """`::magpie` lines on standard output; SIGTERM is the order to stop."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.start = start_from_environment(env)

    def _say(self, what: Mapping[str, Any]) -> None:
        sys.stdout.write("::magpie " + _encode(what) + "\n")
        sys.stdout.flush()

    def report(self, step: int, metrics: Mapping[str, Number]) -> None:
        self._say({"step": step, "metrics": metrics})

    def checkpoint(self, step: int, path: str) -> None:
        self._say({"checkpoint": step})

    def result(self, status: str, metrics: Mapping[str, Number]) -> None:
        if metrics:
            self._say({"result": metrics})

    def error(self, reason: str, cause: str) -> None:
        self._say({"failed": reason, "cause": cause})


class Terminal(Channel):
    """No magpie around: metrics are printed for a person. MAGPIE_CHECKPOINT_DIR and MAGPIE_RESUME_FROM may be set by hand."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.start = start_from_environment(env)

    def report(self, step: int, metrics: Mapping[str, Number]) -> None:
        values = "  ".join(f"{name} {'none' if v is None else format(v, '.6g')}" for name, v in metrics.items())
        print(f"step {step}  {values}", flush=True)

    def checkpoint(self, step: int, path: str) -> None:
        if self.start.checkpoint_dir:
            print(f"step {step}  checkpoint {path}", flush=True)

    def result(self, status: str, metrics: Mapping[str, Number]) -> None:
        if metrics:
            print("result  " + "  ".join(f"{name} {v}" for name, v in metrics.items()), flush=True)

    def error(self, reason: str, cause: str) -> None:
        """Python prints the traceback."""


class Sigterm:
    """SIGTERM as an order to stop: the first is remembered, a second ends the process. A handler of the script's own stays."""

    def __init__(self) -> None:
        self.came = False
        try:
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, self._note)
        except ValueError:  # not in the main thread: the default ends the process
            pass

    def _note(self, number: int, frame: Optional[types.FrameType]) -> None:
        if self.came:
            raise SystemExit(128 + number)
        self.came = True


def descriptor(env: Mapping[str, str]) -> Optional[Descriptor]:
    """The worker's socket; None where there is none (or a shell in between closed it)."""
    try:
        fd = int(env["MAGPIE_FD"])
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except (KeyError, ValueError, OSError):
        return None
    if sock.family != socket.AF_UNIX:
        sock.detach()
        return None
    return Descriptor(sock)


def open_channel(env: Mapping[str, str]) -> Channel:
    """The channel of a command's one trial."""
    d = descriptor(env)
    if d is not None:
        d._sock.settimeout(START_TIMEOUT)
        d.ready()
        start = d.next_start()
        d._sock.settimeout(None)
        if start is None:
            raise ProtocolError("the worker did not describe the trial on MAGPIE_FD")
        return d
    return Lines(env) if env.get("MAGPIE_PARAMS") else Terminal(env)
