#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trial programs for integrations_test.py: `learn.py LIBRARY STEPS` trains something small with one library, in the way that its
integration's head shows. LEARN_NOTES names a file that gets a line when the training has returned."""
import json
import os
import sys

import magpie_hpo as magpie
import numpy as np


def data():
    """Two classes that overlap a little: train and validation."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = (rng.normal(size=(400, 6)) + 0.7 * y[:, None]).astype("float32")
    return x[:300], y[:300], x[300:], y[300:]


def with_keras(t, steps):
    import keras
    from magpie_hpo.integrations.keras import MagpieCallback

    keras.utils.set_random_seed(1)
    x, y, xv, yv = data()
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(t.params["lr"]), "binary_crossentropy")
    model.fit(x, y, 100, validation_data=(xv, yv), shuffle=False, initial_epoch=t.resume_step, epochs=t.budget or steps, verbose=0,
              callbacks=[MagpieCallback(t, names={"val_loss": "value"})])


def with_lightning(t, steps):
    import pytorch_lightning as pl
    import torch
    from magpie_hpo.integrations.lightning import MagpieCallback

    class Module(pl.LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.lr = lr
            self.net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))

        def _register_sharded_tensor_state_dict_hooks_if_available(self):
            """Not with Debian's PyTorch 1.13, whose sharded tensors cannot be imported under Python 3.11."""

        def loss(self, batch):
            return torch.nn.functional.binary_cross_entropy_with_logits(self.net(batch[0])[:, 0], batch[1])

        def training_step(self, batch, _):
            return self.loss(batch)

        def validation_step(self, batch, _):
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), self.lr)

    pl.seed_everything(1)
    x, y, xv, yv = (torch.from_numpy(a.astype("float32")) for a in data())
    load = torch.utils.data.DataLoader
    sets = torch.utils.data.TensorDataset(x, y), torch.utils.data.TensorDataset(xv, yv)
    callback = MagpieCallback(t, names={"val_loss": "value"})
    trainer = pl.Trainer(max_epochs=t.budget or steps, callbacks=[callback], logger=False, enable_checkpointing=False, accelerator="cpu",
                         enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Module(t.params["lr"]), load(sets[0], 100, shuffle=True), load(sets[1], 100), ckpt_path=callback.ckpt_path)


def with_xgboost(t, steps):
    import xgboost
    from magpie_hpo.integrations.xgboost import MagpieCallback

    x, y, xv, yv = data()
    callback = MagpieCallback(t, names={"valid-logloss": "value"}, every=2)
    xgboost.train({"eta": t.params["lr"], "objective": "binary:logistic", "max_depth": 2, "nthread": 1}, xgboost.DMatrix(x, y),
                  callback.rounds(steps), evals=[(xgboost.DMatrix(xv, yv), "valid")], verbose_eval=False, xgb_model=callback.model,
                  callbacks=[callback])


def with_lightgbm(t, steps):
    import lightgbm
    from magpie_hpo.integrations.lightgbm import MagpieCallback

    x, y, xv, yv = data()
    callback = MagpieCallback(t, names={"valid-binary_logloss": "value"}, every=2)
    train = lightgbm.Dataset(x, y, free_raw_data=False)
    lightgbm.train({"learning_rate": t.params["lr"], "objective": "binary", "num_leaves": 4, "num_threads": 1, "verbose": -1},
                   train, callback.rounds(steps), valid_sets=[lightgbm.Dataset(xv, yv, reference=train, free_raw_data=False)],
                   valid_names=["valid"], init_model=callback.model, callbacks=[callback])


def with_sklearn(t, steps):
    from magpie_hpo.integrations.sklearn import train
    from sklearn.linear_model import SGDClassifier

    x, y, xv, yv = data()
    train(SGDClassifier("log_loss", alpha=t.params["lr"], random_state=1), x, y, trial=t, validation=(xv, yv), steps=steps, metric="value",
          scoring="neg_log_loss", batch=50)


def with_ensemble(t, steps):
    from magpie_hpo.integrations.sklearn import train
    from sklearn.ensemble import GradientBoostingClassifier

    x, y, xv, yv = data()
    train(GradientBoostingClassifier(learning_rate=t.params["lr"], max_depth=2, random_state=1), x, y, trial=t, validation=(xv, yv),
          steps=steps, metric="value", scoring="neg_log_loss", grow=3)


def main(library, steps):
    with magpie.trial(lr=0.01) as t:
        try:
            globals()["with_" + library](t, int(steps))
        finally:  # Lightning leaves by an exception when it is told to end by SIGTERM
            with open(os.environ["LEARN_NOTES"], "a", encoding="utf-8") as f:
                f.write(json.dumps({"trial": t.number, "attempt": t.attempt, "from": t.resume_step, "to": t.step}) + "\n")


main(*sys.argv[1:])
