#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Event files: what TensorBoard's own code reads from the files that workers write, while a search runs, after
deaths and failures, and what `magpie tensorboard` makes of it."""
import glob
import json
import math
import os
import re
import signal
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

SPACE = {"lr": {"type": "DOUBLE", "range": [0.0001, 0.1], "scale": "log"},
         "kernel": {"type": "DISCRETE", "values": [3, 5, 7]},
         "optimizer": {"type": "CATEGORICAL", "values": ["sgd", "adam"]},
         "momentum": {"type": "DOUBLE", "range": [0, 0.9], "when": {"optimizer": ["sgd"]}}}

# Three metrics, one of them no number at first; a late step that repeats; a trial of its own that fails.
PROGRAM = """import json, os, sys
n = int(os.environ["MAGPIE_TRIAL"])
for step in (1, 2, 3, 2):
    print("::magpie", json.dumps({"step": step, "metrics": {"acc": n + step / 10, "loss": 1 / step,
                                                            "gap": None if step == 1 else step}}), flush=True)
sys.exit(3 if n == 2 else 0)
"""

# Counts its steps up, a checkpoint after each third one; waits at step `hold` until a file is there.
COUNTER = """import json, os, sys, time
at = int(os.environ.get("MAGPIE_RESUME_STEP", "0"))
for step in range(at + 1, 13):
    print("::magpie", json.dumps({"step": step, "metrics": {"acc": step}}), flush=True)
    if step % 3 == 0:
        os.mkdir(f"{os.environ['MAGPIE_CHECKPOINT_DIR']}/{step}")
        print("::magpie", json.dumps({"checkpoint": step}), flush=True)
    while step == 8 and at == 0 and not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
