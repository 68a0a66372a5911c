# SPDX-License-Identifier: Apache-2.0
"""What this package raises."""
from __future__ import annotations

import traceback


class MagpieError(Exception):
    """The base of this package's errors."""


class ConfigurationError(MagpieError):
    """Raise it in a trial whose parameters cannot work together. The trial fails for good, with the cause `configuration`:
    it is not tried again."""


class ProtocolError(MagpieError):
    """The worker said something that this package does not understand."""


class Stopped(SystemExit):
    """Ends a trial that was told to stop or pause, at its next report, when the script never asks should_stop().

    A SystemExit with status 0: `with magpie.trial()` swallows it, elsewhere it ends the script cleanly, and
    `except Exception` lets it pass."""

    def __init__(self) -> None:
        super().__init__(0)


REASON_MAX = 2000  # characters of a reason that are told; the log has the rest


def reason_of(error: BaseException) -> str:
    """The last line of a traceback."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()[:REASON_MAX]


def cause_of(error: BaseException) -> str:
    """`configuration`, `out-of-memory` or `program`, as the worker's protocol names them."""
    if isinstance(error, ConfigurationError):
        return "configuration"
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ in ("OutOfMemoryError", "ResourceExhaustedError"):
        return "out-of-memory"
    if isinstance(error, RuntimeError) and "out of memory" in str(error):  # torch before 1.13
        return "out-of-memory"
    return "program"
