# SPDX-License-Identifier: Apache-2.0
"""Maggy's ablation study: leave one feature, layer or group of layers out, one trial each beside the base.

    study = AblationStudy("titanic", 1, "survived", dataset_generator=read)   # read(ablated_feature=None)
    study.features.include("age", "fare")
    study.model.layers.include("dense_2")
    study.model.layers.include_groups(["dense_2", "dense_3"])
    study.model.set_base_model_generator(make_model)

    def train(dataset_function, model_function): ...
    result = experiment.lagom(train, AblationConfig(study))
"""
from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from ._trial import Trial
from .errors import ConfigurationError, MagpieError
from .reporter import Reporter

Group = Union[FrozenSet[str], str]  # names, or a prefix


def _flat(names: Iterable[Any]) -> List[str]:
    out: List[str] = []
    for n in names:
        if isinstance(n, (list, tuple, set, frozenset)):
            out += _flat(sorted(n) if isinstance(n, (set, frozenset)) else n)
        elif isinstance(n, str) and n:
            out.append(n)
        else:
            raise ValueError(f"{n!r} is no name: a string, or a list of strings")
    return out


class Names:
    """What is left out, one at a time."""

    def __init__(self) -> None:
        self._names: List[str] = []

    def include(self, *names: Any) -> None:
        self._names += [n for n in dict.fromkeys(_flat(names)) if n not in self._names]

    def exclude(self, *names: Any) -> None:
        gone = set(_flat(names))
        self._names = [n for n in self._names if n not in gone]

    def list_all(self) -> List[str]:
        return list(self._names)

    @property
    def included(self) -> List[str]:
        return self.list_all()


Features = Names


class Layers(Names):
    """Layers, and groups of layers that go together."""

    def __init__(self) -> None:
        super().__init__()
        self._groups: List[Group] = []

    def include(self, *names: Any) -> None:
        for n in _flat(names):
            if "," in n or "*" in n:
                raise ValueError(f"{n!r}: a layer's name has no , and no *")
        super().include(*names)

    def _group(self, names: Any, prefix: Optional[str]) -> List[Group]:
        if prefix is not None:
            if names or not isinstance(prefix, str) or not prefix:
                raise ValueError("give lists of layers, or prefix=\"conv\"")
            return [prefix]
        groups: List[Group] = []
        for g in names:
            if not isinstance(g, (list, tuple, set, frozenset)) or len(set(g)) < 2:
                raise ValueError(f"{g!r} is no group: a list of two layers or more, or prefix=\"conv\"")
            groups.append(frozenset(_flat(g)))
        return groups

    def include_groups(self, *names: Any, prefix: Optional[str] = None) -> None:
        for g in self._group(names, prefix):
            if g not in self._groups:
                self._groups.append(g)

    def exclude_groups(self, *names: Any, prefix: Optional[str] = None) -> None:
        gone = self._group(names, prefix)
        self._groups = [g for g in self._groups if g not in gone]

    @property
    def included_groups(self) -> List[Group]:
        return list(self._groups)


class Model:
    """The model: a generator of the base, and its layers."""

    def __init__(self) -> None:
        self.layers = Layers()
        self.base_model_generator: Optional[Callable[..., Any]] = None
        self.custom_model_generators: List[Tuple[Callable[..., Any], str]] = []

    def set_base_model_generator(self, base_model_generator: Callable[..., Any]) -> None:
        self.base_model_generator = base_model_generator

    def add_custom_model_generator(self, custom_model_generator: Callable[..., Any], model_identifier: str) -> None:
        """A model of its own beside the base: one more trial."""
        self.custom_model_generators.append((custom_model_generator, _flat([model_identifier])[0]))


