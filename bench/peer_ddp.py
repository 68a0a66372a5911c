#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's DistributedDataParallel with gloo on the CPU, the peer of bench/ranks: models, data and optimizer of peer_torch.py.

peer_ddp.py --data DIR --model mlp|cnn --batch 256 --ranks N --epochs N --seed S

Starts its ranks; each has its part of every batch, as magpie's, and of the test images, which each epoch ends with. Rank 0 prints a line an epoch.
"""
import argparse
import json
import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from peer_torch import load, model_of


def part(n, rank, size):
    return slice(n * rank // size, n * (rank + 1) // size)


def hits(net, x, y):
    net.eval()
    with torch.no_grad():
        n = sum((net(x[i:i + 256]).argmax(1) == y[i:i + 256]).sum().item() for i in range(0, len(x), 256))
    net.train()
    return n


def rank_main(rank, a, meeting):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=a.ranks)
    shape = (-1, 784) if a.model == "mlp" else (-1, 1, 28, 28)
    (xtr, ytr), (xte, yte) = load(a.data, "train", shape), load(a.data, "t10k", shape)
    net = model_of(a.model)
    whole = torch.nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True) if a.ranks > 1 else net
    opt = torch.optim.SGD(net.parameters(), lr=0.05 if a.batch >= 256 else 0.02, momentum=0.9)
    for epoch in range(1, a.epochs + 1):
        for rows in torch.randperm(len(xtr)).split(a.batch):
            own = rows[part(len(rows), rank, a.ranks)]
            opt.zero_grad()
            F.cross_entropy(whole(xtr[own]), ytr[own]).backward()
            opt.step()
        mine = part(len(xte), rank, a.ranks)
        right = torch.tensor([hits(net, xte[mine], yte[mine])], dtype=torch.float64)
        dist.all_reduce(right)
        if rank == 0:
            print(json.dumps({"epoch": epoch, "metrics": {"test_accuracy": right.item() / len(xte)}}), flush=True)
    dist.destroy_process_group()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True)
    ap.add_argument("--model", choices=("mlp", "cnn"), required=True)
    ap.add_argument("--batch", type=int, default=256)
    ap.add_argument("--ranks", type=int, default=2)
    ap.add_argument("--epochs", type=int, default=2)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank_main, args=(a, os.path.join(folder, "meeting")), nprocs=a.ranks)


if __name__ == "__main__":
    main()
