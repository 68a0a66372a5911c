# SPDX-License-Identifier: Apache-2.0
"""magpie in Python: inside a trial, as a search of one call, as a client. docs/PYTHON.md tells all.

    import magpie_hpo as magpie

    with magpie.trial(lr=0.01, units=128) as t:
        for epoch in t.epochs(10, model=model, optimizer=optimizer):
            ...
            t.report(epoch, val_accuracy=accuracy)
"""
from ._trial import CheckpointDir, Params, Trial, current, trial
from ._version import __version__
from .errors import ConfigurationError, MagpieError, ProtocolError, Stopped
from .reporter import EarlyStopException, Reporter

__all__ = ["CheckpointDir", "ConfigurationError", "EarlyStopException", "MagpieError", "Params", "ProtocolError", "Reporter",
           "Stopped", "Trial", "__version__", "current", "trial"]
