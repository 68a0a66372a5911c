# SPDX-License-Identifier: Apache-2.0
"""MagpieSearchCV, imported with scikit-learn only when it is asked for."""


def __getattr__(name):
    if name == "MagpieSearchCV":
        from .estimator import MagpieSearchCV

        return MagpieSearchCV
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MagpieSearchCV"]
