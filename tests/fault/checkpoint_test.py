# SPDX-License-Identifier: Apache-2.0
"""kill -9 while the built-in trainer writes checkpoints, a hundred times: what bears a checkpoint's name is always whole."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

TRAINER = os.path.join(harness.BUILD, "trainer", "magpie-trainer")
KILLS = 100
SEED = 20


def check_whole(path):
    """The format of trainer/checkpoint.c: magic, version, length, head, CRC; arrays, CRC; end. Returns the head."""
    with open(path, "rb") as f:
        data = f.read()
    magic, version, n = struct.unpack_from("<8sII", data)
    assert magic == b"MAGPIECK", path
    head = data[16:16 + n]
    assert struct.unpack_from("<I", data, 16 + n)[0] == zlib.crc32(data[:16 + n]), f"{path}: head"
    info = json.loads(head)
    arrays = data[20 + n:-4]
    assert len(arrays) == 4 * info["floats"], f"{path}: {len(arrays)} bytes, {info['floats']} floats"
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(arrays), f"{path}: arrays"
    return info


class Checkpoints(harness.Case):
    def command(self, *more):
        return [TRAINER, "--train", self.path("trial.json"), "--seed", "1", "--checkpoints", self.path("ck"), *more]

    def finished(self):
        """Steps whose folders bear their names."""
        return sorted(int(f) for f in os.listdir(self.path("ck")) if f.isdigit())

    def kill_at_a_random_moment(self, rng, resume):
        """Of a process that does little but write checkpoints."""
        more = ["--resume", self.path("ck", str(resume))] if resume else []
        p = subprocess.Popen(self.command("--epochs", "100000", *more), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            # a moment after it has begun its first or second checkpoint: in the midst of it, mostly
            begun = f".{(resume or 0) + rng.randint(1, 2)}.new"
            harness.wait_until(lambda: p.poll() is not None or begun in os.listdir(self.path("ck")) or len(self.finished()) > 3,
                               what="a checkpoint", every=0.0005)
            end = time.monotonic() + rng.uniform(0, 0.012)
            while time.monotonic() < end:
                pass
            self.assertIsNone(p.poll(), "it ended by itself")
        finally:
            p.send_signal(signal.SIGKILL)
            p.wait()

    def test_no_torn_checkpoint_is_ever_taken_for_a_whole_one(self):
        rng = random.Random(SEED)
        os.mkdir(self.path("ck"))
        with open(self.path("data.csv"), "w") as f:
            f.write("a,b,c,d,class\n" + "".join("%f,%f,%f,%f,%d\n" % (*(rng.gauss(0, 1) for _ in range(4)), i % 2) for i in range(24)))
        trial = {"program": "builtin", "dataset": f"csv:{self.path('data.csv')}?label=class",
                 "model": {"layers": [{"type": "dense", "units": 40000, "activation": "relu"}, {"type": "dense", "units": 2}]},
                 "training": {"optimizer": "adam", "lr": 0.0001, "batch_size": 24, "validation": 0}}
        self.write("trial.json", json.dumps({"trial": trial}))
        newest = torn = 0
        for i in range(KILLS):
            self.kill_at_a_random_moment(rng, newest)
            if i % 2 == 1:  # of the others the leftovers stay in the next one's way
                left = [f for f in os.listdir(self.path("ck")) if f.endswith(".new")]
                torn += bool(left)
                for f in left:
                    shutil.rmtree(self.path("ck", f))
            for step in self.finished():
                with self.subTest(kill=i, step=step):
                    self.assertEqual(check_whole(self.path("ck", str(step), "model.ckpt"))["step"], step)
            steps = self.finished()
            self.assertTrue(not newest or steps[-1] >= newest, "a finished one was lost")
            newest = steps[-1] if steps else 0
            for step in steps[:-1]:
                shutil.rmtree(self.path("ck", str(step)))
        self.assertGreater(torn, KILLS // 20, "the kills came while a checkpoint was written")
        self.assertGreater(newest, KILLS // 20, "and after one was")
        p = subprocess.run(self.command("--resume", self.path("ck", str(newest)), "--epochs", str(newest + 1)), capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        print(f"# {torn} of {KILLS // 2} kills left a checkpoint half-written; {newest} epochs")


if __name__ == "__main__":
    harness.main()
