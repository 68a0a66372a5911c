# SPDX-License-Identifier: Apache-2.0
"""A search of one call, in the forms of Maggy (launch, lagom) and of hops-util-py (grid_search, random_search,
differential_evolution, launch). Each starts a driver and workers of its own and calls the function in long-lived processes."""
from __future__ import annotations

import glob
import inspect
import itertools
import os
import sys
import time as _time
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from . import optimizer as _optimizer
from . import call, ship
from .ablation import AblationStudy, LeaveOneOut
from .client import ENDED, Experiment, Results
from .config import AblationConfig, BaseConfig, HyperparameterOptConfig
from .errors import MagpieError
from .local import Local, python
from .searchspace import Searchspace, encode

Function = Callable[..., Any]
LOOK = 0.1  # seconds between looks
_made = itertools.count(1)


class Direction:
    """hops' names."""

    MAX = "max"
    MIN = "min"


@dataclass
class Plan:
    """What is to be run."""

    function: Any
    key: str
    direction: str
    space: Dict[str, Any]
    optimizer: Optional[Dict[str, Any]]
    limits: Dict[str, Any]
    name: str
    description: str = ""
    resource: Optional[Dict[str, Any]] = None
    early_stopping: Optional[Dict[str, Any]] = None
    points: List[Dict[str, Any]] = field(default_factory=list)
    seed: Optional[int] = None
    workers: Optional[int] = None
    data: Optional[str] = None
    magpie: Optional[str] = None
    ablation: Optional[Dict[str, Any]] = None


@dataclass
class Outcome:
    """What came of it."""

    trials: Results
    best: Optional[Dict[str, Any]]
    state: str
    experiment: int
    data: str
    decode: Mapping[str, Mapping[str, Any]]
    returned: Dict[int, Dict[str, Any]]  # what the best and the last trial returned
    ablation: Optional[Dict[str, Any]] = None  # of a study: its table

    def params(self, trial: Mapping[str, Any]) -> Dict[str, Any]:
        """A trial's parameters as the function got them."""
        return ship.decoded(trial["params"], self.decode)

    def folder(self, trial: Mapping[str, Any]) -> str:
        """Where its output and metrics are kept."""
        found = glob.glob(os.path.join(self.data, "storage", "*", "experiments", str(self.experiment), "trials", str(trial["trial"])))
        return found[0] if found else self.data


def _direction(text: str) -> str:
    if str(text).lower() not in ("max", "min"):
        raise ValueError(f"direction is \"max\" or \"min\", not {text!r}")
    return str(text).lower()


