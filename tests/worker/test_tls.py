#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Workers and drivers over TLS: who may be trusted, who is not, and what a death changes."""
import json
import os
import socket
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
SPEC = {"name": "tls", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
        "searchspace": {"mode": {"type": "CATEGORICAL", "values": ["steps"]}, "x": ["DOUBLE", [0.0, 1.0]]},
        "optimizer": {"algorithm": "random"}, "resource": {"min": 5, "max": 5}, "limits": {"trials": 6},
        "trial": {"executor": [sys.executable, PROGRAM, "executor"]}}


class Tls(harness.Case):
    def certificate(self, host="localhost", name="own"):
        cert, key = self.path(name + "-cert.pem"), self.path(name + "-key.pem")
        made = self.start(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=" + host,
                           "-addext", "subjectAltName=DNS:" + host + ",IP:127.0.0.1", "-keyout", key, "-out", cert])
        self.assertEqual(made.wait(), 0, made.stderr())
        os.chmod(key, 0o600)
        return cert, key

    def secured(self, cert, key):
        """A driver, and its address for workers by name."""
        d = self.driver("--tls-cert", cert, "--tls-key", key, "--heartbeat", "0.2s", "--lease", "1s", listen="tls+tcp://127.0.0.1:0")
        self.assertTrue(d.nng.startswith("tls+tcp://127.0.0.1:"), d.nng)
        return d, d.nng.replace("127.0.0.1", "localhost")

    def ask(self, d, cert, *line):
        env = {"MAGPIE_CA_BUNDLE": cert}
        return self.magpie(*line, "--url", d.http, "--data", d.data, env=env).stdout()

    def join(self, d, url, *flags, env=None):
        return self.worker(d, *flags, url=url, env={"MAGPIE_TOKEN": d.token(), "PROGRAM_STEP_MS": "50", **(env or {})})

    def state(self, d, cert):
        return json.loads(self.ask(d, cert, "show", "1", "--json"))

    def says(self, w, text):
        harness.wait_until(lambda: text in w.stderr(), None, f"the worker to say {text!r}")

    def test_a_search_runs_over_tls_and_outlives_its_driver(self):
        cert, key = self.certificate()
        d, url = self.secured(cert, key)
        self.ask(d, cert, "submit", self.write("spec.json", SPEC))
        w = self.join(d, url, "--ca", cert)
        harness.wait_until(lambda: self.state(d, cert)["counts"]["completed"] >= 2, None, "two trials to complete")
        d.kill()
        d = d.restart()
        harness.wait_until(lambda: self.state(d, cert)["state"] == "completed", None, "the search to complete")
        counts = self.state(d, cert)["counts"]
        self.assertEqual((counts["completed"], counts["failed"]), (6, 0))
        self.assertEqual(w.stop(), 0)

    def test_what_a_worker_sends_cannot_be_read_on_the_way(self):
        import wiretap
        cert, key = self.certificate()
        d, url = self.secured(cert, key)
        with wiretap.Wiretap(urllib.parse.urlsplit(d.nng).port) as tap:
            w = self.join(d, f"tls+tcp://localhost:{tap.port}", "--ca", cert)
            self.says(w, "connected")
            w.stop()
            seen = bytes(tap.seen)
        self.assertGreater(len(seen), 500)
        self.assertNotIn(b"hello", seen)
        self.assertNotIn(d.token().encode(), seen)

    def test_a_certificate_that_is_not_trusted_is_said_and_gets_no_token(self):
        cert, key = self.certificate()
        other, _ = self.certificate(name="other")
        d, url = self.secured(cert, key)
        for flags, env in (((), None), (("--ca", other), None), ((), {"MAGPIE_CA_BUNDLE": other})):
            w = self.join(d, url, *flags, env=env)
            self.says(w, "its certificate is not signed by whom --ca or this system trusts")
            self.assertNotIn("connected", w.stderr())
            w.stop()

    def test_a_certificate_for_another_host_is_not_taken(self):
        cert, key = self.certificate("elsewhere.example")
        d, url = self.secured(cert, key)
        w = self.join(d, url, "--ca", cert)
        self.says(w, "or is not for the host name in the address")
        w.stop()

    def test_a_worker_without_tls_gets_nowhere(self):
        cert, key = self.certificate()
        d, _ = self.secured(cert, key)
        w = self.join(d, d.nng.replace("tls+tcp", "tcp"))
        self.says(w, "driver-unreachable")
        self.assertNotIn("connected", w.stderr())
        w.stop()

    def test_bytes_that_are_no_tls_do_not_harm_the_driver(self):
        cert, key = self.certificate()
        d, url = self.secured(cert, key)
        port = urllib.parse.urlsplit(d.nng).port
        for data in (b"\x00SP\x00\x00\x30\x00\x00", b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\x16\x03\x01\xff\xff" + b"a" * 70000):
            with socket.create_connection(("127.0.0.1", port)) as s:
                s.settimeout(20)
                try:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:
                    pass  # it was thrown out
        w = self.join(d, url, "--ca", cert)
        self.says(w, "connected")
        w.stop()

    def refused(self, *flags, listen="tls+tcp://127.0.0.1:0"):
        p = self.magpie("driver", "--data", self.path("refused"), "--http", "127.0.0.1:0", "--listen", listen, *flags, status=None)
        self.assertEqual(p.p.returncode, 2, p.stderr())
        return p.stderr()

    def test_what_is_wrong_with_the_files_is_said_at_the_start(self):
        cert, key = self.certificate()
        self.assertIn("TLS wants --tls-cert FILE and --tls-key FILE", self.refused())
        self.assertIn("No such file", self.refused("--tls-cert", self.path("none.pem"), "--tls-key", key))
        self.assertIn("is no PEM file", self.worker_refused("--ca", self.write("text.pem", "hello")))
        self.assertIn("No such file", self.worker_refused("--ca", self.path("none.pem")))
        self.assertIn("not a valid one", self.worker_refused("--ca", self.write("bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")))

    def worker_refused(self, *flags):
        p = self.start([harness.MAGPIE, "worker", "--driver", "tls+tcp://localhost:9", *flags])
        self.assertEqual(p.wait(), 2, p.stderr())
        return p.stderr()

    def test_the_system_s_certificates_are_taken_without_ca(self):
        w = self.start([harness.MAGPIE, "worker", "--driver", "tls+tcp://localhost:9"])
        self.says(w, "driver-unreachable")
        self.assertEqual(w.stop(), 0)


if __name__ == "__main__":
    harness.main()