"""


class EventFiles(harness.Case):
    def setUp(self):
        super().setUp()
        self.python = harness.python_env("boards")

    def spec(self, program, *args, **more):
        return {"name": "demo", "objective": {"metric": "acc", "direction": "max"}, "searchspace": SPACE,
                "optimizer": {"algorithm": "random"}, "seed": 3, "limits": {"trials": 4},
                "trial": {"command": ["python3", "-c", program, *args]}, **more}

    def folder(self, experiment):
        return experiment["storage"][len("file:"):]

    def read(self, folder):
        p = subprocess.run([self.python, os.path.join(harness.ROOT, "tests", "support", "read_board.py"), folder],
                           capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        return json.loads(p.stdout)

    def test_scalars_and_hparams_are_there_without_code_of_the_user(self):
        d = self.driver()
        w = self.worker(d, "--slots", "2")
        x = d.submit(self.spec(PROGRAM))
        d.wait_state(x)
        w.stop()  # leaves when everything is stored
        got = self.read(self.folder(d.experiment(x)))
        trials = d.trials(x)
        self.assertEqual(len(trials), 4)
        for t in trials:
            run = got["runs"][f"trials/{t['trial']}/tensorboard"]
            self.assertEqual([s for s, _ in run["acc"]], [1, 2, 3])
            for step, value in run["acc"]:
                self.assertAlmostEqual(value, t["trial"] + step / 10, places=5)
            self.assertEqual([round(v, 4) for _, v in run["loss"]], [1, 0.5, 0.3333])
            self.assertTrue(math.isnan(run["gap"][0][1]))
            self.assertEqual([v for _, v in run["gap"]][1:], [2, 3])
        self.check_experiment(got["experiment"])
        self.check_groups(got["groups"], trials)

    def check_experiment(self, e):
        infos = {i["name"]: i for i in e["hparamInfos"]}
        self.assertEqual(e["name"], "demo")
        self.assertEqual(set(infos), set(SPACE))
        self.assertEqual(infos["lr"]["domainInterval"], {"minValue": 0.0001, "maxValue": 0.1})
        self.assertEqual(infos["kernel"]["domainDiscrete"], [3, 5, 7])
        self.assertEqual((infos["kernel"]["type"], infos["optimizer"]["type"]), ("DATA_TYPE_FLOAT64", "DATA_TYPE_STRING"))
        self.assertEqual(infos["optimizer"]["domainDiscrete"], ["sgd", "adam"])
        self.assertEqual([m["name"]["tag"] for m in e["metricInfos"]], ["acc"])

    def check_groups(self, groups, trials):
        by_name = {g["name"]: g for g in groups}
        self.assertEqual(set(by_name), {f"trial {t['trial']}" for t in trials})
        for t in trials:
            g = by_name[f"trial {t['trial']}"]
            self.assertEqual(g["hparams"], t["params"])
            session = g["sessions"][0]
            self.assertEqual(session["status"], "STATUS_FAILURE" if t["trial"] == 2 else "STATUS_SUCCESS")
            self.assertGreaterEqual(session["endTimeSecs"], session["startTimeSecs"])
            self.assertAlmostEqual(g["metricValues"][0]["value"], t["trial"] + 0.3, places=5)

    def test_no_step_is_missing_or_doubled_after_the_worker_died(self):
        d = self.driver("--lease", "2s", "--heartbeat", "500ms")
        w = self.worker(d, "--slots", "1")
        go = self.path("go")
        x = d.submit(self.spec(COUNTER, go, limits={"trials": 1}))
        harness.wait_until(lambda: any(t["step"] == 8 and (t["checkpoint"] or {}).get("step") == 6
                                       for t in d.trials(x)), what="the checkpoint of step 6")
        w.kill()
        w2 = self.worker(d, "--slots", "1")
        d.wait_state(x)
        w2.stop()
        t = d.trials(x)[0]
        self.assertGreater(t["attempt"], 1)
        run = self.read(self.folder(d.experiment(x)))["runs"]["trials/1/tensorboard"]
        self.assertEqual(run["acc"], [[s, s] for s in range(1, 13)])

    def test_tensorboard_shows_a_trial_that_still_runs(self):
        d = self.driver()
        self.worker(d, "--slots", "1")
        go = self.path("go")
        x = d.submit(self.spec(COUNTER, go, limits={"trials": 1}))
        folder = self.folder(d.experiment(x))
        self.assertEqual(self.magpie("tensorboard", "demo", "--logdir", "--url", d.http).stdout().strip(), folder)
        own = os.path.join(os.path.dirname(self.python), "tensorboard")
        p = self.start([harness.MAGPIE, "tensorboard", "demo", "--port", "0", "--url", d.http, "--",
                        "--reload_interval", "1"], "tensorboard", env={"MAGPIE_TENSORBOARD": own})
        url = harness.wait_until(lambda: re.search(r"http://127\.0\.0\.1:\d+/", p.stdout() + p.stderr()), 60,
                                 "TensorBoard's address").group(0)

        def shown():
            query = json.dumps({"experiment_name": "", "startIndex": 0, "sliceSize": 10, "colParams": [
                {"metric": {"tag": "acc"}}], "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_RUNNING"]})
            r = urllib.request.Request(url + "data/plugin/hparams/session_groups", query.encode(),
                                       {"Content-Type": "application/json"})
            with urllib.request.urlopen(r, timeout=10) as f:
                groups = json.load(f)["sessionGroups"]
            return groups and groups[0].get("metricValues") and groups[0]

        group = harness.wait_until(shown, 60, "the running trial on TensorBoard", every=0.3)
        self.assertEqual(group["name"], "trial 1")
        self.assertEqual(group["metricValues"][0]["value"], 8)
        self.assertEqual(d.trials(x)[0]["state"], "running")
        self.write("go", "")
        p.signal(signal.SIGINT)
        self.assertEqual(p.wait(), 0, p.stderr())
        d.wait_state(x)

    def test_a_search_may_do_without(self):
        d = self.driver()
        w = self.worker(d)
        x = d.submit(self.spec(PROGRAM, tensorboard=False))
        d.wait_state(x)
        w.stop()
        p = self.magpie("tensorboard", "demo", "--logdir", "--url", d.http, status=1)
        self.assertIn('"tensorboard": false', p.stderr())
        self.assertEqual(glob.glob(self.folder(d.experiment(x)) + "/**/*tfevents*", recursive=True), [])

    def test_a_missing_tensorboard_is_named_with_its_cure(self):
        d = self.driver()
        d.submit(self.spec(PROGRAM))
        p = self.magpie("tensorboard", "1", "--url", d.http, status=1, env={"MAGPIE_TENSORBOARD": self.path("none")})
        self.assertIn("pip install tensorboard", p.stderr())


# As PyTorch writes (tensorboardX is its writer), as TF2 does (tensors), in two folders, with a torn record in the middle.
WRITER = """import os, sys
from tensorboardX import SummaryWriter
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter
logs = os.environ["MAGPIE_TRIAL_DIR"] + "/logs"
torch, keras = SummaryWriter(logs), EventFileWriter(logs + "/validation")
for step in range(4):
    torch.add_scalar("loss", 1 / (step + 1), step + 1)
    torch.add_text("notes", "not a number", step + 1)
    torch.add_histogram("weights", [1.0, 2.0], step + 1)
    torch.flush()
    keras.add_event(Event(step=step, wall_time=1.0, summary=scalar_pb("epoch_acc", step / 4)))
    keras.flush()
