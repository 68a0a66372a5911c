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
    from . import ablation, config, experiment, optimizer
    from .ablation import AblationStudy
    from .client import Asked, Client, Experiment
    from .config import AblationConfig, HyperparameterOptConfig
    from .searchspace import Searchspace
    from .transport import Conflict, Denied, HttpError, Invalid, NotFound, Unreachable

__all__ = ["AblationConfig", "AblationStudy", "Asked", "CheckpointDir", "Client", "ConfigurationError", "Conflict",
           "Denied", "EarlyStopException", "Experiment", "HttpError", "HyperparameterOptConfig", "Invalid",
           "MagpieError", "NotFound", "Params", "ProtocolError", "Reporter", "Searchspace", "Stopped", "Trial",
           "Unreachable", "__version__", "ablation", "config", "current", "experiment", "optimizer", "trial"]

_MODULES = ("ablation", "config", "experiment", "optimizer")
_LATER = {"ablation": ("AblationStudy",), "client": ("Asked", "Client", "Experiment"),
          "config": ("AblationConfig", "HyperparameterOptConfig"), "searchspace": ("Searchspace",),
          "transport": ("Conflict", "Denied", "HttpError", "Invalid", "NotFound", "Unreachable"),
          "search_cv": ("MagpieSearchCV",)}  # not in __all__: it needs scikit-learn


def __getattr__(name: str) -> Any:
    """What a trial does not need is loaded when it is asked for."""
    import importlib

    if name in _MODULES:
        return importlib.import_module("." + name, __name__)
    for module, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module("." + module, __name__), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
