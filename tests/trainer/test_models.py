#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Models out: `magpie model` and `magpie predict`, and what onnx, onnxruntime and safetensors make of the files."""
import csv
import json
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

TRAINER = os.path.join(harness.BUILD, "trainer", "magpie-trainer")
FLOWERS = os.path.join(harness.ROOT, "examples", "flowers.csv")
FASHION = "/usr/share/datasets/fashion-mnist"
TABLE = {"program": "builtin", "dataset": f"csv:{FLOWERS}?label=kind",
         "model": {"layers": [{"type": "dense", "units": 16, "activation": "relu"}, {"type": "dropout", "rate": 0.1},
                              {"type": "dense", "units": 3}]},
         "training": {"optimizer": "adam", "lr": 0.01, "batch_size": 16}}
IMAGES = {"program": "builtin", "dataset": f"idx:{FASHION}?limit=1500",
          "model": {"layers": [{"type": "conv", "filters": 6, "kernel": 5, "activation": "relu"}, {"type": "maxpool"},
                               {"type": "conv", "filters": 8, "kernel": 3, "stride": 2, "padding": 1, "activation": "tanh"},
                               {"type": "dense", "units": 24, "activation": "sigmoid"}, {"type": "dense", "units": 10}]},
          "training": {"lr": 0.1, "momentum": 0.9}}
# Every layer that the two above have not, in blocks.
BLOCKS = {"program": "builtin", "dataset": f"idx:{FASHION}?limit=600",
          "model": {"layers": [
              {"type": "conv", "filters": 8, "kernel": 3, "stride": 2, "bias": False}, {"type": "batchnorm", "activation": "relu"},
              {"type": "residual", "activation": "relu", "layers": [
                  {"type": "conv", "filters": 16, "kernel": 3, "stride": 2, "groups": 2, "activation": "gelu"}, {"type": "batchnorm"}]},
              {"type": "residual", "layers": [{"type": "conv", "depthwise": True, "kernel": 3, "activation": "silu"}]},
              {"type": "concat", "branches": [[{"type": "avgpool"}, {"type": "layernorm"}, {"type": "flatten"}],
                                              [{"type": "globalpool"}], [{"type": "globalpool", "kind": "max"}]]},
              {"type": "dense", "units": 12, "activation": "gelu", "bias": False}, {"type": "layernorm", "activation": "silu"},
              {"type": "dropout"}, {"type": "activation", "activation": "tanh"}, {"type": "dense", "units": 10}]},
          "training": {"lr": 0.05, "momentum": 0.9}}
# What the real libraries say of a file; run by the environment's interpreter.
READ = r"""
import json, sys
import numpy as np, onnx, onnxruntime
from safetensors.numpy import load_file
path, data = sys.argv[1:]
model = onnx.load(path + ".onnx")
onnx.checker.check_model(model, full_check=True)
run = onnxruntime.InferenceSession(path + ".onnx")
x = np.load(data)
y = run.run(None, {"input": x.reshape([-1] + [d for d in run.get_inputs()[0].shape[1:]])})
arrays = load_file(path + ".safetensors")
same = {i.name: bool((onnx.numpy_helper.to_array(i) == arrays[i.name]).all()) for i in model.graph.initializer if i.name in arrays}
print(json.dumps({"outputs": [o.name for o in run.get_outputs()], "last": y[-1].tolist(), "same": same,
                  "shapes": {k: list(v.shape) for k, v in arrays.items()}}))
"""


