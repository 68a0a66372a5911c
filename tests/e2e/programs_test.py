# SPDX-License-Identifier: Apache-2.0
"""The programs as built and as installed: what they link, where they look for each other, the examples, ./quickstart."""
import glob
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness


class Links(harness.Case):
    def test_the_driver_links_no_training_library(self):
        out = subprocess.run(["ldd", harness.MAGPIE], check=True, capture_output=True, text=True).stdout
        self.assertIn("libsqlite3", out)
        for name in ("dnnl", "openblas", "cuda", "cudnn", "cublas", "nccl", "mpi", "gomp"):
            self.assertNotRegex(out, rf"(?m)^\s*lib{name}")

    def test_the_trainer_links_no_service_library(self):
        trainer = json.loads(self.magpie("version", "--json").stdout()).get("trainer")
        if trainer is None:
            self.skipTest("this build has no built-in trainer")
        out = subprocess.run(["ldd", trainer], check=True, capture_output=True, text=True).stdout
        for name in ("nng", "sqlite3", "event"):  # libcurl is storage/'s, for data sets in S3, Swift and HDFS
            self.assertNotRegex(out, rf"(?m)^\s*lib{name}")


class Installed(harness.Case):
    def install(self):
        root = self.path("root")
        r = subprocess.run(["meson", "install", "-C", harness.BUILD, "--no-rebuild", "--destdir", root], capture_output=True,
                           text=True)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        found = [p for p in glob.glob(root + "/**/bin/magpie", recursive=True)]
        self.assertEqual(len(found), 1, found)
        return os.path.dirname(os.path.dirname(found[0]))

    def test_an_installed_magpie_runs_a_search(self):
        prefix = self.install()
        for name in ("lib/systemd/system/magpie-driver.service", "lib/systemd/system/magpie-worker@.service",
                     "share/magpie/examples/quadratic.json", "share/doc/magpie/README.md"):
            self.assertTrue(os.path.exists(os.path.join(prefix, name)), name)
        with open(os.path.join(prefix, "lib/systemd/system/magpie-driver.service")) as f:
            unit = f.read()
        self.assertRegex(unit, r"(?m)^ExecStart=/\S+/bin/magpie driver --data ")
        self.assertNotIn("@", unit.replace("magpie-worker@", ""))
        magpie = os.path.join(prefix, "bin", "magpie")
        p = self.start([magpie, "version", "--json"])
        self.assertEqual(p.wait(), 0)
        v = json.loads(p.stdout())
        if json.loads(self.magpie("version", "--json").stdout()).get("trainer"):
            self.assertEqual(v["trainer"], os.path.join(prefix, "bin", "../libexec/magpie/magpie-trainer"))
        p = self.start([magpie, "run", "examples/quadratic.json", "--workers", "2", "--http", "127.0.0.1:0", "--data",
                        self.path("data"), "--json"], cwd=os.path.join(prefix, "share", "magpie"))
        self.assertEqual(p.wait(90), 0, p.stderr())
        self.assertEqual(json.loads(p.stdout())["counts"]["completed"], 30)

    def test_the_units_are_sound(self):
        if subprocess.run(["sh", "-c", "command -v systemd-analyze"], capture_output=True).returncode != 0:
            self.skipTest("no systemd here")
        prefix = self.install()
        for unit in ("magpie-driver.service", "magpie-worker@.service"):
            path = os.path.join(prefix, "lib/systemd/system", unit)
            r = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
            bad = [line for line in r.stderr.splitlines() if "magpie" in line and "is not executable" not in line]
            self.assertEqual(bad, [])


