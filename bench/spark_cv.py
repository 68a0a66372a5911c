#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cross-validated grid search: Spark's CrossValidator and MagpieSearchCV on the same data, grid and folds.

The estimator is logistic regression with the same objective on both sides: the mean log loss plus regParam times half the squared
weights, intercept free, columns not standardised (scikit-learn's C is 1 / (rows * regParam)). Folds are given (Spark's foldCol, ours a
PredefinedSplit); the metric is the log loss on the held-out fold. Both use --cores cores: Spark as local[N] with parallelism N, ours with
n_jobs=N. Spark's session is up and warm (one fit) before its clock starts; ours includes driver and processes. Rounds alternate. The
data sets are of the size that people search with scikit-learn; Spark's way pays where the data fill a cluster.

usage: bench/spark_cv.py [--data breast_cancer|digits|fashion] [--rows N] [--folds K] [--cores N] [--rounds R]
Needs Java 8 to 17. Makes ~/.cache/magpie-bench/spark (pyspark, scikit-learn) on the first run. JSON lines: one a round, one in sum."""
import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "magpie-bench", "spark")
PINNED = ["pyspark==3.5.7", "py4j==0.10.9.7", "scikit-learn==1.7.2", "numpy==1.26.4", "scipy==1.13.1", "joblib==1.4.2",
          "threadpoolctl==3.5.0"]
GRID = [10.0 ** e for e in (-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5)]
TOLERANCE = 2e-3  # relative, between the two solvers' fold averages


def enter_venv():
    """Runs this script again in its virtual environment, made on the first run."""
    python = os.path.join(CACHE, "bin", "python")
    if sys.prefix == CACHE:
        return
    stamp = os.path.join(CACHE, "requirements")
    try:
        with open(stamp, encoding="utf-8") as f:
            ready = f.read().split() == PINNED
    except OSError:
        ready = False
    if not ready:
        subprocess.run([sys.executable, "-m", "venv", CACHE], check=True, stdout=sys.stderr)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PINNED], check=True, stdout=sys.stderr)
        with open(stamp, "w", encoding="utf-8") as f:
            f.write("\n".join(PINNED))
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


def data(name, rows):
    """X, y and the column of folds' source: rows in a fixed random order."""
    import numpy as np
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    if name == "fashion":
        folder = "/usr/share/datasets/fashion-mnist"
        with gzip.open(os.path.join(folder, "train-images-idx3-ubyte.gz")) as f:
            X = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 784) / 255.0
        with gzip.open(os.path.join(folder, "train-labels-idx1-ubyte.gz")) as f:
            y = np.frombuffer(f.read(), np.uint8, offset=8).astype(int)
    else:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        X = StandardScaler().fit_transform(X)
    order = np.random.default_rng(0).permutation(len(y))[:rows or None]
    return X[order], y[order]


class Spark:
    def __init__(self, X, y, folds, cores):
        from pyspark.ml.classification import LogisticRegression
        from pyspark.ml.evaluation import MulticlassClassificationEvaluator
        from pyspark.ml.linalg import Vectors
        from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
        from pyspark.sql import SparkSession

        self.session = (SparkSession.builder.master(f"local[{cores}]").appName("spark_cv").config("spark.ui.enabled", "false")
                        .config("spark.ui.showConsoleProgress", "false")
                        .config("spark.driver.memory", "4g").config("spark.driver.bindAddress", "127.0.0.1")
                        .config("spark.driver.host", "127.0.0.1").config("spark.sql.shuffle.partitions", cores).getOrCreate())
        self.session.sparkContext.setLogLevel("ERROR")
        rows = [(float(t), int(f), Vectors.dense(x)) for x, t, f in zip(X, y, folds)]
        self.frame = self.session.createDataFrame(rows, ["label", "fold", "features"]).repartition(cores).cache()
        self.frame.count()
        model = LogisticRegression(standardization=False, maxIter=1000, tol=1e-7)
        self.cv = CrossValidator(estimator=model, estimatorParamMaps=ParamGridBuilder().addGrid(model.regParam, GRID).build(),
                                 evaluator=MulticlassClassificationEvaluator(metricName="logLoss"), numFolds=int(folds.max()) + 1,
                                 foldCol="fold", parallelism=cores)
        model.setRegParam(0.01).fit(self.frame)  # warm

    def run(self):
        began = time.perf_counter()
        fitted = self.cv.fit(self.frame)
        return {"seconds": time.perf_counter() - began, "means": list(fitted.avgMetrics)}


class Ours:
    def __init__(self, X, y, folds, cores):
        sys.path[:0] = [HERE, os.path.join(HERE, "..", "clients", "python")]
        os.environ.setdefault("MAGPIE", os.path.join(HERE, "..", "build", "magpie"))
        self.X, self.y, self.folds, self.cores = X, y, folds, cores

    def run(self):
        from magpie_hpo import MagpieSearchCV
        from sklearn.model_selection import PredefinedSplit
        from spark_logistic import SparkLogistic

        began = time.perf_counter()
        search = MagpieSearchCV(SparkLogistic(), {"reg": GRID}, algorithm="grid", scoring="neg_log_loss", n_jobs=self.cores,
                                cv=PredefinedSplit(self.folds)).fit(self.X, self.y)
        seconds = time.perf_counter() - began
        by_reg = dict(zip((p["reg"] for p in search.cv_results_["params"]), search.cv_results_["mean_test_score"]))
        return {"seconds": seconds, "means": [-float(by_reg[r]) for r in GRID]}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", choices=("breast_cancer", "digits", "fashion"), default="breast_cancer")
    ap.add_argument("--rows", type=int, default=0)
    ap.add_argument("--folds", type=int, default=5)
    ap.add_argument("--cores", type=int, default=os.cpu_count())
    ap.add_argument("--rounds", type=int, default=3)
    a = ap.parse_args()
    import numpy as np
    import pyspark
    import sklearn

    X, y = data(a.data, a.rows)
    folds = np.arange(len(y)) % a.folds
    spark, ours = Spark(X, y, folds, a.cores), Ours(X, y, folds, a.cores)
    ratios, same = [], True
    for n in range(a.rounds):
        s, m = spark.run(), ours.run()
        apart = max(abs(p - q) / p for p, q in zip(s["means"], m["means"]))
        best = int(np.argmin(s["means"])) == int(np.argmin(m["means"]))
        same = bool(same and best and apart <= TOLERANCE)
        ratios.append(s["seconds"] / m["seconds"])
        print(json.dumps({"bench": "spark_cv", "round": n + 1, "spark_s": round(s["seconds"], 2), "magpie_s": round(m["seconds"], 2),
                          "ratio": round(ratios[-1], 2), "same_best": best, "fold_averages_apart": float(f"{apart:.2e}"),
                          "best_reg": GRID[int(np.argmin(m["means"]))], "best_log_loss": round(min(m["means"]), 6)}), flush=True)
    print(json.dumps({"bench": "spark_cv", "data": a.data, "rows": len(y), "columns": X.shape[1], "points": len(GRID), "folds": a.folds,
                      "cores": a.cores, "ratio_median": round(statistics.median(ratios), 2), "ratio_least": round(min(ratios), 2),
                      "same": same, "pyspark": pyspark.__version__, "sklearn": sklearn.__version__,
                      "python": platform.python_version(), "machine": platform.machine()}))
    spark.session.stop()
    return 0 if same else 1


if __name__ == "__main__":
    enter_venv()
    sys.exit(main())
