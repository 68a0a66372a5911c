#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A trial program that knows folds: k nearest neighbours on the flowers, standard library only.

    {"command": ["python3", "examples/neighbours.py", "--k", "${k}", "--power", "${power}"]}

With "validation" in the experiment file the worker says which part of the data a trial is for: $MAGPIE_FOLD of
$MAGPIE_FOLDS is held out, and 0 is the refit, which learns from everything and measures nothing. The split follows
from $MAGPIE_FOLD_SEED alone, so that all trials of an experiment agree about it.
"""
import argparse
import csv
import json
import os
import random


def say(**fields):
    print("::magpie " + json.dumps(fields), flush=True)


def read(path):
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    names = [n for n in rows[0] if n != "kind"]
    return [([float(r[n]) for n in names], r["kind"]) for r in rows]


def split(rows):
    """What to learn from, and what to measure with (nothing for the refit)."""
    fold = int(os.environ.get("MAGPIE_FOLD", "1"))
    folds = int(os.environ.get("MAGPIE_FOLDS", "5"))
    if fold == 0:
        return rows, []
    order = list(range(len(rows)))
    random.Random(int(os.environ.get("MAGPIE_FOLD_SEED", "0"))).shuffle(order)
    held = set(order[fold - 1::folds])
    return [r for i, r in enumerate(rows) if i not in held], [r for i, r in enumerate(rows) if i in held]


def guess(model, x, k, power):
    near = sorted(model, key=lambda r: sum(abs(a - b) ** power for a, b in zip(r[0], x)))[:k]
    votes = [label for _, label in near]
    return max(sorted(set(votes)), key=votes.count)


def keep(model, k, power):
    folder = os.path.join(os.environ["MAGPIE_CHECKPOINT_DIR"], "1")
    os.makedirs(folder)
    with open(os.path.join(folder, "model.json"), "w") as f:
        json.dump({"k": k, "power": power, "rows": model}, f)
    say(checkpoint=1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--k", type=int, required=True)
    p.add_argument("--power", type=float, required=True)
    p.add_argument("--data", default="examples/flowers.csv")
    a = p.parse_args()
    model, held = split(read(a.data))
    if held:
        right = sum(guess(model, x, a.k, a.power) == label for x, label in held)
        say(step=1, metrics={"accuracy": right / len(held)})
    else:
        keep(model, a.k, a.power)


main()
