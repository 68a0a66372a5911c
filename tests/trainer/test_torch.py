#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch takes the same step: a model after one epoch is loaded, trained for one more there and here, and compared.

An epoch is one batch of all rows, so that its order does not matter. The model in PyTorch is built from what the
safetensors file says of itself."""
import json
import os
import random
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

TRAINER = os.path.join(harness.BUILD, "trainer", "magpie-trainer")
ROWS = 24


def conv(filters, kernel=3, **more):
    return dict({"type": "conv", "filters": filters, "kernel": kernel}, **more)


def norm(**more):
    return dict({"type": "batchnorm"}, **more)


END = {"type": "dense", "units": 3}
MODELS = {
    "residual": [conv(8, bias=False), norm(activation="relu"),
                 {"type": "residual", "activation": "relu", "repeat": 2, "layers": [
                     conv(16, stride=2, bias=False), norm(activation="relu", momentum=0.3), conv(16, bias=False), norm()]},
                 {"type": "globalpool"}, END],
    "branches": [conv(8, 5, activation="gelu"), {"type": "concat", "branches": [
        [conv(8, 1)], [conv(4, 3, groups=4, activation="silu"), {"type": "conv", "depthwise": True, "kernel": 3}], []]},
                 {"type": "avgpool"}, {"type": "layernorm", "epsilon": 0.001}, {"type": "activation", "activation": "tanh"},
                 {"type": "concat", "branches": [[{"type": "globalpool", "kind": "max"}], [{"type": "flatten"}]]}, END],
    "flat": [{"type": "flatten"}, {"type": "dense", "units": 20, "activation": "gelu"}, {"type": "layernorm"},
             {"type": "residual", "shortcut": "projection", "layers": [
                 {"type": "dense", "units": 12, "bias": False}, norm(activation="sigmoid", epsilon=0.01)]}, END],
}
EMBEDDED = [{"type": "embedding", "vocabulary": 9, "width": 6}, {"type": "globalpool"},
            {"type": "dense", "units": 8, "activation": "silu"}, END]


def load_safetensors(path):
    """PyTorch's names to tensors, and the description."""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        body = f.read()
    meta = json.loads(head.pop("__metadata__")["magpie"])
    arrays = {}
    for name, a in head.items():
        lo, hi = a["data_offsets"]
        arrays[name] = torch.frombuffer(bytearray(body[lo:hi]), dtype=torch.float32).reshape(a["shape"]).clone()
    return arrays, meta


class Graph:
    """The description's layers, computed by PyTorch."""

    def __init__(self, arrays, meta):
        self.layers = meta["layers"]
        self.arrays = [{} for _ in self.layers]
        places = sorted({n.rsplit(".", 1)[0] for n in arrays}, key=lambda n: int(n.split(".")[-1]))
        learning = [i for i, layer in enumerate(self.layers) if layer["type"] in
                    ("dense", "conv", "batchnorm", "layernorm", "embedding")]
        for place, i in zip(places, learning):
            for name, a in arrays.items():
                if name.rsplit(".", 1)[0] == place:
                    self.arrays[i][name.rsplit(".", 1)[1]] = a
                    a.requires_grad_(not name.endswith(("running_mean", "running_var")))

    def act(self, y, name):
        return {"none": lambda v: v, "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu,
                "silu": F.silu}[name](y)

    def one(self, layer, a, x):
        kind, first = layer["type"], x[0]
        if kind == "dense":
            return F.linear(first.flatten(1), a["weight"], a.get("bias"))
        if kind == "conv":
            return F.conv2d(first, a["weight"], a.get("bias"), stride=layer["stride"], padding=layer["padding"], groups=layer["groups"])
        if kind == "batchnorm":
            return F.batch_norm(first, a["running_mean"], a["running_var"], a["weight"], a["bias"], True, layer["momentum"], layer["epsilon"])
        if kind == "layernorm":
            return F.layer_norm(first, a["weight"].shape, a["weight"], a["bias"], layer["epsilon"])
        if kind == "embedding":
            return F.embedding(first.long(), a["weight"]).permute(0, 2, 1).unsqueeze(2)
        if kind in ("maxpool", "avgpool"):
            return (F.max_pool2d if kind == "maxpool" else F.avg_pool2d)(first, layer["size"], layer["stride"])
        if kind == "globalpool":
            return (first.amax((2, 3)) if layer["kind"] == "max" else first.mean((2, 3)))
        if kind == "add":
            return sum(x)
        if kind == "concat":
            return torch.cat(x, 1)
        return first.flatten(1) if kind == "flatten" else first

    def __call__(self, x):
        values = []
        for i, layer in enumerate(self.layers):
            inputs = [x if k < 0 else values[k] for k in layer.get("inputs", [i - 1])]
            values.append(self.act(self.one(layer, self.arrays[i], inputs), layer.get("activation", "none")))
        return values[-1]

    def step(self, x, labels, lr):
        F.cross_entropy(self(x), labels).backward()
        for arrays in self.arrays:
            for a in arrays.values():
                if a.requires_grad:
                    a.data -= lr * a.grad


