# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the GPU, with the models of `magpie-trainer --bench` (trainer/bench.c) and data on the device: eager and compiled."""
import json
import time

import torch
from torch import nn

IMAGES, EPOCHS = 60000, 2


def model(kind):
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5, padding="same"),
                         nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 49, 512), nn.ReLU(), nn.Linear(512, 10))


def measure(kind, batch, compiled):
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    x = torch.rand(IMAGES, 1, 28, 28, device="cuda")
    y = torch.randint(0, 10, (IMAGES,), device="cuda")
    net = model(kind).cuda()
    run = torch.compile(net, mode="reduce-overhead") if compiled else net
    step = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()

    def epoch():
        order = torch.randperm(IMAGES, device="cuda")
        for at in range(0, IMAGES - batch + 1, batch):
            rows = order[at:at + batch]
            step.zero_grad(set_to_none=True)
            loss_of(run(x[rows]), y[rows]).backward()
            step.step()
        torch.cuda.synchronize()

    epoch()
    start = time.monotonic()
    for _ in range(EPOCHS):
        epoch()
    seconds = (time.monotonic() - start) / EPOCHS
    print(json.dumps({"bench": "trainer", "system": f"torch {torch.__version__}{' compiled' if compiled else ''}", "model": kind,
                      "batch": batch, "images_per_s": round(IMAGES // batch * batch / seconds)}), flush=True)


for kind_ in ("mlp", "cnn"):
    for batch_ in (64, 1024):
        for compiled_ in (False, True):
            measure(kind_, batch_, compiled_)
