# SPDX-License-Identifier: Apache-2.0
"""Keras 3 (any backend).

    with magpie.trial(lr=0.01) as t:
        model = ...                                       # compiled
        model.fit(x, y, validation_data=(xv, yv), initial_epoch=t.resume_step, epochs=t.budget or 20,
                  callbacks=[MagpieCallback(t)])
"""
import os

import keras

from .steps import Steps

FILE = "model.weights.h5"


class MagpieCallback(keras.callbacks.Callback):
    """An epoch is a step. Reports the epoch's logs (``loss``, ``val_accuracy``, ...; ``names`` renames them), checkpoints the
    model's and the optimizer's variables, restores them before the first epoch of a trial that goes on."""

    def __init__(self, trial=None, names=None):
        super().__init__()
        self._steps = Steps(trial, names)

    def on_train_begin(self, logs=None):
        folder = self._steps.trial.resume_from
        if folder is not None:
            self._build()
            self.model.load_weights(os.path.join(folder, FILE))
            self._steps.go_on()

    def on_epoch_end(self, epoch, logs=None):
        if self._steps.after(epoch + 1, logs or {}, self._save):
            self.model.stop_training = True

    def _build(self):
        """Variables must be there before a file can fill them."""
        if not self.model.built:
            raise ValueError("give the model an Input layer or build() it before fit(), so that its checkpoint can be loaded")
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    def _save(self, folder):
        self.model.save_weights(os.path.join(folder, FILE))
