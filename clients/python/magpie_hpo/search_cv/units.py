# SPDX-License-Identifier: Apache-2.0
"""A unit of work: one fold of one point. Units run in this process or in long-lived ones that hold the data.

A process that dies (killed, out of memory) costs its unit another try in a fresh process; after the
third death the unit has failed with that as its reason.
"""
import ctypes
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing import connection

TRIES = 3
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def with_parent():
    """For a new process: it ends when the thread that searches does, however that ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Job:
    """What all units share. ``folds`` are pairs of indices (train, test)."""

    def __init__(self, estimator, X, y, folds, scoring, fit_params, train_score, keep):
        self.estimator, self.X, self.y, self.folds = estimator, X, y, folds
        self.scoring, self.fit_params, self.train_score, self.keep = scoring, fit_params, train_score, keep

    def run(self, params, fold):
        """One fold: a dict of ``test``, ``train`` (scores by metric), ``fit_time``, ``score_time``, ``model``;
        or of ``error``, ``trace`` and ``fit_time`` when it failed."""
        began = time.perf_counter()
        try:
            return self._run(params, fold)
        except Exception as e:
            return {"error": f"{type(e).__name__}: {e}", "trace": traceback.format_exc(), "exception": e,
                    "fit_time": time.perf_counter() - began, "score_time": 0.0}

    def _run(self, params, fold):
        from sklearn.base import clone
        from sklearn.model_selection import cross_validate

        model = clone(self.estimator).set_params(**{k: clone(v, safe=False) for k, v in params.items()})
        out = cross_validate(model, self.X, self.y, cv=[self.folds[fold]], scoring=self.scoring, error_score="raise",
                             return_train_score=self.train_score, return_estimator=self.keep, **_fit_params(self.fit_params))
        return {"test": {k[5:]: float(v[0]) for k, v in out.items() if k.startswith("test_")},
                "train": {k[6:]: float(v[0]) for k, v in out.items() if k.startswith("train_")},
                "fit_time": float(out["fit_time"][0]), "score_time": float(out["score_time"][0]),
                "model": out["estimator"][0] if self.keep else None}


def _fit_params(params):
    """cross_validate calls them ``params`` since scikit-learn 1.4, ``fit_params`` before."""
    import inspect

    from sklearn.model_selection import cross_validate

    if not params:
        return {}
    return {"params" if "params" in inspect.signature(cross_validate).parameters else "fit_params": params}


class Inline:
    """Units in this process, one at a time."""

    def __init__(self, job):
        self._job, self._done = job, []

    def free(self):
        return 0 if self._done else 1

    def submit(self, key, params, fold):
        self._done.append((key, self._job.run(params, fold)))

    def wait(self, timeout):
        done, self._done = self._done, []
        return done

    def close(self):
        pass


class _Process:
    """A long-lived process with a pipe of messages; ``unit`` is what it works at."""

    def __init__(self, path, environment):
        mine, theirs = connection.Pipe()
        with theirs:
            self._p = subprocess.Popen([sys.executable, "-m", "magpie_hpo.search_cv.units", str(theirs.fileno()), path],
                                       pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
                                       preexec_fn=with_parent)
        self.pipe, self.unit, self.tries = mine, None, 0

    def give(self, unit, tries):
        self.unit, self.tries = unit, tries
        try:
            self.pipe.send_bytes(pickler().dumps(unit[1:]))
        except OSError:
            pass  # it is dead: take() finds out

    def take(self):
        """The result, or None when the process has died."""
        try:
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return None

    def end(self):
        """How the process ended, in words."""
        self.pipe.close()
        self._p.kill()
        status = self._p.wait()
        return f"signal {-status}" if status < 0 else f"status {status}"


class Processes:
    """Units in `n` processes, started when first needed. The data reach them once, through a file."""

    def __init__(self, job, n):
        self._n, self._processes = n, []
        self._folder = tempfile.mkdtemp(prefix="magpie-units-")
        self._path = os.path.join(self._folder, "job")
        try:
            save(job, self._folder, self._path)
        except BaseException:
            self.close()
            raise
        self._env = dict(os.environ, PYTHONPATH=os.pathsep.join(p or os.getcwd() for p in sys.path))
        threads = str(max(1, (os.cpu_count() or 1) // n))
        for name in ONE_THREAD:
            self._env.setdefault(name, threads)

    def free(self):
        return self._n - sum(1 for p in self._processes if p.unit is not None)

    def submit(self, key, params, fold):
        idle = next((p for p in self._processes if p.unit is None), None)
        if idle is None:
            idle = self._start()
        idle.give((key, params, fold), 1)

    def _start(self):
        p = _Process(self._path, self._env)
        self._processes.append(p)
        return p

    def wait(self, timeout):
        """The units that have ended: [(key, result)], empty after `timeout` seconds."""
        busy = {p.pipe: p for p in self._processes if p.unit is not None}
        out = []
        for pipe in connection.wait(list(busy), timeout):
            p = busy[pipe]
            result = p.take()
            if result is None:
                result = self._died(p)
            if result is not None:
                out.append((p.unit[0], result))
                p.unit = None
        return out

    def _died(self, p):
        self._processes.remove(p)
        how = p.end()
        if p.tries < TRIES:
            self._start().give(p.unit, p.tries + 1)
            return None
        reason = f"the process of this fold ended {TRIES} times, at last by {how}"
        return {"error": reason, "trace": reason, "exception": RuntimeError(reason), "fit_time": 0.0, "score_time": 0.0}

    def close(self):
        for p in self._processes:
            p.end()
        self._processes = []
        shutil.rmtree(self._folder, ignore_errors=True)


def pickler():
    """What pickles lambdas and classes of a notebook too; joblib, which scikit-learn needs, brings it."""
    try:
        from joblib.externals import cloudpickle
    except ImportError:
        import cloudpickle
    return cloudpickle


def save(job, folder, path, **more):
    """The job in a file, the arrays apart, so that all processes map the same pages; `more` are attributes beside."""
    import joblib

    data = os.path.join(folder, "data")
    try:
        joblib.dump((job.X, job.y), data)
        shared, (X, y) = True, (None, None)
    except Exception:  # what plain pickle does not take
        shared, (X, y) = False, (job.X, job.y)
    lean = Job(job.estimator, X, y, job.folds, job.scoring, job.fit_params, job.train_score, job.keep)
    with open(path, "wb") as f:
        f.write(pickler().dumps((lean, data if shared else None, more)))


def load(path):
    """The job that save() wrote, and what was beside it."""
    import joblib

    with open(path, "rb") as f:
        job, data, more = pickle.load(f)
    if data is not None:
        job.X, job.y = joblib.load(data, mmap_mode="r")
    return job, more


def portable(result):
    """A result that certainly travels: an exception or model that cannot be pickled stays behind."""
    try:
        return pickler().dumps(result)
    except Exception as e:
        if "error" in result:
            return pickler().dumps(dict(result, exception=RuntimeError(result["error"])))
        return pickler().dumps({"error": f"the fitted estimator cannot be pickled: {e}", "trace": str(e), "score_time": 0.0,
                                "exception": RuntimeError(str(e)), "fit_time": result["fit_time"]})


def main(fd, path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that searches: it ends this one
    job = None
    pipe = connection.Connection(int(fd))
    while True:
        try:
            params, fold = pickle.loads(pipe.recv_bytes())
            job = job or load(path)[0]
            pipe.send_bytes(portable(job.run(params, fold)))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
