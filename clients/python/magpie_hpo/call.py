# SPDX-License-Identifier: Apache-2.0
"""Calling a training function with a trial: it is found by name, and its arguments are matched by their names."""
from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from . import ship
from ._trial import Params, Trial, numbers
from .channel import Number
from .errors import ConfigurationError, MagpieError
from .reporter import Reporter

loading = False  # the function's module is being imported

RESERVED = ("trial", "reporter", "hparams", "params", "budget", "seed", "fold", "folds", "split", "resume_from", "trial_dir")

_P = inspect.Parameter


def load(what: str) -> Any:
    """See _load. Meanwhile no search can be launched: a module that launches when it is imported would do so for ever."""
    global loading
    loading = True
    try:
        return _load(what)
    finally:
        loading = False


def _load(what: str) -> Any:
    """`module:function` or `path/to/file.py:function`; the function may be an attribute of one (`module:Class.method`)."""
    if what.startswith("shipped:"):
        return _load_shipped(what[len("shipped:"):])
    where, colon, name = what.rpartition(":")
    if not colon or not where or not name:
        raise MagpieError(f"\"{what}\" names no function: write module:function or file.py:function")
    thing: Any = load_file(where) if where.endswith(".py") else importlib.import_module(where)
    for part in name.split("."):
        if not hasattr(thing, part):
            raise MagpieError(f"{where} has no {name}")
        thing = getattr(thing, part)
    if not callable(thing):
        raise MagpieError(f"{what} is no function but {type(thing).__name__}")
    return thing


class _Shipped:
    """A function of another process, with the parameters' own values put back. A dict of one value may have any name."""

    def __init__(self, function: Any, decode: Mapping[str, Mapping[str, Any]]) -> None:
        rows = function if isinstance(function, ship.Rows) else None
        self.rows = rows.rows if rows is not None else None
        self.function: Callable[..., Any] = rows.function if rows is not None else function
        self.decode = decode

    def params(self, params: Mapping[str, Any]) -> Dict[str, Any]:
        return ship.decoded(params, self.decode) if self.rows is None else dict(self.rows[params[ship.ROW]])


def _load_shipped(path: str) -> Any:
    function, decode = ship.read(path)
    return _Shipped(function, decode)


def load_file(path: str) -> Any:
    """The module in a file; what lies beside it can be imported, as in a script."""
    if not os.path.isfile(path):
        raise MagpieError(f"there is no file {path} (looked for in {os.getcwd()})")
    path = os.path.abspath(path)
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:
        name = "magpie_file_" + name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Call:
    """A function that takes trials."""

    def __init__(self, function: Any) -> None:
        self.shipped = function if isinstance(function, _Shipped) else None
        if self.shipped is not None:
            function = self.shipped.function
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.positional: List[str] = []
        self.named: List[str] = []
        self.required: List[str] = []
        self.all_others = False
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            raise MagpieError(f"{self.name}: its arguments cannot be seen; wrap it in a def") from None
        for p in parameters:
            if p.kind is _P.VAR_KEYWORD:
                self.all_others = True
            elif p.kind is _P.POSITIONAL_ONLY:
                self.positional.append(p.name)
            elif p.kind is not _P.VAR_POSITIONAL:
                self.named.append(p.name)
            if p.default is _P.empty and p.kind not in (_P.VAR_KEYWORD, _P.VAR_POSITIONAL):
                self.required.append(p.name)

    def _reserved(self, name: str, trial: Trial, reporter: Optional[Reporter]) -> Any:
        if name == "trial":
            return trial
        if name == "reporter":
            return reporter
        if name == "hparams":
            return hparams(trial)
        return getattr(trial, name)

    def arguments(self, trial: Trial, reporter: Optional[Reporter]) -> Tuple[List[Any], Dict[str, Any]]:
        """What to call it with: a parameter of the search space, else a reserved name, else its own default."""
        params = trial.params._values
        missing = [n for n in self.required if n not in params and n not in RESERVED]
        if missing:
            raise ConfigurationError(
                f"{self.name} wants \"{missing[0]}\", which this trial does not have (it has {', '.join(params) or 'nothing'}; "
                f"reserved are {', '.join(RESERVED)}): give the argument a default, or name it in the search space")
        args: List[Any] = []
        for name in self.positional:
            if name not in params and name not in RESERVED:
                break
            args.append(params[name] if name in params else self._reserved(name, trial, reporter))
        kwargs: Dict[str, Any] = {}
        for name in self.named:
            if name in params:
                kwargs[name] = params[name]
            elif name in RESERVED:
                kwargs[name] = self._reserved(name, trial, reporter)
        if self.all_others:
            kwargs.update((k, v) for k, v in params.items() if k not in kwargs and k not in self.positional)
        return args, kwargs

    def __call__(self, trial: Trial) -> Dict[str, Number]:
        """Runs it; the final metrics (empty: those reported last)."""
        if self.shipped is not None:
            trial.params = Params(self.shipped.params(trial.params))
        reporter = Reporter(trial) if self.wants("reporter") else None
        args, kwargs = self.arguments(trial, reporter)
        value = self.function(*args, **kwargs)
        objective = trial.metric
        if self.shipped is not None and isinstance(value, Mapping) and len(value) == 1 and objective not in value:
            value = next(iter(value.values()))
        metrics = final_metrics(value, trial, self.name)
        if objective in metrics and trial._obeyed is None:
            self._keep(metrics, trial, reporter)
        return metrics

    @staticmethod
    def _keep(metrics: Mapping[str, Number], trial: Trial, reporter: Optional[Reporter]) -> None:
        """What was returned as a last step, so that all of it can be seen: of a function that reported none, or by broadcasts."""
        broadcast = reporter is not None and reporter.step >= 0
        if trial.step != trial.resume_step and not broadcast:
            return  # it reports its steps itself
        if trial.budget is not None:
            step = trial.budget
        elif len(metrics) > 1:
            step = trial.step + 1
        else:
            return
        if step > trial.step:
            trial._channel.report(step, metrics)
            trial.step = step

    def wants(self, name: str) -> bool:
        return name in self.named or name in self.positional


def hparams(trial: Trial) -> Dict[str, Any]:
    """The parameters as Maggy gives them: a dict, with the budget where there is one."""
    values = dict(trial.params)
    if trial.budget is not None:
        values.setdefault("budget", trial.budget)
    return values


def final_metrics(value: Any, trial: Trial, name: str) -> Dict[str, Number]:
    """What a function returned, as metrics: a number is the objective, a dict has names. Text in it goes to the log."""
    objective = trial.metric or "metric"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        try:
            return numbers({objective: value})
        except TypeError:
            raise TypeError(f"{name} returned {type(value).__name__}: return a number, or a dict of numbers with "
                            f"\"{objective}\" in it") from None
    for k in [k for k, v in value.items() if isinstance(v, str) and k != objective]:
        print(f"{k}: {value[k]}")
    metrics = numbers({str(k): v for k, v in value.items() if not isinstance(v, str) or k == objective})
    if objective not in metrics and trial.step == trial.resume_step:
        raise ConfigurationError(f"{name} returned {', '.join(map(str, value)) or 'an empty dict'}, but the objective is "
                                 f"\"{objective}\"")
    return metrics
