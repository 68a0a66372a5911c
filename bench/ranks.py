#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One trial over several processes: images a second, speed-up and efficiency, beside PyTorch's DistributedDataParallel (gloo).

bench/ranks.py [--ranks 1,2] [--models mlp,cnn] [--batch 256] [--epochs 3] [--rounds 3] [--transports shm,mpi] [--no-peer]
               [--trainer build/trainer/magpie-trainer] [--data DIR] [--venv DIR] [--out FILE]

The batch is that of all ranks together, so that every size computes the same thing. A run trains whole epochs, each with its measure on
the test images, over the ranks too; the first is not timed. Processor time is that of all processes of a run, read from /proc when
an epoch ends. Prints JSON lines: every run, and one summary for each model and system: of the fastest rounds, "speedup" is images a second over those of
one rank; "efficiency" images a second of processor time over those of one rank: what the ranks' sums and waits cost, whatever
else the machine does. More ranks than cores cannot be faster; "cores" is in every line.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.machinery import SourceFileLoader

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
trainer = SourceFileLoader("bench_trainer", os.path.join(HERE, "trainer")).load_module()
LAYERS = {"mlp": [{"type": "dense", "units": 256, "activation": "relu", "repeat": 2}, {"type": "dense", "units": 10}],
          "cnn": [{"type": "conv", "filters": 32, "kernel": 5, "activation": "relu"}, {"type": "maxpool"},
                  {"type": "conv", "filters": 64, "kernel": 5, "activation": "relu"}, {"type": "maxpool"}, {"type": "flatten"},
                  {"type": "dense", "units": 512, "activation": "relu"}, {"type": "dense", "units": 10}]}


def tree(pid):
    """The processes below `pid`, it included."""
    out, todo = [], [pid]
    while todo:
        at = todo.pop()
        out.append(at)
        try:
            for task in os.listdir("/proc/%d/task" % at):
                with open("/proc/%d/task/%s/children" % (at, task)) as f:
                    todo += [int(x) for x in f.read().split()]
        except OSError:
            pass
    return out


def cpu_seconds(pid):
    ticks = 0
    for p in tree(pid):
        try:
            with open("/proc/%d/stat" % p) as f:
                ticks += sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13])
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(cmd, env, images):
    """Images a second, and a second of processor time, from the end of the first epoch to that of the last."""
    child = subprocess.Popen(cmd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    marks, last = [], None
    for line in child.stdout:
        line = json.loads(line) if line.startswith("{") else {}
        if "epoch" in line:
            marks.append((time.monotonic(), cpu_seconds(child.pid)))
            last = line
    err = child.stderr.read()
    if child.wait() or len(marks) < 2:
        print("bench/ranks.py: %s failed:\n%s" % (" ".join(cmd), err[-2000:]), file=sys.stderr)
        return None
    images *= len(marks) - 1
    return {"images_per_s": round(images / (marks[-1][0] - marks[0][0])),
            "images_per_cpu_s": round(images / (marks[-1][1] - marks[0][1])), "test_accuracy": last["metrics"].get("test_accuracy")}


def recipe(a, model, transport, folder):
    path = os.path.join(folder, "%s-%s.json" % (model, transport))
    with open(path, "w") as f:
        json.dump({"trial": {"program": "builtin", "dataset": "idx:" + a.data, "model": {"layers": LAYERS[model]},
                             "training": {"lr": 0.05 if a.batch >= 256 else 0.02, "momentum": 0.9, "batch_size": a.batch, "threads": 1,
                                          "validation": 0.0}},
                   "distribution": {"ranks": 2, "transport": transport}}, f)
    return path


def run(a, system, model, n, peer, folder):
    env = dict(os.environ, OMP_NUM_THREADS="1")
    if system == "torch-ddp":
        env["LD_LIBRARY_PATH"] = peer[1]
        cmd = [peer[0], os.path.join(HERE, "peer_ddp.py"), "--data", a.data, "--model", model, "--batch", str(a.batch), "--ranks", str(n),
               "--epochs", str(a.epochs)]
    else:
        cmd = [a.trainer, "--train", recipe(a, model, system.split("-")[1], folder), "--ranks", str(n), "--epochs", str(a.epochs), "--seed", "1"]
    return timed(cmd, env, 60000)


def summary(system, model, best):
    one = best.get(1)
    line = {"kind": "summary", "bench": "ranks", "system": system, "model": model, "cores": os.cpu_count(), "images_per_s": {},
            "speedup": {}, "efficiency": {}}
    for n, b in best.items():
        line["images_per_s"][n] = b["images_per_s"]
        if one:
            line["speedup"][n] = round(b["images_per_s"] / one["images_per_s"], 3)
            line["efficiency"][n] = round(b["images_per_cpu_s"] / one["images_per_cpu_s"], 3)
    return line


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--ranks", default="1,2")
    ap.add_argument("--models", default="mlp,cnn")
    ap.add_argument("--batch", type=int, default=256)
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--transports", default="shm,mpi")
    ap.add_argument("--no-peer", action="store_true")
    ap.add_argument("--trainer", default=os.path.join(ROOT, "build", "trainer", "magpie-trainer"))
    ap.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    ap.add_argument("--venv", default=os.path.expanduser("~/.cache/magpie-bench/venv"))
    ap.add_argument("--out")
    a = ap.parse_args()
    if a.epochs < 2:
        ap.error("--epochs: at least 2, the first is not timed")
    return a


def main():
    a = options()
    sizes = [int(x) for x in a.ranks.split(",")]
    systems = ["magpie-" + t for t in a.transports.split(",")] + ([] if a.no_peer else ["torch-ddp"])
    peer = None if a.no_peer else trainer.prepare_peer(a.venv)
    out = open(a.out, "a") if a.out else None
    trainer.emit(out, **trainer.machine())
    with tempfile.TemporaryDirectory() as folder:
        for model in a.models.split(","):
            best = {s: {} for s in systems}
            for i in range(a.rounds):
                for system in systems:
                    for n in sizes:
                        line = run(a, system, model, n, peer, folder)
                        if line is None:
                            continue
                        trainer.emit(out, bench="ranks", system=system, model=model, ranks=n, batch=a.batch, round=i + 1, cores=os.cpu_count(),
                                     load1=round(os.getloadavg()[0], 2), **line)
                        was = best[system].setdefault(n, dict(line))
                        for key in ("images_per_s", "images_per_cpu_s"):
                            was[key] = max(was[key], line[key])
            for system in systems:
                trainer.emit(out, **summary(system, model, best[system]))


if __name__ == "__main__":
    main()
