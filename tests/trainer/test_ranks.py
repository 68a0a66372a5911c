#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One trial over several processes: the same curve as one process, over shared memory and MPI; orders, deaths, hangs."""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

TRAINER = os.path.join(harness.BUILD, "trainer", "magpie-trainer")
MPI = TRAINER + "-mpi"
CUDA_HOST = os.path.join(harness.BUILD, "tests", "trainer", "trainer_nccl_host")
PATIENCE = float(os.environ.get("MAGPIE_TEST_PATIENCE", "1"))
DEADLINE = 60 * PATIENCE
SLOW = "trainer.batch=sleep4*"  # milliseconds a batch: a trial long enough to be killed in its middle


def write_csv(path, rows=406):
    rng = random.Random(1)
    with open(path, "w") as f:
        f.write("a,b,c,d,class\n")
        for i in range(rows):
            k = rng.randrange(2)
            f.write(",".join("%.4f" % (rng.gauss(0, 1) + 1.2 * (j % 2 == k)) for j in range(4)) + ",class%d\n" % k)


def descendants(pid):
    """{pid: command line} of all below."""
    out, todo = {}, [pid]
    while todo:
        at = todo.pop()
        try:
            for task in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{task}/children") as f:
                    todo += [int(x) for x in f.read().split()]
            with open(f"/proc/{at}/cmdline") as f:
                out[at] = f.read().replace("\0", " ")
        except OSError:
            out.pop(at, None)
    out.pop(pid, None)
    return out


class Executor:
    """A trainer on the other end of a socket pair."""

    def __init__(self, stderr, faults=None, program=TRAINER, **env):
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(DEADLINE)
        env = dict(os.environ, MAGPIE_FD=str(theirs.fileno()), MAGPIE_LOG="warn", **env)
        env.pop("MAGPIE_FAULTS", None)
        if faults:
            env["MAGPIE_FAULTS"] = faults
        self.proc = subprocess.Popen([program], pass_fds=[theirs.fileno()], env=env, stderr=stderr, stdin=subprocess.DEVNULL)
        theirs.close()
        self.data = b""

    def send(self, message):
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def read(self):
        while b"\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        line, self.data = self.data.split(b"\n", 1)
        return json.loads(line)

    def until(self, *kinds):
        """Messages up to the first of one of those types, it included."""
        got = []
        while not got or got[-1]["type"] not in kinds:
            m = self.read()
            if m is None:
                raise AssertionError("end of stream, after %r" % got[-3:])
            got.append(m)
        return got

    def ranks(self):
        """The ranks' processes, in the order of their numbers where they are ours."""
        return sorted(p for p, line in descendants(self.proc.pid).items() if line.endswith("--rank ") and "mpirun" not in line)


class Base(unittest.TestCase):
    transport = "shm"
    program = TRAINER

    def setUp(self):
        self.dir = harness.tempfile.mkdtemp(prefix="magpie-ranks-")
        self.csv = os.path.join(self.dir, "data.csv")
        write_csv(self.csv)
        self.stderr = open(os.path.join(self.dir, "stderr"), "w+")
        self.executors = []

    def tearDown(self):
        for e in self.executors:
            e.sock.close()
            if e.proc.poll() is None:
                e.proc.kill()
            e.proc.wait(DEADLINE)
        self.stderr.close()
        shutil.rmtree(self.dir)

    def said(self):
        self.stderr.flush()
        with open(self.stderr.name) as f:
            return f.read()

    def executor(self, **kw):
        e = Executor(self.stderr, **{"program": self.program, **kw})
        self.executors.append(e)
        self.assertEqual(e.read()["type"], "ready")
        return e

    def spec(self, **training):
        return {"program": "builtin", "dataset": "csv:%s?label=class" % self.csv,
                "model": {"layers": [{"type": "dense", "units": 24, "activation": "relu"}, {"type": "dropout", "rate": 0.1},
                                     {"type": "dense", "units": 2}]},
                "training": dict({"lr": 0.01, "optimizer": "adam", "batch_size": 16}, **training)}

    def start(self, ranks, trial=1, budget=3, folder="a", resume=None, spec=None, every=1, **distribution):
        out = os.path.join(self.dir, folder)
        os.makedirs(out, exist_ok=True)
        return {"type": "start", "experiment": 1, "trial": trial, "attempt": 1, "params": {}, "budget": budget, "resume_from": resume,
                "trial_dir": out, "checkpoint_dir": out, "seed": 42, "metric": "val_loss", "direction": "min",
                "checkpoint": {"every": every, "keep": 2}, "spec": spec or self.spec(),
                "distribution": {"strategy": "allreduce", "ranks": ranks, "min_ranks": 1, "transport": self.transport,
                                 "timeout": 20 * PATIENCE, **distribution}}

    def run_trial(self, ranks, e=None, **kw):
        """[metrics of each epoch], result."""
        e = e or self.executor()
        e.send(self.start(ranks, **kw))
        got = e.until("result", "error")
        self.assertEqual(got[-1]["type"], "result", (got[-1], self.said()))
        self.assertEqual(e.read()["type"], "ready")
        return [m["metrics"] for m in got if m["type"] == "report"], got[-1]

    def assert_same_curve(self, got, want, tolerance):
        self.assertEqual(len(got), len(want))
        for a, b in zip(got, want):
            self.assertEqual(a.keys(), b.keys())
            for k in a:
                self.assertLess(abs(a[k] - b[k]), tolerance, (k, a[k], b[k]))


