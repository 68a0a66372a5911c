# SPDX-License-Identifier: Apache-2.0
"""Data sets that lie in shared storage: fetched once a host, whole or not at all, and again when they change."""
import glob
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import places  # noqa: E402
import relay  # noqa: E402

DUMP = os.path.join(harness.BUILD, "tests", "trainer", "trainer_dump")
TRAINER = os.path.join(harness.BUILD, "trainer", "magpie-trainer")


def table(n, shift=0):
    return "x,y\n" + "".join(f"{i + shift},{i % 2}\n" for i in range(n))


class Remote(places.Case):
    def setUp(self):
        super().setUp()
        self.cache = self.path("cache")

    def env(self, place, **more):
        return {**os.environ, **place.env, "MAGPIE_DATA_CACHE": self.cache, **more}

    def dump(self, place, source, status=0, **more):
        p = subprocess.run([DUMP, source], capture_output=True, text=True, timeout=3 * harness.DEADLINE, env=self.env(place, **more))
        self.assertEqual(p.returncode, status, p.stdout[-300:] + p.stderr[-1000:])
        return p.stderr if status else json.loads(p.stdout)

    def entries(self, pattern="*/*"):
        return sorted(glob.glob(os.path.join(self.cache, pattern)))

    def fetched_once_and_again_when_it_changes(self, scheme):
        place = self.place(scheme)
        source = f"csv:{place.url}/data/t.csv?label=y&test=0&standardize=false"
        self.suite(place, "put", "data/t.csv", table(4))
        self.assertEqual(self.dump(place, source)["values"], [[0], [1], [2], [3]])
        (version,) = self.entries()
        file = os.path.join(version, "t.csv")
        with open(file, "w") as f:  # of the same size: only who fetches again would not see it
            f.write(table(4, 5))
        self.assertEqual(self.dump(place, source)["values"], [[5], [6], [7], [8]])
        self.suite(place, "put", "data/t.csv", table(5, 1))
        self.assertEqual(len(self.dump(place, source)["values"]), 5)
        self.assertEqual(len(self.entries()), 1, "the older version is gone")
        self.assertNotEqual(self.entries(), [version])
        self.suite(place, "remove", "data/t.csv")
        said = self.dump(place, source, status=2, MAGPIE_STORAGE_PATIENCE="1s")
        self.assertIn(f"{place.url}/data/t.csv: nothing is there", said)

    def test_s3_data_are_fetched_once_and_again_when_they_change(self):
        self.fetched_once_and_again_when_it_changes("s3")

    def test_swift_data_are_fetched_once_and_again_when_they_change(self):
        self.fetched_once_and_again_when_it_changes("swift")

    def test_hdfs_data_are_fetched_once_and_again_when_they_change(self):
        self.fetched_once_and_again_when_it_changes("hdfs")

    def test_a_folder_is_fetched_with_all_that_lies_below_it(self):
        place = self.place("swift")
        for name in ("train/u/1.txt", "train/u/2.txt", "train/v/1.txt", "test/u/1.txt", "test/v/1.txt"):
            self.suite(place, "put", "texts/" + name, "some words of " + name.replace("/", " "))
        d = self.dump(place, f"text:{place.url}/texts")
        self.assertEqual((d["rows"], d["test"], d["labels"], d["names"]), (5, 2, [0, 0, 1, 0, 1], ["u", "v"]))

    def test_a_process_killed_while_it_fetches_leaves_nothing_half_done(self):
        place = self.place("swift")
        for i in range(3):
            self.suite(place, "put", f"texts/{'uv'[i % 2]}/{i}.txt", "words")
        source = f"text:{place.url}/texts"
        for point in ("trainer.fetch:1=kill", "trainer.fetch:3=kill", "trainer.fetch:2=fail"):
            p = subprocess.run([DUMP, source], capture_output=True, env=self.env(place, MAGPIE_FAULTS=point))
            self.assertNotEqual(p.returncode, 0)
            self.assertEqual([e for e in self.entries() if len(os.path.basename(e)) == 40], [], point)
        self.assertEqual(self.dump(place, source)["rows"], 3)
        self.assertEqual([os.path.basename(e) for e in self.entries() if len(os.path.basename(e)) != 40], [])

    def test_of_several_trainers_at_once_one_fetches(self):
        place = self.place("swift")
        self.suite(place, "put", "t.csv", table(2000))
        r = relay.Relay(places.server("swift").url())
        self.addCleanup(r.close)
        source = f"csv:{place.url}/t.csv?label=y&test=0"
        env = self.env(place, **places.server("swift").swift_env(r.url))
        ps = [subprocess.Popen([DUMP, source], stdout=subprocess.PIPE, env=env) for _ in range(4)]
        out = [p.communicate(timeout=3 * harness.DEADLINE)[0] for p in ps]
        self.assertEqual([p.returncode for p in ps], [0] * 4)
        self.assertEqual(len(set(out)), 1)
        self.assertEqual(len([1 for m, path in r.requests if m == "GET" and path.split("?")[0].endswith("/t.csv")]), 1, r.requests)

    def test_the_cache_stays_within_its_bound(self):
        place = self.place("swift")
        small = str(50_000 / 2 ** 30)
        for name in "abc":
            self.suite(place, "put", f"{name}.csv", table(3000))  # 20 kB each
        for name in "abc":
            self.dump(place, f"csv:{place.url}/{name}.csv?label=y", MAGPIE_DATA_CACHE_GB=small)
            kept = sum(os.path.getsize(f) for f in self.entries("*/*/*"))
            self.assertLess(kept, 50_000)
        self.assertEqual([os.path.basename(f) for f in self.entries("*/*/a.csv")], [], "the one used longest ago is gone")
        self.assertEqual(len(self.entries("*/*/*.csv")), 2)
        said = self.dump(place, f"csv:{place.url}/a.csv?label=y", status=2, MAGPIE_DATA_CACHE_GB=str(9_000 / 2 ** 30))
        self.assertIn("raise MAGPIE_DATA_CACHE_GB", said)
        self.assertIn("MAGPIE_DATA_CACHE_GB is \"lots\"", self.dump(place, f"csv:{place.url}/a.csv?label=y", status=2,
                                                                  MAGPIE_DATA_CACHE_GB="lots"))

    def test_a_search_trains_on_data_in_storage(self):
        place = self.place("s3")
        self.suite(place, "put", "t.csv", table(64))
        d = self.driver(env=place.env)
        self.worker(d, "--slots", "1", env={**place.env, "MAGPIE_DATA_CACHE": self.cache})
        x = d.submit({"name": "far", "objective": {"metric": "val_loss", "direction": "min"}, "seed": 1,
                      "searchspace": {"lr": ["DOUBLE", [0.01, 0.1]]}, "optimizer": {"algorithm": "random"}, "limits": {"trials": 2},
                      "resource": {"min": 1, "max": 2},
                      "trial": {"program": "builtin", "dataset": f"csv:{place.url}/t.csv?label=y",
                                "model": {"layers": [{"type": "dense", "units": 2}]}, "training": {"lr": "${lr}"}}})
        d.wait_state(x)
        self.assertEqual(len(self.entries("*/*/t.csv")), 1)
