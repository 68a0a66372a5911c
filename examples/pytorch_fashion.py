#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small CNN on Fashion-MNIST in plain PyTorch. Magpie's are the import and the three numbered lines. It runs by hand too; the search is
examples/pytorch_fashion.json. FASHION_ROWS trains on fewer images."""
import gzip
import os

import magpie_hpo as magpie
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

ROWS = int(os.environ.get("FASHION_ROWS", "60000"))


def load(part):
    def read(name, header):
        with gzip.open(f"/usr/share/datasets/fashion-mnist/{part}-{name}-ubyte.gz") as f:
            return torch.from_numpy(np.frombuffer(f.read(), np.uint8, offset=header).copy())[:ROWS * (784 if header == 16 else 1)]

    return read("images-idx3", 16).view(-1, 1, 28, 28) / 255.0, read("labels-idx1", 8).long()


torch.manual_seed(0)
torch.set_num_threads(1)
x, y = load("train")
test_x, test_y = load("t10k")

with magpie.trial(lr=0.01, batch=64, channels=16, dropout=0.2) as t:                 # 1: the parameters
    p = t.params
    model = nn.Sequential(nn.Conv2d(1, p.channels, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Dropout(p.dropout),
                          nn.Linear(p.channels * 36, 10))
    optimizer = torch.optim.SGD(model.parameters(), p.lr, momentum=0.9)
    for epoch in t.epochs(10, model=model, optimizer=optimizer):                     # 2: what a checkpoint holds
        model.train()
        for rows in torch.randperm(len(x)).split(p.batch):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(test_x).argmax(1) == test_y).float().mean()
        t.report(epoch, val_accuracy=accuracy)                                       # 3: how good it is
