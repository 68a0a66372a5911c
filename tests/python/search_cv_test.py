#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MagpieSearchCV against scikit-learn: the same scores, columns and manners, with a real driver and real processes."""
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness
import libraries
from harness import wait_until

if libraries.here:
    import joblib
    import numpy as np
    from magpie_hpo import MagpieSearchCV
    from magpie_hpo.search_cv.points import Points
    from scipy import stats
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.datasets import load_breast_cancer
    from sklearn.exceptions import FitFailedWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import accuracy_score, make_scorer, roc_auc_score
    from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit, RandomizedSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from sklearn.utils.estimator_checks import check_estimator

    class Moody(ClassifierMixin, BaseEstimator):
        """Fails for some of its points; `wait` names a file to wait for, `note` one to add a line a fit to."""

        def __init__(self, c=1.0, fail=(), wait=None, note=None):
            self.c, self.fail, self.wait, self.note = c, fail, wait, note

        def fit(self, X, y):
            if self.note:
                with open(self.note, "a", encoding="utf-8") as f:
                    f.write(f"{os.getpid()}\n")
            if self.wait:
                wait_until(lambda: os.path.exists(self.wait))
            if self.c in self.fail:
                raise ArithmeticError(f"no fit for c={self.c}")
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            return np.where(X[:, 0] > self.c * 10, self.classes_[0], self.classes_[1])


def cancer():
    return load_breast_cancer(return_X_y=True)


def svm():
    return make_pipeline(StandardScaler(), SVC())


GRID = {"svc__C": [0.1, 1, 10], "svc__kernel": ["linear", "rbf"]}


class Manners(libraries.Case):
    def test_the_checks_of_scikit_learn_pass_as_for_its_own_search(self):
        def verdicts(search):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = check_estimator(search, on_fail=None, on_skip=None)
            return {(r["check_name"], r["status"]) for r in results}

        for model, grid in ((LogisticRegression(), {"C": [0.1, 1.0]}), (Ridge(), {"alpha": [0.1, 1.0]})):
            with self.subTest(model=model):
                theirs = verdicts(RandomizedSearchCV(model, grid, n_iter=2, cv=2, error_score="raise"))
                ours = verdicts(MagpieSearchCV(model, grid, algorithm="grid", cv=2, error_score="raise"))
                self.assertGreater(len(theirs), 40)
                self.assertEqual(ours, theirs)

    def test_wrong_parameters_are_named_before_anything_runs(self):
        X, y = cancer()
        for wrong, says in (({"n_iter": 0}, "n_iter"), ({"error_score": "no"}, "error_score"), ({"n_jobs": 0}, "n_jobs"),
                            ({"scoring": ["accuracy", "roc_auc"], "refit": True}, "refit must name"),
                            ({"algorithm": "tpo"}, "tpe"), ({"early_stopping": "medium"}, "median")):
            with self.subTest(wrong=wrong), self.assertRaisesRegex(ValueError, says):
                MagpieSearchCV(svm(), GRID, **wrong).fit(X, y)
        for space, says in (({"svc__C": 3}, "svc__C"), ({"svc__C": []}, "svc__C"), ([], "dict"), ({"svc__C": {"range": [0, 1]}}, "type")):
            with self.subTest(space=space), self.assertRaisesRegex((TypeError, ValueError), says):
                MagpieSearchCV(svm(), space).fit(X, y)


