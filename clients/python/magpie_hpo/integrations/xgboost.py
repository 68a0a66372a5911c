# SPDX-License-Identifier: Apache-2.0
"""XGBoost.

    with magpie.trial(eta=0.1) as t:
        callback = MagpieCallback(t, names={"valid-auc": "auc"})
        xgboost.train(t.params, train, callback.rounds(100), evals=[(valid, "valid")], xgb_model=callback.model,
                      callbacks=[callback])
"""
import os

import xgboost

from .steps import Steps, steps_left

FILE = "model.ubj"


class MagpieCallback(xgboost.callback.TrainingCallback):
    """``every`` boosting rounds are a step. Reports the evaluations as XGBoost names them, ``valid-auc`` (``names`` renames
    them), and checkpoints the booster."""

    def __init__(self, trial=None, names=None, every=1):
        super().__init__()
        self._steps, self._every = Steps(trial, names), every

    @property
    def model(self):
        """For ``xgb_model=``: the booster to go on from, None for a trial that begins."""
        folder = self._steps.trial.resume_from
        return None if folder is None else os.path.join(folder, FILE)

    def rounds(self, steps=None):
        """For ``num_boost_round``: the rounds to go up to the budget, or of `steps` steps where there is none."""
        return self._every * steps_left(self._steps.trial, steps)

    def after_iteration(self, model, epoch, evals_log):
        done = model.num_boosted_rounds()
        if done % self._every:
            return False
        values = {f"{data}-{metric}": _last(log) for data, metrics in evals_log.items() for metric, log in metrics.items()}
        return self._steps.after(done // self._every, values, lambda folder: model.save_model(os.path.join(folder, FILE)))


def _last(log):
    """The newest entry; xgboost.cv has (mean, deviation)."""
    return log[-1][0] if isinstance(log[-1], tuple) else log[-1]
