#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The built-in trainer beside PyTorch: from the same weights and the same batches come the same losses, step by step, and the
same weights at the end. PyTorch computes in double precision. Rounding grows with the steps, since a unit that is just on one
side of ReLU's kink may come to lie on the other: PyTorch in single precision is as far from itself in double after a hundred."""
import json
import os
import subprocess
import sys
import unittest
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.optim.swa_utils import AveragedModel
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch")
except ImportError as e:
    torch = None
    WHY = f"Debian's python3-torch is not here: {e}"

PEER = os.path.join(harness.BUILD, "tests", "trainer", "peer")
FASHION = "/usr/share/datasets/fashion-mnist"
STEPS, EPOCH, ROWS = 100, 20, 32
MLP = [{"type": "dense", "units": 64, "activation": "relu"}, {"type": "dense", "units": 32, "activation": "tanh"},
       {"type": "dense", "units": 10}]
CNN = [{"type": "conv", "filters": 6, "kernel": 5, "activation": "relu"}, {"type": "maxpool"},
       {"type": "conv", "filters": 8, "kernel": 3, "stride": 2, "padding": 1, "activation": "relu"},
       {"type": "dense", "units": 24, "activation": "sigmoid"}, {"type": "dense", "units": 10}]


def modules(layers, shape):
    """The torch.nn.Sequential of a list of layers; shape: of an example."""
    acts = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    out, x = [], torch.zeros(1, *shape)
    for layer in layers:
        if layer["type"] == "dense":
            made = [nn.Flatten()] if x.dim() > 2 else []
            made.append(nn.Linear(x[0].numel(), layer["units"]))
        elif layer["type"] == "conv":
            k = layer["kernel"]
            made = [nn.Conv2d(x.shape[1], layer["filters"], k, layer.get("stride", 1), layer.get("padding", k // 2))]
        else:
            made = [nn.MaxPool2d(layer.get("size", 2))]
        if "activation" in layer:
            made.append(acts[layer["activation"]]())
        for m in made:
            x = m(x)
        out += made
    return nn.Sequential(*out)


def optimizer_of(net, training):
    """Ours decays no biases."""
    lr, beta = training["lr"], (training.get("beta1", 0.9), training.get("beta2", 0.999))
    momentum, decay = training.get("momentum", 0), training.get("weight_decay", 0)
    weights, biases = [[p for p in net.parameters() if (p.dim() > 1) == w] for w in (True, False)]
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0}]
    kind = training.get("optimizer", "sgd")
    if kind == "sgd":
        return torch.optim.SGD(groups, lr, momentum, nesterov=training.get("nesterov", False))
    if kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr, momentum=momentum)
    if kind == "adagrad":
        return torch.optim.Adagrad(groups, lr)
    return torch.optim.AdamW(groups, lr, beta)


class Theirs:
    """A model that PyTorch trains."""
    def __init__(self, net, training, schedule, loss):
        self.net, self.training, self.loss = net, training, getattr(F, loss)
        self.dtype = next(net.parameters()).dtype
        self.opt = optimizer_of(net, training)
        self.schedule = schedule(self.opt) if schedule else None
        keep = training.get("ema", 0)
        self.average = AveragedModel(net, avg_fn=lambda a, p, n: keep * a + (1 - keep) * p)

    def step(self, k, x, y):
        labels = y.long() if self.loss is F.cross_entropy else y.reshape(-1, 1).to(self.dtype)
        loss = self.loss(self.net(x.to(self.dtype)), labels)
        self.opt.zero_grad()
        loss.backward()
        if "clip_norm" in self.training:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.training["clip_norm"])
        self.opt.step()
        self.average.update_parameters(self.net)
        if self.schedule and (k + 1) % EPOCH == 0:
            self.schedule.step()
        return loss.item()


