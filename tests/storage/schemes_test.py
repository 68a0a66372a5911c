#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every scheme of shared storage against real servers: what storage_suite promises, and whole searches."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import places  # noqa: E402
import relay  # noqa: E402
from remote import Remote  # noqa: E402, F401

PROGRAM = os.path.join(harness.ROOT, "tests", "worker", "program.py")


class Conformance(places.Case):
    """A test for each promise and scheme, made below."""


def promise(scheme, case):
    def test(self):
        place = self.place(scheme)
        self.suite(place, case, env={"MAGPIE_STORAGE_PAGE": "5", "MAGPIE_STORAGE_PART_MB": "5"})

    return test


for _scheme in places.SCHEMES:
    for _case in subprocess.run([places.SUITE, "--list"], capture_output=True, text=True, check=True).stdout.split():
        setattr(Conformance, f"test_{_scheme}_{_case}", promise(_scheme, _case))


def spec(budget=10, trials=1):
    return {"name": "far", "objective": {"metric": "value", "direction": "max"}, "seed": 1,
            "searchspace": {"mode": {"type": "CATEGORICAL", "values": ["steps"]}, "x": ["DOUBLE", [0.0, 1.0]]},
            "optimizer": {"algorithm": "random"}, "resource": {"min": budget, "max": budget},
            "limits": {"trials": trials}, "trial": {"command": [sys.executable, PROGRAM, "steps"]}}


# Each step has a checkpoint of three pieces, which says itself whether it is whole.
LARGE = """
import os, sys
size, resume = (11 << 20) + 5, os.environ.get("MAGPIE_RESUME_FROM")
first = 1
if resume:
    data = open(os.path.join(resume, "model.bin"), "rb").read()
    first = data[0] + 1
    if data != bytes([data[0]]) * size:
        sys.exit("a torn checkpoint was taken for a whole one")
for step in range(first, 4):
    folder = os.path.join(os.environ["MAGPIE_CHECKPOINT_DIR"], str(step))
    os.makedirs(folder)
    with open(os.path.join(folder, "model.bin"), "wb") as f:
        f.write(bytes([step]) * size)
    print('::magpie {"step": %d, "metrics": {"value": %d}}' % (step, step), flush=True)
    print('::magpie {"checkpoint": %d}' % step, flush=True)
"""


