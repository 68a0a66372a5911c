# SPDX-License-Identifier: Apache-2.0
"""What joins a library's own training loop to a trial: one module a library, imported only when you import it.

    from magpie_hpo.integrations.keras import MagpieCallback          model.fit(..., callbacks=[MagpieCallback(t)])
    from magpie_hpo.integrations.lightning import MagpieCallback      Trainer(callbacks=[MagpieCallback(t)])
    from magpie_hpo.integrations.xgboost import MagpieCallback        xgboost.train(..., callbacks=[MagpieCallback(t)])
    from magpie_hpo.integrations.lightgbm import MagpieCallback       lightgbm.train(..., callbacks=[MagpieCallback(t)])
    from magpie_hpo.integrations.sklearn import train                 train(t, model, X, y, validation=(Xv, yv))

Each reports a step's metrics, obeys a stop or a pause at the end of a step, writes checkpoints in the library's own
format and goes on from one.
"""
