# SPDX-License-Identifier: Apache-2.0
"""cv_results_: one row a point, the columns of scikit-learn's own searches and what is known beyond them."""
import numpy as np


def results(tried, names, n_folds, error_score, train_score):
    """`tried` are the points of a search, `names` the parameters' names."""
    out = {
        "trial": np.array([p.trial for p in tried]),
        "state": np.array([p.state for p in tried]),
        "n_folds": np.array([len(p.results) for p in tried]),
    }
    for key in ("fit_time", "score_time"):
        values = _by_fold(tried, n_folds, lambda r, key=key: r[key])
        out[f"mean_{key}"], out[f"std_{key}"] = _mean(values), _std(values)
    for name in names:
        out[f"param_{name}"] = _column([p.params for p in tried], name)
    out["params"] = [p.params for p in tried]
    whole = np.array([is_whole(p, n_folds) for p in tried])
    for part in ("test", "train") if train_score else ("test",):
        for metric in _metrics(tried, part):
            values = _by_fold(tried, n_folds, lambda r, part=part, metric=metric: r[part][metric] if part in r else error_score)
            for fold in range(n_folds):
                out[f"split{fold}_{part}_{metric}"] = values[:, fold]
            out[f"mean_{part}_{metric}"], out[f"std_{part}_{metric}"] = _mean(values), _std(values)
            if part == "test":
                out[f"rank_test_{metric}"] = ranks(out[f"mean_test_{metric}"], whole)
    return out


def is_whole(point, n_folds):
    """Was it scored on every fold?"""
    return point.state == "completed" and len(point.results) == n_folds


def ranks(means, whole):
    """1 for the best. Points with all folds come before those stopped early, and these before those without a score."""
    known = ~np.isnan(means)
    keys = [(0 if w and k else 1 if k else 2, -m if k else 0.0) for m, w, k in zip(means, whole, known)]
    order = sorted(set(keys))
    places, place = {}, 1
    for key in order:
        places[key] = place
        place += keys.count(key)
    return np.array([places[k] for k in keys], dtype=np.int32)


def _metrics(tried, part):
    for p in tried:
        for r in p.results.values():
            if part in r:
                return list(r[part])
    return []


def _by_fold(tried, n_folds, get):
    out = np.full((len(tried), n_folds), np.nan)
    for i, p in enumerate(tried):
        for fold, r in p.results.items():
            out[i, fold] = get(r)
    return out


def _rows(values):
    for row in values:
        yield row[~np.isnan(row)]


def _mean(values):
    return np.array([row.mean() if len(row) else np.nan for row in _rows(values)])


def _std(values):
    return np.array([row.std() if len(row) else np.nan for row in _rows(values)])


def _column(params, name):
    """A masked array, numeric where all its values are numbers of a kind."""
    present = [p[name] for p in params if name in p]
    kinds = {type(v) for v in present}
    dtype = np.result_type(*kinds) if kinds and kinds <= {int, float, bool, np.float64, np.int64, np.bool_} else object
    column = np.ma.MaskedArray(np.empty(len(params), dtype=dtype), mask=True)
    for i, p in enumerate(params):
        if name in p:
            column[i] = p[name]
    return column