class Models(harness.Case):
    def run_it(self, *argv, status=0, **more):
        p = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, cwd=harness.ROOT, **more)
        self.assertEqual(p.returncode, status, p.stdout[-500:] + p.stderr[-2000:])
        return p

    def train(self, trial, epochs=3):
        """A checkpoint's folder."""
        file = self.path("trial.json")
        with open(file, "w") as f:
            json.dump(trial, f)
        folder = self.path("checkpoints")
        os.makedirs(folder, exist_ok=True)
        self.run_it(TRAINER, "--train", file, "--epochs", epochs, "--checkpoints", folder)
        return os.path.join(folder, str(epochs))

    def predictions(self, model, data, *flags):
        p = self.run_it(harness.MAGPIE, "predict", model, data, *flags)
        return list(csv.DictReader(p.stdout.splitlines())), p.stderr

    def read_by_others(self, checkpoint, rows, python):
        """rows: the raw values, as lists."""
        for suffix in (".onnx", ".safetensors"):
            self.run_it(TRAINER, "--export", checkpoint, "--output", self.path("model" + suffix))
        code = f"import sys, json, numpy as np; np.save({self.path('x.npy')!r}, np.array(json.load(sys.stdin), np.float32))"
        self.run_it(python, "-c", code, input=json.dumps(rows))
        return json.loads(self.run_it(python, "-c", READ, self.path("model"), self.path("x.npy")).stdout)

    def test_onnxruntime_gives_our_probabilities_for_a_table_of_raw_columns(self):
        python = harness.python_env("models")
        checkpoint = self.train(TABLE)
        with open(FLOWERS) as f:
            rows = [[float(v) for k, v in r.items() if k != "kind"] for r in csv.DictReader(f)]
        said = self.read_by_others(checkpoint, rows, python)
        self.assertEqual(said["outputs"], ["output", "probabilities"])
        self.assertEqual(said["shapes"], {"0.weight": [16, 4], "0.bias": [16], "3.weight": [3, 16], "3.bias": [3]})
        self.assertTrue(len(said["same"]) == 4 and all(said["same"].values()), said["same"])
        ours, _ = self.predictions(checkpoint, FLOWERS, "--probabilities")
        self.assertEqual(len(ours), len(rows))
        for mine, theirs in zip(ours, said["last"]):
            for name, p in zip(("ash", "birch", "cedar"), theirs):
                self.assertAlmostEqual(float(mine[name]), p, delta=1e-5)

    def test_onnxruntime_gives_our_two_probabilities_of_a_logistic_regression(self):
        python = harness.python_env("models")
        data = self.path("two.csv")
        with open(FLOWERS) as f, open(data, "w") as g:
            g.writelines(line for line in f if not line.rstrip().endswith("cedar"))
        trial = dict(TABLE, dataset=f"csv:{data}?label=kind", model={"family": "logistic"})
        checkpoint = self.train(trial)
        with open(data) as f:
            rows = [[float(v) for k, v in r.items() if k != "kind"] for r in csv.DictReader(f)]
        said = self.read_by_others(checkpoint, rows, python)
        self.assertEqual(said["shapes"], {"0.weight": [1, 4], "0.bias": [1]})
        ours, told = self.predictions(checkpoint, data, "--probabilities")
        self.assertIn("accuracy", told)
        for mine, theirs in zip(ours, said["last"]):
            self.assertAlmostEqual(sum(theirs), 1, delta=1e-5)
            self.assertEqual(mine["prediction"], "ash" if theirs[0] > theirs[1] else "birch")
            for name, p in zip(("ash", "birch"), theirs):
                self.assertAlmostEqual(float(mine[name]), p, delta=1e-5)

    def test_onnxruntime_gives_our_probabilities_for_bytes_of_images(self):
        self.compare_images(IMAGES)

    def test_onnxruntime_gives_our_probabilities_of_blocks_and_norms(self):
        said = self.compare_images(BLOCKS)
        self.assertEqual(said["shapes"]["layers.1.running_var"], [8])
        self.assertEqual(said["shapes"]["layers.2.weight"], [16, 4, 3, 3])
        self.assertTrue(all(said["same"].values()), said["same"])

    def test_onnxruntime_gives_our_probabilities_of_an_embedding(self):
        python = harness.python_env("models")
        rows = [[(i * i + j) % 7 for j in range(4)] for i in range(40)]
        with open(self.path("words.csv"), "w") as f:
            f.write("a,b,c,d,y\n" + "".join(",".join(map(str, r)) + f",{i % 2}\n" for i, r in enumerate(rows)))
        layers = [{"type": "embedding", "vocabulary": 7, "width": 5}, {"type": "globalpool"}, {"type": "dense", "units": 2}]
        trial = {"program": "builtin", "dataset": f"csv:{self.path('words.csv')}?label=y&standardize=false", "model": {"layers": layers}}
        checkpoint = self.train(trial)
        said = self.read_by_others(checkpoint, rows, python)
        ours, _ = self.predictions(checkpoint, self.path("words.csv"), "--probabilities")
        for mine, theirs in zip(ours, said["last"]):
            self.assertAlmostEqual(float(mine["0"]), theirs[0], delta=1e-5)
        trial["model"]["layers"][0]["vocabulary"] = 6
        with open(self.path("small.json"), "w") as f:
            json.dump(trial, f)
        p = self.run_it(TRAINER, "--check", self.path("small.json"), status=1)
        self.assertIn("whole numbers from 0 to 5", p.stderr + p.stdout)

    def compare_images(self, trial):
        python = harness.python_env("models")
        checkpoint = self.train(trial, epochs=1)
        images = [[(7 * i + j * j) % 256 for j in range(784)] for i in range(20)]
        with open(self.path("some-idx3-ubyte"), "wb") as f:
            f.write(struct.pack(">4B3I", 0, 0, 8, 3, 20, 28, 28) + bytes(v for image in images for v in image))
        said = self.read_by_others(checkpoint, images, python)
        ours, told = self.predictions(checkpoint, "idx:" + self.path("some-idx3-ubyte"), "--probabilities")
        self.assertEqual(told, "20 examples\n")
        for mine, theirs in zip(ours, said["last"]):
            for k, p in enumerate(theirs):
                self.assertAlmostEqual(float(mine[str(k)]), p, delta=1e-5)
        return said

    def test_predictions_are_the_same_from_checkpoint_and_safetensors_and_tell_the_accuracy(self):
        checkpoint = self.train(TABLE, epochs=20)
        file = self.path("m.safetensors")
        self.run_it(TRAINER, "--export", os.path.join(checkpoint, "model.ckpt"), "--output", file)
        ours, told = self.predictions(checkpoint, FLOWERS)
        self.assertEqual(self.predictions(file, "csv:" + FLOWERS), (ours, told))
        with open(FLOWERS) as f:
            labels = [r["kind"] for r in csv.DictReader(f)]
        right = sum(r["prediction"] == k for r, k in zip(ours, labels)) / len(labels)
        self.assertGreater(right, 0.9)
        self.assertIn(f"accuracy {right:.4f}", told)

    def test_columns_are_found_by_name_in_any_order_and_labels_may_be_absent(self):
        checkpoint = self.train(TABLE)
        with open(FLOWERS) as f:
            rows = list(csv.DictReader(f))
        with open(self.path("other.csv"), "w", newline="") as f:
            w = csv.writer(f)
            w.writerow(["id", "petal_width", "sepal_length", "petal_length", "sepal_width"])
            for i, r in enumerate(rows):
                w.writerow([f"plant {i}", r["petal_width"], r["sepal_length"], r["petal_length"], r["sepal_width"]])
        plain, _ = self.predictions(checkpoint, FLOWERS)
        other, told = self.predictions(checkpoint, self.path("other.csv"))
        self.assertEqual(other, plain)
        self.assertEqual(told, f"{len(rows)} examples\n")
        lines = self.run_it(harness.MAGPIE, "predict", checkpoint, self.path("other.csv"), "--json").stdout.splitlines()
        self.assertEqual([json.loads(x)["prediction"] for x in lines], [r["prediction"] for r in plain])

    def test_a_number_is_predicted_in_its_own_scale(self):
        with open(self.path("line.csv"), "w") as f:
            f.write("x,y\n" + "".join(f"{i},{3 * i / 50 + 1}\n" for i in range(50)))
        checkpoint = self.train({"program": "builtin", "dataset": f"csv:{self.path('line.csv')}?label=y&task=regression",
                                 "model": {"layers": [{"type": "dense", "units": 1}]}, "training": {"lr": 0.05}}, epochs=80)
        ours, told = self.predictions(checkpoint, self.path("line.csv"))
        self.assertAlmostEqual(float(ours[40]["prediction"]), 3 * 40 / 50 + 1, delta=0.05)
        self.assertIn("root mean squared error", told)

    def test_what_does_not_fit_is_one_message_and_leaves_nothing(self):
        checkpoint = self.train(TABLE)
        with open(self.path("short.csv"), "w") as f:
            f.write("sepal_length,kind\n1,ash\n")
        with open(self.path("torn.safetensors"), "wb") as f:
            f.write(b"\xff" * 20)
        shutil.copytree(checkpoint, self.path("torn"))
        with open(self.path("torn/model.ckpt"), "r+b") as f:
            f.truncate(os.path.getsize(self.path("torn/model.ckpt")) - 7)
        out = self.path("out.csv")
        for model, data, want in ((checkpoint, self.path("short.csv"), 'no column "sepal_width"'),
                                  (checkpoint, self.path("none.csv"), "No such file"),
                                  (self.path("none"), FLOWERS, "cannot read"),
                                  (self.path("torn"), FLOWERS, "torn"),
                                  (self.path("torn.safetensors"), FLOWERS, "safetensors")):
            p = self.run_it(harness.MAGPIE, "predict", model, data, "--output", out, status=2)
            self.assertIn(want, p.stderr)
            self.assertEqual(len(p.stderr.splitlines()), 1, p.stderr)
            self.assertFalse(os.path.exists(out))
        p = self.run_it(TRAINER, "--export", checkpoint, "--output", self.path("m.pt"), status=2)
        self.assertIn(".onnx or .safetensors", p.stderr)
        with open(self.path("m.onnx"), "w") as f:
            f.write("mine")
        p = self.run_it(TRAINER, "--export", checkpoint, "--output", self.path("m.onnx"), status=2)
        self.assertIn("is there already", p.stderr)
        with open(self.path("m.onnx")) as f:
            self.assertEqual(f.read(), "mine")
        self.assertEqual([n for n in os.listdir(self.tmp) if ".new-" in n], [])

    def test_a_searchs_best_model_is_written_and_applied_by_the_command_line(self):
        d = self.driver()
        self.worker(d, "--slots", "2")
        i = d.submit({"name": "flowers", "objective": {"metric": "val_loss", "direction": "min"},
                      "searchspace": {"lr": ["DOUBLE", [0.01, 0.1]]}, "optimizer": {"algorithm": "random"},
                      "limits": {"trials": 4}, "resource": {"unit": "epoch", "min": 2, "max": 2},
                      "trial": dict(TABLE, training={"lr": "${lr}", "batch_size": 16})})
        harness.wait_until(lambda: d.experiment(i)["state"] == "completed", what="the search's end")
        best = d.get(f"/api/v1/experiments/{i}/best")["trial"]
        file = self.path("best.safetensors")
        p = self.run_it(harness.MAGPIE, "model", "flowers", "--output", file, "--url", d.http, "--json")
        self.assertEqual(json.loads(p.stdout), {"experiment": "flowers", "trial": best, "step": 2, "file": file})
        ours, _ = self.predictions(file, FLOWERS)
        self.assertEqual(len(ours), 300)
        p = self.run_it(harness.MAGPIE, "model", str(i), "99", "--output", self.path("x.onnx"), "--url", d.http, status=1)
        self.assertIn("99", p.stderr)
        p = self.run_it(harness.MAGPIE, "model", str(i), "--url", d.http, status=2)
        self.assertIn("--output", p.stderr)


if __name__ == "__main__":
    harness.main()
