# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the GPU, with a model of `magpie-trainer --bench` (trainer/bench.c) and data on the device.

peer.py mlp|cnn|resnet18 BATCH float32|tf32|bf16 eager|reduce-overhead|max-autotune [DEVICE]

Images are channels last. bf16 is autocast: weights and sums float32, as magpie's. The compiled modes record CUDA graphs.
"""
import json
import sys
import time

import torch
from torch import nn

EPOCHS = 3


class Block(nn.Module):
    """A residual block as the trainer has it: a projection is a 1x1 convolution without bias, and a norm."""

    def __init__(self, c, k, stride):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c, k, 3, stride, 1, bias=False), nn.BatchNorm2d(k), nn.ReLU(),
                                  nn.Conv2d(k, k, 3, 1, 1, bias=False), nn.BatchNorm2d(k))
        self.side = nn.Identity() if stride == 1 and c == k else nn.Sequential(
            nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))

    def forward(self, x):
        return torch.relu(self.body(x) + self.side(x))


def model(kind):
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    if kind == "cnn":
        return nn.Sequential(nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding="same"),
                             nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 512), nn.ReLU(), nn.Linear(512, 10))
    layers, c = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for k, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers.append(Block(c, k, stride))
        c = k
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def measure(kind, batch, precision, mode, device):
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    images, shape = (50000, (3, 32, 32)) if kind == "resnet18" else (60000, (1, 28, 28))
    if device == "cpu":
        images = 4 * batch
    x = torch.randint(0, 256, (images, *shape), device=device, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (images,), device=device)
    net = model(kind).to(device).to(memory_format=torch.channels_last)
    step = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, fused=device == "cuda")
    loss_of = nn.CrossEntropyLoss()

    def forward(rows):
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            return loss_of(net(x[rows].float() / 255), y[rows])

    run = forward if mode == "eager" else torch.compile(forward, mode=mode)

    def epoch():
        order = torch.randperm(images, device=device)
        for at in range(0, images - batch + 1, batch):
            step.zero_grad(set_to_none=True)
            run(order[at:at + batch]).backward()
            step.step()
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.monotonic()
    epoch()
    warm = time.monotonic() - start
    best = float("inf")
    for _ in range(EPOCHS):
        start = time.monotonic()
        epoch()
        best = min(best, time.monotonic() - start)
    print(json.dumps({"bench": "trainer", "system": f"torch {torch.__version__} {mode}", "model": kind, "batch": batch,
                      "precision": precision, "images_per_s": round(images // batch * batch / best), "warm_s": round(warm, 1)}), flush=True)


measure(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5] if len(sys.argv) > 5 else "cuda")