def _check(function: Function) -> None:
    if isinstance(function, ship.Rows):
        function = function.function
    if not callable(function):
        raise TypeError(f"the training function is no function but {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise TypeError("the training function is a coroutine: give a plain function")


def _spec(plan: Plan, space: Dict[str, Any], shipped: str) -> Dict[str, Any]:
    spec: Dict[str, Any] = {
        "name": plan.name, "objective": {"metric": plan.key, "direction": plan.direction}, "searchspace": space,
        "limits": plan.limits, "trial": {"executor": [python(), "-m", "magpie_hpo.executor", "shipped:" + shipped]}}
    for key, value in (("optimizer", plan.optimizer), ("resource", plan.resource), ("early_stopping", plan.early_stopping),
                       ("points", plan.points or None), ("ablation", plan.ablation), ("seed", plan.seed), ("notes", plan.description or None)):
        if value is not None:
            spec[key] = value
    if plan.ablation is not None and not space:
        del spec["searchspace"]
    return spec


def _folder(plan: Plan) -> str:
    return os.path.abspath(plan.data or os.path.join("experiment_log", f"{_time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{next(_made)}"))


def _progress(x: Mapping[str, Any], plan: Plan, last: bool) -> None:
    if not sys.stderr.isatty():
        return
    c = x["counts"]
    done = c.get("completed", 0) + c.get("stopped", 0)
    total = plan.limits.get("trials")
    best = x.get("best") or {}
    text = f"{plan.name}: {done}{f'/{total}' if total else ''} ({c.get('stopped', 0)} early stopped)"
    if best.get("value") is not None:
        text += f" - BEST {best.get('params')} - {plan.key} {best['value']:.6g}"
    sys.stderr.write(f"\r\033[K{text[:200]}" + ("\n" if last else ""))
    sys.stderr.flush()


def _follow(x: Experiment, plan: Plan, local: Local) -> str:
    """Until it has ended; why it ended early is raised."""
    while True:
        info = x.info()
        over = info["state"] in (*ENDED, "paused")
        _progress(info, plan, over)
        if over:
            break
        if local.worker_ended():
            raise MagpieError(f"the worker ended:\n{local.log_tail('worker')}")
        _time.sleep(LOOK)
    if info["state"] != "completed" and not info.get("best"):
        failed = list(x.trials(filter="state=failed", limit=1))
        why = failed[0]["reason"] if failed else (info.get("why") or {}).get("text") or info.get("why")
        raise MagpieError(f"experiment \"{plan.name}\" is {info['state']} and no trial has a value: {why}")
    return str(info["state"])


def _last_values(x: Experiment, trial: int) -> Dict[str, Any]:
    points = x.metrics(trial)
    return dict(points[-1]["values"]) if points else {}


def run(plan: Plan) -> Outcome:
    """Starts all, waits for the end, and collects what there is. Ctrl-C cancels."""
    if call.loading:
        raise MagpieError("a search is launched while a worker imports the module of its function: put the call under "
                          "if __name__ == \"__main__\":")
    _check(plan.function)
    space, decode = encode(plan.space)
    data = _folder(plan)
    with Local(data, plan.workers, plan.magpie) as local:
        shipped = os.path.join(data, f"function-{os.getpid()}-{next(_made)}.pickle")
        ship.write(shipped, plan.function, decode)
        client = local.client()
        x = client.submit(_spec(plan, space, shipped))
        if sys.stderr.isatty():
            print(f"board: {local.url}/", file=sys.stderr)
        try:
            state = _follow(x, plan, local)
        except BaseException:
            if not local.worker_ended():
                x.cancel("interrupted")
            raise
        trials, best = x.results(), x.best()
        numbers = {t["trial"] for t in (best, *trials[-1:]) if t is not None}
        outcome = Outcome(trials, best, state, x.id, data, decode, {n: _last_values(x, n) for n in numbers},
                          x.ablation() if plan.ablation is not None else None)
        client.close()
    if outcome.best is None:
        reasons = [t["reason"] for t in outcome.trials if t.get("reason")]
        raise MagpieError(f"no trial of \"{plan.name}\" has a value" + (f": {reasons[-1]}" if reasons else ""))
    return outcome


# ---- Maggy ----


def _early_stopping(policy: Any, interval: int, minimum: int, algorithm: Optional[Mapping[str, Any]]) -> Optional[Dict[str, Any]]:
    if isinstance(policy, Mapping):
        return dict(policy)
    if policy is None or str(policy).lower() == "none":
        return None
    if policy != "median":
        raise MagpieError(f"es_policy={policy!r}: \"median\", \"none\", or a dict as in the experiment file's early_stopping")
    if algorithm is not None and algorithm.get("algorithm") in _optimizer.BUDGETED:
        return None  # it ends poor trials itself; the rule would compare trials of unlike budgets
    return {"rule": "median", "min_trials": minimum + 1, "interval": interval}


def _space(searchspace: Any, algorithm: str) -> Dict[str, Any]:
    if searchspace is None:
        searchspace = Searchspace()
    space = searchspace.to_dict() if isinstance(searchspace, Searchspace) else Searchspace(**dict(searchspace)).to_dict()
    if algorithm == "none":
        if space:
            raise MagpieError("optimizer=\"none\" runs the function num_trials times as it is: the search space has to be empty")
        return {ship.REPEAT: ("INTEGER", [0, 10**9])}
    if not space:
        raise MagpieError("the search space is empty: Searchspace(lr=(\"DOUBLE\", [0.0001, 0.1]), ...); optimizer=\"none\" needs none")
    return space


def _plan(train_fn: Function, c: HyperparameterOptConfig) -> Plan:
    if not isinstance(c.num_trials, int) or c.num_trials < 1:
        raise ValueError(f"num_trials is a whole number from 1, not {c.num_trials!r}")
    single = c.optimizer is None or str(c.optimizer).lower() == "none"
    algorithm, resource = ({"algorithm": "random"}, None) if single else _optimizer.spec_of(c.optimizer)
    limits: Dict[str, Any] = {"trials": c.num_trials}
    if algorithm is not None and algorithm.get("algorithm") == "grid":
        limits = {}  # as many as the grid has
    if c.time is not None:
        limits["time"] = c.time
    return Plan(train_fn, c.optimization_key, _direction(c.direction), _space(c.searchspace, "none" if single else ""), algorithm, limits,
                c.name, c.description, c.resource or resource, _early_stopping(c.es_policy, c.es_interval, c.es_min, algorithm), [], c.seed,
                c.workers, c.data, c.magpie)


def _result(o: Outcome, direction: str) -> Dict[str, Any]:
    """Maggy's result: of all trials that have a value."""
    done = [t for t in o.trials if t["state"] in ("completed", "stopped", "paused") and t.get("value") is not None]
    best = o.best or done[0]
    sign = 1 if direction == "max" else -1
    worst = sorted(done or [best], key=lambda t: (sign * t["value"], t["trial"]))[0]
    values = [t["value"] for t in done]
    return {"best_id": best["trial"], "best_val": best["value"], "best_config": o.params(best),
            "worst_id": worst["trial"], "worst_val": worst["value"], "worst_config": o.params(worst),
            "avg": sum(values) / len(values) if values else None, "metric_list": values, "num_trials": len(done),
            "early_stopped": sum(t["state"] == "stopped" for t in done), "failed": sum(t["state"] == "failed" for t in o.trials),
            "state": o.state, "experiment": o.experiment, "logdir": o.data}


def _ablation(train_fn: Function, c: AblationConfig) -> Dict[str, Any]:
    if not isinstance(c.ablation_study, AblationStudy):
        raise TypeError(f"ablation_study={c.ablation_study!r}: an AblationStudy of magpie_hpo.ablation")
    if not isinstance(c.ablator, str) or c.ablator.lower() != "loco":
        raise MagpieError(f"ablator={c.ablator!r}: \"loco\", leave one component out")
    _check(train_fn)
    c.ablation_study.check()
    limits = {} if c.time is None else {"time": c.time}
    o = run(Plan(LeaveOneOut(train_fn, c.ablation_study), c.optimization_key, _direction(c.direction), {}, None, limits, c.name, c.description,
                 ablation=c.ablation_study.spec(c.repeats), seed=c.seed, workers=c.workers, data=c.data, magpie=c.magpie))
    return {**_result(o, _direction(c.direction)), "ablation": o.ablation}


def lagom(train_fn: Function, config: Any = None, **keywords: Any) -> Any:
    """Maggy's lagom: with a HyperparameterOptConfig or an AblationConfig, or 0.5's keywords (name, experiment_type="optimization", searchspace, optimizer,
    direction, num_trials, optimization_key="metric", es_*, description). Returns the result dict; a BaseConfig, or nothing, runs the
    function once and returns its metrics."""
    if isinstance(config, str):  # 0.5: the second argument is the name
        keywords["name"], config = config, None
    if isinstance(config, HyperparameterOptConfig):
        if keywords:
            raise TypeError(f"lagom(config) takes no {', '.join(keywords)}: they belong into the config")
        return _result(run(_plan(train_fn, config)), _direction(config.direction))
    if isinstance(config, AblationConfig):
        return _ablation(train_fn, config)
    if isinstance(config, BaseConfig) or (config is None and not keywords):
        base = config or BaseConfig()
        once = HyperparameterOptConfig(1, "none", None, optimization_key="metric", es_policy="none", **asdict(base))
        outcome = run(_plan(train_fn, once))
        return _returned(outcome, outcome.trials[0], "metric")
    if config is not None:
        raise TypeError(f"config={config!r}: a HyperparameterOptConfig, AblationConfig or BaseConfig of magpie_hpo.config")
    kind = keywords.pop("experiment_type", "optimization")
    if kind == "ablation":
        keywords.setdefault("optimization_key", "metric")
        return _ablation(train_fn, AblationConfig(**keywords))
    if kind != "optimization":
        raise MagpieError(f"experiment_type={kind!r}: \"optimization\" or \"ablation\"")
    for unused in ("ablation_study", "ablator"):
        if keywords.pop(unused, None) is not None:
            raise MagpieError(f"{unused} needs an ablation study: experiment_type=\"optimization\" takes none")
    keywords.setdefault("optimization_key", "metric")
    keywords.setdefault("num_trials", 1)
    keywords.setdefault("name", "no-name")
    keywords.setdefault("optimizer", None)
    return lagom(train_fn, HyperparameterOptConfig(**keywords))


def launch(train_fn: Function, searchspace: Any = None, optimizer: Any = "randomsearch", direction: str = "max", num_trials: Optional[int] = None,
           name: str = "no-name", **more: Any) -> Any:
    """Maggy's launch with a Searchspace (returns the result dict, see lagom). hops' launch with a dict of equally long lists, or nothing:
    runs the function once for each row; returns (logdir, the last row's return dict)."""
    if isinstance(searchspace, Searchspace):
        return lagom(train_fn, searchspace=searchspace, optimizer=optimizer, direction=direction, num_trials=num_trials or 1, name=name, **more)
    rows = more.pop("args_dict", searchspace)
    return _launch_rows(train_fn, rows or {}, name, more)


# ---- hops-util-py ----

_HOPS_UNUSED = ("local_logdir", "cleanup_generations", "versioned_resources")


def _hops(train_fn: Any, space: Dict[str, Any], algorithm: Dict[str, Any], direction: str, key: str, name: str, trials: Optional[int],
          more: Dict[str, Any], points: Sequence[Dict[str, Any]] = ()) -> Outcome:
    for unused in _HOPS_UNUSED:
        more.pop(unused, None)
    description = more.pop("description", None) or ""
    known = {k: more.pop(k, None) for k in ("seed", "workers", "data", "magpie", "time")}
    if more:
        raise TypeError(f"unknown argument {next(iter(more))}")
    limits: Dict[str, Any] = {} if trials is None else {"trials": trials}
    if known["time"] is not None:
        limits["time"] = known["time"]
    return run(Plan(train_fn, key, _direction(direction), space, algorithm, limits, name, description, None, None, list(points),
                    known["seed"], known["workers"], known["data"], known["magpie"]))


def _returned(o: Outcome, trial: Mapping[str, Any], key: str) -> Dict[str, Any]:
    return {**o.returned.get(trial["trial"], {}), key: trial["value"]}


def _triple(o: Outcome, key: str) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    assert o.best is not None
    return o.folder(o.best), o.params(o.best), _returned(o, o.best, key)


def _values(entry: Any, name: str) -> List[Any]:
    if isinstance(entry, (str, bytes)) or not isinstance(entry, Sequence) or not entry:
        raise ValueError(f"{name}: a list of values, not {entry!r}")
    return list(entry)


def _launch_rows(train_fn: Function, args: Mapping[str, Any], name: str, more: Dict[str, Any]) -> Tuple[str, Optional[Dict[str, Any]]]:
    key = more.pop("metric_key", None) or "metric"
    lists = {k: _values(v, k) for k, v in args.items()}
    lengths = {len(v) for v in lists.values()}
    if len(lengths) > 1:
        raise ValueError(f"the lists have different lengths: {', '.join(f'{k} {len(v)}' for k, v in lists.items())}")
    n = lengths.pop() if lengths else 1
    # A row is one value of a list, put back by the receiver, so that any values may stand in it, twice too.
    rows = [{k: v[i] for k, v in lists.items()} for i in range(n)]
    space = {ship.ROW: ("DISCRETE", list(range(n)))}
    o = _hops(ship.Rows(train_fn, rows), space, {"algorithm": "grid"}, "max", key, name, None, more)
    last = o.trials[-1]
    return (o.folder(last) if n == 1 else o.data), (_returned(o, last, key) if last.get("value") is not None else None)


def grid_search(train_fn: Function, grid_dict: Mapping[str, Sequence[Any]], direction: str = Direction.MAX, name: str = "no-name",
                optimization_key: str = "metric", **more: Any) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    """Every combination of the lists. Returns (the best trial's folder, its parameters, what it returned)."""
    space = Searchspace(**{k: ("CATEGORICAL", _values(v, k)) for k, v in grid_dict.items()}).to_dict()
    return _triple(_hops(train_fn, space, {"algorithm": "grid"}, direction, optimization_key, name, None, more), optimization_key)


def _bounds(boundaries: Mapping[str, Sequence[Any]], categories: bool) -> Dict[str, Any]:
    space = Searchspace()
    for name, b in boundaries.items():
        b = _values(b, name)
        if len(b) != 2:
            raise ValueError(f"{name}: two bounds, not {b}")
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in b)
        if not numbers and not categories:
            raise ValueError(f"{name}: bounds are numbers, not {b}")
        if not numbers:
            space.add(name, ("CATEGORICAL", b))
        elif isinstance(b[0], int) and (categories or isinstance(b[1], int)):
            space.add(name, ("INTEGER", [int(b[0]), int(b[1])]))
        else:
            space.add(name, ("DOUBLE", b))
    return space.to_dict()


