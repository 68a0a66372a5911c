#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the CPU, the peer of bench/trainer: the same models, data, batch, optimizer and threads.

peer_torch.py --data DIR --model mlp|cnn|resnet8 [--compile] --batch 64 --threads 1 --epochs N --seed S [--batches N] [--infer]

mlp: 784-256-256-10. cnn: conv 5x5x32, pool, conv 5x5x64, pool, 512, 10; padding 2. resnet8: 3x3x16, three
residual blocks of 16, 32 and 64 channels (stride 2 in the last two, projected shortcuts), batch norms, the mean, 10. ReLU, fp32, SGD with momentum 0.9;
the whole set in memory as floats, reshuffled by index each epoch, so that no loader costs time. Prints one JSON line.
With --infer the model is applied to the test images instead, under inference_mode. With --compile the step (forward and backward) runs through torch.compile; its compilation is not timed.
"""
import argparse
import gzip
import json
import os
import struct
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def idx(folder, name):
    with gzip.open(os.path.join(folder, name)) as f:
        d = f.read()
    shape = struct.unpack(">%dI" % d[3], d[4:4 + 4 * d[3]])
    return np.frombuffer(d, np.uint8, offset=4 + 4 * d[3]).reshape(shape)


def load(folder, part, shape):
    x = torch.from_numpy(idx(folder, part + "-images-idx3-ubyte.gz").copy()).float().div_(255).reshape(shape)
    return x, torch.from_numpy(idx(folder, part + "-labels-idx1-ubyte.gz").astype(np.int64))


class Block(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(),
                                  nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters))
        self.shortcut = nn.Identity() if channels == filters else nn.Sequential(
            nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def model_of(name):
    if name == "resnet8":
        return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Block(16, 16, 1),
                             Block(16, 32, 2), Block(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding=2),
                         nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10))


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        hits = sum((net(x[i:i + 1000]).argmax(1) == y[i:i + 1000]).sum().item() for i in range(0, len(x), 1000))
    net.train()
    return hits / len(x)


def infer(net, x, a):
    net.eval()
    whole = len(x) // a.batch
    n = a.batches or whole
    with torch.inference_mode():
        for i in range(-(whole // 10), n):  # the first ones only warm up
            if i == 0:
                begin, cpu = time.perf_counter(), time.process_time()
            at = i % whole * a.batch
            net(x[at:at + a.batch])
        train_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    print(json.dumps({"bench": "trainer", "system": "torch %s (%s)" % (torch.__version__, "compile" if a.compile else "eager"),
                      "model": a.model, "batch": a.batch, "threads": a.threads, "seed": a.seed, "infer": True,
                      "images_per_s": round(n * a.batch / train_s), "images_per_cpu_s": round(n * a.batch / cpu_s)}), flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", choices=("mlp", "cnn", "resnet8"), required=True)
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--epochs", type=int, default=1)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--batches", type=int, default=0, help="time only so many batches")
    ap.add_argument("--infer", action="store_true", help="apply the model, do not train it")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    lr = 0.05 if a.batch >= 256 else 0.02
    shape = (-1, 784) if a.model == "mlp" else (-1, 1, 28, 28)
    (xtr, ytr), (xte, yte) = load(a.data, "train", shape), load(a.data, "t10k", shape)
    net = model_of(a.model)
    if a.infer:
        infer(torch.compile(net) if a.compile else net, xte, a)
        return
    opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)

    def loss_of(x, y):
        return F.cross_entropy(net(x), y)

    step_loss = torch.compile(loss_of) if a.compile else loss_of
    if a.compile:  # compile for the full and for the last, smaller batch before the clock starts
        for n in {a.batch, len(xtr) % a.batch or a.batch}:
            step_loss(xtr[:n], ytr[:n]).backward()
        opt.zero_grad()
    train_s, cpu_s, images = 0.0, 0.0, 0
    for _ in range(a.epochs):
        begin, cpu = time.perf_counter(), time.process_time()
        for k, ix in enumerate(torch.randperm(len(xtr)).split(a.batch)):
            if a.batches and k == a.batches:
                break
            opt.zero_grad()
            step_loss(xtr[ix], ytr[ix]).backward()
            opt.step()
            images += len(ix)
        train_s += time.perf_counter() - begin
        cpu_s += time.process_time() - cpu
    print(json.dumps({"bench": "trainer", "system": "torch %s (%s)" % (torch.__version__, "compile" if a.compile else "eager"),
                      "model": a.model, "batch": a.batch, "threads": a.threads, "seed": a.seed, "epoch": a.epochs,
                      "images_per_s": round(images / train_s), "images_per_cpu_s": round(images / cpu_s),
                      "test_accuracy": None if a.batches else accuracy(net, xte, yte)}), flush=True)


if __name__ == "__main__":
    main()
