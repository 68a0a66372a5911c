# SPDX-License-Identifier: Apache-2.0
"""scikit-learn has no callbacks, so this is the loop: estimators that learn by ``partial_fit``, and ensembles that grow
with ``warm_start``.

    with magpie.trial(alpha=1e-4) as t:
        model = train(SGDClassifier(**t.params), X, y, validation=(Xv, yv), steps=20)
"""
import os

import joblib
import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring

from .steps import Steps, steps_left

FILE = "model.joblib"


def train(model, X, y, *, trial=None, validation, steps=None, metric="score", scoring=None, batch=None, grow=10, seed=0, **fit_params):
    """Trains `model` step by step up to the trial's budget (or `steps`) and returns it, fitted.

    A step is one pass of ``partial_fit`` over the data, shuffled by `seed` and the step, in batches of `batch` rows (None: all
    at once); or, for an ensemble with ``n_estimators`` and ``warm_start``, `grow` more members.
    `metric` is the name to report the score on `validation`, (X, y), by; `scoring` is as scikit-learn has it.
    """
    trainer = Steps(trial)
    first = trial.resume_step
    if trial.resume_from is not None:
        model = joblib.load(os.path.join(trial.resume_from, FILE))
        trainer.go_on()
    learn = _way(model, X, y, batch, grow, seed, fit_params)
    scorer = check_scoring(model, scoring=scoring)
    for step in range(first + 1, first + steps_left(trial, steps) + 1):
        learn(model, step)
        if trainer.after(step, {metric: scorer(model, *validation)}, lambda folder: joblib.dump(model, os.path.join(folder, FILE))):
            break
    return model


def _way(model, X, y, batch, grow, seed, fit_params):
    """How this estimator learns a step."""
    known = model.get_params(deep=False)
    if hasattr(model, "partial_fit"):
        classes = np.unique(y) if is_classifier(model) else None

        def learn(m, step):
            order = np.random.default_rng([seed, step]).permutation(len(y))
            for i in range(0, len(order), batch or len(order)):
                rows = order[i:i + (batch or len(order))]
                more = dict(fit_params) if classes is None else dict(fit_params, classes=classes)
                m.partial_fit(_rows(X, rows), _rows(y, rows), **more)

        return learn
    if "warm_start" in known and "n_estimators" in known:
        def learn(m, step):
            m.set_params(warm_start=True, n_estimators=grow * step).fit(X, y, **fit_params)

        return learn
    raise TypeError(f"{type(model).__name__} learns neither by partial_fit nor by n_estimators with warm_start: report a score of "
                    f"the whole fit instead, or search it with MagpieSearchCV")


def _rows(a, rows):
    return a.iloc[rows] if hasattr(a, "iloc") else np.asarray(a)[rows] if not hasattr(a, "tocsr") else a.tocsr()[rows]
