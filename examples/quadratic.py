#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The smallest trial program: parameters come as arguments, results go out as ::magpie lines.

    {"command": ["python3", "examples/quadratic.py", "--x", "${x}", "--y", "${y}"]}

It "trains" for --steps steps toward (x-3)^2 + (y+1)^2, and keeps its step in a checkpoint, so that a
trial that is paused, killed or moved to another worker goes on where it was.
"""
import argparse
import json
import os
import time


def say(**fields):
    print("::magpie " + json.dumps(fields), flush=True)


def resume():
    """The step of the checkpoint that this trial is to go on from, 0 without one."""
    folder = os.environ.get("MAGPIE_RESUME_FROM")
    if not folder:
        return 0
    with open(os.path.join(folder, "state.json")) as f:
        return json.load(f)["step"]


def checkpoint(step):
    """Writes $MAGPIE_CHECKPOINT_DIR/STEP/state.json and tells the worker that it is complete."""
    folder = os.path.join(os.environ["MAGPIE_CHECKPOINT_DIR"], str(step))
    os.makedirs(folder)
    with open(os.path.join(folder, "state.json"), "w") as f:
        json.dump({"step": step}, f)
    say(checkpoint=step)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--x", type=float, required=True)
    p.add_argument("--y", type=float, required=True)
    p.add_argument("--steps", type=int, default=int(os.environ.get("MAGPIE_BUDGET", "1")))
    p.add_argument("--sleep", type=float, default=0.01, help="seconds that a step takes")
    a = p.parse_args()
    loss = (a.x - 3) ** 2 + (a.y + 1) ** 2
    for step in range(resume() + 1, a.steps + 1):
        time.sleep(a.sleep)
        say(step=step, metrics={"loss": loss + 10 / step, "step_time": a.sleep})
        if "MAGPIE_CHECKPOINT_DIR" in os.environ:
            checkpoint(step)


main()