class Examples(harness.Case):
    def test_every_example_is_sound_and_has_a_plan(self):
        files = sorted(glob.glob(os.path.join(harness.ROOT, "examples", "*.json")))
        self.assertGreaterEqual(len(files), 5)
        for f in files:
            with self.subTest(file=os.path.basename(f)):
                if os.path.basename(f) == "sparkflow-mnist.json":
                    continue  # its CSV file is made first: tests/e2e/ranks_test.py does, and runs it
                with open(f) as text:
                    if "idx:" in text.read() and not os.path.isdir("/usr/share/datasets/fashion-mnist"):
                        continue  # its data set is a package of its own
                self.magpie("validate", f, cwd=harness.ROOT)  # their paths are seen from here
                self.magpie("plan", f)

    def test_the_quick_ones_run(self):
        for name, best in (("quadratic", None), ("asha-command", 27), ("grid", None), ("flowers", None), ("tickets", None), ("two-objectives", None)):
            with self.subTest(example=name):
                p = self.magpie("run", f"examples/{name}.json", "--workers", "2", "--http", "127.0.0.1:0", "--data",
                                self.path(name), "--json", cwd=harness.ROOT, timeout=90)
                r = json.loads(p.stdout())
                self.assertEqual(r["state"], "completed")
                self.assertGreaterEqual(r["best"]["value"], 0)
                if best is not None:
                    self.assertEqual(r["best"]["step"], best)
                if name == "grid":
                    self.assertEqual(r["best"]["params"], {"x": 3, "y": -1})


class Quickstart(harness.Case):
    def test_it_ends_with_board_best_and_what_to_try_next(self):
        p = self.start([os.path.join(harness.ROOT, "quickstart"), "--no-install", "--build", harness.BUILD, "--data",
                        self.path("data"), "--http", "127.0.0.1:0", "--experiment", "examples/asha-command.json"],
                       "quickstart", env={"CI": "true"})
        self.assertEqual(p.wait(120), 0, p.stdout() + p.stderr())
        out = p.stdout()
        self.assertRegex(out, r"(?m)^board: http://127\.0\.0\.1:\d+/$")
        self.assertRegex(out, r"(?m)^best: trial \d+, loss ")
        self.assertRegex(out, r"(?m)^try next:$")
        self.assertNotIn("\033", out)
        # What it tells to try works.
        command = re.search(r"(?m)^  \S*magpie (trials .*)$", out).group(1)
        d = self.driver(data=self.path("data"))
        self.assertIn("PARAMETERS", self.magpie(*command.split()).stdout())
        self.assertEqual(d.stop(), 0)
        self.assertIn("build/magpie run examples/quadratic.json", out)

    def test_wrong_flags_are_usage_errors(self):
        for script in ("quickstart", "check"):
            p = self.start([os.path.join(harness.ROOT, script), "--nonsense"], script)
            self.assertEqual(p.wait(), 2)
            self.assertIn("unknown flag --nonsense", p.stderr())
            p = self.start([os.path.join(harness.ROOT, script), "--help"], script)
            self.assertEqual(p.wait(), 0)
            self.assertIn("usage: ./" + script, p.stdout())


class Counting(harness.Case):
    """./check's last line."""

    def count(self, *tests):
        log = self.write("testlog.json", "\n".join(json.dumps({"name": "t", "stdout": out, "result": r}) for out, r in tests))
        p = self.start([os.path.join(harness.ROOT, "tools", "count-tests"), log])
        status = p.wait()
        return p.stdout().splitlines()[-1], status

    def test_single_cases_are_counted(self):
        self.assertEqual(self.count(("ok 1 - a\nok 2 - b # SKIP no GPU\n  ok - inner\nnot ok 3 - c\n1..3", "FAIL")),
                         ("1 passed, 1 failed, 1 skipped", 1))
        self.assertEqual(self.count(("ok - a\nok - b", "OK"), ("plain output", "OK"), ("", "SKIP")),
                         ("3 passed, 0 failed, 1 skipped", 0))

    def test_a_crash_a_timeout_and_nothing_at_all_are_failures(self):
        self.assertEqual(self.count(("ok 1 - a", "TIMEOUT")), ("1 passed, 1 failed", 1))
        self.assertEqual(self.count(("", "ERROR")), ("0 passed, 1 failed", 1))
        self.assertEqual(self.count(("ok 1 - a\n", "FAIL")), ("1 passed, 1 failed", 1))
        self.assertEqual(self.count(), ("0 passed, 0 failed", 1))


if __name__ == "__main__":
    harness.main()
