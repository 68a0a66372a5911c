# SPDX-License-Identifier: Apache-2.0
"""MagpieSearchCV: a search with cross-validation behind scikit-learn's interface."""
import contextlib
import math
import numbers
import os
import sys
import time
import warnings

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_random_state, indexable

from . import remote, service, table, units
from .points import Points
from .search import Search

BY_FOLDS = ("asha", "hyperband", "bohb", "pasha", "dehb")  # algorithms whose resource is the number of folds
POINTS = 20  # of a search that names no number
METRIC = "score"


class MagpieSearchCV(BaseSearchCV):
    """Searches an estimator's parameters; each fold of each point is a unit of work of its own.

    Parameters
    ----------
    estimator : any scikit-learn estimator, a pipeline too.
    param_distributions : dict or list of dicts
        By parameter name: a list of values, a ``range``, a frozen distribution of SciPy, or a parameter as in an
        experiment file, ``["DOUBLE", [0.1, 10]]`` or ``{"type": "DOUBLE", "range": [0.1, 10], "scale": "log"}``.
    n_iter : int or None
        Points to try. None: all points of a ``"grid"``, else 20.
    algorithm : str or dict
        ``"auto"``, ``"random"``, ``"grid"``, ``"tpe"``, ``"gp"``, ..., or the object ``optimizer`` of an experiment file.
        ``"asha"``, ``"hyperband"`` and their kin give poor points few folds.
    scoring, refit, cv, error_score, return_train_score, verbose
        As in ``RandomizedSearchCV``.
    n_jobs : int or None
        Units at a time: 1 or None runs them in this process, more in as many long-lived processes; -1 is one a core.
    early_stopping : None, str or dict
        A rule that stops a point on the mean over its folds so far: ``"median"``, or the object ``early_stopping`` of an
        experiment file, e.g. ``{"rule": "wilcoxon"}``.
    collect_sub_models : bool or path
        Keep every fold's fitted model: in ``sub_models_``, or as joblib files ``PATH/POINT/FOLD.joblib`` below a folder.
    random_state : int, RandomState or None
    time_limit : None, seconds or text such as ``"20m"``
    url, name : str or None
        The driver that keeps the experiment and shows it on its board, and its name there. None: a driver of its own
        for the time of ``fit``.

    workers : None or path
        A folder that this process shares with the workers of the driver at ``url``: the folds then run on those workers, a trial
        each, and not in processes of this host.

    Attributes
    ----------
    cv_results_ : dict of arrays, one row a point. The columns of ``RandomizedSearchCV``, and ``trial``, ``state`` and
        ``n_folds`` (how many folds were scored; the means are over these).
    best_estimator_, best_params_, best_score_, best_index_, refit_time_, n_splits_, scorer_, multimetric_
        As in ``RandomizedSearchCV``. The best is chosen among the points whose folds have all been scored.
    sub_models_ : list by point of lists by fold, None where a fold has not run; with ``collect_sub_models=True``.
    experiment_ : the number of the experiment.
    """

    def __init__(self, estimator, param_distributions, *, n_iter=None, algorithm="auto", scoring=None, n_jobs=None, refit=True,
                 cv=None, verbose=0, error_score=np.nan, return_train_score=False, early_stopping=None,
                 collect_sub_models=False, random_state=None, time_limit=None, url=None, name=None, workers=None):
        super().__init__(estimator=estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
                         error_score=error_score, return_train_score=return_train_score)
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.algorithm = algorithm
        self.early_stopping = early_stopping
        self.collect_sub_models = collect_sub_models
        self.random_state = random_state
        self.time_limit = time_limit
        self.url = url
        self.name = name
        self.workers = workers

    # ---- fit ----

    def fit(self, X, y=None, *, groups=None, **fit_params):
        """Searches, then fits the best point on all data. ``groups`` goes to the splitter, ``fit_params`` to the estimator."""
        self._check_parameters()
        points = Points(self.param_distributions)
        scoring = self._scoring()
        X, y, groups = indexable(X, y, groups)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        folds = list(cv.split(X, y, groups))
        if not folds:
            raise ValueError("the splitter made no folds")
        job = units.Job(self.estimator, X, y, folds, scoring, fit_params, self.return_train_score, bool(self.collect_sub_models))
        self.n_splits_ = len(folds)
        tried = self._search(job, points)
        self._keep(tried, points)
        if self.refit:
            self._refit(X, y, fit_params)
        return self

    def _check_parameters(self):
        if self.n_iter is not None and not (isinstance(self.n_iter, numbers.Integral) and self.n_iter > 0):
            raise ValueError(f"n_iter must be a whole number above 0 or None, not {self.n_iter!r}")
        if self.error_score != "raise" and not isinstance(self.error_score, numbers.Real):
            raise ValueError(f"error_score must be a number or 'raise', not {self.error_score!r}")
        if self.n_jobs is not None and (not isinstance(self.n_jobs, numbers.Integral) or self.n_jobs == 0):
            raise ValueError(f"n_jobs must be a whole number other than 0 or None, not {self.n_jobs!r}")
        if self.workers is not None and self.url is None:
            raise ValueError("workers needs url: the driver whose workers are to run the folds")

    def _scoring(self):
        """What cross_validate is to score by; sets scorer_ and multimetric_ where they are known before a score."""
        self._metric = METRIC
        if self.scoring is None or isinstance(self.scoring, str):
            self.scorer_ = check_scoring(self.estimator, scoring=self.scoring)
            self.multimetric_ = False
            return self.scorer_
        if callable(self.scoring):
            self.scorer_, self.multimetric_ = self.scoring, False  # a dict of scores makes it several
            self._metric = None
            return self.scoring
        names = {n: n for n in self.scoring} if not isinstance(self.scoring, dict) else self.scoring
        self.scorer_ = {n: check_scoring(self.estimator, scoring=s) for n, s in names.items()}
        self.multimetric_ = True
        if callable(self.refit) or self.refit is False:
            self._metric = next(iter(names))
        elif self.refit in names:
            self._metric = self.refit
        else:
            raise ValueError(f"with several metrics refit must name the one to search by, one of {', '.join(names)} (or be False "
                             f"or a callable; then the first leads the search), not {self.refit!r}")
        return self.scorer_

    def _search(self, job, points):
        spec = self._experiment(points, len(job.folds))
        if self.workers is not None:
            return self._search_on_workers(job, points, spec)
        with service.experiment(self.url, spec) as x, self._pool(job) as pool:
            self.experiment_ = x.id
            return Search(x, pool, points, len(job.folds), self._value, self._say, _rule(self.early_stopping) == "wilcoxon").run()

    def _search_on_workers(self, job, points, spec):
        lead = self._metric or (self.refit if isinstance(self.refit, str) else None)
        with remote.Shared(self.workers, job, points, lead, self.error_score) as shared, \
                service.experiment(self.url, {**spec, **shared.keys()}) as x:
            self.experiment_ = x.id
            tried = remote.run(x, shared, points)
        for p in tried:
            for result in p.results.values():
                if "error" in result:
                    self._failed(result)
                else:
                    self._leading(result)
            self._say(p)
        return tried

    def _pool(self, job):
        n = self._jobs()
        return contextlib.closing(units.Inline(job) if n == 1 else units.Processes(job, n))

    def _jobs(self):
        n = 1 if self.n_jobs is None else int(self.n_jobs)
        return n if n > 0 else max(1, (os.cpu_count() or 1) + 1 + n)

    def _experiment(self, points, n_folds):
        """The experiment file."""
        optimizer = {"algorithm": self.algorithm} if isinstance(self.algorithm, str) else dict(self.algorithm)
        n = self.n_iter if self.n_iter is not None or optimizer.get("algorithm") == "grid" else POINTS
        spec = {"name": self.name or f"search {type(self.estimator).__name__}", "objective": {"metric": METRIC, "direction": "max"},
                "searchspace": points.searchspace, "optimizer": optimizer, "limits": {"failures": 0}}
        if n is not None:
            spec["limits"]["trials"] = int(n)
        if self.time_limit is not None:
            spec["limits"]["time"] = self.time_limit
        if self.random_state is not None:
            spec["seed"] = int(self.random_state if isinstance(self.random_state, numbers.Integral)
                               else check_random_state(self.random_state).randint(2**31 - 1))
        if self.early_stopping is not None:
            spec["early_stopping"] = {"rule": self.early_stopping} if isinstance(self.early_stopping, str) else self.early_stopping
        if optimizer.get("algorithm") in BY_FOLDS or _rule(self.early_stopping) in ("hyperband", "curve"):
            spec["resource"] = {"unit": "fold", "min": 1, "max": n_folds}
        return spec

    def _value(self, results):
        """The mean by which a point counts, None when a fold has none."""
        values = []
        for r in results:
            if "error" in r:
                self._failed(r)
                values.append(float(self.error_score))
            else:
                values.append(r["test"][self._leading(r)])
        mean = sum(values) / len(values)
        return mean if math.isfinite(mean) else None

    def _leading(self, result):
        """The metric that leads the search."""
        if self._metric is None:
            names = list(result["test"])
            self.multimetric_ = names != [METRIC]
            if not self.multimetric_:
                self._metric = METRIC
            elif callable(self.refit) or self.refit is False:
                self._metric = names[0]
            elif self.refit in names:
                self._metric = self.refit
            else:
                raise ValueError(f"scoring returns several metrics: refit must name one of {', '.join(names)}, not {self.refit!r}")
        return self._metric

    def _failed(self, result):
        if self.error_score == "raise":
            raise result["exception"]
        if not result.get("warned"):
            result["warned"] = True
            warnings.warn(f"a fold failed and scores {self.error_score}: {result['error']}\n{result['trace']}", FitFailedWarning)

    def _say(self, point):
        if self.verbose > 0 and point.state != "paused":
            shown = " ".join(f"{k}={v}" for k, v in point.params.items())
            scores = [r["test"].get(self._metric, math.nan) for r in point.results.values() if "test" in r]
            mean = f"{np.mean(scores):.4f}" if scores else "nan"
            print(f"[{point.trial}] {point.state} {mean} over {len(point.results)} folds: {shown}", file=sys.stderr, flush=True)

    # ---- what was found ----

    def _keep(self, tried, points):
        if not tried:
            raise ValueError("the search ended before any point was tried")
        self._raise_if_all_failed(tried)
        self._collect(tried)
        self.cv_results_ = table.results(tried, points.names(), self.n_splits_, self.error_score, self.return_train_score)
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._best(self.cv_results_, any(table.is_whole(p, self.n_splits_) for p in tried))
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{self._metric or METRIC}"][self.best_index_]

    def _raise_if_all_failed(self, tried):
        ran = [r for p in tried for r in p.results.values()]
        if all("error" in r for r in ran):
            raise ValueError(f"All the {len(ran)} fits failed. The first one:\n{ran[0]['trace'] if ran else 'none was run'}")

    def _best(self, results, any_whole):
        if callable(self.refit):
            best = self.refit(results)
            if not isinstance(best, numbers.Integral):
                raise TypeError("best_index_ returned is not an integer")
            if not 0 <= best < len(results["params"]):
                raise IndexError("best_index_ index out of range")
            return int(best)
        if not any_whole:
            raise ValueError("no point was scored on all its folds: give the search more time or points")
        return int(np.argmin(results[f"rank_test_{self._metric or METRIC}"]))

    def _collect(self, tried):
        if not self.collect_sub_models:
            return
        if self.collect_sub_models is True:
            self.sub_models_ = [[p.results.get(f, {}).get("model") for f in range(self.n_splits_)] for p in tried]
            return
        import joblib

        for p in tried:
            folder = os.path.join(os.fspath(self.collect_sub_models), str(p.trial))
            os.makedirs(folder, exist_ok=True)
            for fold, r in sorted(p.results.items()):
                if r.get("model") is not None:
                    joblib.dump(r["model"], os.path.join(folder, f"{fold}.joblib"))

    def _refit(self, X, y, fit_params):
        began = time.perf_counter()
        self.best_estimator_ = clone(self.estimator).set_params(**{k: clone(v, safe=False) for k, v in self.best_params_.items()})
        if y is not None:
            self.best_estimator_.fit(X, y, **fit_params)
        else:
            self.best_estimator_.fit(X, **fit_params)
        self.refit_time_ = time.perf_counter() - began
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _rule(early_stopping):
    return early_stopping.get("rule") if isinstance(early_stopping, dict) else early_stopping
