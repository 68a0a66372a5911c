# SPDX-License-Identifier: Apache-2.0
"""Support for the end-to-end tests: real drivers, workers and commands in temporary folders.

    import os, sys
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
    import harness

    class Search(harness.Case):
        def test_a_claim(self):
            d = self.driver()                      # ports 0, ready line parsed
            w = self.worker(d, "--slots", "2")
            x = d.post("/api/v1/experiments", {...}, status=201)
            harness.wait_until(lambda: d.get(f"/api/v1/experiments/{x['id']}")["state"] == "completed", 60)

    if __name__ == "__main__":
        harness.main()

Rules: never sleep for a fixed time, poll with wait_until; port 0; nothing outside self.tmp. Every process
is gone after a test, also what workers left behind; their output is shown when the test fails.
harness.main() speaks TAP (meson: protocol: 'tap'). MAGPIE_BUILD names the build folder.
"""
import ctypes
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("MAGPIE_BUILD", os.path.join(ROOT, "build")))
MAGPIE = os.path.join(BUILD, "magpie")
CLIENT = os.path.join(ROOT, "clients", "python")  # for PYTHONPATH: import magpie_hpo
DEADLINE = 30.0 * float(os.environ.get("MAGPIE_TEST_PATIENCE", "1"))

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of our processes come to us


class Timeout(AssertionError):
    pass


def wait_until(condition, timeout=None, what=None, every=0.02):
    """Polls until condition() is true and returns its value; raises Timeout with `what`."""
    end = time.monotonic() + (DEADLINE if timeout is None else timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"waited in vain for {what or getattr(condition, '__name__', 'a condition')}")
        time.sleep(every)


def python_env(name):
    """The interpreter that has the packages of tests/python/NAME.txt; skips the test where PyPI cannot be reached."""
    p = subprocess.run([os.path.join(ROOT, "tools", "python-env"), name], capture_output=True, text=True)
    if p.returncode != 0:
        raise unittest.SkipTest(p.stderr.strip() or f"no environment {name}")
    return p.stdout.strip()


class HttpError(AssertionError):
    def __init__(self, method, path, status, body):
        super().__init__(f"{method} {path}: {status}: {body!r}"[:2000])
        self.status, self.body = status, body


def request(base, method, path, body=None, headers=None, timeout=60.0):
    """One HTTP exchange; returns (status, headers, bytes)."""
    u = urllib.parse.urlsplit(base)
    c = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)
    h = {"Accept": "application/json"}
    data = None
    if body is not None:
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        h["Content-Type"] = "application/json"
    h.update(headers or {})
    try:
        c.request(method, path, data, h)
        r = c.getresponse()
        return r.status, r.headers, r.read()
    finally:
        c.close()


class Process:
    """A started program. Output goes to files, so that nothing blocks and it can be shown later."""

    def __init__(self, argv, tmp, name, env=None, cwd=None, stdin=subprocess.DEVNULL):
        self.name = name
        self.argv = argv
        self.stdout_path = os.path.join(tmp, name + ".stdout")
        self.stderr_path = os.path.join(tmp, name + ".stderr")
        full = dict(os.environ)
        full.update(env or {})
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            self.p = subprocess.Popen(argv, stdout=out, stderr=err, stdin=stdin, env=full, cwd=cwd,
                                      preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL))
        self.pid = self.p.pid

    def stdout(self):
        with open(self.stdout_path, errors="replace") as f:
            return f.read()

    def stderr(self):
        with open(self.stderr_path, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.p.poll() is None

    def signal(self, number):
        if self.alive():
            self.p.send_signal(number)

    def wait(self, timeout=None):
        """The exit status (negative: killed by that signal)."""
        try:
            return self.p.wait(DEADLINE if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} did not end") from None

    def kill(self):
        """kill -9 and wait."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def stop(self, timeout=None):
        """SIGTERM and wait; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)