class Scores(libraries.Case):
    def test_every_fold_of_every_point_scores_as_in_grid_search(self):
        X, y = cancer()
        theirs = GridSearchCV(svm(), GRID, cv=4, return_train_score=True).fit(X, y)
        for jobs in (1, 2):
            ours = MagpieSearchCV(svm(), GRID, algorithm="grid", cv=4, n_jobs=jobs, return_train_score=True).fit(X, y)
            row = {tuple(p.items()): i for i, p in enumerate(ours.cv_results_["params"])}
            order = [row[tuple(p.items())] for p in theirs.cv_results_["params"]]
            for column in theirs.cv_results_:
                if "score" in column and "time" not in column:
                    np.testing.assert_allclose(ours.cv_results_[column][order], theirs.cv_results_[column], err_msg=column)
                self.assertIn(column, ours.cv_results_)
            self.assertEqual((ours.best_params_, ours.best_score_), (theirs.best_params_, theirs.best_score_))
            self.assertEqual(list(ours.predict(X)), list(theirs.predict(X)))

    def test_groups_and_given_folds_reach_the_splitter(self):
        X, y = cancer()
        groups = np.arange(len(y)) % 6
        for cv, more in ((GroupKFold(3), {"groups": groups}), (PredefinedSplit(groups), {})):
            theirs = GridSearchCV(svm(), {"svc__C": [1]}, cv=cv).fit(X, y, **more)
            ours = MagpieSearchCV(svm(), {"svc__C": [1]}, algorithm="grid", cv=cv).fit(X, y, **more)
            self.assertEqual(ours.n_splits_, theirs.n_splits_)
            self.assertEqual(ours.best_score_, theirs.best_score_)

    def test_weights_of_samples_are_split_with_them(self):
        X, y = cancer()
        weight = np.where(y == 1, 5.0, 1.0)
        theirs = cross_val_score(SVC(C=3.0), X, y, cv=3, params={"sample_weight": weight})
        for jobs in (1, 2):
            ours = MagpieSearchCV(SVC(), {"C": [1.0, 3.0]}, algorithm="grid", cv=3, n_jobs=jobs).fit(X, y, sample_weight=weight)
            i = [p["C"] for p in ours.cv_results_["params"]].index(3.0)
            self.assertEqual([ours.cv_results_[f"split{f}_test_score"][i] for f in range(3)], list(theirs))

    def test_several_metrics_are_scored_and_the_named_one_leads(self):
        X, y = cancer()
        scoring = {"hits": "accuracy", "area": make_scorer(lambda a, b: roc_auc_score(a, b))}  # a lambda travels to processes
        theirs = GridSearchCV(svm(), GRID, scoring=scoring, refit="area", cv=3).fit(X, y)
        for given in (scoring, lambda m, X, y: {"hits": accuracy_score(y, m.predict(X)), "area": roc_auc_score(y, m.predict(X))}):
            ours = MagpieSearchCV(svm(), GRID, algorithm="grid", scoring=given, refit="area", cv=3, n_jobs=2).fit(X, y)
            self.assertTrue(ours.multimetric_)
            self.assertAlmostEqual(ours.best_score_, theirs.best_score_)
            for name in ("hits", "area"):
                self.assertEqual(sorted(ours.cv_results_[f"rank_test_{name}"]), sorted(theirs.cv_results_[f"rank_test_{name}"]))
        chosen = MagpieSearchCV(svm(), GRID, algorithm="grid", scoring=scoring, refit=lambda r: int(np.argmin(r["mean_test_hits"])), cv=3)
        chosen.fit(X, y)
        self.assertEqual(chosen.best_index_, int(np.argmin(chosen.cv_results_["mean_test_hits"])))
        self.assertFalse(hasattr(chosen, "best_score_"))
        self.assertFalse(hasattr(MagpieSearchCV(svm(), GRID, n_iter=2, refit=False).fit(X, y), "best_estimator_"))
        unled = MagpieSearchCV(svm(), GRID, n_iter=2, refit=False, scoring=["accuracy", "roc_auc"]).fit(X, y)
        self.assertIn("mean_test_roc_auc", unled.cv_results_)


class Failures(libraries.Case):
    def test_a_fold_that_fails_scores_what_error_score_says(self):
        X, y = cancer()
        space = {"c": [0.5, 1.0, 2.0]}
        with self.assertWarnsRegex(FitFailedWarning, "no fit for c=1.0"):
            ours = MagpieSearchCV(Moody(fail=(1.0,)), space, algorithm="grid", cv=3, n_jobs=2).fit(X, y)
        rows = {p["c"]: i for i, p in enumerate(ours.cv_results_["params"])}
        self.assertTrue(np.isnan(ours.cv_results_["mean_test_score"][rows[1.0]]))
        self.assertEqual(ours.cv_results_["state"][rows[1.0]], "failed")
        self.assertEqual(ours.cv_results_["rank_test_score"][rows[1.0]], 3)
        with self.assertWarns(FitFailedWarning):
            zero = MagpieSearchCV(Moody(fail=(1.0,)), space, algorithm="grid", cv=3, error_score=-1).fit(X, y)
        self.assertIn(-1.0, list(zero.cv_results_["mean_test_score"]))
        with self.assertRaisesRegex(ArithmeticError, "no fit"):
            MagpieSearchCV(Moody(fail=(1.0,)), space, algorithm="grid", cv=3, error_score="raise", n_jobs=2).fit(X, y)
        with self.assertWarns(FitFailedWarning), self.assertRaisesRegex(ValueError, "All the .* fits failed(.|\n)*no fit for"):
            MagpieSearchCV(Moody(fail=(0.5, 1.0, 2.0)), space, algorithm="grid", cv=3).fit(X, y)

    def test_a_killed_process_costs_its_fold_another_try(self):
        X, y = cancer()
        note, go = self.path("note"), self.path("go")
        search = MagpieSearchCV(Moody(note=note, wait=go), {"c": [0.5, 1.0]}, algorithm="grid", cv=3, n_jobs=2)

        def kill():
            wait_until(lambda: os.path.exists(note) and len(set(open(note, encoding="utf-8").read().split())) >= 2)
            os.kill(int(open(note, encoding="utf-8").read().split()[0]), signal.SIGKILL)
            wait_until(lambda: len(set(open(note, encoding="utf-8").read().split())) >= 3, what="a fresh process")
            open(go, "w", encoding="utf-8").close()

        killer = threading.Thread(target=kill)
        killer.start()
        search.fit(X, y)
        killer.join()
        calm = MagpieSearchCV(Moody(), {"c": [0.5, 1.0]}, algorithm="grid", cv=3).fit(X, y)
        self.assertEqual(list(search.cv_results_["mean_test_score"]), list(calm.cv_results_["mean_test_score"]))


