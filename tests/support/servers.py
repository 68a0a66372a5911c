# SPDX-License-Identifier: Apache-2.0
"""Real storage servers for the tests, as processes of the test on loopback ports in a temporary folder:

    swift = Swift(folder)         # OpenStack Swift with TempAuth, SLO and its S3 face
    keystone = Keystone(folder)   # OpenStack Keystone; KeystoneSwift(folder) is a Swift that asks one
    hdfs = Hdfs(folder)           # a namenode and a datanode with WebHDFS
    swift.stop(); hdfs.stop()

Each raises Unavailable with the reason when this machine has not what it takes.
"""
import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
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
pipeline = catch_errors cache {auth} slo proxy-server
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
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = swift
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
memcached_servers = {host}:{cache}
token_cache_time = 300
delay_auth_decision = true
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = member
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
    AUTH = "s3api tempauth"

    def __init__(self, folder, host="127.0.0.1", keystone=None):
        super().__init__(folder)
        self.keystone = keystone
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
        values = {"folder": self.folder, "host": self.host, "user": user, "key": self.KEY, "cache": ports["cache"],
                  "auth": self.AUTH, "keystone": self.keystone.url() if self.keystone else ""}
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


class KeystoneSwift(Swift):
    """Swift behind Keystone: user "magpie" of project "research" may write, "guest" has no role in it."""
    AUTH = "authtoken keystoneauth"
    PASSWORD = "a pass word"

    def __init__(self, folder, life=3600):
        try:
            import_check = subprocess.run(["/usr/bin/python3", "-c", "import keystonemiddleware"], capture_output=True)
        except OSError as e:
            raise Unavailable(str(e)) from None
        if import_check.returncode != 0:
            raise Unavailable("keystonemiddleware is not installed (Debian: python3-keystonemiddleware)")
        os.makedirs(folder, exist_ok=True)
        keystone = Keystone(os.path.join(folder, "keystone"), life)
        try:
            keystone.add_user("swift", "secret", "service", "admin")
            self.user_id, self.project_id = keystone.add_user("magpie", self.PASSWORD, "research", "member")
            keystone.add_user("guest", self.PASSWORD, "elsewhere", "member")
            super().__init__(folder, keystone=keystone)
            self.service = keystone.add_store(self.root())
        except BaseException:
            keystone.stop()
            raise

    def root(self):
        return f"{self.url()}/v1/AUTH_{self.project_id}"

    def _token(self):
        token, _ = self.keystone.token("magpie", self.PASSWORD, "research")
        return self.root(), token

    def env(self, **changed):
        """OS_* of the user; None takes one away."""
        values = {"OS_AUTH_URL": self.keystone.url(), "OS_USERNAME": "magpie", "OS_PASSWORD": self.PASSWORD,
                  "OS_PROJECT_NAME": "research", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", **changed}
        return {k: v for k, v in values.items() if v is not None}

    def stop(self):
        super().stop()
        if self.keystone is not None:
            self.keystone.stop()


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


# ---- OpenStack Keystone ----

KEYSTONE_CONF = """[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{folder}/keystone.db?timeout=300
sqlite_synchronous = false
[token]
provider = fernet
expiration = {life}
[fernet_tokens]
key_repository = {folder}/keys
[credential]
key_repository = {folder}/keys
[identity]
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
"""


class Keystone(Group):
    """Identity v3 with fernet tokens that live for `life` seconds; an administrator, region "here"."""
    PASSWORD = "secret"

    def __init__(self, folder, life=3600, host="127.0.0.1"):
        super().__init__(folder)
        for program in ("keystone-manage", "keystone-wsgi-public"):
            if shutil.which(program) is None:
                raise Unavailable(f"{program} is not installed (Debian: python3-keystone)")
        self.host, (self.port,) = host, free_ports(1, host)
        self.conf = os.path.join(self.folder, "keystone.conf")
        os.mkdir(os.path.join(self.folder, "keys"), 0o700)
        for name in ("0", "1"):
            with open(os.path.join(self.folder, "keys", name), "wb") as f:
                f.write(base64.urlsafe_b64encode(os.urandom(32)))
        with open(self.conf, "w") as f:
            f.write(KEYSTONE_CONF.format(folder=self.folder, life=life))
        face = [x for kind in ("admin", "internal", "public") for x in (f"--bootstrap-{kind}-url", self.url())]
        self._manage("db_sync")
        # A reader that is not done must not hold a writer up.
        sqlite3.connect(os.path.join(self.folder, "keystone.db")).execute("PRAGMA journal_mode=WAL").connection.close()
        self._manage("bootstrap", "--bootstrap-password", self.PASSWORD, "--bootstrap-region-id", "here", *face)
        try:
            self.start(["/usr/bin/python3", shutil.which("keystone-wsgi-public"), "--host", host, "--port", str(self.port)],
                       "keystone", {"OS_KEYSTONE_CONFIG_FILES": self.conf, "PYTHONWARNINGS": "ignore"})
            self.wait(lambda: answers(self.url()) is not None, "Keystone to answer")
        except BaseException:
            self.stop()
            raise

    def _manage(self, *args):
        r = subprocess.run(["keystone-manage", "--config-file", self.conf, *args], capture_output=True, text=True)
        if r.returncode != 0:
            raise Unavailable(f"keystone-manage {args[0]}: {r.stderr[-600:]}")

    def url(self):
        return f"http://{self.host}:{self.port}/v3"

    def token(self, user="admin", password=PASSWORD, project="admin"):
        """(token, project's id)"""
        default = {"id": "default"}
        status, headers, body = harness.request(self.url()[:-3], "POST", "/v3/auth/tokens", {"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": user, "domain": default, "password": password}}},
            "scope": {"project": {"name": project, "domain": default}}}}, timeout=300)
        if status != 201:
            raise Unavailable(f"Keystone gave no token: {body[:300]}")
        return headers["X-Subject-Token"], json.loads(body)["token"]["project"]["id"]

    def call(self, method, path, body=None, token=None):
        status, _, text = harness.request(self.url()[:-3], method, "/v3" + path, body, {"X-Auth-Token": token or self.token()[0]},
                                         timeout=300)
        if status >= 300:
            raise Unavailable(f"Keystone: {method} {path}: {status} {text[:300]}")
        return json.loads(text) if text else None

    def add_user(self, name, password, project, role):
        """A user with that role in a project; both are made where they lack."""
        found = self.call("GET", f"/projects?name={project}")["projects"]
        p = found[0] if found else self.call("POST", "/projects", {"project": {"name": project, "domain_id": "default"}})["project"]
        u = self.call("POST", "/users", {"user": {"name": name, "password": password, "domain_id": "default",
                                                  "default_project_id": p["id"]}})["user"]
        found = self.call("GET", f"/roles?name={role}")["roles"]
        r = found[0] if found else self.call("POST", "/roles", {"role": {"name": role}})["role"]
        self.call("PUT", f"/projects/{p['id']}/users/{u['id']}/roles/{r['id']}")
        return u["id"], p["id"]

    def add_store(self, url, region="here"):
        service = self.call("POST", "/services", {"service": {"name": "swift", "type": "object-store"}})["service"]
        if region != "here":
            self.call("POST", "/regions", {"region": {"id": region}})
        self.add_endpoint(service["id"], "public", url, region)
        return service["id"]

    def add_endpoint(self, service, interface, url, region="here"):
        self.call("POST", "/endpoints", {"endpoint": {"interface": interface, "url": url, "service_id": service,
                                                      "region_id": region}})