class Driver(Process):
    """`magpie driver` with its real addresses. Start again on the same ports with restart()."""

    def __init__(self, case, data, flags, env, http_addr, listen):
        self.case, self.data, self.flags, self.env = case, data, flags, env
        argv = [MAGPIE, "driver", "--data", data, "--http", http_addr, "--listen", listen, *flags]
        super().__init__(argv, case.tmp, case.unique("driver"), env)
        self.http = self.nng = None

    def wait_ready(self, timeout=None):
        def line():
            text = self.stdout()
            if text.startswith("ready ") and "\n" in text:
                return text.split("\n", 1)[0]
            if not self.alive():
                raise AssertionError(f"the driver ended with {self.p.returncode}:\n{self.stderr()}")
            return None

        fields = dict(f.split("=", 1) for f in wait_until(line, timeout, "the ready line").split()[1:])
        self.http, self.nng = fields["http"], fields["nng"]
        return self

    def restart(self, flags=None, env=None):
        """A new driver on the same data folder and ports; this one must be gone."""
        self.wait()
        d = Driver(self.case, self.data, self.flags if flags is None else flags,
                   self.env if env is None else env, urllib.parse.urlsplit(self.http).netloc, self.nng)
        self.case.processes.append(d)
        return d.wait_ready()

    def token(self):
        try:
            with open(os.path.join(self.data, "token")) as f:
                return f.read().strip()
        except FileNotFoundError:
            return None

    def raw(self, method, path, body=None, headers=None, timeout=60.0):
        h = dict(headers or {})
        token = self.token()
        if token and "Authorization" not in h:
            h["Authorization"] = "Bearer " + token
        return request(self.http, method, path, body, h, timeout)

    def call(self, method, path, body=None, status=None, timeout=60.0):
        """JSON in, JSON out. `status`: the expected one; by default any 2xx."""
        code, _, data = self.raw(method, path, body, timeout=timeout)
        ok = code == status if status is not None else 200 <= code < 300
        if not ok:
            raise HttpError(method, path, code, data)
        return json.loads(data) if data else None

    def get(self, path, status=None):
        return self.call("GET", path, None, status)

    def post(self, path, body=None, status=None):
        return self.call("POST", path, {} if body is None else body, status)

    # ---- what many tests ask for ----
    def submit(self, spec):
        return self.post("/api/v1/experiments", spec, status=201)["id"]

    def experiment(self, i):
        return self.get(f"/api/v1/experiments/{i}")

    def trials(self, i):
        """All trials of an experiment, over all pages, by id."""
        out, cursor = [], None
        while True:
            q = "?limit=1000" + (f"&cursor={urllib.parse.quote(str(cursor))}" if cursor else "")
            page = self.get(f"/api/v1/experiments/{i}/trials{q}")
            out += page["trials"]
            cursor = page["next"]
            if cursor is None:
                return sorted(out, key=lambda t: t["trial"])

    def wait_state(self, i, state="completed", timeout=None):
        def reached():
            x = self.experiment(i)
            if x["state"] != state and x["state"] in ("completed", "cancelled", "failed"):
                raise AssertionError(f"experiment {i} is {x['state']}, not {state}: {x.get('why')}")
            return x if x["state"] == state else None

        return wait_until(reached, timeout, f"experiment {i} to be {state}")


SPARED = set()  # processes (with theirs) that outlive a test: servers that the whole script uses


def descendants():
    """Every process below this one, but for those that are spared."""
    parents = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                with open(f"/proc/{d}/stat", "rb") as f:
                    parents[int(d)] = int(f.read().rsplit(b")", 1)[1].split()[1])
            except (OSError, IndexError):
                pass
    me, found, grew = os.getpid(), set(), True
    while grew:
        grew = False
        for pid, parent in parents.items():
            if pid not in found and pid not in SPARED and (parent == me or parent in found):
                found.add(pid)
                grew = True
    return found


def living():
    """The descendants that still run; orphans that have ended are reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass
    return descendants()


def _proc_raw(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as f:
            return f.read()
    except OSError:
        return b""


def _proc(pid, name):
    return _proc_raw(pid, name).replace(b"\0", b" ").decode(errors="replace").strip()


def command_line(pid):
    """The arguments of a process, [] when it is gone."""
    return _proc_raw(pid, "cmdline").decode(errors="replace").split("\0")[:-1]


def _log_tail(pid, lines=15):
    """The last lines of what a process writes its errors to, when that is a file."""
    try:
        path = os.readlink(f"/proc/{pid}/fd/2")
        with open(path, errors="replace") as f:
            return [path] + f.read().splitlines()[-lines:]
    except OSError:
        return []


def describe(pids):
    """What these processes are and what they wait for, so that a test that failed explains itself."""
    out = []
    for pid in sorted(pids):
        status = dict(line.split(":", 1) for line in _proc(pid, "status").splitlines() if ":" in line)
        if not status:
            continue
        word = {k: v.strip() for k, v in status.items()}
        out.append(f"process {pid} (parent {word.get('PPid')}) {word.get('State')}: {_proc(pid, 'cmdline')}")
        out.append(f"    signals: pending {word.get('ShdPnd')} blocked {word.get('SigBlk')} caught {word.get('SigCgt')}")
        try:
            tasks = sorted(os.listdir(f"/proc/{pid}/task"), key=int)
        except OSError:
            tasks = []
        for t in tasks:
            if _proc(pid, f"task/{t}/comm").startswith("nng:"):
                continue
            state = _proc(pid, f"task/{t}/stat").rsplit(")", 1)[-1].split()[:1]
            out.append(f"    thread {t} {_proc(pid, f'task/{t}/comm')} {''.join(state)} in {_proc(pid, f'task/{t}/wchan')}")
        out += [f"    {line}" for line in _log_tail(pid)]
    return out


def wait_gone(timeout=None, what="every process to go"):
    """Waits until nothing below this process runs; the Timeout tells about each survivor."""
    try:
        wait_until(lambda: not living(), timeout, what)
    except Timeout as t:
        raise Timeout("\n".join([str(t), *describe(descendants())])) from None


def kill_descendants():
    """SIGKILL for everything below this process, orphans included, until nothing is left."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        left = descendants()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            return
        if not left:
            return  # spared servers are still children
        time.sleep(0.005)


