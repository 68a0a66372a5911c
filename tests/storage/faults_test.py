#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on the way to a real server: refusals, torn and stalled transfers, lost answers, wrong credentials, full disks."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import places  # noqa: E402
import relay  # noqa: E402

PIECE = 5 << 20
SIZE = 3 * PIECE - 777
SUCH = {"MAGPIE_STORAGE_PART_MB": "5", "MAGPIE_STORAGE_PATIENCE": "20s"}


def is_data(method, path):
    """A request that carries a piece of a file."""
    return method == "PUT" and ("partNumber=" in path or ".parts/" in path or "op=CREATE" in path and "namenoderpcaddress=" in path)


class Faults(places.Case):
    def setUp(self):
        super().setUp()
        self.relay = relay.Relay()
        self.addCleanup(self.relay.close)

    def each(self):
        """(scheme, a place whose way leads through the relay) of each server."""
        for scheme in ("s3", "swift", "hdfs"):
            place = self.place(scheme)
            place.env = {**place.env, **self.relay.env(), **SUCH}
            self.relay.reset()
            yield scheme, place

    def folder(self, size=SIZE, name="from"):
        path = self.path(name, "model.bin")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        block = os.urandom(1 << 20)
        with open(path, "wb") as f:
            for i in range(0, size, len(block)):
                f.write(block[i >> 20 & 255:][:size - i])
            f.truncate(size)
        return os.path.dirname(path)

    def same(self, got, folder):
        with open(os.path.join(got, "model.bin"), "rb") as a, open(os.path.join(folder, "model.bin"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def fetch(self, place, **more):
        out = self.path("out")
        os.makedirs(out, exist_ok=True)
        return self.suite(place, "get-folder", "c/1-1", out, **more)[0].splitlines()[0]

    def test_requests_are_tried_again_after_server_errors(self):
        folder = self.folder(1000)
        for _, place in self.each():
            self.relay.reset(lambda m, p, n: ("status", (500, 503, 502, 429)[n // 4 % 4]) if n % 4 < 2 else None)
            self.suite(place, "put-folder", "c/1-1", folder)
            self.same(self.fetch(place), folder)

    def test_a_torn_upload_sends_only_the_torn_piece_again(self):
        folder = self.folder()
        for _, place in self.each():
            torn = []

            def plan(m, p, n):
                if is_data(m, p) and not torn and len([r for r in self.relay.requests if is_data(*r)]) == 2:
                    torn.append(p)
                    return ("cut-up", PIECE // 2)
                return None

            self.relay.reset(plan)
            self.suite(place, "put-folder", "c/1-1", folder)
            self.assertEqual(len(torn), 1)
            self.assertLess(self.relay.up, SIZE + PIECE + (1 << 20), "more than one piece was sent twice")
            self.relay.reset()
            self.same(self.fetch(place), folder)

    def test_a_torn_download_goes_on_where_it_broke(self):
        folder = self.folder()
        for _, place in self.each():
            self.suite(place, "put-folder", "c/1-1", folder)
            torn = []

            def plan(m, p, n):
                if m == "GET" and "model.bin" in p and ("s3" in place.url or "swift" in place.url or "namenoderpcaddress" in p) and len(torn) < 2:
                    torn.append(p)
                    return ("cut-down", SIZE // 3)
                return None

            self.relay.reset(plan)
            self.same(self.fetch(place), folder)
            self.assertEqual(len(torn), 2)
            self.assertLess(self.relay.down, SIZE + (2 << 20), "bytes came twice")

    def test_bytes_damaged_on_the_way_are_sent_again(self):
        folder = self.folder()
        for scheme, place in self.each():
            # A request may end before its byte comes by: the next one is damaged then.
            self.relay.reset(lambda m, p, n: ("flip", 1234567) if is_data(m, p) and self.relay.flips == 0 else None)
            self.suite(place, "put-folder", "c/1-1", folder)
            self.assertEqual(self.relay.flips, 1, scheme)
            self.assertGreater(self.relay.up, SIZE + PIECE - 1000, f"{scheme} took it as it came")
            self.relay.reset()
            self.same(self.fetch(place), folder)

    def test_lost_answers_do_no_harm(self):
        folder = self.folder()
        for _, place in self.each():
            seen = set()

            def plan(m, p, n):
                if m in ("PUT", "POST", "DELETE") and (m, p) not in seen and len(seen) < 12:
                    seen.add((m, p))
                    return ("lose",)
                return None

            self.relay.reset(plan)
            self.suite(place, "put-folder", "c/1-1", folder)
            self.assertGreater(len(seen), 2)
            self.relay.reset()
            self.same(self.fetch(place), folder)
            seen.clear()
            self.relay.reset(plan)
            self.suite(place, "remove", "c/1-1")
            self.relay.reset()
            self.assertEqual(self.suite(place, "list", "c")[0].splitlines()[0].strip(), "")

    def test_a_stalled_server_is_left_and_asked_again(self):
        folder = self.folder(1000)
        for _, place in self.each():
            self.relay.reset(lambda m, p, n: ("stall",) if n == 1 else None)
            self.suite(place, "put-folder", "c/1-1", folder, env={"MAGPIE_STORAGE_STALL": "1s"})
            self.assertGreater(len(self.relay.requests), 2)

    def test_patience_ends_and_says_what_was_tried(self):
        for _, place in self.each():
            self.relay.reset(lambda m, p, n: ("status", 503))
            out, _ = self.suite(place, "put", "a", "x", env={"MAGPIE_STORAGE_PATIENCE": "1s"}, status=1)
            self.assertRegex(out, r"^timeout .*(PUT|GET) http://.* answered 503.*\d tries")
            self.assertGreater(len(self.relay.requests), 2)
            out, _ = self.suite(place, "put", "a", "x", env={"http_proxy": "http://127.0.0.1:1", "MAGPIE_STORAGE_PATIENCE": "500ms"}, status=1)
            self.assertRegex(out, r"^timeout .*is the server up.*tries")

    def test_a_killed_upload_leaves_nothing_that_counts(self):
        folder = self.folder()
        for _, place in self.each():
            self.suite(place, "put-folder", "c/1-1", folder, env={"MAGPIE_FAULTS": "storage.piece:2=kill"}, status=-9)
            self.assertIn("not-found", self.suite(place, "get-folder", "c/1-1", self.path("x"), status=1)[0])
            self.assertEqual(self.suite(place, "list", "c")[0].splitlines()[0].split(), ["1-1/"], "it can be found")
            self.suite(place, "put-folder", "c/1-1", folder)
            self.same(self.fetch(place), folder)
            self.suite(place, "put-folder", "c/2-1", folder, env={"MAGPIE_FAULTS": "storage.piece:2=kill"}, status=None)
            self.suite(place, "remove", "c/2-1")
            self.suite(place, "remove", "c/1-1")
            self.assertEqual(self.suite(place, "list", "c")[0].splitlines()[0].split(), [], "and removed, pieces included")

    def test_memory_is_bounded(self):
        folder = self.folder(96 << 20)
        for scheme in places.SCHEMES:
            place = self.place(scheme)
            os.makedirs(self.path("out"), exist_ok=True)
            for what in (("put-folder", "c/1-1", folder), ("get-folder", "c/1-1", self.path("out"))):
                out, _ = self.suite(place, *what)
                self.assertLess(int(re.search(r"rss_kb=(\d+)", out).group(1)), 64 << 10, f"{scheme}: {out}")
            shutil.rmtree(self.path("out"))
            self.suite(place, "remove", "c")


class Access(places.Case):
    """Who we are, where the server is, and what is said when that is wrong."""

    def refused(self, place, env, *words, secret=None):
        env = {"MAGPIE_STORAGE_PATIENCE": "1s", **env}
        out, err = self.suite(place, "put", "a", "x", env=env, status=1)
        for word in words:
            self.assertIn(word, out)
        if secret:
            self.assertNotIn(secret, out + err)

    def test_s3_refusals_name_the_variable(self):
        p = self.place("s3")
        self.refused(p, {"AWS_SECRET_ACCESS_KEY": "not-that-one"}, "AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch", secret="not-that-one")
        self.refused(p, {"AWS_ACCESS_KEY_ID": "magpie:nobody"}, "403", "AWS_")
        p.url = p.url.replace("magpie-s3", "no-such-bucket")
        self.refused(p, {}, "NoSuchBucket", "make the bucket first")
        if shutil.which("faketime") is None:
            self.skipTest("faketime is not installed")
        out, _ = self.suite(self.place("s3"), "put", "a", "x", status=1, prefix=["faketime", "-f", "-2h"])
        self.assertRegex(out, "clock is .*behind|clock is wrong")

    def test_swift_refusals_name_the_variable(self):
        p = self.place("swift")
        self.refused(p, {"ST_KEY": "not-that-one"}, "401", "ST_KEY", secret="not-that-one")
        self.refused(p, {"ST_USER": "magpie:reader", "ST_KEY": "readonly"}, "403", "rights")
        p.url = p.url.replace("swift://magpie", "swift://no-such")
        self.refused(p, {}, "404", 'is there a container "no-such"?')

    def test_hdfs_refusals_name_the_variable(self):
        p = self.place("hdfs")
        self.suite(p, "put", "a", "x")
        self.refused(p, {"HADOOP_USER_NAME": "stranger"}, "403", "AccessControlException", "MAGPIE_HDFS_USER")
        port = places.server("hdfs").rpc
        self.refused(places.Place(f"hdfs://localhost:{port}/x", p.env), {}, "9870")

    def test_hdfs_sends_a_delegation_token_instead_of_a_name(self):
        # A cluster without Kerberos takes the token and does not look at it, so anybody may write here.
        s = places.server("hdfs")
        p = self.place("hdfs")
        self.suite(p, "put", "a", "x")
        path = "/" + p.url.split("/", 3)[3]
        self.assertEqual(s.call("PUT", path, "op=SETPERMISSION&permission=777")[0], 200)
        token = harness.json.loads(s.call("GET", "/", "op=GETDELEGATIONTOKEN&renewer=magpie")[2])["Token"]["urlString"]
        r = relay.Relay()
        self.addCleanup(r.close)
        self.suite(p, "put", "b", "y", env={"MAGPIE_HDFS_DELEGATION_TOKEN": token, **r.env()})
        self.assertTrue(all("delegation=" in path and "user.name" not in path for _, path in r.requests if "op=RENAME" in path))
        out, err = self.suite(places.Place(p.url + "/b/c", p.env), "put", "z", "y", env={"MAGPIE_HDFS_DELEGATION_TOKEN": token}, status=1)
        self.assertNotIn(token, out + err)

    def test_hdfs_asks_the_next_namenode(self):
        p, s = self.place("hdfs"), places.server("hdfs")
        self.suite(p, "put", "a", "x")
        env = {"MAGPIE_WEBHDFS_ENDPOINT": f"http://127.0.0.1:1,http://localhost:{s.port}"}
        self.assertEqual(self.suite(p, "get", "a", env=env)[0].splitlines()[0], "x")

    def test_credentials_come_from_files(self):
        p = self.place("s3")
        keys = {k: p.env.pop(k) for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        home = self.path("home")
        self.write("home/.aws/credentials", "[default]\naws_access_key_id = other\n\n[lab]\naws_access_key_id = %s\naws_secret_access_key=%s\n"
                   % tuple(keys.values()))
        self.suite(p, "put", "a", "x", env={"HOME": home, "AWS_PROFILE": "lab"})
        self.refused(p, {"HOME": home}, "~/.aws/credentials")
        for scheme, extra in (("s3", {"HOME": self.tmp}), ("swift", {})):
            p = self.place(scheme)
            file = self.write(scheme + ".env", "# ours\n" + "".join(f"export {k}='{v}'\n" for k, v in p.env.items()))
            p.env = {"MAGPIE_STORAGE_CREDENTIALS": file, **extra}
            self.suite(p, "put", "a", "x")
        self.refused(p, {"MAGPIE_STORAGE_CREDENTIALS": self.write("bad.env", "ST_KEY\n")}, "bad.env:1: expected NAME=VALUE")
        self.refused(p, {"MAGPIE_STORAGE_CREDENTIALS": self.path("none")}, "MAGPIE_STORAGE_CREDENTIALS")

    def test_certificates_are_verified(self):
        s = places.server("swift")
        cert, context = relay.self_signed(self.tmp, self.openssl)
        r = relay.Relay(s.url(), tls=context)
        self.addCleanup(r.close)
        p = self.place("s3")
        p.env["MAGPIE_S3_ENDPOINT"] = r.url
        self.refused(p, {}, "certificate", "MAGPIE_CA_BUNDLE")
        self.suite(p, "put", "a", "x", env={"MAGPIE_CA_BUNDLE": cert})


class Folders(places.Case):
    """The `file` scheme where a folder cannot take everything."""

    def inside(self, script, *args):
        """`script` in a mount namespace of its own, so that it may mount."""
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            self.skipTest("mount namespaces are not permitted here")
        p = self.start(["unshare", "-m", "sh", "-euc", script, "sh", places.SUITE, *args], "inside")
        p.wait()
        return p.stdout() + p.stderr()

    def test_a_full_disk_is_named_and_harms_nothing(self):
        os.makedirs(self.path("disk"))
        os.makedirs(self.path("from"))
        self.write("from/big", "x" * (3 << 20))
        self.write("small/one", "1")
        said = self.inside(
            'mount -t tmpfs -o size=2m none "$2"\n'
            '"$1" "$2" put-folder c/1-1 "$3/small"\n'
            'if "$1" "$2" put-folder c/2-1 "$3/from"; then exit 1; fi\n'
            'if "$1" "$2" get-folder c/2-1 /nowhere; then exit 1; fi\n'
            '"$1" "$2" remove c/2-1\n"$1" "$2" get-folder c/1-1 /nowhere\necho all well\n', self.path("disk"), self.tmp)
        self.assertIn("all well", said)
        self.assertIn("No space left on device", said)
        self.assertIn("not-found", said)

    def test_a_read_only_folder_is_named(self):
        os.makedirs(self.path("disk"))
        said = self.inside('mount -t tmpfs none "$2"\n"$1" "$2/s" claim u1\nmount -o remount,ro "$2"\n'
                           'if "$1" "$2/s" put a x; then exit 1; fi\nif "$1" "$2/s" check u1; then exit 1; fi\necho all well\n', self.path("disk"))
        self.assertIn("all well", said)
        self.assertIn("mounted read-only on this host", said)
        self.assertIn("cannot write to", said)


if __name__ == "__main__":
    places.main()
