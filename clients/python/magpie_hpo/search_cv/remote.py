# SPDX-License-Identifier: Apache-2.0
"""Folds on the driver's workers: the driver deals out the folds of a point (``validation``), a long-lived executor on each worker runs
them, and what they scored comes back through a folder that all can see."""
import os
import pickle
import shutil
import sys
import tempfile
import time

from ..client import ENDED, LOOK
from . import units
from .search import Point

JOB = "SEARCH_CV_JOB"  # tells an executor where the folder is
_loaded = {}


class Shared:
    """A folder below `root` with the job, and a file for each trial's results. Gone at the end of the block."""

    def __init__(self, root, job, points, lead, error_score):
        os.makedirs(root, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix="search-", dir=os.path.abspath(root))
        self._n = len(job.folds)
        try:
            units.save(job, self.folder, os.path.join(self.folder, "job"), points=points, lead=lead, error_score=error_score)
        except BaseException:
            self.__exit__()
            raise

    def keys(self):
        """What the experiment file needs for it."""
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        return {"validation": {"folds": self._n, "refit": False},
                "trial": {"executor": [sys.executable, "-m", "magpie_hpo.executor", "magpie_hpo.search_cv.remote:fold"],
                          "env": {JOB: self.folder, "PYTHONPATH": path}}}

    def result(self, trial):
        """What a trial scored, None when it has not."""
        try:
            with open(os.path.join(self.folder, str(trial)), "rb") as f:
                return pickle.load(f)
        except FileNotFoundError:
            return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)


def run(experiment, shared, points):
    """Waits for the experiment's end; its points, as a search of this process has them."""
    while experiment.state not in ENDED:
        time.sleep(LOOK)
    tried = {}
    for t in experiment.trials():
        point = tried.get(t["point"])
        if point is None:
            given = {"trial": t["point"], "attempt": t["attempt"], "budget": None}
            point = tried[t["point"]] = Point(given, points.decode(t["params"]))
            point.state, point.reason = t["point_state"], t["reason"]
        result = shared.result(t["trial"])
        if result is not None:
            point.results[t["fold"] - 1] = result
    return [tried[k] for k in sorted(tried)]


def fold(trial):
    """The executor's function: one fold of one point."""
    folder = os.environ[JOB]
    if folder not in _loaded:
        _loaded.clear()
        _loaded[folder] = units.load(os.path.join(folder, "job"))
    job, more = _loaded[folder]
    result = job.run(more["points"].decode(trial.params), trial.fold - 1)
    _write(os.path.join(folder, str(trial.number)), units.portable(result))
    if "error" in result:
        if more["error_score"] == "raise" or more["error_score"] != more["error_score"]:
            raise result["exception"]
        return float(more["error_score"])
    lead = more["lead"] if more["lead"] in result["test"] else next(iter(result["test"]))
    return {trial.metric: result["test"][lead], "fit_time": result["fit_time"], "score_time": result["score_time"]}


def _write(path, data):
    """Whole or not at all."""
    with open(path + ".part", "wb") as f:
        f.write(data)
    os.replace(path + ".part", path)
