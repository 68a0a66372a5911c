# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's logistic regression with Spark's regParam; a module of its own, so that other processes can import it."""
from sklearn.linear_model import LogisticRegression


class SparkLogistic(LogisticRegression):
    """The mean loss plus `reg` times half the squared weights, which is C = 1 / (rows * reg)."""

    def __init__(self, reg=0.01):
        super().__init__(max_iter=1000, tol=1e-5)
        self.reg = reg

    def fit(self, X, y, sample_weight=None):
        self.C = 1.0 / (len(y) * self.reg)
        return super().fit(X, y, sample_weight)
