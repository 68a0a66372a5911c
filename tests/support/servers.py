# SPDX-License-Identifier: Apache-2.0
"""Real storage servers for the tests, as processes of the test on loopback ports in a temporary folder:

    swift = Swift(folder)         # OpenStack Swift with TempAuth, SLO and its S3 face
    hdfs = Hdfs(folder)           # a namenode and a datanode with WebHDFS
    swift.stop(); hdfs.stop()

Each raises Unavailable with the reason when this machine has not what it takes.
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(__file__))
import harness


class Unavailable(Exception):
    pass


def free_ports(n, host="127.0.0.1"):
    """Ports that were free a moment ago; all different."""
    socks = [socket.socket() for _ in range(n)]
    try:
        for s in socks:
            s.bind((host, 0))
        return [s.getsockname()[1] for s in socks]
    finally:
        for s in socks:
            s.close()


def answers(url, path="/", timeout=2.0):
    """Does an HTTP server answer there, whatever it says?"""
    u = urllib.parse.urlsplit(url)
    try:
        c = http.client.HTTPConnection(u.hostname, u.port, timeout=timeout)
        try:
            c.request("GET", path)
            return c.getresponse().status
        finally:
            c.close()
    except (OSError, http.client.HTTPException):
        return None


class Group:
    """Processes that end together."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        os.makedirs(folder, exist_ok=True)

    def start(self, argv, name, env=None):
        p = harness.Process(argv, self.folder, name, env, cwd=self.folder)
        self.processes.append(p)
        harness.SPARED.add(p.pid)
        return p

    def stop(self):
        for p in self.processes:
            p.signal(signal.SIGKILL)
        for p in self.processes:
            p.wait()
            harness.SPARED.discard(p.pid)
        self.processes = []

    def tails(self):
        return "\n".join(f"{p.name}: {(p.stderr() + p.stdout())[-600:]}" for p in self.processes)

    def wait(self, condition, what, timeout=90):
        def alive_and_ready():
            dead = [p.name for p in self.processes if not p.alive()]
            if dead:
                raise Unavailable(f"{', '.join(dead)} ended at once: {self.tails()}")
            return condition()

        try:
            harness.wait_until(alive_and_ready, timeout * float(os.environ.get("MAGPIE_TEST_PATIENCE", "1")), what, every=0.05)
        except harness.Timeout as t:
            raise Unavailable(f"{t}: {self.tails()}") from None


# ---- OpenStack Swift ----

