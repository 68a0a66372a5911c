#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lets PyPI's CUDA build of PyTorch run on a CPU without its CUDA libraries.

cuda_stubs.py TORCH_DIR OUT_DIR [CC]

The wheel's libraries name CUDA libraries that are missing after `pip install --no-deps torch`. For each of them this
writes a shared library of the same name whose functions, under the symbol versions asked for, return 100
(cudaErrorNoDevice). Run python with LD_LIBRARY_PATH=OUT_DIR. The CPU kernels are the wheel's own and untouched.
"""
import collections
import glob
import os
import re
import subprocess
import sys

SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|gfortran|quadmath|z)\.so|ld-linux)")
SYSTEM_VERSION = re.compile(r"(GLIBC|GCC|CXXABI|GOMP|OMP|GOACC|GFORTRAN|QUADMATH)")
CUDA_NAME = re.compile(r"_?_?(cu|nccl|nvrtc|nvshmem|nvJit|nvml|cudnn|Cupti)", re.I)


def output(*cmd):
    return subprocess.run(cmd, capture_output=True, text=True, check=True).stdout


def scan(libraries):
    """Libraries needed, and the undefined symbols, by version and without one."""
    needed, undefined, defined = set(), set(), set()
    for path in libraries:
        needed |= set(re.findall(r"NEEDED.*\[(.*?)\]", output("readelf", "-dW", path)))
        for line in output("readelf", "--dyn-syms", "-W", path).splitlines():
            f = line.split()
            if len(f) >= 8 and f[0].rstrip(":").isdigit():
                (undefined if f[6] == "UND" else defined).add(f[7])
    have = {s.split("@")[0] for s in defined}
    versioned, plain = collections.defaultdict(set), set()
    for symbol in undefined:
        name, _, version = symbol.partition("@")
        version = version.lstrip("@")
        if name in have:
            continue
        if version and not SYSTEM_VERSION.match(version):
            versioned[version].add(name)
        elif not version and CUDA_NAME.match(name):
            plain.add(name)
    return needed, versioned, plain


def symbols_for(library, versioned, left):
    """Version -> names for one library, and the unversioned names that it takes from `left`."""
    mine = {v: n for v, n in versioned.items() if v.startswith(library)}
    if library.startswith("libcudnn"):
        mine.update({v: n for v, n in versioned.items() if "cudnn" in v.lower()})
    if library.startswith("libnvshmem"):
        mine.update({v: n for v, n in versioned.items() if v == "NVSHMEM"})
    stem = re.match(r"lib(\w+?)(_host)?\.so", library).group(1).lower()
    prefix = "cu" if stem == "cuda" else stem
    names = {n for group in mine.values() for n in group}
    return mine, names, {n for n in left if n.lower().startswith(prefix)} - names


def write_stub(library, out, cc, mine, names):
    source, script = os.path.join(out, library + ".c"), os.path.join(out, library + ".map")
    with open(source, "w") as f:
        f.writelines("long %s(void) { return 100; }\n" % n for n in sorted(names))
    with open(script, "w") as f:
        f.writelines("%s { global: %s };\n" % (v, " ".join(x + ";" for x in sorted(n))) for v, n in mine.items())
    cmd = [cc, "-shared", "-fPIC", "-w", "-fno-builtin", "-Wl,-soname," + library, "-o", os.path.join(out, library), source]
    subprocess.run(cmd + (["-Wl,--version-script," + script] if mine else []), check=True)


def main():
    torch_dir, out = sys.argv[1], sys.argv[2]
    cc = sys.argv[3] if len(sys.argv) > 3 else "cc"
    libraries = glob.glob(os.path.join(torch_dir, "lib", "*.so*"))
    own = {os.path.basename(p) for p in libraries}
    needed, versioned, left = scan(libraries)
    os.makedirs(out, exist_ok=True)
    # The most specific name prefixes take their symbols first; libcuda's "cu" fits them all.
    missing = sorted((n for n in needed if n not in own and not SYSTEM.match(n)),
                     key=lambda n: (n.startswith("libcuda."), -len(n)))
    for library in missing:
        mine, names, extra = symbols_for(library, versioned, left)
        left -= extra
        write_stub(library, out, cc, mine, names | extra)
        print("%s: %d symbols" % (library, len(names | extra)))


if __name__ == "__main__":
    main()