@unittest.skipIf(torch is None, "" if torch else WHY)
class Peers(harness.Case):
    def ours(self, layers, training, dataset):
        trial = {"program": "builtin", "dataset": dataset, "model": {"layers": layers},
                 "training": dict(training, batch_size=ROWS)}
        with open(self.path("trial.json"), "w") as f:
            json.dump(trial, f)
        p = subprocess.run([PEER, self.path("trial.json"), str(STEPS), str(EPOCH), self.path("floats")], capture_output=True,
                           text=True, timeout=120)
        self.assertEqual(p.returncode, 0, p.stderr)
        return json.loads(p.stdout)["losses"], torch.from_numpy(np.fromfile(self.path("floats"), np.float32))

    def compare(self, layers, training, schedule=None, loss="cross_entropy", dataset=f"idx:{FASHION}?limit=4000",
                shape=(1, 28, 28)):
        losses, floats = self.ours(layers, training, dataset)
        at = 0

        def take(*dims):
            nonlocal at
            n = int(np.prod(dims))
            at += n
            return floats[at - n:at].reshape(dims)

        net = modules(layers, shape)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(take(*p.shape))
        start = [p.detach().clone() for p in net.parameters()]
        exact = Theirs(net.double(), training, schedule, loss)
        noise = 10 if training.get("optimizer") == "adagrad" else 1  # its first steps go as far for mere rounding
        for k, ours in enumerate(losses):
            x, y = take(ROWS, *shape), take(ROWS)
            theirs = exact.step(k, x, y)
            self.assertAlmostEqual(theirs, ours, delta=noise * min(2e-5 * 1.07 ** k, 5e-3), msg=f"step {k}")
        self.assertLess(sum(losses[-10:]), sum(losses[:10]), "it learned")
        for made in [exact.net] + ([exact.average] if "ema" in training else []):
            for first, p in zip(start, made.parameters()):
                off, moved = (take(*p.shape) - p).norm().item(), (p - first).norm().item()
                self.assertLess(off, 0.05 * noise * moved + 1e-6, "where the weights went")
        self.assertEqual(at, len(floats))
        return losses

    def test_the_losses_of_a_hundred_steps_of_an_mlp(self):
        for training in ({"lr": 0.1}, {"lr": 0.05, "momentum": 0.9}, {"lr": 0.02, "momentum": 0.9, "nesterov": True},
                         {"lr": 0.1, "momentum": 0.5, "clip_norm": 0.5}, {"lr": 0.1, "backend": "ref"},
                         {"optimizer": "adam", "lr": 0.002}, {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.1},
                         {"optimizer": "rmsprop", "lr": 0.001, "momentum": 0.5}, {"optimizer": "adagrad", "lr": 0.005}):
            with self.subTest(training):
                self.compare(MLP, training)

    def test_the_losses_of_a_hundred_steps_of_a_cnn(self):
        for training in ({"lr": 0.1}, {"lr": 0.02, "momentum": 0.9}, {"optimizer": "adam", "lr": 0.002}):
            with self.subTest(training):
                self.compare(CNN, training)

    def test_the_moving_average_of_the_weights(self):
        for layers, training in ((MLP, {"lr": 0.05, "momentum": 0.9, "ema": 0.95}),
                                 (CNN, {"optimizer": "adam", "lr": 0.002, "ema": 0.9}),
                                 (MLP, {"lr": 0.1, "ema": 0.999, "backend": "ref"})):
            with self.subTest(training):
                self.compare(layers, training)

    def rates(self, lr, schedule, measures):
        trial = {"program": "builtin", "dataset": f"csv:{os.path.join(harness.ROOT, 'examples', 'flowers.csv')}?label=kind",
                 "model": {"layers": [{"type": "dense", "units": 3}]}, "training": {"lr": lr, "schedule": schedule}}
        with open(self.path("trial.json"), "w") as f:
            json.dump(trial, f)
        p = subprocess.run([PEER, self.path("trial.json"), json.dumps(measures)], capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 0, p.stderr)
        return json.loads(p.stdout)

    def same_rates(self, lr, schedule, make, measures, watches=False):
        opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)
        theirs, s = [], make(opt)
        for m in measures:
            theirs.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step(*([m] if watches else []))
        ours = self.rates(lr, schedule, measures)
        self.assertEqual(len(ours), len(theirs))
        for k, (a, b) in enumerate(zip(ours, theirs)):
            self.assertAlmostEqual(a, b, delta=1e-6 * b, msg=f"{schedule}, epoch {k + 1}")

    def test_schedules_are_those_of_pytorch(self):
        of = torch.optim.lr_scheduler
        for schedule, make, epochs in (
                ({"type": "step", "every": 3, "factor": 0.3}, lambda o: of.StepLR(o, 3, 0.3), 12),
                ({"type": "exponential", "factor": 0.9}, lambda o: of.ExponentialLR(o, 0.9), 12),
                ({"type": "cosine", "epochs": 10, "floor": 0.1}, lambda o: of.CosineAnnealingLR(o, 10, eta_min=0.005), 11),
                ({"type": "linear", "epochs": 8, "floor": 0.2}, lambda o: of.LinearLR(o, 1, 0.2, 8), 12),
                ({"type": "constant", "warmup": 4}, lambda o: of.LinearLR(o, 1 / 5, 1, 4), 8),
                ({"type": "cosine", "epochs": 6, "warmup": 3},
                 lambda o: of.SequentialLR(o, [of.LinearLR(o, 1 / 4, 1, 3), of.CosineAnnealingLR(o, 6)], [3]), 9),
                ({"type": "onecycle", "epochs": 20}, lambda o: of.OneCycleLR(o, 0.05, total_steps=20, cycle_momentum=False), 20),
                ({"type": "onecycle", "epochs": 9, "rise": 0.5},
                 lambda o: of.OneCycleLR(o, 0.05, total_steps=9, pct_start=0.5, cycle_momentum=False), 9)):
            self.same_rates(0.05, schedule, make, [0] * epochs)

    def test_a_plateau_is_pytorchs(self):
        of = torch.optim.lr_scheduler
        losses = [1, 0.8, 0.79, 0.7899999, 0.79, 0.8, 0.78, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.49, 0.6, 0.6] + [0.6] * 12
        for schedule, make in (
                ({"type": "plateau", "patience": 2}, lambda o: of.ReduceLROnPlateau(o, patience=2)),
                ({"type": "plateau", "patience": 1, "factor": 0.5, "cooldown": 2},
                 lambda o: of.ReduceLROnPlateau(o, patience=1, factor=0.5, cooldown=2)),
                ({"type": "plateau", "patience": 0, "threshold": 0.05, "min_lr": 0.001, "metric": "train_loss"},
                 lambda o: of.ReduceLROnPlateau(o, patience=0, threshold=0.05, min_lr=0.001)),
                ({"type": "plateau", "patience": 1, "factor": 0.3, "metric": "val_accuracy"},
                 lambda o: of.ReduceLROnPlateau(o, mode="max", patience=1, factor=0.3))):
            self.same_rates(0.05, schedule, make, losses, watches=True)


if __name__ == "__main__":
    harness.main()
