# SPDX-License-Identifier: Apache-2.0
"""Maggy's configuration objects. magpie adds: workers (trials at a time), data (folder of the record), magpie (the program),
seed, resource ({"min", "max"} budgets), time (limit)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Union

from .searchspace import Searchspace


@dataclass
class BaseConfig:
    """One plain run of the function."""

    name: str = "base"
    description: str = ""
    hb_interval: float = 1
    workers: Optional[int] = None
    data: Optional[str] = None
    magpie: Optional[str] = None
    seed: Optional[int] = None
    time: Union[None, float, str] = None


@dataclass
class HyperparameterOptConfig:
    """A search. `optimizer`: randomsearch, asha, tpe, gp, gridsearch, none; any algorithm of magpie by name; a dict as in the
    experiment file; or an object of magpie_hpo.optimizer."""

    num_trials: int
    optimizer: Any
    searchspace: Optional[Searchspace] = None
    optimization_key: str = "Metric"
    direction: str = "max"
    es_interval: int = 1
    es_min: int = 10
    es_policy: Any = "median"
    name: str = "HPOptimization"
    description: str = ""
    hb_interval: float = 1
    model: Any = None
    dataset: Any = None
    workers: Optional[int] = None
    data: Optional[str] = None
    magpie: Optional[str] = None
    seed: Optional[int] = None
    resource: Optional[Dict[str, Any]] = None
    time: Union[None, float, str] = None


@dataclass
class AblationConfig:
    """A study of what each component contributes. `ablation_study`: an AblationStudy; `ablator`: "loco", leave one component out."""

    ablation_study: Any
    ablator: str = "loco"
    direction: str = "max"
    name: str = "ablationStudy"
    description: str = ""
    hb_interval: float = 1
    model: Any = None
    dataset: Any = None
    optimization_key: str = "Metric"
    repeats: int = 1
    workers: Optional[int] = None
    data: Optional[str] = None
    magpie: Optional[str] = None
    seed: Optional[int] = None
    time: Union[None, float, str] = None


OptimizationConfig = HyperparameterOptConfig  # its name in Maggy 1.0