class SameCurve(Base):
    """Rounding apart, over many steps: sums of floats in another order."""

    def check(self, sizes, **kw):
        alone, _ = self.run_trial(1, folder="alone", **kw)
        for n in sizes:
            with self.subTest(ranks=n):
                got, result = self.run_trial(n, folder=f"by{n}", **kw)
                self.assertEqual(result["status"], "completed")
                self.assert_same_curve(got, alone, 2e-5)

    def test_one_two_three_and_four_ranks_give_the_same_curve(self):
        self.check((2, 3, 4))  # 324 rows in batches of 16: the last one has 4

    def test_clipping_is_by_the_norm_of_the_whole_batch(self):
        self.check((3,), spec=self.spec(clip_norm=0.05, optimizer="sgd", momentum=0.9, lr=0.1))

    def test_batches_with_fewer_rows_than_ranks(self):
        self.check((4,), budget=1, spec=self.spec(batch_size=3))

    def test_images_change_as_in_one_process(self):
        spec = self.spec(augmentation={"crop": 1, "flip": True, "cutout": 1}, prefetch=2)
        spec["model"]["input"] = [1, 2, 2]
        self.check((3,), budget=2, spec=spec)

    def test_a_diverged_trial_fails_on_all_ranks(self):
        e = self.executor()
        e.send(self.start(2, budget=50, spec=self.spec(optimizer="sgd", momentum=0.9, lr=1000)))
        got = e.until("result", "error")[-1]
        self.assertIn("no finite number", got.get("reason", ""), self.said())
        self.assertEqual(e.read()["type"], "ready")
        self.run_trial(2, e, trial=2, budget=1, folder="next")

    def test_the_reference_backend_too(self):
        self.check((2,), budget=2, spec=self.spec(backend="ref"))

    def test_a_trial_paused_on_three_ranks_goes_on_with_two(self):
        # whose averages and whose plateau go along
        spec = self.spec(ema=0.9, schedule={"type": "plateau", "patience": 0, "threshold": 0.5, "cooldown": 1})
        alone, _ = self.run_trial(1, budget=4, folder="alone", spec=spec)
        first, _ = self.run_trial(3, budget=2, folder="b", spec=spec)
        rest, _ = self.run_trial(2, budget=4, folder="c", spec=spec, resume={"step": 2, "path": os.path.join(self.dir, "b", "2")})
        for m in (first[-1], alone[1]):
            for k in [k for k in m if k.startswith("test")]:
                del m[k]
        self.assert_same_curve(first + rest, alone, 2e-5)

    def test_batch_norm_is_of_each_ranks_rows_and_its_statistics_are_their_mean(self):
        spec = self.spec(batch_size=32)
        spec["model"]["layers"] = [{"type": "dense", "units": 24}, {"type": "batchnorm"}, {"type": "activation", "activation": "relu"},
                                   {"type": "dense", "units": 2}]
        alone, _ = self.run_trial(1, budget=4, folder="alone", spec=spec)
        e = self.executor()
        whole, _ = self.run_trial(2, e, budget=4, folder="whole", spec=spec)
        self.assertLess(abs(whole[-1]["val_loss"] - alone[-1]["val_loss"]), 0.1)
        self.run_trial(2, e, budget=2, folder="half", spec=spec)
        rest, _ = self.run_trial(2, e, budget=4, folder="rest", spec=spec, resume={"step": 2, "path": os.path.join(self.dir, "half", "2")})
        self.assertEqual(rest, whole[2:], "the checkpoint holds what all ranks have")

    def test_checkpoints_of_ranks_are_those_of_one_process(self):
        self.run_trial(2, budget=1, folder="b")
        p = subprocess.run([TRAINER, "--predict", os.path.join(self.dir, "b", "1"), "--data", self.csv, "--json"], capture_output=True,
                           text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertGreaterEqual(len(p.stdout.splitlines()), 406)


@unittest.skipUnless(os.path.exists(MPI), "this build has no MPI (install libopenmpi-dev)")
class OverMpi(Base):
    transport = "mpi"

    def test_the_same_curve_and_the_same_ranks_for_the_next_trial(self):
        alone, _ = self.run_trial(1, folder="alone")
        e = self.executor()
        got, _ = self.run_trial(3, e, folder="b")
        self.assert_same_curve(got, alone, 2e-5)
        before = e.ranks()
        self.assertEqual(len(before), 3)
        again, _ = self.run_trial(3, e, folder="c")
        self.assertEqual(again, got, "bit for bit")
        self.assertEqual(e.ranks(), before)

    def test_a_killed_rank_costs_nothing_but_the_steps_since_the_checkpoint(self):
        whole, _ = self.run_trial(2, budget=5, folder="whole")
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=5, folder="killed"))
        got = e.until("checkpoint")
        os.kill(e.ranks()[-1], signal.SIGKILL)
        got += e.until("result", "error")
        self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
        self.assertEqual([m["metrics"] for m in got if m["type"] == "report"], whole)

    def folders(self, e):
        """What its ranks have in memory for their files."""
        return [os.path.join("/dev/shm", f) for f in os.listdir("/dev/shm") if re.match(r"magpie-mpi-\d+-%d-" % e.proc.pid, f)]

    def mpirun(self, e):
        return next(p for p, line in descendants(e.proc.pid).items() if os.path.basename(line.split()[0]) in ("mpirun", "orterun"))

    def test_a_killed_mpirun_costs_nothing_but_steps_and_leaves_nothing(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=4))
        got = e.until("checkpoint")
        inside = [f for _, _, files in os.walk(self.folders(e)[0]) for f in files]
        self.assertTrue([f for f in inside if f.startswith("vader_segment")], inside)
        os.kill(self.mpirun(e), signal.SIGKILL)
        got += e.until("result", "error")
        self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
        self.assertEqual(len(self.folders(e)), 1)
        e.send({"type": "exit"})
        self.assertEqual(e.proc.wait(DEADLINE), 0)
        self.assertEqual(self.folders(e), [])

    def test_what_all_of_them_left_behind_is_removed_by_the_next(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=500))
        e.until("report")
        mpirun = self.mpirun(e)
        e.proc.kill()
        os.kill(mpirun, signal.SIGKILL)
        e.proc.wait(DEADLINE)
        self.assertEqual(len(self.folders(e)), 1)
        self.run_trial(2, budget=1, folder="next")
        self.assertEqual(self.folders(e), [])

    def test_the_ranks_end_with_the_trainer(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=500))
        e.until("report")
        left = descendants(e.proc.pid)
        e.proc.kill()
        e.sock.close()
        harness.wait_until(lambda: not any(os.path.exists(f"/proc/{p}/exe") and alive(p) for p in left), DEADLINE, "the ranks' end")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Lives(Base):
    def test_ranks_and_their_data_stay_for_the_next_trial(self):
        e = self.executor()
        first, _ = self.run_trial(2, e, folder="a")
        before = e.ranks()
        again, _ = self.run_trial(2, e, folder="b")
        self.assertEqual(again, first, "bit for bit")
        self.assertEqual(e.ranks(), before)
        self.run_trial(3, e, folder="c")
        self.assertEqual(len(e.ranks()), 3)
        alone, _ = self.run_trial(1, e, folder="d")
        self.assert_same_curve(first, alone, 2e-5)

    def test_any_rank_killed_at_any_time_costs_nothing_but_steps(self):
        whole, _ = self.run_trial(3, budget=5, folder="whole")
        for victim in range(3):
            with self.subTest(victim=victim):
                e = self.executor(faults=SLOW)
                e.send(self.start(3, budget=5, folder=f"killed{victim}"))
                got = e.until("checkpoint")
                os.kill(e.ranks()[victim], signal.SIGKILL)
                got += e.until("result", "error")
                self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
                self.assertEqual([m["step"] for m in got if m["type"] == "report"], [1, 2, 3, 4, 5], "each step once")
                self.assertEqual([m["metrics"] for m in got if m["type"] == "report"], whole, "bit for bit")
                self.assertEqual([m["step"] for m in got if m["type"] == "checkpoint"], [1, 2, 3, 4, 5])
                self.assertEqual(len(e.ranks()), 3)

    def test_checkpoints_that_the_worker_took_away_are_still_gone_on_from(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=4))
        got = e.until("checkpoint")
        shutil.rmtree(got[-1]["path"])
        os.kill(e.ranks()[0], signal.SIGKILL)
        got += e.until("result", "error")
        self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
        self.assertRegex(self.said(), "ranks-restart.*step=[1-9]")
        self.assertEqual(e.read()["type"], "ready")
        self.assertEqual([f for f in os.listdir(os.path.join(self.dir, "a")) if f.startswith(".")], [], "nothing left behind")

    def kill_all_that_come(self, e, sizes):
        """Kills a rank of each set of ranks as soon as it is there, before it gets anywhere."""
        seen = set()
        for n in sizes:
            ranks = harness.wait_until(lambda: (lambda r: r if len(r) == n and not seen & set(r) else None)(e.ranks()), DEADLINE,
                                       f"{n} new ranks, now {e.ranks()}; {self.said()}")
            seen |= set(ranks)
            os.kill(ranks[-1], signal.SIGKILL)

    def test_the_second_death_without_progress_takes_a_rank_less(self):
        whole, _ = self.run_trial(3, budget=1, folder="whole")
        e = self.executor(faults="trainer.batch=sleep20*")
        e.send(self.start(3, budget=1, every=0, min_ranks=2))
        self.kill_all_that_come(e, (3, 3))
        got = e.until("result", "error")
        self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
        self.assertEqual(len(e.ranks()), 2)
        self.assert_same_curve([m["metrics"] for m in got if m["type"] == "report"], whole, 2e-5)

    def test_the_third_death_without_progress_fails_the_trial_and_asks_for_another_try(self):
        e = self.executor(faults="trainer.batch=sleep20*")
        e.send(self.start(3, budget=50, every=0, min_ranks=3))
        self.kill_all_that_come(e, (3, 3, 3))
        got = e.until("result", "error")
        self.assertEqual((got[-1]["type"], got[-1]["retry"], got[-1]["cause"]), ("error", True, "program"))
        self.assertIn("rank 2 was killed by signal 9 (Killed); 3 times", got[-1]["reason"])
        self.assertEqual(e.read()["type"], "ready")
        self.run_trial(2, e, budget=1, folder="next")

    def test_a_rank_that_hangs_is_found_at_the_deadline(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=3, timeout=3))
        e.until("report")
        hung = e.ranks()[1]
        os.kill(hung, signal.SIGSTOP)
        got = e.until("result", "error")
        self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
        self.assertIn("rank 1 did not answer within 3 s", self.said())
        self.assertFalse(alive(hung))

    def test_stop_and_pause_reach_all_ranks_at_the_same_batch(self):
        e = self.executor(faults=SLOW)
        for order, status in (("stop", "stopped"), ("pause", "paused"), ("stop", "stopped")):
            e.send(self.start(3, budget=500, folder=order))
            e.until("report")
            before = e.ranks()
            e.send({"type": order, "trial": 1})
            got = e.until("result", "error")
            self.assertEqual(got[-1].get("status"), status, (got[-1], self.said()))
            if order == "pause":
                self.assertEqual([m["type"] for m in got[-3:]], ["report", "checkpoint", "result"])
            self.assertEqual(e.read()["type"], "ready")
            self.assertEqual(e.ranks(), before, "the ranks agree and go on")

    def test_an_order_that_comes_with_the_start_is_heard(self):
        e = self.executor()
        for order, status in (("stop", "stopped"), ("pause", "paused")):
            lines = [self.start(2, budget=500, folder=order), {"type": order, "trial": 1}]
            e.sock.sendall("".join(json.dumps(m) + "\n" for m in lines).encode())
            self.assertEqual(e.until("result", "error")[-1].get("status"), status, self.said())
            self.assertEqual(e.read()["type"], "ready")

    def test_a_stop_survives_the_death_of_a_rank(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=500))
        e.until("report")
        os.kill(e.ranks()[1], signal.SIGSTOP)
        e.send({"type": "stop", "trial": 1})
        os.kill(e.ranks()[1], signal.SIGKILL)
        self.assertEqual(e.until("result", "error")[-1].get("status"), "stopped", self.said())
        self.assertEqual(e.read()["type"], "ready")

    def test_a_pause_survives_the_death_of_a_rank(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=500))
        e.until("report")
        os.kill(e.ranks()[1], signal.SIGSTOP)  # so that the order cannot have been obeyed before
        e.send({"type": "pause", "trial": 1})
        os.kill(e.ranks()[1], signal.SIGKILL)
        got = e.until("result", "error")
        self.assertEqual(got[-1].get("status"), "paused", (got[-1], self.said()))

    def test_a_configuration_that_is_wrong_is_said_once_and_the_ranks_live_on(self):
        e = self.executor()
        self.run_trial(2, e)
        before = e.ranks()
        e.send(self.start(2, spec=self.spec(optimizer="none")))
        got = e.until("result", "error")
        self.assertEqual((got[-1]["type"], got[-1]["cause"]), ("error", "configuration"))
        self.assertEqual(e.read()["type"], "ready")
        self.run_trial(2, e, folder="b")
        self.assertEqual(e.ranks(), before)

    def test_a_checkpoint_that_cannot_be_written_fails_the_trial_with_its_reason(self):
        e = self.executor(faults="trainer.checkpoint=fail")
        e.send(self.start(2))
        got = e.until("result", "error")
        self.assertEqual(got[-1]["type"], "error")
        self.assertIn("cannot write the checkpoint", got[-1]["reason"])
        self.assertEqual(e.read()["type"], "ready")

    def test_the_ranks_end_with_the_trainer_however_it_ends(self):
        for end in ("exit", "close", "kill"):
            with self.subTest(end=end):
                e = self.executor(faults=SLOW)
                e.send(self.start(3, budget=500, folder=end))
                e.until("report")
                left = e.ranks()
                if end == "exit":
                    e.send({"type": "exit"})
                    self.assertEqual(e.proc.wait(DEADLINE), 0)
                elif end == "kill":
                    e.proc.kill()
                e.sock.close()
                harness.wait_until(lambda: not any(alive(p) for p in left), DEADLINE, "the ranks' end")

    def test_a_transport_that_is_not_there_is_a_configuration_error(self):
        os.environ["MAGPIE_MPIRUN"] = "no-such-mpirun"
        self.addCleanup(os.environ.pop, "MAGPIE_MPIRUN")
        e = self.executor()
        e.send(self.start(2, transport="mpi"))
        got = e.until("result", "error")
        self.assertEqual((got[-1]["type"], got[-1]["cause"]), ("error", "configuration"))
        self.assertRegex(got[-1]["reason"], "mpi.*needs")
        self.assertEqual(e.read()["type"], "ready")


