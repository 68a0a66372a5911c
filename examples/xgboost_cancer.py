#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""XGBoost on scikit-learn's breast cancer data; a step is ten boosting rounds. The search is examples/xgboost_cancer.json."""
import magpie_hpo as magpie
import xgboost
from magpie_hpo.integrations.xgboost import MagpieCallback
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

X, y = load_breast_cancer(return_X_y=True)
X, valid_X, y, valid_y = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

with magpie.trial(eta=0.1, max_depth=4, min_child_weight=1, subsample=1.0) as t:
    callback = MagpieCallback(t, names={"valid-logloss": "logloss"}, every=10)
    xgboost.train({"objective": "binary:logistic", "nthread": 1, "seed": 0, **t.params}, xgboost.DMatrix(X, y), callback.rounds(9),
                  evals=[(xgboost.DMatrix(valid_X, valid_y), "valid")], verbose_eval=False, xgb_model=callback.model,
                  callbacks=[callback])
