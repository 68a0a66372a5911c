# SPDX-License-Identifier: Apache-2.0
"""The command line without a driver: help, messages, exit statuses, experiment files."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

GOOD = {
    "name": "good",
    "objective": {"metric": "loss", "direction": "min"},
    "searchspace": {"x": {"type": "DOUBLE", "range": [0, 1]}, "k": ["DISCRETE", [1, 3]]},
    "optimizer": {"algorithm": "asha", "reduction_factor": 3},
    "resource": {"unit": "epoch", "min": 1, "max": 9},
    "limits": {"trials": 9},
    "seed": 5,
    "trial": {"command": ["true", "${x}", "${k}"]},
}


class Help(harness.Case):
    def commands(self):
        text = self.magpie("--help").stdout()
        return re.findall(r"^  ([a-z]+) ", text, re.M)

    def test_every_command_has_help_and_is_listed(self):
        names = self.commands()
        for wanted in ("driver worker run submit list show trials best logs watch export verify pause resume cancel "
                       "extend fork repeat retry note tag validate plan version").split():
            self.assertIn(wanted, names)
        for name in names:
            if name == "trainer":
                continue  # a program of its own
            for line in ([name, "--help"], ["help", name], [name, "-h", "--nonsense"]):
                text = self.magpie(*line).stdout()
                self.assertTrue(text.startswith(f"usage: magpie {name}"), text)
                self.assertLessEqual(max(len(row) for row in text.split("\n")), 110)

    def test_no_command_and_an_unknown_one_are_usage_errors(self):
        p = self.magpie(status=2)
        self.assertEqual(p.stdout(), "")
        self.assertIn("usage: magpie COMMAND", p.stderr())
        p = self.magpie("valdate", "x", status=2)
        self.assertIn('did you mean "validate"?', p.stderr())
        self.magpie("help", "nonsense", status=2)

    def test_every_command_refuses_unknown_flags_with_the_nearest(self):
        p = self.magpie("run", "x.json", "--worker", "2", status=2)
        self.assertIn("unknown flag --worker; did you mean --workers?", p.stderr())
        for name in self.commands():
            if name != "trainer":
                p = self.magpie(name, "--zzzzzzzzzzzz", status=2)
                self.assertIn("unknown flag --zzzzzzzzzzzz", p.stderr())
                self.assertIn(f"try 'magpie {name} --help'", p.stderr())

    def test_values_out_of_range_are_named(self):
        for line, text in ((["run", "f", "--workers", "0"], "--workers: 0 is not within 1 and 256"),
                           (["run", "f", "--workers", "two"], 'expected a whole number, not "two"'),
                           (["driver", "--lease", "soon"], "--lease: expected a duration such as 30s, 20m or 2h"),
                           (["driver", "--durability", "half"], '"half" is not one of full, normal'),
                           (["driver", "--heartbeat", "10s", "--lease", "15s"], "--lease must be at least twice"),
                           (["driver", "--tls-cert", "x"], "--tls-cert and --tls-key go together"),
                           (["show"], "needs ID"),
                           (["show", "1", "2"], 'one argument too many: "2"'),
                           (["logs", "1", "x"], 'expected the number of a trial, not "x"'),
                           (["extend", "1"], "say what to extend"),
                           (["extend", "1", "--target", "high"], 'expected a number or "none"'),
                           (["fork", "1", "--set", "seed"], "expected PLACE=VALUE"),
                           (["fork", "1", "--set", "a..b=1"], "expected a place such as limits.trials"),
                           (["verify", "one"], 'expected the number of an experiment, not "one"'),
                           (["list", "--url", "ftp://x"], "must begin with http:// or https://")):
            with self.subTest(line=line):
                p = self.magpie(*line, status=2)
                self.assertIn(text, p.stderr())
                self.assertEqual(p.stdout(), "")

    def test_no_driver_is_one_clear_message(self):
        for line in (["list"], ["show", "1"], ["watch", "1"], ["export", "1"], ["pause", "1"]):
            p = self.magpie(*line, "--url", "http://127.0.0.1:9", status=1)
            self.assertEqual(p.stderr().count("\n"), 1, p.stderr())
            self.assertIn("no driver answers at http://127.0.0.1:9; start one with 'magpie driver'", p.stderr())

    def test_a_page_that_is_no_driver_is_one_clear_message(self):
        import http.server
        import threading

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path.startswith("/api/v1/experiments?") else 500)
                self.end_headers()
                self.wfile.write(b"<html>hello</html>")

            def log_message(self, *args):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Page)
        self.addCleanup(server.server_close)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}"
        self.assertIn("not a driver's answer", self.magpie("list", "--url", url, status=1).stderr())
        self.assertIn("answered with HTTP status 500", self.magpie("show", "1", "--url", url, status=1).stderr())


class Version(harness.Case):
    def test_json_names_version_and_algorithms(self):
        v = json.loads(self.magpie("version", "--json").stdout())
        self.assertRegex(v["version"], r"^\d+\.\d+\.\d+$")
        names = [a["name"] for a in v["algorithms"]]
        for wanted in ("random", "grid", "asha", "hyperband", "de"):
            self.assertIn(wanted, names)
        self.assertEqual(self.magpie("--version").stdout(), self.magpie("version").stdout())
        self.assertIn(f"magpie {v['version']}\n", self.magpie("version").stdout())


class Files(harness.Case):
    def test_a_sound_file(self):
        f = self.write("good.json", GOOD)
        self.assertEqual(self.magpie("validate", f).stdout(), f"{f}: sound\n")
        self.assertEqual(json.loads(self.magpie("validate", f, "--json").stdout()),
                         {"valid": True, "file": f, "issues": [], "notes": []})
        resolved = json.loads(self.magpie("validate", f, "--resolved").stdout())
        self.assertEqual(resolved["searchspace"]["k"], {"type": "DISCRETE", "values": [1, 3]})
        self.assertEqual(resolved["limits"]["retries"], 2)
        again = self.write("again.json", resolved)
        self.assertEqual(json.loads(self.magpie("validate", again, "--resolved").stdout()), resolved)

    def test_every_fault_is_told_at_once_with_its_place(self):
        f = self.write("bad.json", '{\n  "objectiv": {"metric": "loss"},\n  "searchspace": {\n'
                                   '    "x": {"type": "DOUBLE", "range": [1, 0]},\n    "y": {"type": "FLOAT"}\n  }\n}\n')
        p = self.magpie("validate", f, status=2)
        self.assertEqual(p.stdout(), "")
        err = p.stderr()
        self.assertIn(f"{f}:2:15: /objectiv: unknown key \"objectiv\"; did you mean \"objective\"?", err)
        self.assertRegex(err, re.escape(f) + r":4:\d+: /searchspace/x/range")
        self.assertRegex(err, re.escape(f) + r":5:\d+: /searchspace/y/type")
        self.assertRegex(err, r"things to mend\n$")
        issues = json.loads(self.magpie("validate", f, "--json", status=2).stdout())["issues"]
        self.assertGreaterEqual(len(issues), 3)
        self.assertEqual({"pointer", "line", "column", "detail"}, set(issues[0]))

    def test_what_is_no_json_names_line_and_column(self):
        f = self.write("broken.json", '{"name": "x",\n  "seed": 12,,\n}')
        p = self.magpie("validate", f, status=2)
        self.assertRegex(p.stderr(), re.escape(f) + r":2:\d+: ")
        self.assertIn("not valid JSON", p.stderr())
        issue = json.loads(self.magpie("plan", f, "--json", status=2).stdout())["issues"][0]
        self.assertEqual(issue["line"], 2)
        for content in ("", "[]", "null", '{"a": 1, "a": 2}', "\xff", '{"seed": 1} x'):
            with self.subTest(content=content):
                self.magpie("validate", self.write("b.json", content), status=2)

    def test_a_file_that_is_not_there_or_too_large(self):
        self.assertIn("No such file", self.magpie("validate", self.path("none.json"), status=2).stderr())
        self.assertIn("Is a directory", self.magpie("validate", self.tmp, status=2).stderr())
        big = self.write("big.json", '{"notes": "' + "x" * (1 << 20) + '"}')
        self.assertIn("larger than 1048576 bytes", self.magpie("validate", big, status=2).stderr())

    def test_the_plan_of_asha_tells_rungs_trials_and_epochs(self):
        f = self.write("good.json", GOOD)
        text = self.magpie("plan", f).stdout()
        self.assertRegex(text, r"algorithm +asha\n")
        self.assertRegex(text, r"(?m)^bracket +rung +budget +trials +epochs$")
        self.assertRegex(text, r"(?m)^ +0 +0 +1 +9 +9$")
        plan = json.loads(self.magpie("plan", f, "--json").stdout())
        self.assertEqual(plan["algorithm"], "asha")
        self.assertEqual([row["budget"] for row in plan["table"]], [1, 3, 9])
        self.assertEqual([row["trials"] for row in plan["table"]], [9, 3, 1])

    def test_submit_and_run_check_the_file_before_anything_else(self):
        f = self.write("bad.json", {"searchspace": {}})
        for line in (["submit", f, "--url", "http://127.0.0.1:9"], ["run", f, "--data", self.path("d")]):
            p = self.magpie(*line, status=2)
            self.assertIn(f"{f}:1:1: ", p.stderr())
        self.assertFalse(os.path.exists(self.path("d")), "nothing was started or made")

    def test_run_wants_trials_that_it_can_run(self):
        spec = dict(GOOD)
        del spec["trial"]
        p = self.magpie("run", self.write("asked.json", spec), "--data", self.path("d"), status=2)
        self.assertIn('has no "trial"', p.stderr())

    def test_an_unknown_data_set_is_told_before_the_search(self):
        if json.loads(self.magpie("version", "--json").stdout()).get("trainer") is None:
            self.skipTest("this build has no built-in trainer")
        with open(os.path.join(harness.ROOT, "examples", "fashion-mnist-mlp.json")) as f:
            spec = json.load(f)
        spec["trial"]["dataset"] = "idx:/nowhere/at-all"
        for command in (["validate"], ["submit", "--url", "http://127.0.0.1:9"], ["run", "--data", self.path("d")]):
            p = self.magpie(command[0], self.write("d.json", spec), *command[1:], status=2)
            self.assertIn("/nowhere/at-all", p.stderr())
        issue = json.loads(self.magpie("validate", self.path("d.json"), "--json", status=2).stdout())["issues"][0]
        self.assertEqual(issue["pointer"], "/trial/dataset")
        self.assertGreater(issue["line"], 1)
        self.assertIn("/nowhere/at-all", issue["detail"])

    def test_verify_without_a_store(self):
        p = self.magpie("verify", "1", "--data", self.path("none"), status=1)
        self.assertIn("magpie.db: No such file or directory", p.stderr())


if __name__ == "__main__":
    harness.main()