class Search(places.Case):
    """Drivers and workers on storages that are no folders; nothing but the storage is shared."""

    def trial(self, d, x):
        try:
            return d.get(f"/api/v1/experiments/{x}/trials/1")
        except harness.HttpError:
            return None

    def at_step(self, d, x, step):
        return harness.wait_until(lambda: (t := self.trial(d, x)) and (t["step"] or 0) >= step and t, what=f"step {step}")

    def goes_on(self, scheme):
        place = self.place(scheme)
        env = {**place.env, "PROGRAM_STEP_MS": "100"}
        d = self.driver("--heartbeat", "0.2s", "--lease", "1.5s", "--storage", place.url, env=place.env)
        first = self.worker(d, "--slots", "1", "--name", "first", env=env)
        x = d.submit(spec())
        harness.wait_until(lambda: (self.trial(d, x) or {}).get("checkpoint"), what="a checkpoint in the record")
        self.at_step(d, x, 4)
        first.kill()
        self.worker(d, "--slots", "1", "--name", "second", env=env)
        d.wait_state(x)
        t = self.trial(d, x)
        self.assertEqual((t["state"], t["attempt"]), ("completed", 2))
        page = d.get(f"/api/v1/experiments/{x}/trials/1/metrics?limit=1000")
        again = [m["step"] for m in page["metrics"] if m["attempt"] == 2]
        self.assertGreater(min(again), 1, "the second worker began again")
        self.assertEqual(max(again), 10)
        self.assertIn(place.url, json.dumps(t))
        harness.wait_until(lambda: b"::magpie" in d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log")[2], what="the output in storage")
        self.assertIn("::magpie", self.magpie("logs", str(x), "1", "--url", d.http).stdout())
        code, headers, data = d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log?offset=3&limit=5")
        self.assertEqual((code, headers["X-Log-Offset"], len(data)), (200, "3", 5))
        self.assertEqual(d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log?attempt=77")[0], 404)
        d.stop()

    def test_s3_a_dead_workers_trial_goes_on_from_its_checkpoint(self):
        self.goes_on("s3")

    def test_swift_a_dead_workers_trial_goes_on_from_its_checkpoint(self):
        self.goes_on("swift")

    def test_hdfs_a_dead_workers_trial_goes_on_from_its_checkpoint(self):
        self.goes_on("hdfs")

    def steps(self, d, x):
        """{attempt: steps} of trial 1."""
        out = {}
        for m in d.get(f"/api/v1/experiments/{x}/trials/1/metrics?limit=1000")["metrics"]:
            out.setdefault(m["attempt"], []).append(m["step"])
        return out

    def test_a_worker_killed_in_the_middle_of_an_upload_leaves_no_torn_checkpoint(self):
        program = self.write("large.py", LARGE)
        for scheme in ("s3", "swift", "hdfs"):
            place = self.place(scheme)
            env = {**place.env, "MAGPIE_STORAGE_PART_MB": "5"}
            d = self.driver("--heartbeat", "0.2s", "--lease", "1.5s", "--storage", place.url, data=self.path("data-" + scheme), env=env)
            x = d.submit({**spec(budget=3), "trial": {"command": [sys.executable, program]}})
            first = self.worker(d, "--slots", "1", env={**env, "MAGPIE_FAULTS": "storage.piece:5=kill"})
            self.assertEqual(first.wait(4 * harness.DEADLINE), -9)  # in the second checkpoint
            self.worker(d, "--slots", "1", env=env)
            d.wait_state(x, timeout=4 * harness.DEADLINE)
            steps = self.steps(d, x)
            self.assertEqual(min(steps[2]), 2, steps)  # the program itself checks what it goes on from
            self.collects(d, x)
            d.stop()

    def collects(self, d, x):
        """Garbage collection asks this storage: nothing needed goes, and a deleted experiment whole."""
        def gc(*flags):
            return json.loads(self.magpie("gc", "--json", "--url", d.http, *flags).stdout())
        gc()
        again = gc("--dry-run")
        self.assertEqual((again["removed"], again["objects"], again.get("error")), ([], 0, None))
        self.assertTrue(self.trial(d, x)["checkpoint"])
        self.assertEqual(d.raw("GET", f"/api/v1/experiments/{x}/trials/1/log")[0], 200)
        d.call("DELETE", f"/api/v1/experiments/{x}", status=204)
        harness.wait_until(lambda: "info driver gc experiments=1" in d.stderr(), what="the removal of its folder")
        self.assertEqual(gc("--dry-run")["experiments"], 0)

    def test_a_worker_that_cannot_fetch_a_checkpoint_gives_the_trial_back(self):
        place = self.place("s3")
        env = {**place.env, "PROGRAM_STEP_MS": "200"}
        d = self.driver("--heartbeat", "0.2s", "--lease", "1.5s", "--storage", place.url, env=place.env)
        x = d.submit(spec())
        first = self.worker(d, "--slots", "1", env=env)
        harness.wait_until(lambda: (self.trial(d, x) or {}).get("checkpoint"), what="a checkpoint in the record")
        first.kill()
        broken = relay.Relay(plan=lambda m, path, n: ("status", 503) if "/checkpoints/" in path else None)
        self.addCleanup(broken.close)
        second = self.worker(d, "--slots", "1", env={**env, **broken.env(), "MAGPIE_STORAGE_PATIENCE": "1s"})
        harness.wait_until(lambda: "storage-unreachable" in second.stderr(), what="the second worker to give the trial back")
        self.assertNotIn(2, self.steps(d, x), "it began again")
        second.kill()
        self.worker(d, "--slots", "1", env=env)
        d.wait_state(x, timeout=4 * harness.DEADLINE)
        steps = self.steps(d, x)
        self.assertEqual(sorted(s for of in steps.values() for s in set(of))[-1], 10)
        self.assertGreater(min(steps[max(steps)]), 1, steps)

    def test_run_takes_a_storage(self):
        place = self.place("s3")
        path = self.write("search.json", spec(budget=3, trials=2))
        r = self.magpie("run", path, "--workers", "1", "--data", self.path("data"), "--http", "127.0.0.1:0", "--storage", place.url,
                        env=place.env, timeout=4 * harness.DEADLINE)
        self.assertIn("completed", r.stdout() + r.stderr())
        names = [o["name"] for o in places.server("swift").objects("magpie-s3") if place.url.endswith(o["name"].split("/")[0])]
        self.assertTrue([n for n in names if "/experiments/1/trials/2/attempts/1/log/" in n], names)
        for want in ("/experiments/1/trials/1/params.json", "/experiments/1/trials/2/params.json", "/manifest.json"):
            self.assertTrue([n for n in names if n.endswith(want)], f"{want} in {names}")
        self.assertFalse(os.path.exists(self.path("data", "storage")), "nothing lies beside it in the data folder")

    def test_a_storage_that_cannot_be_had_is_named(self):
        place = self.place("s3")
        for env, word in (({**place.env, "AWS_SECRET_ACCESS_KEY": "wrong-secret-1"}, "AWS_SECRET_ACCESS_KEY"),
                          ({**place.env, "AWS_ACCESS_KEY_ID": "", "HOME": self.tmp}, "AWS_ACCESS_KEY_ID"),
                          ({**place.env, "MAGPIE_S3_ENDPOINT": "http://127.0.0.1:1", "MAGPIE_STORAGE_PATIENCE": "500ms"}, "127.0.0.1:1")):
            p = self.start([harness.MAGPIE, "driver", "--data", self.path("d"), "--http", "127.0.0.1:0", "--listen",
                            "tcp://127.0.0.1:0", "--storage", place.url], "driver", env)
            self.assertNotEqual(p.wait(), 0)
            self.assertIn(word, p.stderr())
            self.assertNotIn("wrong-secret-1", p.stderr())


if __name__ == "__main__":
    places.main()