class AblationStudy:
    """What to leave out. `dataset_generator(ablated_feature=None)` reads the data, without that feature."""

    def __init__(self, training_dataset_name: Optional[str] = None, training_dataset_version: Optional[int] = None,
                 label_name: Optional[str] = None, **kwargs: Any) -> None:
        self.hops_training_dataset_name, self.hops_training_dataset_version = training_dataset_name, training_dataset_version
        self.label_name = label_name
        self.custom_dataset_generator: Optional[Callable[..., Any]] = kwargs.pop("dataset_generator", None)
        if kwargs:
            raise TypeError(f"unknown argument {next(iter(kwargs))}")
        self.features = Features()
        self.model = Model()

    def to_dict(self) -> Dict[str, Any]:
        return {"training_dataset_name": self.hops_training_dataset_name, "training_dataset_version": self.hops_training_dataset_version,
                "label_name": self.label_name, "included_features": self.features.list_all(),
                "included_layers": self.model.layers.list_all(), "custom_datasets": []}

    def spec(self, repeats: int) -> Dict[str, Any]:
        """The experiment file's "ablation"."""
        groups: List[Any] = [{"prefix": g} if isinstance(g, str) else sorted(g) for g in self.model.layers.included_groups]
        layers = self.model.layers.list_all() + [name for _, name in self.model.custom_model_generators]
        made = {"features": self.features.list_all(), "layers": layers, "groups": groups}
        out: Dict[str, Any] = {k: v for k, v in made.items() if v}
        if not out:
            raise MagpieError("the study leaves nothing out: study.features.include(...), study.model.layers.include(...)")
        return {**out, "repeats": repeats}

    def check(self) -> None:
        """Before anything runs: does what makes data and models know of what is left out?"""
        if self.features.list_all() and not _takes(self.custom_dataset_generator, "ablated_feature"):
            raise MagpieError("features are left out by the data's generator: AblationStudy(..., dataset_generator=read) with "
                              "def read(ablated_feature=None)")
        if self.model.base_model_generator is None and (self.model.layers.list_all() or self.model.layers.included_groups):
            raise MagpieError("layers are left out of the base model: study.model.set_base_model_generator(make_model) comes first")

    # ---- in the trial ----
    def dataset(self, feature: Optional[str], *args: Any, **kwargs: Any) -> Any:
        make = self.custom_dataset_generator
        if make is None:
            raise ConfigurationError("the study has no dataset_generator: read the data in the training function")
        return make(*args, ablated_feature=feature, **kwargs) if _takes(make, "ablated_feature") else make(*args, **kwargs)

    def make_model(self, layer: Optional[str], *args: Any, **kwargs: Any) -> Any:
        for generator, name in self.model.custom_model_generators:
            if name == layer:
                return generator(*args, **kwargs)
        make = self.model.base_model_generator
        if make is None:
            raise ConfigurationError("the study has no base model: study.model.set_base_model_generator(make_model)")
        gone = layer.split(",") if layer else []
        if _takes(make, "ablated_layers"):
            return make(*args, ablated_layers=gone, **kwargs)
        made = make(*args, **kwargs)
        return without(made, gone) if gone else made


def _takes(function: Optional[Callable[..., Any]], name: str) -> bool:
    if function is None:
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def without(model: Any, gone: Iterable[str]) -> Any:
    """A Keras Sequential model (anything with get_config and from_config) without these layers ("conv*": all that begin so). The first
    and the last layer stay."""
    if not hasattr(model, "get_config") or not hasattr(type(model), "from_config"):
        raise ConfigurationError(f"layers of a {type(model).__name__} cannot be taken out: let the generator do it, with "
                                 "def make_model(ablated_layers=())")
    config = model.get_config()
    layers = config["layers"]
    names = [str(entry["config"]["name"]) for entry in layers]
    inputs = sum(entry.get("class_name") == "InputLayer" for entry in layers)
    inner = names[inputs + 1:-1]
    out = set()
    for g in gone:
        hit = [n for n in inner if (n.lower().startswith(g[:-1].lower()) if g.endswith("*") else n == g)]
        if not hit:
            why = "the first and the last layer stay" if g in names else f"it has {', '.join(names)}"
            raise ConfigurationError(f"layer {g} cannot be left out: {why}")
        out.update(hit)
    config["layers"] = [entry for entry in layers if entry["config"]["name"] not in out]
    return type(model).from_config(config)


class LeaveOneOut:
    """The training function as magpie calls it: with dataset_function and model_function of its trial."""

    def __init__(self, function: Callable[..., Any], study: AblationStudy) -> None:
        self.function, self.study = function, study
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, trial: Trial) -> Any:
        feature, layer = trial.params.get("ablated_feature"), trial.params.get("ablated_layer")
        offered: Mapping[str, Any] = {
            "dataset_function": functools.partial(self.study.dataset, feature), "model_function": functools.partial(self.study.make_model, layer),
            "ablated_feature": feature, "ablated_layer": layer, "trial": trial, "seed": trial.seed}
        wanted = inspect.signature(self.function).parameters
        kwargs = {name: offered[name] for name in wanted if name in offered}
        if "reporter" in wanted:
            kwargs["reporter"] = Reporter(trial)
        return self.function(**kwargs)
