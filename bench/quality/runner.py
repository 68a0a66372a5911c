# SPDX-License-Identifier: Apache-2.0
"""Hands jobs to worker processes and keeps their rows; stops cleanly on a signal or when the time is up."""
import json
import os
import queue
import subprocess
import sys
import threading
import time

import rows
import suites
import venvs

ENV_OF_SUITE = {"named": "main", "parallel": "main", "bbob": "main", "mixed": "main", "mf": "mf", "curves": "mf"}


def missing(suite, split, solver, only=""):
    """The jobs of (suite, split, solver) without a row, in the suite's order; `only`: part of the problem's name."""
    have = rows.load(suite, solver["name"])
    todo = []
    for problem, seed in suites.jobs(suite, split):
        if (problem, seed) not in have and only in problem:
            job = {"suite": suite, "problem": problem, "solver": solver["name"], "seed": seed}
            job.update({k: v for k, v in solver.items() if k != "name"})
            todo.append(job)
    return todo


class Runner:
    def __init__(self, jobs, workers, until):
        self.todo, self.workers, self.until = queue.SimpleQueue(), workers, until
        self.total, self.done, self.failed, self.lock = len(jobs), 0, 0, threading.Lock()
        for job in jobs:
            self.todo.put(job)

    def _start(self, env):
        return subprocess.Popen([venvs.python(env), rows.HERE, "worker"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, env=venvs.environment(env))

    def _one(self, job, processes):
        env = ENV_OF_SUITE[job["suite"]]
        if env not in processes:
            processes[env] = self._start(env)
        p = processes[env]
        p.stdin.write(json.dumps(job) + "\n")
        p.stdin.flush()
        line = p.stdout.readline()
        if not line:
            del processes[env]
            return {"error": "the worker ended with status %s" % p.wait(), "job": job}
        return json.loads(line)

    def _loop(self):
        processes = {}
        try:
            while time.time() < self.until:
                try:
                    job = self.todo.get_nowait()
                except queue.Empty:
                    break
                self._keep(self._one(job, processes))
        finally:
            for p in processes.values():
                p.stdin.close()
                p.wait()

    def _keep(self, row):
        with self.lock:
            if "error" in row:
                self.failed += 1
                print("bench/quality: %s\n%s" % (row["job"], row["error"]), file=sys.stderr, flush=True)
                return
            rows.append(row)
            self.done += 1
            print("%s %d/%d %s %s seed %d: %.4g (%.1f s)" % (time.strftime("%H:%M:%S"), self.done, self.total,
                  row["solver"], row["problem"], row["seed"], row["final"], row["cpu_s"]), file=sys.stderr, flush=True)

    def run(self):
        threads = [threading.Thread(target=self._loop) for _ in range(min(self.workers, max(1, self.total)))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return self.failed == 0


def run(jobs, workers=1, until=float("inf")):
    if not jobs:
        return True
    os.makedirs(rows.FOLDER, exist_ok=True)
    for name in {rows.path(j["suite"], j["solver"]) for j in jobs}:
        rows.mend(name)
    for env in {ENV_OF_SUITE[j["suite"]] for j in jobs}:
        venvs.python(env)  # made before the threads start
    return Runner(jobs, workers, until).run()
