# SPDX-License-Identifier: Apache-2.0
"""magpie's algorithms through bench/search_pipe: the study core and optimizers of production, by their names."""
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
           "limits": {"trials": problem.trials, "failures": 0}}
    if problem.workers > 1:
        doc["limits"]["parallel"] = problem.workers
    resource = getattr(problem, "resource", None)
    if resource:
        doc["resource"] = {"min": resource[0], "max": resource[1]}
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
        self.labels = {p.name: p.values for p in problem.params if p.kind == "cat"}

    def ask(self):
        answer = self.pipe.call(op="ask")
        if not answer["trials"]:
            return None
        given = answer["trials"][0]
        return given["trial"], given["params"]

    def tell(self, trial, value):
        self.pipe.call(op="tell", trial=trial, value=value)

    def close(self):
        self.pipe.close()


def solver(text, tag):
    """The runner's description of "magpie-ALGORITHM" or 'magpie:{"algorithm": …, options}', of the build tagged `tag`."""
    head, sep, rest = text.partition(":")
    optimizer = json.loads(rest) if sep else {"algorithm": head.partition("-")[2]}
    label = optimizer["algorithm"] + "".join(",%s=%s" % (k, v) for k, v in sorted(optimizer.items()) if k != "algorithm")
    exe = os.path.abspath(os.path.join(BUILD, "bench", "search_pipe"))
    if not os.path.exists(exe):
        raise SystemExit("bench/quality: no %s: build it with `ninja -C build`, or set MAGPIE_BUILD" % exe)
    return {"name": "magpie-%s@%s" % (label, tag), "optimizer": optimizer, "pipe": exe, "versions": {"magpie": tag}}


def source_tag():
    """The commit that was built, with "+" when the working tree differs."""
    where = os.path.dirname(os.path.abspath(__file__))
    text = subprocess.run(["git", "-C", where, "describe", "--always", "--abbrev=7", "--dirty=+"], capture_output=True, text=True)
    return text.stdout.strip().rsplit("-g", 1)[-1] or "unknown"
