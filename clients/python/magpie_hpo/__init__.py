# SPDX-License-Identifier: Apache-2.0
"""magpie in Python: inside a trial, as a search of one call, as a client. docs/PYTHON.md tells all.

    import magpie_hpo as magpie

    with magpie.trial(lr=0.01, units=128) as t:
        for epoch in t.epochs(10, model=model, optimizer=optimizer):
            ...
            t.report(epoch, val_accuracy=accuracy)
"""
from typing import TYPE_CHECKING, Any

from ._trial import CheckpointDir, Params, Trial, current, trial
from ._version import __version__
from .errors import ConfigurationError, MagpieError, ProtocolError, Stopped
from .reporter import EarlyStopException, Reporter

if TYPE_CHECKING:
    from .client import Asked, Client, Experiment
    from .transport import Conflict, Denied, HttpError, Invalid, NotFound, Unreachable

__all__ = ["Asked", "CheckpointDir", "Client", "ConfigurationError", "Conflict", "Denied", "EarlyStopException", "Experiment", "HttpError",
           "Invalid", "MagpieError", "NotFound", "Params", "ProtocolError", "Reporter", "Stopped", "Trial", "Unreachable", "__version__",
           "current", "trial"]

_LATER = {"Asked": "client", "Client": "client", "Experiment": "client", "Conflict": "transport", "Denied": "transport",
          "HttpError": "transport", "Invalid": "transport", "NotFound": "transport", "Unreachable": "transport"}


def __getattr__(name: str) -> Any:
    """What a trial does not need is loaded when it is asked for."""
    import importlib

    if name in _LATER:
        return getattr(importlib.import_module("." + _LATER[name], __name__), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
