#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""magpie-trainer as a process: the executor's protocol over a socket pair, faults, and the command line.

test_protocol.py PATH-OF-MAGPIE-TRAINER
"""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

TRAINER = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build/trainer/magpie-trainer"
DEADLINE = 60


def write_csv(path, rows=400):
    rng = random.Random(1)
    with open(path, "w") as f:
        f.write("a,b,c,d,class\n")
        for i in range(rows):
            k = i % 3
            f.write(",".join("%.4f" % (rng.gauss(0, 1) + 2 * (j == k)) for j in range(4)) + ",class%d\n" % k)


class Executor:
    """A trainer on the other end of a socket pair."""

    def __init__(self, faults=None, stderr=subprocess.DEVNULL, memory_mb=None):
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(DEADLINE)
        env = dict(os.environ, MAGPIE_FD=str(theirs.fileno()), MAGPIE_LOG="warn")
        env.pop("MAGPIE_FAULTS", None)
        env.pop("MAGPIE_MEMORY_MB", None)
        if memory_mb:
            env["MAGPIE_MEMORY_MB"] = str(memory_mb)
        if faults:
            env["MAGPIE_FAULTS"] = faults
        self.proc = subprocess.Popen([TRAINER], pass_fds=[theirs.fileno()], env=env, stderr=stderr,
                                     stdin=subprocess.DEVNULL)
        theirs.close()
        self.data = b""

    def send(self, message):
        self.raw(json.dumps(message).encode() + b"\n")

    def raw(self, data):
        self.sock.sendall(data)

    def read(self):
        """The next message, or None at the end of the stream."""
        while b"\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        line, self.data = self.data.split(b"\n", 1)
        return json.loads(line)

    def until(self, kind):
        """Messages up to the first of that type, it included."""
        got = []
        while True:
            m = self.read()
            if m is None:
                raise AssertionError("end of stream, after %r" % got[-3:])
            got.append(m)
            if m["type"] == kind:
                return got

    def close(self):
        self.sock.close()
        return self.proc.wait(DEADLINE)


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="magpie-trainer-")
        self.csv = os.path.join(self.dir, "data.csv")
        write_csv(self.csv)
        self.executors = []

    def tearDown(self):
        for e in self.executors:
            if e.proc.poll() is None:
                e.proc.kill()
            e.sock.close()
            e.proc.wait(DEADLINE)
        shutil.rmtree(self.dir)

    def executor(self, **kw):
        e = Executor(**kw)
        self.executors.append(e)
        return e

    def spec(self, layers=None, **training):
        return {"program": "builtin", "dataset": "csv:%s?label=class" % self.csv,
                "model": {"layers": layers or [{"type": "dense", "units": "${units}", "activation": "relu"},
                                               {"type": "dropout", "rate": 0.1}, {"type": "dense", "units": 3}]},
                "training": dict({"lr": "${lr}", "momentum": 0.9, "batch_size": 16}, **training)}

    def start(self, trial=1, budget=2, folder="a", resume=None, spec=None, params=None, every=1, **more):
        out = os.path.join(self.dir, folder)
        os.makedirs(out, exist_ok=True)
        return dict({"type": "start", "experiment": 1, "trial": trial, "attempt": 1,
                     "params": {"units": 16, "lr": 0.05} if params is None else params,
                     "budget": budget, "resume_from": resume, "trial_dir": out, "checkpoint_dir": out, "seed": 42,
                     "metric": "val_accuracy", "direction": "max", "checkpoint": {"every": every, "keep": 2},
                     "spec": spec or self.spec()}, **more)

    def bytes_of(self, folder, step):
        with open(os.path.join(self.dir, folder, str(step), "model.ckpt"), "rb") as f:
            return f.read()


class Protocol(Base):
    def test_trial_after_trial_with_reports_checkpoints_and_results(self):
        e = self.executor()
        first = e.read()
        self.assertEqual(first["type"], "ready")
        self.assertIn("magpie-trainer", first["versions"])
        for trial in (1, 2):
            e.send(self.start(trial=trial, budget=3, folder=str(trial)))
            got = e.until("ready")
            self.assertEqual([m["type"] for m in got],
                             ["report", "checkpoint"] * 3 + ["result", "ready"])
            self.assertEqual([m["step"] for m in got if m["type"] == "report"], [1, 2, 3])
            self.assertTrue(all(m["trial"] == trial for m in got[:-1]))
            for m in got:
                if m["type"] == "report":
                    self.assertTrue({"train_loss", "train_accuracy", "val_loss", "val_accuracy"} <= set(m["metrics"]))
                if m["type"] == "checkpoint":
                    self.assertEqual(os.listdir(m["path"]), ["model.ckpt"])
            result = got[-2]
            self.assertEqual(result["status"], "completed")
            self.assertGreater(result["metrics"]["test_accuracy"], 0.7)
            self.assertEqual(result["metrics"], got[-4]["metrics"])
        e.send({"type": "exit"})
        self.assertIsNone(e.read())
        self.assertEqual(e.proc.wait(DEADLINE), 0)

    def test_same_trial_in_another_process_gives_the_same_bytes(self):
        runs = []
        for folder in ("x", "y"):
            e = self.executor()
            e.read()
            e.send(self.start(folder=folder))
            runs.append([m for m in e.until("result") if m["type"] != "checkpoint"])
        self.assertEqual(runs[0], runs[1])
        self.assertEqual(self.bytes_of("x", 2), self.bytes_of("y", 2))

    def test_resume_after_kill_gives_the_bytes_of_an_undisturbed_run(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=5, folder="whole"))
        e.until("result")
        # 18 batches of training an epoch: the fault falls into the middle of the fourth.
        e = self.executor(faults="trainer.batch:64=kill")
        e.read()
        e.send(self.start(budget=5, folder="killed"))
        saved = 0
        while True:
            m = e.read()
            if m is None:
                break
            saved = m["step"] if m["type"] == "checkpoint" else saved
        self.assertEqual(e.proc.wait(DEADLINE), -signal.SIGKILL)
        self.assertEqual(saved, 3)
        e = self.executor()
        e.read()
        e.send(self.start(budget=5, folder="again", resume={"step": 3, "path": os.path.join(self.dir, "killed", "3")}))
        got = e.until("result")
        self.assertEqual([m["step"] for m in got if m["type"] == "report"], [4, 5])
        self.assertEqual(self.bytes_of("whole", 5), self.bytes_of("again", 5))

    def test_what_never_fits_fails_alone_for_good_before_it_is_placed(self):
        e = self.executor(memory_mb=400)
        e.read()
        wide = [{"type": "dense", "units": 8000, "repeat": 3}, {"type": "dense", "units": 3}]
        e.send(self.start(trial=1, spec=self.spec(layers=wide)))
        m = e.until("ready")[0]
        self.assertEqual((m["type"], m["trial"], m["cause"], m["retry"]), ("error", 1, "out-of-memory", False), m)
        self.assertGreater(m["need_mb"], 1900)  # two layers of 64 million weights, four arrays of floats
        self.assertRegex(m["reason"], r"^out of memory: the model needs 1\.9 GB: weights 0\.5, gradients 0\.5, optimizer state 1\.0.*; "
                                      r"of limits\.memory's 400\.0 MB, \d+\.\d MB are free")
        with open("/proc/%d/status" % e.proc.pid) as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        self.assertLess(peak, 200 << 10, "KiB")
        e.send(self.start(trial=2, budget=1, folder="small"))
        self.assertEqual(e.until("ready")[-2]["status"], "completed")

    def test_what_does_not_fit_now_may_be_tried_again(self):
        e = self.executor(memory_mb=256)
        e.read()
        # Three quarters of all there is; a trainer with its data holds more than the rest.
        e.send(self.start(spec=self.spec(layers=[{"type": "dense", "units": 3900, "repeat": 2}, {"type": "dense", "units": 3}])))
        m = e.until("ready")[0]
        self.assertEqual((m["type"], m["cause"], m.get("retry")), ("error", "out-of-memory", None), m)
        self.assertGreater(m["need_mb"], 200)

    def test_data_that_do_not_fit_are_named_with_their_sizes(self):
        big = os.path.join(self.dir, "big.csv")
        with open(big, "w") as f:
            f.write(",".join("c%d" % i for i in range(100)) + ",class\n")
            for i in range(60000):
                f.write(",".join(["0.5"] * 100) + ",%d\n" % (i % 2))
        spec = dict(self.spec(), dataset="csv:%s?label=class" % big)
        e = self.executor(memory_mb=48)
        e.read()
        e.send(self.start(spec=spec))
        m = e.until("ready")[0]
        self.assertEqual((m["type"], m["cause"]), ("error", "out-of-memory"), m)
        self.assertRegex(m["reason"], r"big\.csv: no memory for 60000 examples of 100 values: 22\.9 MB in one piece are needed; "
                                      r"of limits\.memory's 48\.0 MB, \d+\.\d MB are free")

    def test_a_table_that_grows_too_large_ends_the_program_with_its_sizes_as_last_line(self):
        big = os.path.join(self.dir, "big.csv")
        with open(big, "w") as f:
            f.write(",".join("c%d" % i for i in range(500)) + ",class\n")
            for i in range(20000):
                f.write(",".join(["1"] * 500) + ",%d\n" % (i % 2))
        with open(os.path.join(self.dir, "stderr"), "w+") as err:
            e = self.executor(memory_mb=24, stderr=err)
            e.read()
            e.send(self.start(spec=dict(self.spec(), dataset="csv:%s?label=class" % big)))
            self.assertIsNone(e.read())
            self.assertEqual(e.proc.wait(DEADLINE), 1)
            err.seek(0)
            self.assertRegex(err.read(), r"out of memory while reading .*big\.csv: \d+\.\d MB in one piece are needed; "
                                         r"of limits\.memory's 24\.0 MB, \d+\.\d MB are free")

    def test_stop_in_the_middle_of_an_epoch_ends_the_trial_at_once(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=1000000, every=1000))
        e.until("report")
        e.send({"type": "stop", "trial": 99})  # of another trial: too late, ignored
        e.until("report")
        e.send({"type": "stop", "trial": 1})
        result = e.until("result")[-1]
        self.assertEqual(result["status"], "stopped")
        self.assertEqual(e.read()["type"], "ready")
        e.send(self.start(trial=2, budget=1, folder="b"))
        self.assertEqual(e.until("result")[-1]["status"], "completed")

    def test_pause_writes_a_checkpoint_and_ends(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=1000000, every=1000000))
        e.until("report")
        e.send({"type": "pause", "trial": 1})
        got = e.until("ready")
        self.assertEqual([m["type"] for m in got[-3:]], ["checkpoint", "result", "ready"])
        self.assertEqual(got[-2]["status"], "paused")
        step = got[-3]["step"]
        self.assertEqual(step, [m["step"] for m in got if m["type"] == "report"][-1])
        e.send(self.start(budget=step + 1, folder="b", resume={"step": step, "path": got[-3]["path"]}))
        self.assertEqual([m["step"] for m in e.until("result") if m["type"] == "report"], [step + 1])

    def test_a_closed_stream_ends_the_program_even_in_a_trial(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=1000000, every=0))
        e.until("report")
        self.assertEqual(e.close(), 0)

    def test_garbage_is_ignored(self):
        e = self.executor()
        e.read()
        junk = [b"", b"hello", b"{", b"[1,2]", b"null", b"7", b"{\"type\":7}", b"{\"type\":\"dance\"}",
                b"\x00\xff\xfe", b"{\"type\":\"start\",\"type\":\"start\"}", b"[" * 5000, b"\"" + b"a" * 100000,
                b"{\"type\":\"stop\"}", b"{\"type\":\"pause\",\"trial\":\"x\"}"]
        for line in junk:
            e.raw(line + b"\n")
        e.raw(b"x" * ((1 << 20) + 10) + b"\n")  # over the limit of a line
        message = json.dumps(self.start()).encode()
        e.raw(message[:10])
        time.sleep(0.05)  # a line in pieces is still one line
        e.raw(message[10:] + b"\n")
        self.assertEqual(e.until("result")[-1]["status"], "completed")

    def test_a_line_of_the_limit_passes_and_one_byte_more_does_not(self):
        limit = 1 << 20
        for size, good in ((limit, True), (limit + 1, False)):
            e = self.executor()
            e.read()
            m = self.start(budget=1, pad="")
            m["pad"] = "p" * (size - len(json.dumps(m)))
            e.send(m)
            e.send(self.start(trial=2, budget=1, folder="b"))
            got = e.until("result")
            self.assertEqual(got[-1]["trial"], 1 if good else 2)

    def test_garbage_in_the_middle_of_a_trial_is_ignored_too(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=1000000, every=0))
        e.until("report")
        e.raw(b"garbage\n" + b"y" * (3 << 20) + b"\n{\"type\":\"stop\",\"trial\":1}\n")
        self.assertEqual(e.until("result")[-1]["status"], "stopped")

    def test_a_second_start_is_refused_and_the_first_goes_on(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=1000000, every=0))
        e.until("report")
        e.send(self.start(trial=2))
        error = e.until("error")[-1]
        self.assertEqual(error["trial"], 2)
        self.assertIn("another trial", error["reason"])
        e.send({"type": "stop", "trial": 1})
        self.assertEqual(e.until("result")[-1]["trial"], 1)

    def test_bad_starts_and_bad_configurations_end_the_trial_with_a_reason(self):
        conv = [{"type": "conv", "filters": 4, "kernel": 3}, {"type": "dense", "units": 3}]
        cases = [
            (dict(spec=7), "program", "spec"),
            (dict(params=[1]), "program", "params"),
            (dict(budget=-1), "program", "budget"),
            (dict(budget="x"), "program", "budget"),
            (dict(resume={"step": 1}), "program", "resume_from"),
            (dict(resume={"step": 1, "path": "/nowhere"}), "configuration", "/nowhere"),
            (dict(params={"units": 16, "lr": -1}), "configuration", "/trial/training/lr"),
            (dict(params={"units": 0, "lr": -1}), "configuration", "/trial/model/layers/0/units"),
            (dict(params={"lr": 0.1}), "configuration", "${units}"),
            (dict(spec=self.spec(layers=conv)), "configuration", "needs an image"),
            (dict(spec=dict(self.spec(), dataset="idx:/nowhere")), "configuration", "no folder /nowhere"),
            (dict(spec=dict(self.spec(), dataset="csv:%s?label=klass" % self.csv)), "configuration",
             'did you mean "class"'),
        ]
        e = self.executor()
        e.read()
        for change, cause, says in cases:
            m = self.start()
            m.update({("resume_from" if k == "resume" else k): v for k, v in change.items()})
            e.send(m)
            got = e.until("ready")
            self.assertEqual([x["type"] for x in got], ["error", "ready"], change)
            self.assertEqual(got[0]["cause"], cause, got[0])
            self.assertIn(says, got[0]["reason"])
            self.assertEqual(got[0]["trial"], 1)
        e.send(self.start(budget=1))
        self.assertEqual(e.until("result")[-1]["status"], "completed")

    def test_a_torn_checkpoint_ends_the_trial_and_not_the_program(self):
        e = self.executor()
        e.read()
        e.send(self.start(budget=1))
        path = [m for m in e.until("ready") if m["type"] == "checkpoint"][0]["path"]
        with open(os.path.join(path, "model.ckpt"), "r+b") as f:
            f.truncate(300)
        e.send(self.start(budget=2, folder="b", resume={"step": 1, "path": path}))
        got = e.until("ready")
        self.assertEqual([m["type"] for m in got], ["error", "ready"])
        self.assertIn("torn", got[0]["reason"])

    def test_faults_fail_the_trial_with_a_reason(self):
        for point in ("trainer.batch:5", "trainer.report", "trainer.checkpoint"):
            e = self.executor(faults=point + "=fail")
            e.read()
            e.send(self.start())
            error = e.until("error")[-1]
            self.assertEqual(error["cause"], "program", point)
            self.assertIn("fault", error["reason"])
            self.assertEqual(e.read()["type"], "ready")
            e.send(self.start(trial=2, folder="b"))
            self.assertEqual(e.until("result")[-1]["status"], "completed", "a point fires once")

    def test_a_death_in_the_checkpoint_leaves_no_half_folder(self):
        e = self.executor(faults="trainer.checkpoint:2=kill")
        e.read()
        e.send(self.start(budget=3))
        while e.read() is not None:
            pass
        self.assertEqual(e.proc.wait(DEADLINE), -signal.SIGKILL)
        whole = [n for n in os.listdir(os.path.join(self.dir, "a")) if not n.startswith(".")]
        self.assertEqual(whole, ["1"])
        e = self.executor()
        e.read()
        e.send(self.start(budget=3))  # the leftovers are no obstacle
        self.assertEqual(e.until("result")[-1]["status"], "completed")

    def test_it_links_no_transport_and_no_store(self):
        """libcurl is there: it is storage/'s, which fetches data sets."""
        libs = subprocess.run(["ldd", TRAINER], capture_output=True, text=True, check=True).stdout
        for name in ("libnng", "libsqlite3", "libevent", "libmpi"):
            self.assertNotIn(name, libs)


