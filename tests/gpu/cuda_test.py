# SPDX-License-Identifier: Apache-2.0
"""magpie-trainer-cuda: without a GPU it says so; with one every op, gradient, optimizer and lane agrees with the reference,
runs repeat bit for bit, with recorded steps and without, and a checkpoint goes on as if nothing had happened."""
import functools
import hashlib
import json
import os
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

CUDA = os.path.join(harness.BUILD, "trainer", "cuda", "magpie-trainer-cuda")
PLAIN = os.path.join(harness.BUILD, "trainer", "magpie-trainer")

RECIPE = {
    "program": "builtin",
    "dataset": "idx:/usr/share/datasets/fashion-mnist?limit=2000",
    "model": {"layers": [{"type": "conv", "filters": 8, "kernel": 3, "activation": "relu"}, {"type": "maxpool", "size": 2},
                         {"type": "dense", "units": 32, "activation": "relu"}, {"type": "dropout", "rate": 0.2},
                         {"type": "dense", "units": 10}]},
    "training": {"optimizer": "adam", "lr": 0.001, "batch_size": 64},
}


def run(*argv, **env):
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, env=dict(os.environ, **env))


@functools.lru_cache(None)
def why_no_gpu():
    """None when there is a GPU that the program can use."""
    if not os.path.exists(CUDA):
        return "this build has no magpie-trainer-cuda (no CUDA toolkit was found)"
    line = next((l for l in run(CUDA, "--version").stdout.splitlines() if l.startswith("cuda: ")), "cuda: ?")
    return f"no GPU: {line[6:]}" if "no CUDA device" in line else None


class Program(harness.Case):
    def setUp(self):
        super().setUp()
        if not os.path.exists(CUDA):
            self.skipTest(why_no_gpu())

    def test_without_a_gpu_it_says_so_and_fails(self):
        r = run(CUDA, "--bench", "mlp", CUDA_VISIBLE_DEVICES="")
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r"no CUDA device: (no NVIDIA driver is installed|no CUDA-capable device)")

    def test_the_cpu_backend_is_in_it_too(self):
        r = run(CUDA, "--bench", "mlp", "--backend", "cpu", "--batches", "3", CUDA_VISIBLE_DEVICES="")
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_no_other_program_links_cuda(self):
        for program in (harness.MAGPIE, PLAIN):
            out = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
            self.assertNotRegex(out, r"lib(cuda|cudnn|cublas|nccl)")