def random_search(train_fn: Function, boundary_dict: Mapping[str, Sequence[Any]], direction: str = Direction.MAX, samples: int = 10,
                  name: str = "no-name", optimization_key: str = "metric", **more: Any) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    """`samples` random points between bounds (whole numbers where both bounds are). Returns as grid_search."""
    o = _hops(train_fn, _bounds(boundary_dict, False), {"algorithm": "random"}, direction, optimization_key, name, samples, more)
    return _triple(o, optimization_key)


def differential_evolution(train_fn: Function, boundary_dict: Mapping[str, Sequence[Any]], direction: str = Direction.MAX, generations: int = 4,
                           population: int = 6, mutation: float = 0.5, crossover: float = 0.7, name: str = "no-name",
                           optimization_key: str = "metric", **more: Any) -> Tuple[str, Dict[str, Any], Dict[str, Any]]:
    """Differential evolution (DE/rand/1), without a barrier between generations. Returns as grid_search."""
    if population < 4 or generations < 2:
        raise ValueError(f"population is 4 or more and generations 2 or more, not {population} and {generations}")
    algorithm = {"algorithm": "de", "population": population, "mutation": mutation, "crossover": crossover}
    o = _hops(train_fn, _bounds(boundary_dict, True), algorithm, direction, optimization_key, name, population * generations, more)
    return _triple(o, optimization_key)


evolutionary_search = differential_evolution  # its earlier name
