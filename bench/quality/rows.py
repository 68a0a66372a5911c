# SPDX-License-Identifier: Apache-2.0
"""Rows: one JSON line a (problem, solver, seed), kept in one file a (suite, solver).

New rows go to ~/.cache/magpie-bench/quality-rows; `pack` writes them, compressed, to bench/results/quality, from where
they are read too. A row that is there is never computed again.
"""
import glob
import gzip
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = os.path.join(HERE, "..", "results", "quality")
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "magpie-bench")
FOLDER = os.environ.get("MAGPIE_QUALITY_ROWS") or os.path.join(CACHE, "quality-rows")


def slug(text):
    return "".join(c if c.isalnum() or c in "-_@." else "_" for c in text)


def path(suite, solver):
    return os.path.join(FOLDER, "%s.%s.jsonl" % (suite, slug(solver)))


def kept_path(suite, solver):
    return os.path.join(KEPT, "%s.%s.jsonl.gz" % (suite, slug(solver)))


def _lines(name):
    opener = gzip.open if name.endswith(".gz") else open
    with opener(name, "rt") as f:
        for line in f:
            if line.endswith("\n"):  # a killed run may leave half a line
                yield json.loads(line)


def load_file(name):
    return {(r["problem"], r["seed"]): r for r in _lines(name)}


def load(suite, solver):
    """(problem, seed) -> row."""
    out = {}
    for name in (kept_path(suite, solver), path(suite, solver)):
        if os.path.exists(name):
            out.update(load_file(name))
    return out


def solvers(suite):
    """The solvers of a suite that have rows, builds of magpie from the oldest rows to the newest."""
    found = {}
    for name in glob.glob(os.path.join(FOLDER, suite + ".*.jsonl")) + glob.glob(os.path.join(KEPT, suite + ".*.jsonl.gz")):
        for row in _lines(name):
            found[row["solver"]] = max(found.get(row["solver"], 0), os.path.getmtime(name))
            break
    return sorted(found, key=lambda s: (found[s], s))


def newest(suite, wanted=None, keys=()):
    """The solvers named, or all; of one without "@build" the newest build that has rows, or of those with the most of `keys`."""
    last = {}
    for solver in solvers(suite):
        n = len(load(suite, solver).keys() & keys)
        name = solver.partition("@")[0]
        if name not in last or n >= last[name][0]:
            last[name] = (n, solver)
    if not wanted:
        return sorted(solver for _, solver in last.values())
    return [name if "@" in name or name not in last else last[name][1] for name in wanted]


def mend(name):
    """Cuts half a line, left by a killed run, off the end."""
    if not os.path.exists(name):
        return
    with open(name, "rb+") as f:
        data = f.read()
        f.truncate(data.rfind(b"\n") + 1)


def append(row):
    os.makedirs(FOLDER, exist_ok=True)
    with open(path(row["suite"], row["solver"]), "a") as f:
        f.write(json.dumps(row, separators=(",", ":")) + "\n")


def pack(suite, solver):
    """All rows of one solver into the repository, sorted, so that the same rows are the same bytes."""
    table = load(suite, solver)
    os.makedirs(KEPT, exist_ok=True)
    with open(kept_path(suite, solver), "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as f:
        for key in sorted(table):
            f.write((json.dumps(table[key], separators=(",", ":")) + "\n").encode())
    return len(table)
