#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A script written for Maggy, ported by changing its import: it searches a softmax regression for Fashion-MNIST.

    PYTHONPATH=clients/python python3 examples/maggy_fashion.py

was: from maggy import Searchspace, experiment
"""
import gzip
import math
import random

from magpie_hpo import Searchspace, experiment

FOLDER = "/usr/share/datasets/fashion-mnist"


def load(kind, count):
    """Images as 7x7 means of their pixels, and labels: small enough for plain Python."""
    with gzip.open(f"{FOLDER}/{kind}-images-idx3-ubyte.gz") as f:
        f.read(16)
        raw = f.read(784 * count)
    with gzip.open(f"{FOLDER}/{kind}-labels-idx1-ubyte.gz") as f:
        f.read(8)
        labels = list(f.read(count))
    cells = [[r * 28 + c for r in range(y, y + 4) for c in range(x, x + 4)] for y in range(0, 28, 4) for x in range(0, 28, 4)]
    images = []
    for i in range(count):
        image = raw[784 * i:784 * (i + 1)]
        images.append([sum(image[p] for p in cell) / 4080 for cell in cells] + [1.0])
    return images, labels


def scores(weights, image):
    return [sum(w * x for w, x in zip(row, image)) for row in weights]


def train(lr, decay, batch_order, reporter):
    images, labels = load("train", 500)
    test_images, test_labels = load("t10k", 300)
    weights = [[0.0] * 50 for _ in range(10)]
    order, accuracy = list(range(500)), 0.0
    for epoch in range(4):
        if batch_order == "shuffled":
            random.Random(epoch).shuffle(order)
        for i in order:
            s = scores(weights, images[i])
            top = max(s)
            e = [math.exp(v - top) for v in s]
            total = sum(e)
            for k in range(10):
                g = lr * (e[k] / total - (k == labels[i]))
                weights[k] = [w * (1 - lr * decay) - g * x for w, x in zip(weights[k], images[i])]
        right = sum(max(range(10), key=scores(weights, x).__getitem__) == y for x, y in zip(test_images, test_labels))
        accuracy = right / 300
        reporter.broadcast(accuracy, epoch)
    return accuracy


sp = Searchspace(lr=("DOUBLE", [0.001, 0.3]), batch_order=("CATEGORICAL", ["fixed", "shuffled"]))
sp.add("decay", ("DOUBLE", [0.0, 0.01]))

result = experiment.launch(train, sp, optimizer="randomsearch", direction="max", num_trials=6, name="fashion", es_policy="median", es_min=2)
print("best:", result["best_config"], "accuracy", result["best_val"])