class Worker(harness.Case):
    def program(self, name, target):
        path = os.path.join(self.path("libexec"), name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(f'#!/bin/sh\necho {name} >>"{self.path("started")}"\nexec "{target}" "$@"\n')
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def started(self, *flags):
        """Which trainers a worker with these flags started for a trial; both stand for the plain one here."""
        os.makedirs(self.path("libexec"), exist_ok=True)
        self.program("magpie-trainer", PLAIN)
        self.program("magpie-trainer-cuda", PLAIN)
        trial = json.loads(json.dumps(RECIPE))
        trial["training"].update(validation=0.1, lr="${lr}")
        d = self.driver()
        self.worker(d, "--slots", "1", *flags, env={"MAGPIE_LIBEXEC": self.path("libexec")})
        d.wait_state(d.submit({"name": "programs", "trial": trial, "optimizer": {"algorithm": "random"}, "limits": {"trials": 1},
                               "resource": {"min": 1, "max": 1}, "searchspace": {"lr": {"type": "DOUBLE", "range": [0.001, 0.01]}},
                               "objective": {"metric": "val_loss", "direction": "min"}}))
        with open(self.path("started"), encoding="utf-8") as f:
            return f.read().split()

    def test_a_worker_with_gpus_takes_the_program_for_gpus(self):
        self.assertEqual(set(self.started("--gpus", "0")), {"magpie-trainer-cuda"})

    def test_a_worker_without_gpus_takes_the_plain_one(self):
        self.assertEqual(set(self.started("--gpus", "none")), {"magpie-trainer"})


class Gpu(harness.Case):
    def setUp(self):
        super().setUp()
        if why_no_gpu():
            self.skipTest(why_no_gpu())

    def conformance(self, name, **env):
        r = run(os.path.join(harness.BUILD, "tests", "gpu", "gpu_" + name), "--tap", **env)
        self.assertEqual(r.returncode, 0, r.stdout[-4000:] + r.stderr[-4000:])

    def test_float32_agrees_with_the_reference(self):
        self.conformance("ops")

    def test_tf32_agrees_with_the_reference(self):
        self.conformance("ops_tf32")

    def test_bf16_agrees_with_the_reference(self):
        self.conformance("ops_bf16")

    def test_lanes_are_what_each_would_be_alone(self):
        self.conformance("lanes")

    def test_own_kernels_agree_without_the_libraries(self):
        self.conformance("ops", MAGPIE_CUDA_LIBRARIES="0")

    def test_a_rank_alone_sums_by_nccl_and_changes_no_bit(self):
        self.train("--epochs", "2", folder="alone")
        said = self.train("--epochs", "2", "--ranks", "1", folder="rank", MAGPIE_RANK_ALONE="1", MAGPIE_LOG="info")
        self.assertIn("ranks-nccl", said)
        self.assertEqual(self.digest("alone"), self.digest("rank"))

    def test_ranks_with_a_gpu_each_repeat_bit_for_bit(self):
        gpus = run(os.path.join(harness.BUILD, "tests", "trainer", "collective_rank_nccl"), "gpus").stdout.strip()
        if int(gpus or 0) < 2:
            self.skipTest("two ranks need two GPUs")
        for folder in "ab":
            said = self.train("--epochs", "2", "--ranks", "2", folder=folder, MAGPIE_LOG="info")
            self.assertIn("ranks-nccl", said)
        self.assertEqual(self.digest("a"), self.digest("b"))

    def test_ranks_that_share_a_gpu_say_so_and_train(self):
        said = self.train("--epochs", "1", "--ranks", "2", CUDA_VISIBLE_DEVICES="0", MAGPIE_LOG="info")
        self.assertRegex(said, "gradients-through-host|without NCCL")

    def train(self, *flags, folder="c", **env):
        spec = self.path("recipe.json")
        with open(spec, "w", encoding="utf-8") as f:
            json.dump(RECIPE, f)
        r = run(CUDA, "--train", spec, "--seed", "3", "--checkpoints", self.path(folder), *flags, **env)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stderr

    def digest(self, folder):
        sums = {}
        for root, _, files in os.walk(self.path(folder)):
            for name in files:
                with open(os.path.join(root, name), "rb") as f:
                    sums[os.path.relpath(os.path.join(root, name), self.path(folder))] = hashlib.sha256(f.read()).hexdigest()
        return sums

    def test_two_runs_are_the_same_bit_for_bit(self):
        self.train("--epochs", "2", folder="a")
        self.train("--epochs", "2", folder="b")
        self.assertEqual(self.digest("a"), self.digest("b"))

    def test_recorded_steps_give_the_bits_of_steps_that_are_not(self):
        self.train("--epochs", "2", folder="a")
        self.train("--epochs", "2", folder="b", MAGPIE_CUDA_GRAPHS="0")
        self.assertEqual(self.digest("a"), self.digest("b"))

    def test_a_checkpoint_goes_on_bit_for_bit(self):
        self.train("--epochs", "3", folder="whole")
        self.train("--epochs", "1", folder="parts")
        self.train("--epochs", "3", "--resume", os.path.join(self.path("parts"), "1"), folder="parts")
        whole, parts = self.digest("whole"), self.digest("parts")
        last = [k for k in whole if k.startswith("3/") or k == "3"]
        self.assertTrue(last)
        self.assertEqual([whole[k] for k in last], [parts[k] for k in last])


if __name__ == "__main__":
    harness.main()