KILLED = """
import time
from magpie_hpo import MagpieSearchCV
from sklearn.dummy import DummyClassifier

class Slow(DummyClassifier):
    def fit(self, X, y):
        open(NOTE, "w").close()
        time.sleep(1000)

MagpieSearchCV(Slow(), {"random_state": [1, 2]}, algorithm="grid", cv=2, n_jobs=2).fit([[0], [1]] * 20, [0, 1] * 20)
"""


class Endings(libraries.Case):
    def begin(self):
        p = self.start([sys.executable, self.write("search.py", KILLED.replace("NOTE", repr(self.path("note"))))], "search")
        wait_until(lambda: os.path.exists(self.path("note")))
        self.assertGreater(len(harness.living()), 2)
        return p

    def test_a_search_that_is_killed_leaves_nothing_running(self):
        self.begin().kill()
        harness.wait_gone()

    def test_ctrl_c_ends_a_search_and_all_that_it_started(self):
        p = self.begin()
        p.signal(signal.SIGINT)
        self.assertNotEqual(p.wait(), 0)
        self.assertIn("KeyboardInterrupt", p.stderr())
        harness.wait_gone()


class Asynchronous(libraries.Case):
    def test_poor_points_are_stopped_on_the_mean_over_their_folds(self):
        X, y = cancer()
        space = {"svc__C": stats.loguniform(1e-4, 1e3), "svc__gamma": stats.loguniform(1e-6, 1e2)}
        for more in ({"early_stopping": {"rule": "median", "min_trials": 3}, "n_jobs": 2}, {"early_stopping": "wilcoxon", "n_jobs": 1},
                     {"algorithm": "asha", "n_jobs": 2}):
            with self.subTest(**more):
                s = MagpieSearchCV(svm(), space, n_iter=15, cv=5, random_state=1, **more).fit(X, y)
                folds, whole = s.cv_results_["n_folds"], s.cv_results_["state"] == "completed"
                self.assertLess(folds.sum(), 15 * 5)
                self.assertTrue((folds[whole] == 5).all())
                self.assertTrue(whole[s.best_index_])
                self.assertEqual(s.cv_results_["rank_test_score"][s.best_index_], 1)
                for i in np.flatnonzero(~whole):
                    ran = [s.cv_results_[f"split{f}_test_score"][i] for f in range(5)]
                    self.assertAlmostEqual(s.cv_results_["mean_test_score"][i], np.nanmean(ran))
                    self.assertGreater(s.cv_results_["rank_test_score"][i], whole.sum())

    def test_the_same_seed_tries_the_same_points(self):
        X, y = cancer()
        space = [{"svc__kernel": ["rbf"], "svc__gamma": stats.loguniform(1e-4, 1)}, {"svc__kernel": ["poly"], "svc__degree": range(2, 5)}]
        runs = [MagpieSearchCV(svm(), space, n_iter=8, algorithm="random", cv=2, random_state=5, n_jobs=n).fit(X, y) for n in (1, 2)]
        self.assertEqual(runs[0].cv_results_["params"], runs[1].cv_results_["params"])
        for p in runs[0].cv_results_["params"]:
            self.assertEqual("svc__gamma" in p, p["svc__kernel"] == "rbf")
            self.assertEqual("svc__degree" in p, p["svc__kernel"] == "poly")
        degrees = runs[0].cv_results_["param_svc__degree"]
        self.assertEqual([p.get("svc__degree") for p in runs[0].cv_results_["params"]], degrees.tolist())

    def test_the_experiment_is_kept_by_the_driver_that_was_named(self):
        X, y = cancer()
        d = self.driver()
        s = MagpieSearchCV(svm(), GRID, algorithm="grid", cv=3, url=d.http, name="svm", n_jobs=2).fit(X, y)
        x = d.experiment(s.experiment_)
        self.assertEqual((x["name"], x["state"], x["counts"]["completed"]), ("svm", "completed", 6))
        best = d.get(f"/api/v1/experiments/{s.experiment_}/best")
        self.assertAlmostEqual(best["value"], s.best_score_)
        self.assertEqual(best["trial"], s.cv_results_["trial"][s.best_index_])

    def test_a_driver_killed_and_started_again_is_not_noticed(self):
        X, y = cancer()
        note, go = self.path("note"), self.path("go")
        d = self.driver()
        search = MagpieSearchCV(Moody(note=note, wait=go), {"c": [0.5, 1.0, 1.5]}, algorithm="grid", cv=3, n_jobs=2, url=d.http)

        with ThreadPoolExecutor(1) as other:  # the driver is started by this thread: it would end with another
            fit = other.submit(search.fit, X, y)
            wait_until(lambda: os.path.exists(note))
            d.kill()
            open(go, "w", encoding="utf-8").close()
            d.restart()
            fit.result()
        calm = MagpieSearchCV(Moody(), {"c": [0.5, 1.0, 1.5]}, algorithm="grid", cv=3).fit(X, y)
        self.assertEqual(list(search.cv_results_["mean_test_score"]), list(calm.cv_results_["mean_test_score"]))

    def test_a_search_cancelled_on_the_board_ends_and_says_so(self):
        X, y = cancer()
        note, go = self.path("note"), self.path("go")
        d = self.driver()
        search = MagpieSearchCV(Moody(note=note, wait=go), {"c": [0.5, 1.0]}, algorithm="grid", cv=3, n_jobs=2, url=d.http)

        def cancel():
            wait_until(lambda: os.path.exists(note))
            d.post("/api/v1/experiments/1:cancel")
            open(go, "w", encoding="utf-8").close()

        other = threading.Thread(target=cancel)
        other.start()
        with self.assertRaisesRegex(ValueError, "no point was scored on all its folds"):
            search.fit(X, y)
        other.join()

    def test_nothing_is_left_running(self):
        X, y = cancer()
        MagpieSearchCV(svm(), GRID, n_iter=3, cv=2, n_jobs=2).fit(X, y)
        self.assertEqual(harness.living(), set())


