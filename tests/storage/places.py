# SPDX-License-Identifier: Apache-2.0
"""Places of shared storage for the tests: real servers, started at the first need, ended with the script."""
import os
import shutil
import subprocess
import sys
import tempfile
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402
import servers  # noqa: E402

SUITE = os.path.join(harness.BUILD, "tests", "storage", "storage_suite")
SCHEMES = ("file", "s3", "swift", "hdfs")
_folder = None
_running = {}  # name -> server or the reason why there is none


def folder():
    global _folder
    if _folder is None:
        _folder = tempfile.mkdtemp(prefix="magpie-servers-")
    return _folder


def server(name):
    """The server, or a skip with the reason."""
    if name not in _running:
        try:
            if name == "swift":
                s = servers.Swift(os.path.join(folder(), name))
                s.make_container("magpie")
                s.make_container("magpie-s3")
            else:
                s = servers.Hdfs(os.path.join(folder(), name), ["dfs.ls.limit=5", "dfs.namenode.delegation.token.always-use=true"])
            _running[name] = s
        except servers.Unavailable as e:
            _running[name] = str(e)
    if isinstance(_running[name], str):
        raise harness.unittest.SkipTest(_running[name].replace("\n", " ")[:300])
    return _running[name]


class Place:
    def __init__(self, url, env):
        self.url, self.env = url, env


class Case(harness.Case):
    def place(self, scheme):
        """A root of its own in that scheme."""
        name = "t-" + uuid.uuid4().hex[:12]
        if scheme == "file":
            return Place("file:" + self.path(name), {})
        if scheme == "hdfs":
            s = server("hdfs")
            return Place(f"hdfs://localhost:{s.port}/magpie/{name}", s.hdfs_env())
        s = server("swift")
        return Place(f"swift://magpie/{name}", s.swift_env()) if scheme == "swift" else Place(f"s3://magpie-s3/{name}", s.s3_env())

    def suite(self, place, *args, env=None, status=0, prefix=(), timeout=None):
        """storage_suite on that place; (standard output, standard error)."""
        p = self.start([*prefix, SUITE, place.url, *args], "suite", {**place.env, **(env or {})})
        got = p.wait(3 * harness.DEADLINE if timeout is None else timeout)
        if status is not None:
            self.assertEqual(got, status, f"{' '.join(args)}\n{p.stdout()}{p.stderr()}")
        return p.stdout(), p.stderr()

    def openssl(self, argv):
        subprocess.run(argv, check=True, capture_output=True)


def stop():
    """Ends the servers and removes what they kept."""
    for s in _running.values():
        if not isinstance(s, str):
            s.stop()
    _running.clear()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


def main():
    try:
        harness.main()
    finally:
        stop()