SERVER_CONF = """[DEFAULT]
devices = {folder}/devices
mount_check = false
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
recon_cache_path = {folder}/cache
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY_CONF = """[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_magpie_tester = {key} .admin
user_magpie_reader = readonly .reseller_reader
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
check_bucket_owner = false
[filter:slo]
use = egg:swift#slo
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = {host}:{cache}
"""


class Swift(Group):
    USER, KEY = "magpie:tester", "testing"

    def __init__(self, folder, host="127.0.0.1"):
        super().__init__(folder)
        for program in ("swift-ring-builder", "swift-proxy-server", "swift-account-server", "memcached"):
            if shutil.which(program) is None:
                raise Unavailable(f"{program} is not installed (Debian: swift, swift-proxy, swift-account, "
                                  "swift-container, swift-object, memcached)")
        self.host = host
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _ring(self, kind, port):
        file = os.path.join(self.folder, kind + ".builder")
        for args in (["create", "4", "1", "1"], ["add", f"r1z1-{self.host}:{port}/d1", "1"], ["rebalance"]):
            r = subprocess.run(["swift-ring-builder", file, *args], capture_output=True, text=True, cwd=self.folder)
            if r.returncode > 1:
                raise Unavailable(f"swift-ring-builder: {r.stdout}{r.stderr}")

    def _start(self):
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        ports = dict(zip(("account", "container", "object", "proxy", "cache"), free_ports(5, self.host)))
        self.port, self.cache_port = ports["proxy"], ports["cache"]
        os.makedirs(os.path.join(self.folder, "devices", "d1"), exist_ok=True)
        os.makedirs(os.path.join(self.folder, "cache"), exist_ok=True)
        env = {"PYTHONUNBUFFERED": "1",
               "PYTHONWARNINGS": "ignore"}
        values = {"folder": self.folder, "host": self.host, "user": user, "key": self.KEY, "cache": ports["cache"]}
        self.start(["memcached", "-l", self.host, "-p", str(ports["cache"]), "-U", "0", "-u", user], "memcached")
        for kind in ("account", "container", "object"):
            self._ring(kind, ports[kind])
        for kind in ("account", "container", "object", "proxy"):
            path = os.path.join(self.folder, kind + ".conf")
            with open(path, "w") as f:
                f.write((PROXY_CONF if kind == "proxy" else SERVER_CONF).format(port=ports[kind], kind=kind, **values))
            self.start([shutil.which(f"swift-{kind}-server"), path, "--verbose"], f"swift-{kind}", env)
        self.wait(lambda: answers(self.url(), "/healthcheck") is not None, "Swift's proxy to answer")
        self.wait(lambda: self._token(), "Swift to know its user")

    def url(self):
        return f"http://{self.host}:{self.port}"

    def auth_url(self):
        return self.url() + "/auth/v1.0"

    def _token(self):
        try:
            status, headers, _ = harness.request(self.url(), "GET", "/auth/v1.0",
                                                 headers={"X-Auth-User": self.USER, "X-Auth-Key": self.KEY}, timeout=10)
        except OSError:
            return None
        return (headers["X-Storage-Url"], headers["X-Auth-Token"]) if status == 200 else None

    def call(self, method, path, body=None, headers=None):
        """A request below the account; (status, headers, bytes)."""
        root, token = self._token()
        u = urllib.parse.urlsplit(root)
        return harness.request(self.url(), method, u.path + path, body, {"X-Auth-Token": token, **(headers or {})})

    def make_container(self, name):
        harness.wait_until(lambda: self.call("PUT", "/" + name)[0] in (201, 202), what="a container")

    def objects(self, container):
        return json.loads(self.call("GET", f"/{container}?format=json")[2] or b"[]")

    def swift_env(self, proxy=None):
        auth = self.auth_url()
        return {"ST_AUTH": auth if proxy is None else auth.replace(self.url(), proxy), "ST_USER": self.USER,
                "ST_KEY": self.KEY}

    def s3_env(self, proxy=None):
        return {"MAGPIE_S3_ENDPOINT": proxy or self.url(), "AWS_ACCESS_KEY_ID": self.USER,
                "AWS_SECRET_ACCESS_KEY": self.KEY, "AWS_REGION": "us-east-1"}


# ---- HDFS ----

class Hdfs(Group):
    def __init__(self, folder, options=()):
        super().__init__(folder)
        java = shutil.which("java")
        if java is None:
            raise Unavailable("java is not installed (Debian: default-jre-headless)")
        r = subprocess.run([os.path.join(harness.ROOT, "tools", "fetch-hadoop")], capture_output=True, text=True)
        if r.returncode != 0:
            raise Unavailable("Hadoop cannot be had: " + (r.stderr.strip().splitlines() or ["tools/fetch-hadoop failed"])[-1])
        jars = r.stdout.strip()
        self.rpc, self.port = free_ports(2)
        try:
            self.start([java, "-Xmx384m", "-Djava.net.preferIPv4Stack=true", "-Dhadoop.root.logger=WARN,console", "-cp",
                        os.path.join(jars, "*"), "org.apache.hadoop.test.MiniDFSClusterManager", "-format",
                        "-nnport", str(self.rpc), "-httpport", str(self.port), "-datanodes", "1",
                        "-D", "test.build.data=" + os.path.join(self.folder, "data"),
                        "-D", "dfs.permissions.enabled=true",
                        *[x for o in options for x in ("-D", o)]], "hdfs", {"HADOOP_USER_NAME": "magpie"})
            self.wait(self._ready, "HDFS to take files")
        except BaseException:
            self.stop()
            raise

    def url(self):
        return f"http://localhost:{self.port}"

    def call(self, method, path, query, user="magpie", body=None):
        return harness.request(self.url(), method, f"/webhdfs/v1{path}?user.name={user}&{query}", body)

    def _ready(self):
        if answers(self.url(), "/webhdfs/v1/?op=GETFILESTATUS") != 200:
            return False
        with contextlib.suppress(OSError):
            status, headers, _ = self.call("PUT", "/ready", "op=CREATE&overwrite=true")
            if status == 307:
                u = urllib.parse.urlsplit(headers["Location"])
                return harness.request(f"{u.scheme}://{u.netloc}", "PUT", f"{u.path}?{u.query}", b"x")[0] == 201
        return False

    def hdfs_env(self):
        return {"HADOOP_USER_NAME": "magpie"}