@unittest.skipIf(torch is None, "no PyTorch (Debian: python3-torch)")
class Torch(harness.Case):
    def images(self):
        """A folder of IDX files; the rows and their classes."""
        rng = random.Random(5)
        x = [[rng.randrange(256) for _ in range(81)] for _ in range(ROWS)]
        y = [i % 3 for i in range(ROWS)]
        os.makedirs(self.path("idx"))
        for part in ("train", "t10k"):
            with open(self.path("idx", part + "-images-idx3-ubyte"), "wb") as f:
                f.write(struct.pack(">4B3I", 0, 0, 8, 3, ROWS, 9, 9) + bytes(v for row in x for v in row))
            with open(self.path("idx", part + "-labels-idx1-ubyte"), "wb") as f:
                f.write(struct.pack(">4BI", 0, 0, 8, 1, ROWS) + bytes(y))
        return torch.tensor(x, dtype=torch.float32).reshape(ROWS, 1, 9, 9) / 255, torch.tensor(y)

    def after(self, name, dataset, layers, backend):
        """The arrays after one epoch, and after two."""
        trial = {"program": "builtin", "dataset": dataset, "model": {"layers": layers},
                 "training": {"lr": 0.2, "batch_size": ROWS, "validation": 0, "backend": backend}}
        file, folder = self.path(f"{name}-{backend}.json"), self.path(f"{name}-{backend}")
        with open(file, "w") as f:
            json.dump(trial, f)
        os.makedirs(folder)
        files = []
        p = subprocess.run([TRAINER, "--train", file, "--epochs", "2", "--checkpoints", folder], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        for step in ("1", "2"):
            files.append(os.path.join(folder, step + ".safetensors"))
            p = subprocess.run([TRAINER, "--export", os.path.join(folder, step), "--output", files[-1]], capture_output=True, text=True)
            self.assertEqual(p.returncode, 0, p.stderr)
        return [load_safetensors(f) for f in files]

    def compare(self, name, dataset, layers, x, labels):
        for backend in ("cpu", "ref"):
            (arrays, meta), (want, _) = self.after(name, dataset, layers, backend)
            graph = Graph(arrays, meta)
            graph.step(x, labels, 0.2)
            self.assertEqual(arrays.keys(), want.keys())
            for key, a in arrays.items():
                off = (a.detach() - want[key]).abs().max().item()
                self.assertLess(off, 2e-5, f"{name} on {backend}: {key} is off by {off}")

    def test_a_step_of_every_layer_is_pytorchs(self):
        x, labels = self.images()
        for name, layers in MODELS.items():
            self.compare(name, "idx:" + self.path("idx"), layers, x, labels)

    def test_an_embeddings_step_is_pytorchs(self):
        rng = random.Random(6)
        x = [[rng.randrange(9) for _ in range(5)] for _ in range(ROWS)]
        with open(self.path("words.csv"), "w") as f:
            f.write("a,b,c,d,e,y\n" + "".join(",".join(map(str, row)) + f",{i % 3}\n" for i, row in enumerate(x)))
        self.compare("embedded", f"csv:{self.path('words.csv')}?label=y&standardize=false&test=0", EMBEDDED, torch.tensor(x),
                     torch.tensor([i % 3 for i in range(ROWS)]))


if __name__ == "__main__":
    harness.main()
