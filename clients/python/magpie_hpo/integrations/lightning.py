# SPDX-License-Identifier: Apache-2.0
"""PyTorch Lightning.

    with magpie.trial(lr=0.01) as t:
        callback = MagpieCallback(t)
        Trainer(max_epochs=t.budget or 20, callbacks=[callback]).fit(module, data, ckpt_path=callback.ckpt_path)
"""
import os

try:
    import pytorch_lightning as pl
except ImportError:  # the same under its newer name
    import lightning.pytorch as pl

from .steps import Steps

FILE = "last.ckpt"


def _bases():
    """Trainer accepts callbacks of the package it comes from; with both installed this one suits either."""
    bases = [pl.Callback]
    try:
        import lightning.pytorch

        if lightning.pytorch.Callback is not pl.Callback:
            bases.append(lightning.pytorch.Callback)
    except ImportError:
        pass
    return tuple(bases)


class MagpieCallback(*_bases()):
    """An epoch is a step. Reports what was logged (``self.log("val_loss", ...)``; ``names`` renames it) and checkpoints all
    that Lightning knows: module, optimizers, schedulers, loops."""

    def __init__(self, trial=None, names=None):
        super().__init__()
        self._steps = Steps(trial, names)

    @property
    def ckpt_path(self):
        """For ``Trainer.fit(ckpt_path=...)``: the checkpoint to go on from, None for a trial that begins."""
        folder = self._steps.trial.resume_from
        return None if folder is None else os.path.join(folder, FILE)

    def on_train_start(self, trainer, pl_module):
        self._steps.go_on()

    def on_train_epoch_end(self, trainer, pl_module):
        if self._steps.after(trainer.current_epoch + 1, trainer.callback_metrics,
                             lambda folder: trainer.save_checkpoint(os.path.join(folder, FILE))):
            trainer.should_stop = True
