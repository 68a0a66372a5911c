# SPDX-License-Identifier: Apache-2.0
"""magpie's algorithms through bench/search_pipe: the study core and optimizers of production, by their names."""
import hashlib
import json
import os
import subprocess

BUILD = os.environ.get("MAGPIE_BUILD") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build")


class PipeError(RuntimeError):
    pass


class Pipe:
    """One search_pipe process; each start() ends the search before it."""

    def __init__(self, exe):
        self.process = subprocess.Popen([exe], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, **line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        text = self.process.stdout.readline()
        if not text:
            raise PipeError("search_pipe ended with status %s after %s" % (self.process.wait(), line))
        answer = json.loads(text)
        if "error" in answer:
            raise PipeError(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def experiment(problem, seed, optimizer):
    doc = {"objective": {"metric": "value", "direction": "min"},
           "searchspace": {p.name: p.magpie() for p in problem.params}, "seed": seed, "optimizer": optimizer,
           "limits": {"failures": 0}}
    if problem.trials:
        doc["limits"]["trials"] = problem.trials
    else:
        doc["limits"]["time"] = "365d"  # the driver's clock, not that of `curves`: goes on until they end
    if problem.workers > 1:
        doc["limits"]["parallel"] = problem.workers
    if problem.resource:
        doc["resource"] = {"min": problem.resource[0], "max": problem.resource[1]}
    return doc


class Solver:
    """A process for each search, so that its processor time is counted with the row's."""

    def __init__(self, problem, seed, optimizer, exe):
        self.pipe = Pipe(exe)
        try:
            self.started = self.pipe.call(op="start", experiment=experiment(problem, seed, optimizer))
        except PipeError:
            self.pipe.close()
            raise
        self.top = problem.resource[1] if problem.resource else 0

    def ask(self):
        answer = self.pipe.call(op="ask")
        if not answer["trials"]:
            return None
        given = answer["trials"][0]
        return given["trial"], given["params"]

    def tell(self, trial, value):
        self.pipe.call(op="tell", trial=trial, value=value)

    def job(self):
        """With a resource: (trial, params, step to continue from, budget), or None when there is nothing now."""
        answer = self.pipe.call(op="ask")
        if not answer["trials"]:
            return None
        given = answer["trials"][0]
        return given["trial"], given["params"], given["resume_from"] or 0, given["budget"]

    def report(self, trial, step, value):
        """Every report carries its checkpoint; a trial that reached the top is told as completed."""
        answer = self.pipe.call(op="report", trial=trial, step=step, value=value, checkpoint=step)
        if answer["action"] == "continue" and step >= self.top:
            self.pipe.call(op="tell", trial=trial)
        return answer["action"] == "continue"

    def close(self):
        self.pipe.close()


def build_tag(exe):
    """The commit, and a digest of the program where the working tree differs from it."""
    where = os.path.dirname(os.path.abspath(exe))
    text = subprocess.run(["git", "-C", where, "describe", "--always", "--abbrev=7", "--dirty=+"], capture_output=True,
                          text=True).stdout.strip().rsplit("-g", 1)[-1]
    if text.endswith("+") or not text:
        with open(exe, "rb") as f:
            text += hashlib.sha256(f.read()).hexdigest()[:6]
    return text


def solver(text, tag=""):
    """The runner's description of "magpie-ALGORITHM" or 'magpie:{"algorithm": …, options}', of the build named `tag`."""
    head, sep, rest = text.partition(":")
    optimizer = json.loads(rest) if sep else {"algorithm": head.partition("-")[2]}
    label = optimizer["algorithm"] + "".join(",%s=%s" % (k, v) for k, v in sorted(optimizer.items()) if k != "algorithm")
    exe = os.path.abspath(os.path.join(BUILD, "bench", "search_pipe"))
    if not os.path.exists(exe):
        raise SystemExit("bench/quality: no %s: build it with `ninja -C build`, or set MAGPIE_BUILD" % exe)
    tag = tag or build_tag(exe)
    return {"name": "magpie-%s@%s" % (label, tag), "optimizer": optimizer, "pipe": exe, "versions": {"magpie": tag}}
