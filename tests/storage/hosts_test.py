#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hosts of their own: network namespaces on one bridge. Driver and workers share nothing but the network and a storage."""
import ctypes
import json
import os
import queue
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import places  # noqa: E402
import relay  # noqa: E402

PROGRAM = os.path.join(harness.ROOT, "tests", "worker", "program.py")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Inside:
    """A thread that lives in a network namespace: sockets made by it belong there."""

    def __init__(self, namespace):
        self.todo, self.done = queue.Queue(), queue.Queue()
        self.thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)
        self.thread.start()
        self.call(lambda: None)

    def _run(self, namespace):
        fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        failed = _libc.setns(fd, CLONE_NEWNET) != 0 and OSError(ctypes.get_errno(), "setns")
        os.close(fd)
        while (fn := self.todo.get()) is not None:
            try:
                if failed:
                    raise failed
                self.done.put((fn(), None))
            except Exception as e:  # handed to the caller
                self.done.put((None, e))

    def call(self, fn):
        self.todo.put(fn)
        value, error = self.done.get()
        if error is not None:
            raise error
        return value

    def close(self):
        self.todo.put(None)
        self.thread.join()


class Hosts(places.Case):
    NAMES = ("hub", "driver", "a", "b")

    def ip(self, *args):
        r = subprocess.run(["ip", *args], capture_output=True, text=True)
        if r.returncode != 0:
            self.skipTest(f"network namespaces are not permitted here: ip {' '.join(args)}: {r.stderr.strip()}")

    def setUp(self):
        super().setUp()
        if subprocess.run(["which", "ip"], capture_output=True).returncode != 0:
            self.skipTest("ip is not installed (Debian: iproute2)")
        self.ns = {n: f"magpie-{os.getpid()}-{n}" for n in self.NAMES}
        self.at = {n: f"10.77.0.{i + 1}" for i, n in enumerate(self.NAMES)}
        self.addCleanup(self._remove)
        for name in self.ns.values():
            self.ip("netns", "add", name)
            self.ip("-n", name, "link", "set", "lo", "up")
        hub = self.ns["hub"]
        self.ip("-n", hub, "link", "add", "net", "type", "bridge")
        self.ip("-n", hub, "addr", "add", self.at["hub"] + "/24", "dev", "net")
        self.ip("-n", hub, "link", "set", "net", "up")
        for n in self.NAMES[1:]:
            self.ip("-n", self.ns[n], "link", "add", "eth0", "type", "veth", "peer", "name", "to-" + n, "netns", hub)
            self.ip("-n", hub, "link", "set", "to-" + n, "master", "net", "up")
            self.ip("-n", self.ns[n], "addr", "add", self.at[n] + "/24", "dev", "eth0")
            self.ip("-n", self.ns[n], "link", "set", "eth0", "up")

    def _remove(self):
        for name in self.ns.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def on(self, host, argv, name, env):
        return self.start(["ip", "netns", "exec", self.ns[host], *argv], name, env)

    def spec(self):
        return {"name": "hosts", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                "searchspace": {"mode": {"type": "CATEGORICAL", "values": ["steps"]}, "x": ["DOUBLE", [0.0, 1.0]]},
                "optimizer": {"algorithm": "random"}, "resource": {"min": 10, "max": 10}, "limits": {"trials": 1},
                "trial": {"command": [sys.executable, PROGRAM, "steps"]}}

    def goes_on(self, scheme):
        place = self.place(scheme)
        hub, at_driver = Inside(self.ns["hub"]), Inside(self.ns["driver"])
        self.addCleanup(hub.close)
        self.addCleanup(at_driver.close)
        swift = places.server("swift")
        bridge = relay.Relay(swift.url(), listen=hub.call(lambda: socket.create_server((self.at["hub"], 0))))
        self.addCleanup(bridge.close)
        env = {**(swift.s3_env(bridge.url) if scheme == "s3" else swift.swift_env(bridge.url)), "PROGRAM_STEP_MS": "100"}
        data = self.path("data")
        d = self.on("driver", [harness.MAGPIE, "driver", "--data", data, "--http", self.at["driver"] + ":0", "--listen",
                               f"tcp://{self.at['driver']}:0", "--storage", place.url, "--heartbeat", "0.2s", "--lease", "1.5s"], "driver", env)
        line = harness.wait_until(lambda: d.stdout() if d.stdout().endswith("\n") else not d.alive() and self.fail(d.stderr()))
        address = dict(f.split("=", 1) for f in line.split()[1:])
        with open(os.path.join(data, "token")) as f:
            token = f.read().strip()

        def ask(method, path, body=None):
            head = {"Authorization": "Bearer " + token}
            status, _, text = at_driver.call(lambda: harness.request(address["http"], method, "/api/v1" + path, body, head))
            return json.loads(text) if 200 <= status < 300 else None

        def work(host):
            home = self.path("home-" + host)
            os.makedirs(home)
            return self.on(host, [harness.MAGPIE, "worker", "--driver", address["nng"], "--slots", "1", "--name", host,
                                  "--scratch", os.path.join(home, "scratch")], "worker-" + host,
                           {**env, "HOME": home, "MAGPIE_TOKEN": token})

        x = ask("POST", "/experiments", self.spec())["id"]
        first = work("a")
        harness.wait_until(lambda: ((ask("GET", f"/experiments/{x}/trials/1") or {}).get("step") or 0) >= 4
                           or not first.alive() and self.fail(first.stderr()), what="four steps on host a")
        harness.wait_until(lambda: (ask("GET", f"/experiments/{x}/trials/1") or {}).get("checkpoint"), what="a checkpoint")
        first.kill()
        second = work("b")
        harness.wait_until(lambda: ask("GET", f"/experiments/{x}")["state"] == "completed" or not second.alive() and self.fail(second.stderr()),
                           what="host b to end the trial")
        points = ask("GET", f"/experiments/{x}/trials/1/metrics?limit=1000")["metrics"]
        again = [m["step"] for m in points if m["attempt"] == 2]
        self.assertGreater(min(again), 1, "host b began again")
        self.assertEqual(max(again), 10)
        self.assertFalse(os.path.exists(os.path.join(data, "storage")))

    def test_swift_another_host_goes_on_from_the_storage_alone(self):
        self.goes_on("swift")

    def test_s3_another_host_goes_on_from_the_storage_alone(self):
        self.goes_on("s3")


if __name__ == "__main__":
    places.main()
