# SPDX-License-Identifier: Apache-2.0
"""LightGBM.

    with magpie.trial(learning_rate=0.1) as t:
        callback = MagpieCallback(t, names={"valid-auc": "auc"})
        lightgbm.train(t.params, train, callback.rounds(100), valid_sets=[valid], valid_names=["valid"],
                       init_model=callback.model, callbacks=[callback])
"""
import os

import lightgbm

from .steps import Steps, steps_left

FILE = "model.txt"


class MagpieCallback:
    """``every`` boosting rounds are a step. Reports the evaluations as ``valid-auc`` (``names`` renames them) and checkpoints the
    booster. A stop ends the training as LightGBM's own early stopping does: ``train`` returns the booster."""

    order = 40  # after the callbacks that record or print

    def __init__(self, trial=None, names=None, every=1):
        self._steps, self._every = Steps(trial, names), every

    @property
    def model(self):
        """For ``init_model=``: the booster to go on from, None for a trial that begins."""
        folder = self._steps.trial.resume_from
        return None if folder is None else os.path.join(folder, FILE)

    def rounds(self, steps=None):
        """For ``num_boost_round``: the rounds to go up to the budget, or of `steps` steps where there is none."""
        return self._every * steps_left(self._steps.trial, steps)

    def __call__(self, env):
        done = env.iteration + 1
        if done % self._every:
            return
        results = env.evaluation_result_list or []
        values = {f"{r[0]}-{r[1]}": r[2] for r in results}
        last = done >= env.end_iteration
        if self._steps.after(done // self._every, values, lambda folder: env.model.save_model(os.path.join(folder, FILE), num_iteration=-1)) \
                and not last:
            raise lightgbm.callback.EarlyStopException(env.iteration, results)