class Workers(libraries.Case):
    """Folds on the workers of a driver."""

    def begin(self, slots=(1, 1), lease="15s"):
        self.d = self.driver("--heartbeat", "300ms", "--lease", lease)
        self.hands = [self.worker(self.d, "--slots", str(n)) for n in slots]
        return {"url": self.d.http, "workers": self.path("shared")}

    def test_folds_are_trials_of_the_workers_and_score_the_same(self):
        X, y = cancer()
        there = self.begin()
        theirs = GridSearchCV(svm(), GRID, cv=3, return_train_score=True).fit(X, y)
        ours = MagpieSearchCV(svm(), GRID, algorithm="grid", cv=3, return_train_score=True, collect_sub_models=True, **there).fit(X, y)
        row = {tuple(p.items()): i for i, p in enumerate(ours.cv_results_["params"])}
        order = [row[tuple(p.items())] for p in theirs.cv_results_["params"]]
        for column in [c for c in theirs.cv_results_ if "score" in c and "time" not in c]:
            np.testing.assert_allclose(ours.cv_results_[column][order], theirs.cv_results_[column], err_msg=column)
        self.assertEqual(ours.best_params_, theirs.best_params_)
        self.assertEqual([[m is not None for m in models] for models in ours.sub_models_], [[True] * 3] * 6)
        trials = self.d.trials(ours.experiment_)
        self.assertEqual(len(trials), 6 * 3)
        best = self.d.get(f"/api/v1/experiments/{ours.experiment_}/best")
        self.assertAlmostEqual(best["value"], ours.best_score_)
        self.assertEqual(os.listdir(self.path("shared")), [])

    def test_a_killed_worker_and_driver_change_nothing(self):
        X, y = cancer()
        there = self.begin(lease="2s")
        note, go = self.path("note"), self.path("go")
        search = MagpieSearchCV(Moody(note=note, wait=go), {"c": [0.5, 1.0, 1.5]}, algorithm="grid", cv=3, **there)
        with ThreadPoolExecutor(1) as other:
            fit = other.submit(search.fit, X, y)
            wait_until(lambda: os.path.exists(note))
            self.hands[0].kill()
            self.d.kill()
            open(go, "w", encoding="utf-8").close()
            self.d = self.d.restart()
            fit.result()
        calm = MagpieSearchCV(Moody(), {"c": [0.5, 1.0, 1.5]}, algorithm="grid", cv=3).fit(X, y)
        self.assertEqual(list(search.cv_results_["mean_test_score"]), list(calm.cv_results_["mean_test_score"]))

    def test_points_end_early_and_failures_are_told(self):
        X, y = cancer()
        there = self.begin()
        space = {"svc__C": stats.loguniform(1e-4, 1e3), "svc__gamma": stats.loguniform(1e-6, 1e2)}
        s = MagpieSearchCV(svm(), space, n_iter=12, cv=5, random_state=1, early_stopping={"rule": "median", "min_trials": 3}, **there)
        s.fit(X, y)
        self.assertLess(s.cv_results_["n_folds"].sum(), 12 * 5)
        self.assertEqual(s.cv_results_["n_folds"][s.best_index_], 5)
        with self.assertWarnsRegex(FitFailedWarning, "no fit for c=1.0"):
            failing = MagpieSearchCV(Moody(fail=(1.0,)), {"c": [0.5, 1.0]}, algorithm="grid", cv=3, **there).fit(X, y)
        self.assertEqual({p["c"]: s for p, s in zip(failing.cv_results_["params"], failing.cv_results_["state"])},
                         {0.5: "completed", 1.0: "failed"})
        with self.assertRaisesRegex(ArithmeticError, "no fit"):
            MagpieSearchCV(Moody(fail=(1.0,)), {"c": [1.0]}, algorithm="grid", cv=3, error_score="raise", **there).fit(X, y)
        with self.assertRaisesRegex(ValueError, "asha"):
            MagpieSearchCV(svm(), space, algorithm="asha", **there).fit(X, y)
        with self.assertRaisesRegex(ValueError, "workers needs url"):
            MagpieSearchCV(svm(), space, workers=self.path("shared")).fit(X, y)


