# SPDX-License-Identifier: Apache-2.0
"""Maggy's reporter: broadcast() and log(), on top of a trial."""
from __future__ import annotations

import sys
from typing import Any, Optional

from ._trial import Trial, number
from .errors import MagpieError


class EarlyStopException(Exception):
    """Raised by broadcast() when the trial was stopped. Let it pass, or catch it to tidy up and return."""

    def __init__(self, metric: Any = None) -> None:
        super().__init__("the trial was stopped")
        self.metric = metric


class BroadcastMetricTypeError(MagpieError, TypeError):
    """A metric that is no number."""


class BroadcastStepTypeError(MagpieError, TypeError):
    """A step that is no whole number."""


class BroadcastStepValueError(MagpieError, ValueError):
    """A step below the last one."""


class Reporter:
    """Tells the objective while a function trains. Steps count from 0; every value is kept, not only the newest.

    Where the search gives budgets, what the function returns is the value at the budget, and broadcasts before are steps on the way."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.metric: Optional[float] = None
        self.step = -1
        self._name = trial.metric or "metric"

    def broadcast(self, metric: Any, step: Optional[int] = None) -> None:
        """The objective's value after a step (by default the next). Raises EarlyStopException when the trial was stopped."""
        try:
            value = number(self._name, metric)
        except TypeError as e:
            raise BroadcastMetricTypeError(str(e)) from None
        if value is None:
            raise BroadcastMetricTypeError("broadcast(None): a number is needed")
        if step is None:
            step = self.step + 1
        elif isinstance(step, bool) or not hasattr(step, "__index__"):
            raise BroadcastStepTypeError(f"step {step!r} is no whole number")
        step = step.__index__()
        if step < self.step:
            raise BroadcastStepValueError(f"step {step} after step {self.step}: steps rise")
        if self._trial.order is not None:
            self._trial.should_stop()
            raise EarlyStopException(metric)
        self.step, self.metric = step, float(value)
        budget = self._trial.budget
        if budget is None:
            self._tell(step, value)
        elif step + 1 < budget:
            self._tell(step + 1, value)

    def _tell(self, step: int, value: Any) -> None:
        t = self._trial
        t._channel.report(step, {self._name: value})
        t.step = max(t.step, step)

    def log(self, message: Any, jupyter: bool = False) -> None:
        """A line for the trial's log."""
        print(message, file=sys.stdout)
