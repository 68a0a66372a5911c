#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Output of trials, end to end: whole and in order while it grows, over deaths of driver and worker, bounded,
and without secrets anywhere."""
import glob
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

PYTHON = sys.executable

# Prints `lines` numbered lines, then waits for the file `go`, then prints the rest and ends.
TALKER = r"""
import os, sys, time
lines, go, secret = int(sys.argv[1]), sys.argv[2], os.environ.get("MY_API_KEY", "none")
a = os.environ["MAGPIE_ATTEMPT"]
for i in range(lines):
    print(f"attempt {a} line {i} ä", flush=i % 100 == 0)
sys.stdout.flush()
while not os.path.exists(go):
    time.sleep(0.02)
print("the key is", secret, flush=True)
os.write(1, b"token: Bearer 01234567"); time.sleep(0.05); os.write(1, b"89abcdef\n")
print('::magpie {"step": 1, "metrics": {"value": 1.0}}', flush=True)
"""


class Logs(harness.Case):
    def setUp(self):
        super().setUp()
        self.go = self.path("go")
        self.program = self.write("talker.py", TALKER)

    def begin(self, *flags, env=None):
        d = self.driver("--heartbeat", "200ms", "--lease", "1s")
        return d, self.worker(d, "--slots", "1", *flags, env=env)

    def spec(self, lines, **more):
        s = {"name": "logs", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
             "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"}, "limits": {"trials": 1},
             "trial": {"command": [PYTHON, self.program, str(lines), self.go]}}
        s.update(more)
        return s

    def follow(self, d, x, *flags):
        return self.print(d, "logs", str(x), "1", "-f", *flags)

    def print(self, d, *args):
        return self.start([harness.MAGPIE, *args, "--url", d.http, "--data", d.data], "logs")

    def lines(self, attempt, n):
        return [f"attempt {attempt} line {i} ä" for i in range(n)]

    def shown(self, p, what):
        harness.wait_until(lambda: what in p.stdout(), what=f"{what!r} in what follows the log")

    def release(self):
        with open(self.go, "w"):
            pass

    END = ["the key is none", "token: Bearer ***", '::magpie {"step": 1, "metrics": {"value": 1.0}}']

    def test_every_line_is_followed_in_order_while_the_program_runs(self):
        d, _ = self.begin()
        x = d.submit(self.spec(50000))  # 1.3 MB at once: more than any heartbeat carries
        p = self.follow(d, x)
        self.shown(p, "line 49999")
        self.assertEqual(d.trials(x)[0]["state"], "running")
        self.assertEqual(p.stdout().splitlines(), self.lines(1, 50000))
        self.release()
        self.assertEqual(p.wait(), 0)
        self.assertEqual(p.stdout().splitlines(), self.lines(1, 50000) + self.END)
        again = self.magpie("logs", str(x), "1", "--url", d.http, "--data", d.data)
        self.assertEqual(again.stdout(), p.stdout())
        last = self.magpie("logs", str(x), "1", "--tail", "4", "--url", d.http, "--data", d.data)
        self.assertEqual(last.stdout().splitlines(), self.lines(1, 50000)[-1:] + self.END)

    def test_following_goes_on_over_a_killed_driver_and_a_killed_worker(self):
        d, w = self.begin()
        x = d.submit(self.spec(1000))
        p = self.follow(d, x)
        self.shown(p, "attempt 1 line 999")
        d.kill()
        d = d.restart()
        w.kill()
        self.worker(d, "--slots", "1")
        self.shown(p, "attempt 2 line 999")
        self.release()
        self.assertEqual(p.wait(), 0)
        want = self.lines(1, 1000) + ["[magpie] attempt 2"] + self.lines(2, 1000) + self.END
        self.assertEqual(p.stdout().splitlines(), want)
        first = self.magpie("logs", str(x), "1", "--attempt", "1", "--url", d.http, "--data", d.data)
        self.assertEqual(first.stdout().splitlines(), self.lines(1, 1000), "readable after the worker is gone")

    def test_the_last_lines_of_a_killed_worker_come_with_the_next_one_on_its_scratch(self):
        d = self.driver("--heartbeat", "200ms", "--lease", "1s")
        scratch = self.path("scratch")
        code = ("import time, os\nif os.environ['MAGPIE_ATTEMPT'] == '1':\n for i in range(30):\n"
                "  print('line', i, flush=True)\n  time.sleep(0.1)\n time.sleep(600)\n"
                "print('::magpie {\"result\": {\"value\": 1}}', flush=True)")
        w = self.worker(d, "--slots", "1", "--scratch", scratch)
        x = d.submit({"name": "killed", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
                      "searchspace": {"x": ["DOUBLE", [0, 1]]}, "optimizer": {"algorithm": "random"}, "limits": {"trials": 1},
                      "trial": {"command": [sys.executable, "-c", code]}})

        def local():
            return "".join(open(f).read() for f in glob.glob(scratch + "/*/*-1-1/log/*"))

        harness.wait_until(lambda: "line 20\n" in local(), what="output on the scratch disk", every=0.005)
        w.kill()
        written = local()
        left = glob.glob(scratch + "/*")
        self.worker(d, "--slots", "1", "--scratch", scratch, "--name", "next")
        d.wait_state(x)

        def stored():
            status, _, text = d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log?attempt=1")
            return status == 200 and text.decode().startswith(written)

        harness.wait_until(stored, what="all that was written to be in storage")
        harness.wait_until(lambda: not os.path.exists(left[0]), what="the folder to go")

    def test_offsets_are_stable_and_count_the_whole_output(self):
        d, _ = self.begin()
        x = d.submit(self.spec(3000))
        whole = "".join(line + "\n" for line in self.lines(1, 3000)).encode()

        def get(query):
            code, head, body = d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log{query}")
            self.assertIn(code, (200, 404), body)
            return (int(head["X-Log-Offset"]), int(head["X-Log-Size"]), body) if code == 200 else (0, 0, b"")

        harness.wait_until(lambda: get("?offset=0&limit=1000000")[2] == whole, what="all of the output")
        for _ in range(2):  # while it runs, and from storage
            self.assertEqual(get("?offset=0&limit=1000000")[2][:len(whole)], whole)
            self.assertEqual(get("?offset=12345&limit=100"), (12345, get("")[1], whole[12345:12445]))
            at, size, body = get("?tail=200")
            self.assertEqual((at, len(body)), (size - 200, 200))
            self.assertEqual(get(f"?offset={len(whole) + 10 ** 6}")[2], b"")
            self.release()
            d.wait_state(x)
            harness.wait_until(lambda: get("")[1] == len(whole) + sum(len(e) + 1 for e in self.END), what="the end")

    def test_a_long_output_is_bounded_in_storage_and_says_what_is_left_out(self):
        d, w = self.begin()
        self.release()
        x = d.submit(self.spec(40000, logs={"limit": "64KB"}))
        d.wait_state(x)
        p = self.follow(d, x)
        self.assertEqual(p.wait(), 0)
        out = p.stdout().splitlines()
        self.assertEqual(out[0], "attempt 1 line 0 ä")
        self.assertEqual(out[-3:], self.END)
        gaps = [line for line in out if line.startswith("[magpie] ") and line.endswith(" bytes left out here")]
        self.assertEqual(len(gaps), 1, gaps)
        kept = sum(len(line.encode()) + 1 for line in out if not line.startswith("[magpie]"))
        self.assertLessEqual(kept, 65536 + 100)
        record = json.load(open(os.path.join(self.trial_folder(d, x), "trial.json")))
        self.assertEqual(record["log"]["left_out"], int(gaps[0].split()[1]))
        self.assertGreater(record["log"]["bytes"], 900000)

    def trial_folder(self, d, x):
        storage = os.path.join(d.data, "storage")
        root = os.path.join(storage, os.listdir(storage)[0], "experiments", str(x), "trials", "1")
        harness.wait_until(lambda: os.path.exists(os.path.join(root, "trial.json")), what="trial.json")
        return root

    def test_secrets_are_in_no_file_no_answer_and_no_reason(self):
        secret, other = "k3y-0f-th3-house", "4711-0815"
        code = ("import os,sys\nk=os.environ['MY_API_KEY']\nprint('hello',k,flush=True)\n"
                "os.write(1,('pin '+'4711-').encode()); os.write(1,b'0815\\n')\n"
                "sys.exit('cannot log in with '+k+' and 4711-0815')")
        d, w = self.begin("--mask", "never-[a-z]+", env={"MY_API_KEY": secret})
        s = self.spec(1, limits={"trials": 1, "retries": 0}, logs={"mask": ["[0-9]{4}-[0-9]{4}"]})
        s["trial"] = {"command": [PYTHON, "-c", code]}
        x = d.submit(s)
        d.wait_state(x)
        t = d.trials(x)[0]
        self.assertIn("last line: cannot log in with *** and ***", t["reason"])
        root = self.trial_folder(d, x)
        text = b"".join(gzip.open(os.path.join(root, "attempts", "1", "log", f)).read()
                        for f in sorted(os.listdir(os.path.join(root, "attempts", "1", "log"))))
        self.assertEqual(text.decode(), "hello ***\npin ***\ncannot log in with *** and ***\n")
        w.stop()
        d.stop()
        for folder in (d.data, self.tmp):
            for base, _, files in os.walk(folder):
                for f in files:
                    with open(os.path.join(base, f), "rb") as g:
                        data = g.read()
                    if f.endswith(".gz"):
                        data = gzip.decompress(data)
                    self.assertNotIn(secret.encode(), data, os.path.join(base, f))
                    self.assertFalse(other.encode() in data and b"sys.exit" not in data, os.path.join(base, f))

    def test_a_mask_that_is_no_pattern_is_refused_with_its_place(self):
        d = self.driver()
        code, _, body = d.raw("POST", "/api/v1/experiments", self.spec(1, logs={"mask": ["ok", "(no"], "limit": 1}))
        self.assertEqual(code, 422)
        issues = {i["pointer"]: i["detail"] for i in json.loads(body)["issues"]}
        self.assertIn("is no POSIX extended regular expression", issues["/logs/mask/1"])
        self.assertIn("from 65536 to 1073741824", issues["/logs/limit"])
        p = self.magpie("worker", "--mask", "(no", status=2)
        self.assertIn("--mask: \"(no\" is no POSIX extended regular expression", p.stderr())


if __name__ == "__main__":
    harness.main()
