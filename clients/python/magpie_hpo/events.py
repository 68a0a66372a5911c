# SPDX-License-Identifier: Apache-2.0
"""The driver's event stream, which goes on where it was when the connection or the driver went away."""
from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional

from .transport import FIRST_PAUSE, LONGEST_PAUSE, Transport, Unreachable, error_of

SILENCE = 45.0  # seconds; a comment comes every 15


@dataclass
class Event:
    """`kind`: experiment, trial, metrics, deleted, or reset (what was known is to be loaded afresh)."""

    kind: str
    data: Dict[str, Any]
    id: Optional[str]


def _parse(stream: http.client.HTTPResponse) -> Iterator[Event]:
    kind, data, last = "message", [], None
    for raw in stream:
        line = raw.decode("utf-8").rstrip("\r\n")
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            last = value
        elif line == "" and data:
            yield Event(kind, json.loads("\n".join(data)), last)
            kind, data = "message", []


def follow(transport: Transport, experiment: Optional[int] = None) -> Iterator[Event]:
    """Events for ever, first a `reset`. Raises Unreachable when no driver was there for the transport's patience."""
    path = "/api/v1/events" + (f"?experiment={experiment}" if experiment is not None else "")
    last: Optional[str] = None
    pause, end = FIRST_PAUSE, time.monotonic() + transport.patience
    while True:
        c = transport.connect(SILENCE)
        try:
            headers = {**transport.headers(None), "Accept": "text/event-stream"}
            if last is not None:
                headers["Last-Event-ID"] = last
            c.request("GET", path, headers=headers)
            r = c.getresponse()
            if r.status != 200:
                raise error_of(r.status, r.read(), f"GET {path}")
            if last is None:
                yield Event("reset", {}, None)
            for event in _parse(r):
                last = event.id or last
                pause, end = FIRST_PAUSE, time.monotonic() + transport.patience
                yield event
        except (OSError, http.client.HTTPException) as e:
            if time.monotonic() > end:
                raise Unreachable(f"{transport.url}: the event stream is gone ({e or type(e).__name__})") from e
        finally:
            c.close()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