class CommandLine(Base):
    def run_it(self, *args, text=None):
        env = dict(os.environ)
        env.pop("MAGPIE_FD", None)
        return subprocess.run([TRAINER, *args], capture_output=True, text=True, input=text, env=env, timeout=DEADLINE)

    def experiment(self, **trial):
        return {"name": "x", "objective": {"metric": "val_accuracy", "direction": "max"},
                "searchspace": {"units": {"type": "INTEGER", "range": [4, 64]},
                                "lr": {"type": "DOUBLE", "range": [0.001, 0.1], "scale": "log"}},
                "trial": dict(self.spec(), **trial)}

    def test_check_accepts_a_good_experiment_and_a_bare_trial(self):
        good = self.run_it("--check", "-", text=json.dumps(self.experiment()))
        self.assertEqual((good.returncode, good.stderr), (0, ""))
        self.assertIn("400 examples of 4, 3 classes", good.stdout)
        trial = self.spec()
        trial["training"]["lr"] = 0.1
        trial["model"]["layers"][0]["units"] = 8
        self.assertEqual(self.run_it("--check", "-", text=json.dumps(trial)).returncode, 0)
        found = json.loads(self.run_it("--check", "-", "--json", text=json.dumps(trial)).stdout)
        self.assertEqual((found["issues"], found["examples"], found["classes"]), ([], 400, 3))

    def test_check_tells_the_memory_of_the_largest_corner(self):
        found = json.loads(self.run_it("--check", "-", "--json", text=json.dumps(self.experiment())).stdout)
        memory = found["memory"]
        self.assertEqual(memory["of"]["units"], 64)
        self.assertEqual(memory["weights"], 4 * found["weights"])
        self.assertEqual(memory["total"], sum(memory[k] for k in
                                              ("weights", "gradients", "optimizer", "average", "values", "workspace", "data")))
        self.assertIn("MB", memory["text"])

    def test_check_names_file_line_and_column(self):
        path = os.path.join(self.dir, "e.json")
        with open(path, "w") as f:
            json.dump(self.experiment(modell=1), f, indent=1)
        bad = self.run_it("--check", path)
        self.assertEqual(bad.returncode, 1)
        self.assertRegex(bad.stderr, r"^%s:\d+:\d+: /trial/modell: unknown key .*\"model\"" % path)
        issues = json.loads(self.run_it("--check", path, "--json").stdout)["issues"]
        self.assertEqual(issues[0]["pointer"], "/trial/modell")
        self.assertGreater(issues[0]["line"], 1)

    def test_check_finds_a_missing_data_set_and_a_wrong_objective(self):
        bad = self.run_it("--check", "-", text=json.dumps(self.experiment(dataset="idx:/nowhere")))
        self.assertEqual(bad.returncode, 1)
        self.assertIn("/trial/dataset: no folder /nowhere", bad.stderr)
        e = self.experiment()
        e["objective"]["metric"] = "accuracy"
        self.assertIn("/objective/metric", self.run_it("--check", "-", text=json.dumps(e)).stderr)

    def test_train_prints_epochs_and_resumes(self):
        args = ["--train", "-", "--params", '{"units": 8, "lr": 0.05}', "--seed", "3"]
        text = json.dumps(self.experiment())
        whole = os.path.join(self.dir, "w")
        part = os.path.join(self.dir, "p")
        os.mkdir(whole)
        os.mkdir(part)
        a = self.run_it(*args, "--epochs", "3", "--checkpoints", whole, text=text)
        lines = [json.loads(x) for x in a.stdout.splitlines()]
        self.assertEqual([x.get("epoch") for x in lines], [1, 2, 3, None])
        self.assertIn("test_accuracy", lines[-1]["metrics"])
        b = self.run_it(*args, "--epochs", "3", "--checkpoints", part, "--resume", os.path.join(whole, "2"), text=text)
        self.assertEqual(b.stdout.splitlines(), a.stdout.splitlines()[2:])
        self.assertEqual(self.bytes_of("w", 3), self.bytes_of("p", 3))

    def test_a_fold_by_hand_is_the_fold_of_a_search(self):
        params = {"units": 16, "lr": 0.05}
        splits = [({"folds": 3, "stratified": True, "seed": 9}, 3, 3), ({"folds": 3}, 3, 0), ({"train_ratio": 0.7, "seed": 4}, 1, 1)]
        text = json.dumps(self.experiment())
        for i, (validation, folds, fold) in enumerate(splits):
            with self.subTest(validation):
                split = {k: v for k, v in validation.items() if k != "folds"}
                e = self.executor()
                e.read()
                e.send(self.start(folder=f"search{i}", fold=fold, folds=folds, split=dict({"seed": 42}, **split)))
                self.assertEqual(e.until("result")[-1]["status"], "completed")
                out = os.path.join(self.dir, f"hand{i}")
                os.mkdir(out)
                doc = json.dumps(dict(json.loads(text), trial=self.spec(), validation=validation, seed=42))
                for ranks in ([], ["--ranks", "2"]):
                    p = self.run_it("--train", "-", "--params", json.dumps(params), "--epochs", "2", "--fold", str(fold),
                                    *(ranks or ["--checkpoints", out]), text=doc)
                    self.assertEqual(p.returncode, 0, p.stderr)
                    self.assertEqual("val_loss" in p.stdout, fold > 0)
                self.assertEqual(self.bytes_of(f"search{i}", 2), self.bytes_of(f"hand{i}", 2))

    def test_a_fold_that_there_is_not_is_refused(self):
        e = self.experiment()
        for validation, fold, says in ((None, 1, "an experiment with"), ({"folds": 3}, 4, "must be 1 to 3"), ({}, 0, "cannot be read"),
                                       ({"folds": 0}, 0, "cannot be read"), ({"train_ratio": 2}, 1, "cannot be read"), ([3], 1, "an experiment with")):
            doc = dict(e, **({} if validation is None else {"validation": validation}))
            p = self.run_it("--train", "-", "--params", '{"units": 8, "lr": 0.05}', "--fold", str(fold), text=json.dumps(doc))
            self.assertEqual(p.returncode, 1)
            self.assertIn(says, p.stderr)

    def test_wrong_use_exits_with_2(self):
        for args in ([], ["--frob"], ["--train", "/no/file"], ["--check"], ["--bench", "rnn"], ["stray"],
                     ["--train", "-", "--epochs", "0"], ["--train", "-", "--fold", "-1"], ["--check", "-"],
                     ["--train", "-", "--params", "[1]"]):
            r = self.run_it(*args, text="{" if "--check" in args else json.dumps(self.experiment()))
            self.assertEqual(r.returncode, 2, args)
            self.assertTrue(r.stderr.strip(), args)
        env = dict(os.environ, MAGPIE_FD="77")
        r = subprocess.run([TRAINER], capture_output=True, text=True, env=env, timeout=DEADLINE)
        self.assertEqual(r.returncode, 2)
        self.assertIn("MAGPIE_FD", r.stderr)

    def test_help_and_version(self):
        self.assertIn("--check", self.run_it("--help").stdout)
        self.assertRegex(self.run_it("--version").stdout, r"^magpie-trainer \d+\.\d+\.\d+\ncpu: ")


if __name__ == "__main__":
    unittest.main(verbosity=1)