class Case(unittest.TestCase):
    """A test with a temporary folder (self.tmp) and processes that end with it."""

    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="magpie-test-")
        self.processes = []
        self._names = {}
        self.addCleanup(self._clean)

    def unique(self, stem):
        self._names[stem] = self._names.get(stem, 0) + 1
        return f"{stem}-{self._names[stem]}"

    def path(self, *parts):
        return os.path.join(self.tmp, *parts)

    def write(self, name, content):
        """A file in self.tmp; objects become JSON. Returns its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(content if isinstance(content, str) else json.dumps(content, indent=2))
        return path

    def driver(self, *flags, data=None, env=None, http="127.0.0.1:0", listen="tcp://127.0.0.1:0"):
        d = Driver(self, data or self.path("data"), flags, env, http, listen)
        self.processes.append(d)
        return d.wait_ready()

    def worker(self, driver, *flags, env=None, url=None):
        name = self.unique("worker")
        scratch = self.path(name + ".scratch")
        w = Process([MAGPIE, "worker", "--driver", url or driver.nng, "--scratch", scratch, *flags],
                    self.tmp, name, env)
        self.processes.append(w)
        return w

    def start(self, argv, name="process", env=None, cwd=None, stdin=subprocess.DEVNULL):
        p = Process(argv, self.tmp, self.unique(name), env, cwd, stdin)
        self.processes.append(p)
        return p

    def magpie(self, *args, status=0, env=None, timeout=None, cwd=None):
        """Runs a command to its end; returns the Process. `status` None: any."""
        p = self.start([MAGPIE, *args], "magpie-" + args[0] if args else "magpie", env, cwd)
        got = p.wait(timeout)
        if status is not None:
            self.assertEqual(got, status, f"magpie {' '.join(args)}\n{p.stdout()}{p.stderr()}")
        return p

    def _failed(self):
        outcome = getattr(self, "_outcome", None)
        result = getattr(outcome, "result", None)
        if result is None:
            return False
        return any(t is self and text for t, text in result.failures + result.errors)

    def _clean(self):
        if self._failed():
            for line in describe(descendants()):
                print(f"# left: {line}")
        kill_descendants()
        for p in self.processes:
            p.p.poll()
        if self._failed() or os.environ.get("MAGPIE_TEST_KEEP"):
            for p in self.processes:
                for kind, text in (("stdout", p.stdout()), ("stderr", p.stderr())):
                    for line in text.splitlines()[-60:]:
                        print(f"# {p.name} {kind}: {line}")
        if os.environ.get("MAGPIE_TEST_KEEP"):
            print(f"# kept {self.tmp}")
        else:
            shutil.rmtree(self.tmp, ignore_errors=True)


class _Tap(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.n = 0

    def _line(self, verdict, test, note=""):
        self.n += 1
        print(f"{verdict} {self.n} - {test.id().replace('__main__.', '')}{note}", flush=True)

    def startTest(self, test):
        super().startTest(test)
        print(f"# {test.id()}", flush=True)

    def addSuccess(self, test):
        self._line("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line("ok", test, f" # SKIP {reason}")

    def _bad(self, test, err):
        self._line("not ok", test)
        for line in self._exc_info_to_string(err, test).splitlines():
            print(f"# {line}", flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._bad(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._bad(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._bad(subtest, err)


def main():
    """Runs the tests of the calling script (or those named on the command line) and speaks TAP."""
    loader = unittest.TestLoader()
    module = sys.modules["__main__"]
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = _Tap()
    suite.run(result)
    print(f"1..{result.n}", flush=True)
    SPARED.clear()
    kill_descendants()
    sys.exit(0 if result.wasSuccessful() and result.n > 0 else 1)
