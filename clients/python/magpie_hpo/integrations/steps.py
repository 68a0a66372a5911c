# SPDX-License-Identifier: Apache-2.0
"""What every integration does at the end of a step."""
import numbers

from .. import state
from .. import trial as _trial


class Steps:
    """``trial`` None is the trial of this process. ``names`` maps a library's metric name to the one to report, e.g.
    ``{"validation-auc": "auc"}``; others keep theirs."""

    def __init__(self, trial=None, names=None):
        self.trial, self.names = trial if trial is not None else _trial(), dict(names or {})

    def after(self, step, metrics, save):
        """Reports, writes a checkpoint when one is due (``save(folder)``); True when the training is to end here."""
        t = self.trial
        t.report(step, {self.names.get(k, k): v for k, v in metrics.items() if is_number(v)})
        ends = t.should_stop()
        due = ends or step % t.checkpoint_every == 0
        if due and t.order != "stop" and t.keeps_checkpoints:
            with t.checkpoint_dir(step) as folder:
                save(str(folder))
                state.save(folder, step, {})  # the random generators
        return ends

    def go_on(self):
        """Puts the random generators back as they were at the checkpoint to go on from."""
        if self.trial.resume_from is not None:
            state.restore(self.trial.resume_from, {})


def is_number(x):
    if isinstance(x, numbers.Real):
        return True
    n = getattr(x, "numel", None) or getattr(x, "size", None)  # a tensor's, an array's
    return (n() if callable(n) else n) == 1


def steps_left(trial, total):
    """How many steps remain of the budget (where there is none: of `total`) after the checkpoint to go on from."""
    end = trial.budget if trial.budget is not None else total
    if end is None:
        raise ValueError("the experiment has no resource, so say how many steps to train")
    return max(0, end - trial.resume_step)
