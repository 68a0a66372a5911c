# SPDX-License-Identifier: Apache-2.0
"""A long-lived program that runs one training function for trial after trial:

    "trial": {"executor": ["python3", "-m", "magpie_hpo.executor", "train.py:train"]}

What the module loaded (libraries, data, a GPU's context) stays between trials. By hand, once:

    python3 -m magpie_hpo.executor train.py:train lr=0.1 units=64
"""
from __future__ import annotations

import gc
import io
import json
import os
import platform
import sys
import traceback
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import _trial, channel
from ._version import __version__
from .call import Call, load
from .errors import MagpieError, Stopped, cause_of, reason_of
from .reporter import EarlyStopException

USAGE = "usage: python3 -m magpie_hpo.executor MODULE:FUNCTION|FILE.py:FUNCTION [NAME=VALUE...]"


def _forget(error: BaseException, cause: str) -> None:
    """After a failure: let go of what its frames hold, so that the next trial finds the memory free."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    if cause == "out-of-memory":
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _flush() -> None:
    """What a trial printed belongs to its log: it leaves before the trial's end is told."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


def _fail(d: channel.Descriptor, error: BaseException) -> None:
    traceback.print_exception(type(error), error, error.__traceback__)
    cause, reason = cause_of(error), reason_of(error)
    _forget(error, cause)
    _flush()
    d.error(reason, cause, and_ready=True)


def run_trial(d: channel.Descriptor, call: Callable[[_trial.Trial], Dict[str, Any]]) -> None:
    """One trial, from its start to `ready` for the next."""
    t = _trial.Trial(d, {})
    _trial._current[:] = [t]
    metrics: Dict[str, Any] = {}
    try:
        metrics = call(t)
    except (Stopped, EarlyStopException):
        t._obeyed = t._obeyed or d.order()
    except SystemExit as e:
        if e.code not in (None, 0):
            _fail(d, e)
            return
    except Exception as e:
        _fail(d, e)
        return
    finally:
        t._ended = True
    _flush()
    d.result(t.status, metrics or t._result, and_ready=True)


def serve(d: channel.Descriptor, call: Callable[[_trial.Trial], Dict[str, Any]], versions: Dict[str, str]) -> None:
    """Trial after trial until the worker says exit."""
    d.ready(versions)
    while d.next_start() is not None:
        run_trial(d, call)


def _versions() -> Dict[str, str]:
    found = {"python": platform.python_version(), "magpie_hpo": __version__}
    for name in ("torch", "numpy", "tensorflow", "jax", "sklearn"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[name] = version
    return found


def refuse(d: channel.Descriptor, what: str, error: BaseException) -> int:
    """The function cannot be loaded: the first trial says so, and the next one finds a new program."""
    d.ready()
    if d.next_start() is not None:
        traceback.print_exception(type(error), error, error.__traceback__)
        _flush()
        d.error(f"cannot load {what}: {reason_of(error)}"[:2000], "configuration")
    return 1


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def by_hand(what: str, arguments: Sequence[str]) -> int:
    """Calls the function once and prints what it reports and returns."""
    params: Dict[str, Any] = {}
    for a in arguments:
        name, equals, value = a.partition("=")
        if not equals:
            print(f"{a}: write NAME=VALUE\n{USAGE}", file=sys.stderr)
            return 2
        params[name] = _value(value)
    t = _trial.Trial(channel.Terminal(os.environ), params)
    _trial._current[:] = [t]
    try:
        function = Call(load(what))
    except (MagpieError, ImportError) as e:
        print(f"{what}: {e}", file=sys.stderr)
        return 2
    metrics = function(t)
    t._channel.result(t.status, metrics)
    return 0


def main(argv: Optional[List[str]] = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if not args or args[0].startswith("-"):
        print(__doc__ if args[:1] == ["--help"] else USAGE, file=sys.stdout if args[:1] == ["--help"] else sys.stderr)
        return 0 if args[:1] == ["--help"] else 2
    d = channel.descriptor(os.environ)
    if d is None or len(args) > 1:
        return by_hand(args[0], args[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # so that logs can be followed
    try:
        call = Call(load(args[0]))
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return refuse(d, args[0], e)
    serve(d, call, _versions())
    return 0


if __name__ == "__main__":
    sys.exit(main())
