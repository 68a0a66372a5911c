#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn-round in long-lived executors: from the end of one trial to the start of the slot's next.

    bench/gap.py [--trials 2000] [--ms 50] [--slots 16] [--dir DIR]   # median < 1 ms, p99 < 3 ms
    bench/gap.py --trials 1000 --ms 1000                              # at most 63.3 s in all

A real driver (durability full) and one real worker; the executor (bench/sleeper) measures its own gaps
with the monotonic clock. DIR (default: the build folder) should lie on a disk, not in memory.
"""
import argparse
import glob
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support"))
import harness  # noqa: E402


def file_system(path):
    best = ("", "?")
    with open("/proc/mounts") as f:
        for line in f:
            _, where, kind = line.split()[:3]
            if (path == where or path.startswith(where.rstrip("/") + "/")) and len(where) >= len(best[0]):
                best = (where, kind)
    return best[1]


def fdatasync_ms(path, n=200):
    times = []
    name = os.path.join(path, "fsync-probe")
    with open(name, "wb", buffering=0) as f:
        for _ in range(n):
            f.write(b"x" * 4096)
            t = time.perf_counter()
            os.fdatasync(f.fileno())
            times.append((time.perf_counter() - t) * 1e3)
    os.unlink(name)
    return statistics.median(times)


def percentile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


class Bench(harness.Case):
    args = None

    def runTest(self):
        a = self.args
        gaps = self.path("gaps")
        os.mkdir(gaps)
        d = self.driver()
        self.worker(d, "--slots", str(a.slots), env={"MAGPIE_GAP_DIR": gaps})
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"], what="the worker")
        spec = {"name": "gap", "objective": {"metric": "value", "direction": "min"},
                "searchspace": {"x": ["DOUBLE", [0.0, 1.0]]}, "optimizer": {"algorithm": "random"}, "seed": 1,
                "limits": {"trials": a.trials},
                "trial": {"executor": [os.path.join(harness.BUILD, "bench", "sleeper"), str(a.ms)]}}
        start = time.monotonic()
        x = d.submit(spec)
        d.wait_state(x, "completed", timeout=60 + 3 * a.trials * a.ms / 1000 / a.slots)
        total = time.monotonic() - start
        values = []
        for name in glob.glob(os.path.join(gaps, "*")):
            with open(name) as f:
                values += [int(line) / 1e6 for line in f]
        rounds = -(-a.trials // a.slots)
        floor = rounds * a.ms / 1000
        print(f"trials={a.trials} ms={a.ms} slots={a.slots} total={total:.2f}s floor={floor:.2f}s "
              f"over={100 * (total / floor - 1):.2f}%")
        print(f"gap_ms n={len(values)} median={statistics.median(values):.3f} p90={percentile(values, .9):.3f} "
              f"p99={percentile(values, .99):.3f} max={max(values):.3f}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, default=2000)
    p.add_argument("--ms", type=int, default=50)
    p.add_argument("--slots", type=int, default=16)
    p.add_argument("--dir", default=harness.BUILD)
    Bench.args = p.parse_args()
    tempfile.tempdir = tempfile.mkdtemp(prefix="gap-", dir=Bench.args.dir)
    print(f"fs={file_system(os.path.abspath(Bench.args.dir))} fdatasync_median_ms={fdatasync_ms(tempfile.tempdir):.3f}")
    try:
        result = Bench().run()
        for _, text in result.errors + result.failures:
            print(text)
        return 0 if result.wasSuccessful() else 1
    finally:
        harness.kill_descendants()
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
