#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MagpieSearchCV on scikit-learn's digits: python3 examples/sklearn_digits.py [POINTS]. It needs the program magpie (in PATH, or named by
MAGPIE) and starts what it needs for its time."""
import sys

from magpie_hpo import MagpieSearchCV
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

if __name__ == "__main__":
    X, test_X, y, test_y = train_test_split(*load_digits(return_X_y=True), test_size=0.25, random_state=0)
    search = MagpieSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": loguniform(1e-2, 1e3), "svc__gamma": loguniform(1e-5, 1e0)},
                            n_iter=int(sys.argv[1]) if len(sys.argv) > 1 else 40, cv=5, n_jobs=-1, random_state=1, verbose=1,
                            early_stopping={"rule": "median", "min_trials": 5})
    search.fit(X, y)
    print(f"best {search.best_params_}")
    print(f"mean accuracy over 5 folds {search.best_score_:.4f}, on held-out digits {search.score(test_X, test_y):.4f}")
    print(f"{search.cv_results_['n_folds'].sum()} of {5 * len(search.cv_results_['params'])} folds were run")
