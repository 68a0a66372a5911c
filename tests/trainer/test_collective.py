#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Conformance of every backend of trainer/collective.h, with 1 to 4 ranks on this host: real processes, over shared memory and,
where the build has it, under mpirun. NCCL, where the build has it: itself, with as many ranks as there are GPUs, and everything around
it with a stand-in in host memory."""
import os
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

PROGRAMS = os.path.join(harness.BUILD, "tests", "trainer")
PATIENCE = float(os.environ.get("MAGPIE_TEST_PATIENCE", "1"))
DEADLINE = 60 * PATIENCE
BUSY = 30000 * PATIENCE  # ms; where nothing goes wrong


def mpirun(ranks):
    return ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1",
            "--mca", "btl", "self,vader", "--mca", "btl_vader_single_copy_mechanism", "none", "-np", str(ranks)]


def command(backend, ranks, case, timeout_ms):
    if backend == "mpi":
        return mpirun(ranks) + [os.path.join(PROGRAMS, "collective_rank_mpi"), "mpi", case, str(timeout_ms)]
    name = "self" if backend == "self" else f"shm:{ranks}"
    program = "collective_rank_" + backend if backend.startswith("nccl") else "collective_rank"
    return [os.path.join(PROGRAMS, program), name, case, str(timeout_ms)]


def run(backend, ranks, case, timeout_ms, **env):
    """Exit status, the ranks' lines, seconds."""
    env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", **env)
    start = time.monotonic()
    p = subprocess.run(command(backend, ranks, case, int(timeout_ms)), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
    lines = [line for line in p.stdout.splitlines() if re.match(r"(ok|error|wrong) ", line)]
    return p.returncode, lines, time.monotonic() - start, p.stdout + p.stderr


class Room:
    def has_room(self, n):
        """Skips what this machine has no GPUs for."""


class Well(Room):
    """Every backend gets the same ones."""
    backend = None
    sizes = (1, 2, 3, 4)

    def test_sums_broadcasts_barriers_and_shared_memory(self):
        for n in self.sizes:
            with self.subTest(ranks=n):
                self.has_room(n)
                status, lines, _, text = run(self.backend, n, "well", BUSY)
                self.assertEqual(status, 0, text)
                self.assertEqual(len(lines), n, text)
                self.assertEqual(len(set(lines)), 1, "every rank has the same bits: " + text)
                self.assertTrue(lines[0].endswith(f"of {n}"), text)


class Failures(Room):
    def fails(self, case, n, within, said, timeout_ms=BUSY, **env):
        self.has_room(n)
        status, lines, seconds, text = run(self.backend, n, case, timeout_ms, **env)
        self.assertNotEqual(status, 0, text)
        self.assertFalse([x for x in lines if x.startswith("ok")], text)
        self.assertLess(seconds, within * PATIENCE, text)
        self.assertRegex(text, said)
        return lines

    def test_wrong_sizes_are_an_error_that_names_them(self):
        for n in (2, 3, 4):
            with self.subTest(ranks=n):
                self.fails("wrong-sizes", n, 20, r"do not agree.*2[84].*bytes")

    def test_different_calls_are_an_error(self):
        self.fails("wrong-kinds", 2, 20, "do not agree")

    def test_a_silent_rank_ends_in_an_error_at_the_deadline(self):
        self.fails("silent-rank", 3, 20, r"did not answer within 1\b", timeout_ms=1000)

    def test_a_killed_rank_ends_the_others_long_before_the_deadline(self):
        self.fails("dead-rank", 3, 20, "a rank was killed|signal 9")

    def test_a_rank_that_fails_says_why(self):
        self.fails("failing-rank", 3, 20, "the disk is full")


class OneRank(Well, unittest.TestCase):
    backend = "self"
    sizes = (1,)


class SharedMemory(Well, Failures, unittest.TestCase):
    backend = "shm"


@unittest.skipUnless(os.path.exists(os.path.join(PROGRAMS, "collective_rank_mpi")), "this build has no MPI (install libopenmpi-dev)")
class Mpi(Well, Failures, unittest.TestCase):
    backend = "mpi"


class DeviceFailures(Failures):
    ranks = 3

    def test_a_silent_rank_ends_the_others_sums_at_the_deadline(self):
        self.fails("device-silent-rank", self.ranks, 20, r"took longer than 1 s|did not answer within 1\b", timeout_ms=1000)

    def test_a_killed_rank_ends_the_others_sums_long_before_the_deadline(self):
        self.fails("device-dead-rank", self.ranks, 20, "a rank was killed|signal 9")

    def test_a_rank_that_fails_ends_the_others_sums_with_its_reason(self):
        self.fails("device-failing-rank", self.ranks, 20, "the disk is full")


WITHOUT_NCCL = "this build has no NCCL (tools/fetch-cuda fetches it)"


@unittest.skipUnless(os.path.exists(os.path.join(PROGRAMS, "collective_rank_nccl_host")), WITHOUT_NCCL)
class NcclInHostMemory(Well, DeviceFailures, unittest.TestCase):
    backend = "nccl_host"

    def test_what_fails_in_nccl_ends_all_ranks_with_its_reason(self):
        for fault, said in (("id", "NCCL: no id: unhandled system error"), ("init", "NCCL: ncclCommInitRankConfig: unhandled system error"),
                            ("sum", "NCCL: ncclAllReduce: unhandled system error"), ("async", "NCCL: .*remote process exited")):
            with self.subTest(fault):
                self.fails("device-sums", 3, 20, said, NCCL_HOST_FAIL=fault)

    def test_ranks_that_share_a_gpu_are_told_so_and_go_on(self):
        status, lines, _, text = run(self.backend, 3, "device-open", BUSY, NCCL_HOST_GPUS="2")
        self.assertGreaterEqual(len(lines), 2, text)  # the program that starts them may end the last one
        for line in lines:
            self.assertRegex(line, "error unsupported.*ranks 0 and 2 share the GPU 0000:00:00.0")


@unittest.skipUnless(os.path.exists(os.path.join(PROGRAMS, "collective_rank_nccl")), WITHOUT_NCCL)
class Nccl(Well, DeviceFailures, unittest.TestCase):
    backend = "nccl"

    @property
    def ranks(self):
        return max(2, min(3, self.gpus()))

    def gpus(self):
        return int(subprocess.run([os.path.join(PROGRAMS, "collective_rank_nccl"), "gpus"], capture_output=True, text=True,
                                  timeout=DEADLINE).stdout or 0)

    def has_room(self, n):
        if self.gpus() < n:
            self.skipTest(f"a GPU for each of {n} ranks: this machine has {self.gpus() or 'none'}")


if __name__ == "__main__":
    harness.main()