class Models(libraries.Case):
    def test_sub_models_are_kept_in_memory_or_in_files(self):
        X, y = cancer()
        folds = PredefinedSplit(np.arange(len(y)) % 3)
        s = MagpieSearchCV(svm(), GRID, algorithm="grid", cv=folds, n_jobs=2, collect_sub_models=True).fit(X, y)
        self.assertEqual([len(row) for row in s.sub_models_], [3] * 6)
        for i, row in enumerate(s.sub_models_):
            for fold, (_, test) in enumerate(folds.split()):
                self.assertAlmostEqual(row[fold].score(X[test], y[test]), s.cv_results_[f"split{fold}_test_score"][i])
        folder = self.path("models")
        s = MagpieSearchCV(svm(), GRID, algorithm="grid", cv=folds, collect_sub_models=folder).fit(X, y)
        self.assertFalse(hasattr(s, "sub_models_"))
        self.assertEqual(len(os.listdir(folder)), 6)
        one = joblib.load(os.path.join(folder, str(s.cv_results_["trial"][2]), "1.joblib"))
        self.assertEqual(one.named_steps["svc"].C, s.cv_results_["params"][2]["svc__C"])


class Spaces(libraries.Case):
    def test_values_come_back_as_the_objects_that_were_given(self):
        marker = object()
        p = Points({"a": [1, 2.5], "b": ["x", None, "None", True], "c": range(0, 100, 7), "d": [marker, (1, 2)], "e": np.logspace(0, 2, 3),
                    "f": stats.norm(5, 1), "g": stats.randint(1, 4), "h": stats.uniform(1, 2), "i": ["DOUBLE", [0, 1]]})
        kinds = {k: v["type"] for k, v in p.searchspace.items()}
        self.assertEqual(kinds, {"a": "DISCRETE", "b": "CATEGORICAL", "c": "INTEGER", "d": "CATEGORICAL", "e": "DISCRETE", "f": "DOUBLE",
                                 "g": "INTEGER", "h": "DOUBLE", "i": "DOUBLE"})
        self.assertEqual(p.searchspace["c"]["range"], [0, 98])
        self.assertEqual(p.searchspace["g"]["range"], [1, 3])
        got = p.decode({"a": 1.0, "b": p.searchspace["b"]["values"][1], "d": p.searchspace["d"]["values"][0], "f": 0.5, "g": 2})
        self.assertIs(type(got["a"]), int)
        self.assertIsNone(got["b"])
        self.assertIs(got["d"], marker)
        self.assertAlmostEqual(got["f"], 5.0)
        self.assertEqual([p.decode({"b": v})["b"] for v in p.searchspace["b"]["values"]], ["x", None, "None", True])


if __name__ == "__main__":
    harness.main()
