# SPDX-License-Identifier: Apache-2.0
"""Maggy's optimizer objects, and what any way of naming one means in an experiment file."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from .errors import MagpieError

NAMES = {"randomsearch": "random", "gridsearch": "grid", "random": "random", "grid": "grid"}
BUDGETED = ("asha", "hyperband", "pasha", "bohb", "dehb", "pbt")  # they end trials early themselves


@dataclass
class _Sampled:
    pruner: Optional[str] = None
    pruner_kwargs: Dict[str, Any] = field(default_factory=dict)
    name = "random"

    def spec(self) -> Tuple[Dict[str, Any], Optional[Dict[str, Any]]]:
        if self.pruner is None:
            return {"algorithm": self.name}, None
        if self.pruner.lower() != "hyperband":
            raise MagpieError(f"there is no pruner {self.pruner}: hyperband is one")
        k = self.pruner_kwargs
        missing = [n for n in ("min_budget", "max_budget", "eta", "n_iterations") if n not in k]
        if missing:
            raise MagpieError(f"the pruner hyperband needs pruner_kwargs {', '.join(missing)}")
        return ({"algorithm": "hyperband", "sampler": self.name, "reduction_factor": k["eta"], "iterations": k["n_iterations"]},
                {"min": k["min_budget"], "max": k["max_budget"]})


class RandomSearch(_Sampled):
    name = "random"


class GP(_Sampled):
    name = "gp"


class TPE(_Sampled):
    name = "tpe"


class GridSearch:
    def spec(self) -> Tuple[Dict[str, Any], Optional[Dict[str, Any]]]:
        return {"algorithm": "grid"}, None


@dataclass
class Asha:
    """Maggy's defaults; budgets come as hparams["budget"] or the argument `budget`."""

    reduction_factor: int = 2
    resource_min: int = 1
    resource_max: int = 4

    def spec(self) -> Tuple[Dict[str, Any], Optional[Dict[str, Any]]]:
        return {"algorithm": "asha", "reduction_factor": self.reduction_factor}, {"min": self.resource_min, "max": self.resource_max}


def spec_of(optimizer: Any) -> Tuple[Optional[Dict[str, Any]], Optional[Dict[str, Any]]]:
    """The experiment file's `optimizer` and `resource`; (None, None) leaves the choice to magpie."""
    if optimizer is None or optimizer == "auto":
        return None, None
    if isinstance(optimizer, Mapping):
        return dict(optimizer), None
    if isinstance(optimizer, type):
        optimizer = optimizer()
    if isinstance(optimizer, str):
        name = optimizer.lower()
        return Asha().spec() if name == "asha" else ({"algorithm": NAMES.get(name, name)}, None)
    if hasattr(optimizer, "spec"):
        found: Tuple[Dict[str, Any], Optional[Dict[str, Any]]] = optimizer.spec()
        return found
    raise MagpieError(f"optimizer={optimizer!r}: give a name (randomsearch, asha, tpe, gp, gridsearch, none), a dict, or an object of "
                      "magpie_hpo.optimizer; optimizers in Python are not run by magpie")