@unittest.skipUnless(os.path.exists(CUDA_HOST), "this build has no NCCL (tools/fetch-cuda fetches it)")
class OnDevices(Base):
    """The CUDA backend's steps over several ranks, with devices and NCCL in host memory (cuda_host.c, nccl_host.c)."""
    program = CUDA_HOST

    def executor(self, **kw):
        return super().executor(**{"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **kw})

    def spec(self, **training):
        spec = super().spec(**training)
        spec["model"]["layers"][1:1] = [{"type": "dense", "units": 16, "activation": "tanh"}]
        return spec

    def test_ranks_give_the_curve_of_one_process(self):
        alone, _ = self.run_trial(1, folder="alone")
        for n in (2, 3):
            with self.subTest(ranks=n):
                e = self.executor()
                first, _ = self.run_trial(n, e, folder=f"by{n}")
                self.assert_same_curve(first, alone, 2e-5)
                again, _ = self.run_trial(n, e, folder=f"again{n}")
                self.assertEqual(again, first, "bit for bit, with the same communicator")
        self.assertNotIn("gradients-through-host", self.said())

    def test_one_rank_alone_changes_no_bit(self):
        path = os.path.join(self.dir, "trial.json")
        with open(path, "w") as f:
            json.dump(self.spec(), f)
        said = []
        for alone in ("0", "1"):
            p = subprocess.run([CUDA_HOST, "--train", path, "--epochs", "2", "--ranks", "1"], capture_output=True, text=True, timeout=DEADLINE,
                               env=dict(os.environ, MAGPIE_RANK_ALONE=alone, OMP_NUM_THREADS="1", MAGPIE_LOG="info"))
            self.assertEqual(p.returncode, 0, p.stderr)
            self.assertEqual("ranks-nccl" in p.stderr, alone == "1", p.stderr)
            said.append([json.loads(x)["metrics"] for x in p.stdout.splitlines()])
        self.assertEqual(said[0], said[1])

    def test_clipping_is_by_the_norm_of_the_whole_batch(self):
        spec = self.spec(clip_norm=0.05, optimizer="sgd", momentum=0.9, lr=0.1)
        alone, _ = self.run_trial(1, folder="alone", spec=spec)
        got, _ = self.run_trial(2, folder="b", spec=spec)
        self.assert_same_curve(got, alone, 2e-5)

    def test_batches_with_fewer_rows_than_ranks(self):
        spec = self.spec(batch_size=3)
        alone, _ = self.run_trial(1, budget=1, folder="alone", spec=spec)
        got, _ = self.run_trial(4, budget=1, folder="b", spec=spec)
        self.assert_same_curve(got, alone, 2e-5)

    def test_ranks_that_share_a_gpu_sum_through_host_memory_and_say_so(self):
        alone, _ = self.run_trial(1, folder="alone")
        got, _ = self.run_trial(3, self.executor(NCCL_HOST_GPUS="2"), folder="b")
        self.assert_same_curve(got, alone, 2e-5)
        self.assertRegex(self.said(), 'gradients-through-host reason="ranks 0 and 2 share the GPU 0000:00:00.0"')

    def test_ranks_without_the_library_sum_through_host_memory_and_say_so(self):
        got, _ = self.run_trial(2, self.executor(NCCL_HOST_FAIL="library"), budget=1)
        self.assertEqual(len(got), 1)
        self.assertIn('gradients-through-host reason="there is no libnccl.so.2 for rank 0"', self.said())

    def test_any_rank_killed_at_any_time_costs_nothing_but_steps(self):
        whole, _ = self.run_trial(2, budget=5, folder="whole")
        for victim in range(2):
            with self.subTest(victim=victim):
                e = self.executor(faults=SLOW)
                e.send(self.start(2, budget=5, folder=f"killed{victim}"))
                got = e.until("checkpoint")
                os.kill(e.ranks()[victim], signal.SIGKILL)
                got += e.until("result", "error")
                self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
                self.assertEqual([m["metrics"] for m in got if m["type"] == "report"], whole, "bit for bit")

    def test_a_rank_that_hangs_is_found_at_the_deadline(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(2, budget=3, timeout=3))
        e.until("report")
        os.kill(e.ranks()[1], signal.SIGSTOP)
        self.assertEqual(e.until("result", "error")[-1].get("status"), "completed", self.said())
        self.assertRegex(self.said(), "did not answer within 3 s|took longer than 3 s")

    def test_orders_reach_all_ranks_at_the_same_batch(self):
        e = self.executor(faults=SLOW)
        for order, status in (("stop", "stopped"), ("pause", "paused")):
            e.send(self.start(2, budget=500, folder=order))
            e.until("report")
            before = e.ranks()
            e.send({"type": order, "trial": 1})
            self.assertEqual(e.until("result", "error")[-1].get("status"), status, self.said())
            self.assertEqual(e.read()["type"], "ready")
            self.assertEqual(e.ranks(), before)

    def test_what_fails_in_nccl_fails_the_trial_with_its_reason(self):
        for fault in ("init", "async"):
            with self.subTest(fault):
                e = self.executor(NCCL_HOST_FAIL=fault)
                e.send(self.start(2, budget=5, every=0, folder=fault))
                got = e.until("result", "error")
                self.assertEqual(got[-1]["type"], "error", got[-1])
                self.assertRegex(got[-1]["reason"], "NCCL: ")

    def test_a_parameter_server_needs_no_nccl(self):
        got, _ = self.run_trial(2, self.executor(NCCL_HOST_FAIL="init"), budget=4, strategy="parameter_server")
        self.assertLess(got[-1]["train_loss"], got[0]["train_loss"])


class ParameterServer(Base):
    OPTIMIZERS = ({"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}, {"optimizer": "adam", "lr": 0.01, "clip_norm": 0.5},
                  {"optimizer": "rmsprop", "lr": 0.005, "momentum": 0.5}, {"optimizer": "adagrad", "lr": 0.05},
                  {"optimizer": "lamb", "lr": 0.02, "weight_decay": 0.01})

    def served(self, ranks, **kw):
        return self.run_trial(ranks, strategy="parameter_server", **kw)

    def test_one_rank_is_plain_training_whatever_the_optimizer(self):
        e = self.executor()
        for i, training in enumerate(self.OPTIMIZERS):
            with self.subTest(training["optimizer"]):
                spec = self.spec(**training)
                alone, _ = self.run_trial(1, e, budget=2, folder=f"alone{i}", spec=spec)
                got, _ = self.served(1, e=e, budget=2, folder=f"served{i}", spec=spec)
                self.assert_same_curve(got, alone, 2e-4)

    def test_several_ranks_learn_with_a_lock_and_without(self):
        for n in (2, 4):
            e = self.executor()
            for lock in (False, True):
                with self.subTest(ranks=n, lock=lock):
                    got, result = self.served(n, e=e, budget=8, folder=f"{n}{lock}", lock=lock)
                    self.assertEqual(result["status"], "completed")
                    self.assertLess(got[-1]["train_loss"], got[0]["train_loss"])
                    self.assertGreater(got[-1]["test_accuracy"], 0.8)

    def test_images_change_and_folds_are_held_out_as_in_one_process(self):
        spec = self.spec(augmentation={"crop": 1, "flip": True, "cutout": 1})
        spec["model"]["input"] = [1, 2, 2]
        e = self.executor()
        for fold in (1, 3):
            with self.subTest(fold=fold):
                curves = []
                for more in ({}, {"strategy": "parameter_server"}):
                    m = self.start(1, folder=f"f{fold}{len(curves)}", spec=spec, **more)
                    m.update(folds=3, fold=fold, split={"seed": 5})
                    e.send(m)
                    got = e.until("result", "error")
                    self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
                    self.assertEqual(e.read()["type"], "ready")
                    curves.append([x["metrics"] for x in got if x["type"] == "report"])
                self.assert_same_curve(curves[1], curves[0], 2e-4)

    def test_gradients_of_several_batches_are_pushed_as_their_mean(self):
        whole = self.spec(optimizer="sgd", batch_size=64, lr=0.5)
        whole["model"]["layers"] = [{"type": "dense", "units": 2}]  # no dropout: masks are of batches
        quarter = dict(whole, training=dict(whole["training"], batch_size=16))
        e = self.executor()
        want, _ = self.served(1, e=e, folder="a", spec=whole)
        got, _ = self.served(1, e=e, folder="b", spec=quarter, push_every=4)
        self.assertLess(abs(got[-1]["val_loss"] - want[-1]["val_loss"]), 5e-3)  # but for the last batch of an epoch

    def test_its_state_goes_with_the_checkpoint(self):
        e = self.executor()
        whole, _ = self.served(1, e=e, budget=4, folder="a")
        self.served(1, e=e, budget=2, folder="b")
        rest, _ = self.served(1, e=e, budget=4, folder="c", resume={"step": 2, "path": os.path.join(self.dir, "b", "2")})
        self.assert_same_curve(rest, whole[2:], 1e-6)

    def test_a_killed_worker_costs_nothing_but_steps(self):
        e = self.executor(faults=SLOW)
        for victim, lock in ((0, True), (2, False)):
            with self.subTest(victim=victim):
                e.send(self.start(3, budget=4, folder=f"v{victim}", strategy="parameter_server", lock=lock))
                got = e.until("checkpoint")
                os.kill(e.ranks()[victim], signal.SIGKILL)
                got += e.until("result", "error")
                self.assertEqual(got[-1].get("status"), "completed", (got[-1], self.said()))
                self.assertEqual([m["step"] for m in got if m["type"] == "report"], [1, 2, 3, 4])
                self.assertEqual(e.read()["type"], "ready")

    def test_stop_reaches_all_workers(self):
        e = self.executor(faults=SLOW)
        e.send(self.start(3, budget=500, strategy="parameter_server"))
        e.until("report")
        e.send({"type": "stop", "trial": 1})
        self.assertEqual(e.until("result", "error")[-1].get("status"), "stopped", self.said())
        self.assertEqual(e.read()["type"], "ready")

    def test_averages_of_weights_are_refused(self):
        path = os.path.join(self.dir, "experiment.json")
        with open(path, "w") as f:
            json.dump({"objective": {"metric": "val_loss", "direction": "min"}, "searchspace": {"x": ["DOUBLE", [0, 1]]},
                       "trial": self.spec(ema=0.9), "distribution": {"ranks": 2, "strategy": "parameter_server"}}, f)
        p = subprocess.run([TRAINER, "--check", path], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(p.returncode, 1, p.stdout)
        self.assertRegex(p.stderr, "/trial/training/ema: does not go with")
        e = self.executor()
        e.send(self.start(2, spec=self.spec(ema=0.9), strategy="parameter_server"))
        got = e.until("result", "error")[-1]
        self.assertEqual((got["type"], got["cause"]), ("error", "configuration"), got)
        self.assertIn("ema", got["reason"])


class ByHand(Base):
    def test_a_trial_by_hand_over_ranks(self):
        path = os.path.join(self.dir, "trial.json")
        with open(path, "w") as f:
            json.dump({"trial": self.spec(), "distribution": {"ranks": 2}}, f)
        args = [TRAINER, "--train", path, "--epochs", "2", "--seed", "42"]
        two = subprocess.run(args, capture_output=True, text=True, timeout=DEADLINE)
        one = subprocess.run(args + ["--ranks", "1"], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((one.returncode, two.returncode), (0, 0), two.stderr)
        a, b = ([json.loads(x) for x in p.stdout.splitlines()] for p in (one, two))
        self.assertEqual([list(x) for x in a], [list(x) for x in b])
        self.assert_same_curve([x["metrics"] for x in b], [x["metrics"] for x in a], 2e-5)

    def test_a_wrong_distribution_is_refused_with_its_place(self):
        path = os.path.join(self.dir, "trial.json")
        with open(path, "w") as f:
            json.dump({"trial": self.spec(), "distribution": {"ranks": 0, "transpor": "shm"}}, f)
        p = subprocess.run([TRAINER, "--train", path], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(p.returncode, 1)
        self.assertRegex(p.stderr, r"/distribution/ranks")
        self.assertRegex(p.stderr, r'did you mean "transport"')


if __name__ == "__main__":
    harness.main()
