# SPDX-License-Identifier: Apache-2.0
"""What a trial costs beside the program's own time: trials that do nothing, end to end and durable, beside Ray Tune and Optuna.

    python3 bench/overhead [--trials 1000] [--slots 1,2] [--dir DIR] [--peers ray,optuna] [--keep]

A real driver and a real worker (durability full) with trials of two Python executors and of a command (build/tests/worker/conform);
of a command the time that the bare program takes is told beside it. DIR (default: the build folder) should lie on a disk; what its
fdatasync takes stands in every row. --keep appends the rows to bench/results/overhead.jsonl.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "support"))
import harness  # noqa: E402

CONFORM = os.path.join(harness.BUILD, "tests", "worker", "conform")
VENVS = os.path.join(os.path.expanduser("~"), ".cache", "magpie-bench")
PINS = {"ray": ["ray[tune]==2.60.0"], "optuna": ["optuna==5.0.0"]}
RESULTS = os.path.join(HERE, "..", "results", "overhead.jsonl")


def fdatasync_ms(folder, n=100):
    times, path = [], os.path.join(folder, "probe")
    with open(path, "wb", buffering=0) as f:
        for _ in range(n):
            f.write(b"x" * 4096)
            t = time.perf_counter()
            os.fdatasync(f.fileno())
            times.append((time.perf_counter() - t) * 1e3)
    os.unlink(path)
    return statistics.median(times)


def stamp_ms(text):
    """Milliseconds of "2026-01-02T03:04:05.678Z" within its day."""
    h, m, s = text[11:-1].split(":")
    return (int(h) * 60 + int(m)) * 60000 + float(s) * 1000


class Ours(harness.Case):
    rows, trials, slots = None, 0, 1

    def measure(self, what, trial, trials):
        d = self.driver()
        w = self.worker(d, "--slots", str(self.slots))
        harness.wait_until(lambda: d.get("/api/v1/workers")["workers"], what="the worker")
        spec = {"name": what, "objective": {"metric": "value", "direction": "min"}, "searchspace": {"x": ["DOUBLE", [0, 1]]},
                "optimizer": {"algorithm": "random"}, "seed": 1, "limits": {"trials": trials}, "trial": trial}
        x = d.submit(spec)
        d.wait_state(x, "completed", timeout=120 + trials * 0.2)
        ends = sorted(stamp_ms(t["ended"]) for t in d.trials(x))
        cpu = {name: cpu_s(p.pid) for name, p in (("driver", d), ("worker", w))}
        w.stop()
        d.stop()
        shutil.rmtree(d.data)
        skip = min(20, trials // 4)  # starting the executors
        ms = (ends[-1] - ends[skip]) * self.slots / (trials - skip - 1)
        return {"system": "magpie", "what": what, "slots": self.slots, "trials": trials, "ms_per_trial": round(ms, 3),
                "trials_per_s": round(1000 * self.slots / ms, 1), "driver_cpu_ms": round(1000 * cpu["driver"] / trials, 3),
                "worker_cpu_ms": round(1000 * cpu["worker"] / trials, 3)}

    def runTest(self):
        self.rows.append(self.measure("executor, 20 lines of Python", {"executor": [sys.executable, os.path.join(HERE, "executor.py")]},
                                      self.trials))
        package = {"executor": [sys.executable, "-m", "magpie_hpo.executor", os.path.join(HERE, "noop.py") + ":train"],
                   "env": {"PYTHONPATH": os.path.join(harness.ROOT, "clients", "python")}}
        self.rows.append(self.measure("executor, magpie_hpo", package, self.trials))
        row = self.measure("command", {"command": [CONFORM, "quick"]}, max(50, self.trials // 4))
        row["program_ms"] = round(bare_ms(), 3)
        row["overhead_ms"] = round(row["ms_per_trial"] - row["program_ms"], 3)
        self.rows.append(row)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        v = f.read().rsplit(")", 1)[1].split()
    return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")


def bare_ms(n=100):
    """The command's own time, started and awaited as cheaply as Python can (posix_spawn)."""
    env = dict(os.environ, MAGPIE_TRIAL="1", MAGPIE_CHECKPOINT_DIR="/nowhere")
    null = os.open(os.devnull, os.O_WRONLY)
    t = time.perf_counter()
    for _ in range(n):
        pid = os.posix_spawn(CONFORM, [CONFORM, "quick"], env, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
        os.waitpid(pid, 0)
    os.close(null)
    return (time.perf_counter() - t) * 1e3 / n


def venv(name):
    """The peer's python, made on first use."""
    where = os.path.join(VENVS, "overhead-" + name)
    exe = os.path.join(where, "bin", "python")
    if not os.path.exists(exe):
        subprocess.run([sys.executable, "-m", "venv", where], check=True)
    if subprocess.run([exe, "-c", "import " + name], capture_output=True).returncode != 0:
        subprocess.run([exe, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS[name]], check=True)
    return exe


def peer_rows(name, trials, folder):
    """One process for each variant; each prints a row. Ray listens on every interface: it gets a namespace of its own."""
    exe = venv(name)
    variants = {"optuna": ["memory", "journal", "sqlite"], "ray": ["reuse", "default"]}[name]
    for variant in variants:
        work = tempfile.mkdtemp(prefix="p", dir=folder)
        argv = [exe, os.path.join(HERE, f"peer_{name}.py"), variant, str(trials), work]
        if name == "ray":
            argv = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *argv]
        p = subprocess.run(argv, capture_output=True, text=True)
        lines = [line for line in p.stdout.splitlines() if line.startswith("{")]
        if p.returncode != 0 or not lines:
            print(f"{name} {variant}: status {p.returncode}\n{p.stderr[-2000:]}", file=sys.stderr)
        for line in lines:
            yield json.loads(line)
        shutil.rmtree(work, ignore_errors=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, default=1000)
    p.add_argument("--slots", default="1,2")
    p.add_argument("--dir", default=harness.BUILD)
    p.add_argument("--peers", default="ray,optuna")
    p.add_argument("--keep", action="store_true")
    a = p.parse_args()
    folder = tempfile.tempdir = os.path.abspath(tempfile.mkdtemp(prefix="overhead-", dir=a.dir))
    about = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cores": os.cpu_count()}
    status = 0

    def show(row):
        row = {**row, **about, "fdatasync_ms": round(fdatasync_ms(folder), 3), "load1": round(os.getloadavg()[0], 2)}
        print(json.dumps(row), flush=True)
        if a.keep:
            with open(RESULTS, "a") as f:
                f.write(json.dumps(row) + "\n")

    try:
        for slots in (int(s) for s in a.slots.split(",")):
            Ours.rows, Ours.trials, Ours.slots = [], a.trials, slots
            result = Ours().run()
            for row in Ours.rows:
                show(row)
            for _, text in result.errors + result.failures:
                print(text, file=sys.stderr)
                status = 1
        for name in (n for n in a.peers.split(",") if n):
            for row in peer_rows(name, a.trials, folder):
                show(row)
    finally:
        harness.kill_descendants()
        shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
