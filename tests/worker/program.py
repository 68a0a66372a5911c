#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trial programs for the tests, as a command (program.py MODE) or as an executor (program.py executor,
the mode being the trial's parameter "mode"). PROGRAM_NOTES names a folder where each attempt leaves a
file of what it was given; PROGRAM_STEP_MS is the time a step takes."""
import json
import os
import signal
import subprocess
import sys
import time

PAD = int(os.environ.get("PROGRAM_PAD", "0"))  # bytes that a checkpoint has besides
STEP = float(os.environ.get("PROGRAM_STEP_MS", "10")) / 1000


def note(name, what):
    folder = os.environ.get("PROGRAM_NOTES")
    if folder:
        with open(os.path.join(folder, name), "a") as f:
            f.write(json.dumps(what) + "\n")


def alive_for_ever():
    while True:
        time.sleep(1000)


def leave_something_behind():
    """A daemon in a session of its own, as far from the worker as it gets."""
    code = ("import os,time\n"
            "os.setsid()\n"
            "if os.fork(): os._exit(0)\n"
            "open(os.environ['PROGRAM_NOTES']+'/left','w').write(str(os.getpid()))\n"
            "time.sleep(1000)")
    subprocess.Popen([sys.executable, "-c", code]).wait()
    path = os.environ["PROGRAM_NOTES"] + "/left"
    while not os.path.exists(path) or not open(path).read():
        time.sleep(0.01)


class Trial:
    """What a mode does; `say(kind, **fields)` is the channel or standard output."""

    def __init__(self, say, mode, budget, resume, checkpoint_dir, stopped):
        self.say, self.mode, self.budget, self.resume = say, mode, budget, resume
        self.checkpoint_dir, self.stopped = checkpoint_dir, stopped

    def checkpoint(self, step):
        folder = os.path.join(self.checkpoint_dir, str(step))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "state"), "w") as f:
            f.write(str(step))
        if PAD > 0:
            with open(os.path.join(folder, "pad"), "wb") as f:
                f.write(bytes(PAD))
        self.say("checkpoint", step=step, path=folder)

    def start_step(self):
        if not self.resume:
            return 0
        with open(os.path.join(self.resume, "state")) as f:
            return int(f.read())

    def run(self):
        return getattr(self, "mode_" + self.mode.replace("-", "_"))()

    def mode_steps(self):
        """Counts up to the budget, a checkpoint each step; the value is the step."""
        first = self.start_step()
        for step in range(first + 1, (self.budget or 5) + 1):
            time.sleep(STEP)
            if self.stopped():
                return self.stopped()
            self.say("report", step=step, metrics={"value": float(step), "other": 1})
            self.checkpoint(step)
        return "completed"

    def mode_quick(self):
        self.say("report", step=1, metrics={"value": 0.5})
        return "completed"

    def mode_result_only(self):
        self.say("result-metrics", metrics={"value": 0.25})
        return "completed"

    def mode_crash(self):
        print("about to crash", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        alive_for_ever()

    def mode_exit3(self):
        print("sorry, no", flush=True)
        sys.exit(3)

    def mode_no_metric(self):
        self.say("report", step=1, metrics={"speed": 3})
        return "completed"

    def mode_nan(self):
        self.say("report", step=1, metrics={"value": float("nan")})
        while not self.stopped():
            time.sleep(0.01)
        return "stopped"

    def mode_hang(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.say("report", step=1, metrics={"value": 1.0})
        alive_for_ever()

    def mode_bad_line(self):
        print("::magpie {\"step\": 1, \"metrics\": ", flush=True)
        return "completed"

    def mode_flood(self):
        block = b"x" * 79 + b"\n"
        while True:
            os.write(1, block * 1000)

    def mode_left(self):
        leave_something_behind()
        self.say("report", step=1, metrics={"value": 1.0})
        return "completed"

    def mode_silent(self):
        """Says nothing, so that nothing but its worker's death ends it."""
        self.say("report", step=1, metrics={"value": 1.0})
        sys.stdout = open(os.devnull, "w")
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        alive_for_ever()

    def mode_error(self):
        self.say("error", cause="configuration", reason="the shapes 3 and 4 do not fit")
        return None

    def mode_gone(self):
        os._exit(0)


def run_command(mode):
    wanted = []
    signal.signal(signal.SIGTERM, lambda *_: wanted.append(True))

    def say(kind, **f):
        if kind == "report":
            print("::magpie " + json.dumps({"step": f["step"], "metrics": f["metrics"]}), flush=True)
        elif kind == "checkpoint":
            print("::magpie " + json.dumps({"checkpoint": f["step"]}), flush=True)
        elif kind == "result-metrics":
            print("::magpie " + json.dumps({"result": f["metrics"]}), flush=True)

    env = os.environ
    with open(env["MAGPIE_PARAMS"]) as f:
        params = json.load(f)
    trial = int(env["MAGPIE_TRIAL"])
    note(f"trial-{trial}", {"attempt": int(env["MAGPIE_ATTEMPT"]), "params": params, "pid": os.getpid(),
                            "resume": env.get("MAGPIE_RESUME_STEP"), "budget": env.get("MAGPIE_BUDGET"),
                            "argv": sys.argv[1:]})
    t = Trial(say, mode, int(env.get("MAGPIE_BUDGET", "0")), env.get("MAGPIE_RESUME_FROM"),
              env["MAGPIE_CHECKPOINT_DIR"], lambda: "stopped" if wanted else None)
    sys.exit({"completed": 0, "stopped": 1}.get(t.run(), 0))


class Channel:
    def __init__(self):
        fd = int(os.environ["MAGPIE_FD"])
        os.set_blocking(fd, True)
        self.fd, self.buffer, self.trial = fd, b"", None

    def send(self, kind, **fields):
        os.write(self.fd, (json.dumps({"type": kind, **fields}) + "\n").encode())

    def next(self, wait=True):
        """The next message; None: none is there yet (or, waiting, the end)."""
        import select
        while b"\n" not in self.buffer:
            if not wait and not select.select([self.fd], [], [], 0)[0]:
                return None
            data = os.read(self.fd, 65536)
            if not data:
                sys.exit(0)
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)


def run_executor():
    ch = Channel()
    ch.send("ready", versions={"program": "1"})
    while True:
        m = ch.next()
        if m["type"] == "exit":
            sys.exit(0)
        if m["type"] != "start":
            continue
        n = m["trial"]
        told, final = [], {}

        def stopped():
            while True:
                x = ch.next(wait=False)
                if x is None:
                    break
                if x["type"] == "exit":
                    sys.exit(0)
                told.append({"stop": "stopped", "pause": "paused"}[x["type"]])
            return told[-1] if told else None

        def say(kind, **f):
            if kind == "result-metrics":
                final.update(f["metrics"])
            else:
                ch.send(kind, trial=n, **f)

        resume = m["resume_from"]
        note(f"trial-{n}", {"attempt": m["attempt"], "params": m["params"], "pid": os.getpid(),
                            "resume": resume and resume["step"], "budget": m["budget"]})
        t = Trial(say, m["params"]["mode"], m["budget"], resume and resume["path"], m["checkpoint_dir"], stopped)
        status = t.run()
        if status is not None:
            ch.send("result", trial=n, status=status, **({"metrics": final} if final else {}))
            note(f"ended-{n}", status)
        ch.send("ready")


if __name__ == "__main__":
    if sys.argv[1] == "executor":
        run_executor()
    else:
        run_command(sys.argv[1])