keras.close()
with open([os.path.join(logs, n) for n in os.listdir(logs) if "tfevents" in n][0], "ab") as f:
    f.write(b"\\x18\\0\\0\\0")  # a record that never came whole
"""


class Sources(harness.Case):
    def search(self, **trial):
        python = harness.python_env("boards")
        d = self.driver()
        w = self.worker(d, "--slots", "1")
        x = d.submit({"objective": {"metric": "acc", "direction": "max"}, "searchspace": {"x": ["DOUBLE", [0, 1]]},
                      "metrics": {"acc": {"tensorboard": "validation/epoch_acc", "offset": 1}}, "limits": {"trials": 1},
                      "trial": {"command": [python, "-c", WRITER], **trial}})
        d.wait_state(x)
        w.stop()
        points = d.get(f"/api/v1/experiments/{x}/trials/1/metrics")["metrics"]
        return d.trials(x)[0], {p["step"]: p["values"] for p in points}

    def test_scalars_of_the_program_s_event_files_are_its_reports(self):
        trial, steps = self.search(tensorboard="logs")
        self.assertEqual((trial["state"], trial["value"]), ("completed", 0.75))
        self.assertEqual(sorted(steps), [1, 2, 3, 4])
        for step, values in steps.items():
            self.assertEqual(values["acc"], (step - 1) / 4)
            self.assertAlmostEqual(values["loss"], 1 / step, places=6)
            self.assertEqual(set(values), {"acc", "loss"})

    def test_without_a_folder_only_what_is_named_counts(self):
        trial, steps = self.search()
        self.assertEqual(trial["state"], "completed")
        self.assertEqual(steps, {s: {"acc": (s - 1) / 4} for s in (1, 2, 3, 4)})

    def test_faults_in_the_file_are_named_with_their_place(self):
        spec = {"objective": {"metric": "acc", "direction": "max"}, "searchspace": {"x": ["DOUBLE", [0, 1]]},
                "metrics": {"acc": {"tensorbord": "acc"}, "step": {"tensorboard": "s"}, "b": {"tensorboard": "b", "offset": "1"}},
                "trial": {"command": ["true"], "tensorboard": "/logs"}, "tensorboard": 1}
        p = self.magpie("validate", self.write("bad.json", spec), status=2)
        for part in ("/metrics/acc", "tensorboard", "/metrics/step", "/metrics/b/offset", "/trial/tensorboard", "MAGPIE_TRIAL_DIR",
                     "/tensorboard"):
            self.assertIn(part, p.stdout() + p.stderr())


if __name__ == "__main__":
    harness.main()
