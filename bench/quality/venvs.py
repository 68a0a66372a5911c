# SPDX-License-Identifier: Apache-2.0
"""The peers' virtual environments, made on first use, every version pinned. None of them is needed to build or test magpie.

`main`: Optuna, COCO and PyTorch for Optuna's GPSampler, without its 2.5 GB of CUDA libraries (bench/cuda_stubs.py).
`mf`: DEHB and Syne Tune, which want an older numpy.
"""
import os
import subprocess
import sys

import rows

ROOT = os.path.join(rows.HERE, "..")
PINS = {
    "main": ["optuna==5.0.0", "cmaes==0.13.1", "scipy==1.17.1", "coco-experiment==2.8.2", "numpy==2.4.6"],
    "mf": ["dehb==0.1.2", "syne-tune==0.16.0"],
}
TORCH = "torch==2.15.0"
TORCH_NEEDS = ["sympy", "mpmath", "networkx", "jinja2", "MarkupSafe", "filelock", "fsspec", "typing_extensions",
               "setuptools>=77,<82"]


def folder(name):
    return os.path.join(rows.CACHE, {"main": "quality", "mf": "quality-mf"}[name])


def _pip(where, *args):
    subprocess.run([os.path.join(where, "bin", "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                    *args], check=True, stdout=sys.stderr)


def _has(where, module):
    code = "import importlib.util, sys; sys.exit(not importlib.util.find_spec(%r))" % module
    return subprocess.run([os.path.join(where, "bin", "python"), "-c", code]).returncode == 0


def python(name):
    """The environment's python; makes the environment when it is missing."""
    where = folder(name)
    exe = os.path.join(where, "bin", "python")
    done = os.path.join(where, "quality.pins")
    want = "\n".join(PINS[name])
    if os.path.exists(done) and open(done).read() == want:
        return exe
    print("bench/quality: making %s (%s)" % (where, ", ".join(PINS[name])), file=sys.stderr)
    if not os.path.exists(exe):
        subprocess.run([sys.executable, "-m", "venv", where], check=True, stdout=sys.stderr)
    _pip(where, *PINS[name])
    if name == "main" and not _has(where, "torch"):
        _pip(where, "--no-deps", TORCH)
        _pip(where, *TORCH_NEEDS)
    with open(done, "w") as f:
        f.write(want)
    return exe


def environment(name):
    """One thread for every search, and stand-ins for the CUDA libraries that PyTorch wants to load."""
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        env[key] = "1"
    if name == "main":
        env["LD_LIBRARY_PATH"] = _cuda_stubs(folder(name))
    return env


def _cuda_stubs(where):
    stubs = os.path.join(where, "cuda-stubs")
    if not os.path.isdir(stubs):
        exe = os.path.join(where, "bin", "python")
        site = subprocess.run([exe, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run([sys.executable, os.path.join(ROOT, "cuda_stubs.py"), os.path.join(site, "torch"), stubs],
                       check=True, stdout=sys.stderr)
    return stubs
