#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data sets as other libraries write them: what the trainer reads is what NumPy, safetensors and Pillow wrote."""
import gzip
import json
import os
import re
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness

DUMP = os.path.join(harness.BUILD, "tests", "trainer", "trainer_dump")
TRAINER = os.path.join(harness.BUILD, "trainer", "magpie-trainer")
# Arrays of every type in both orders and both byte orders; what is in them, as JSON.
ARRAYS = r"""
import json, sys, zipfile, io
import numpy as np
from safetensors.numpy import save_file
folder = sys.argv[1]
g = np.random.default_rng(3)
y = np.array([0, 2, 1, 2, 0])
np.save(f"{folder}/y.npy", y)
cases = []
for kind in "u1 u2 u4 u8 i1 i2 i4 i8 f2 f4 f8 ?".split():
    for shape in ((5,), (5, 3), (5, 2, 3), (5, 2, 3, 4)) if kind in ("f4", "u1") else ((5, 2, 3),):
        for order in "C", "F":
            for swap in ("<",) if kind in ("u1", "i1", "?") else ("<", ">"):
                x = np.asarray(g.integers(0, 2 if kind == "?" else 100, shape), order=order).astype(swap + kind, order=order)
                name = f"{folder}/x{len(cases)}.npy"
                np.save(name, x)
                flat = x.reshape(5, -1).astype(float)
                cases.append([name, list(shape), (flat / 255 if kind == "u1" else flat).astype(np.float32).tolist()])
x = g.random((6, 4)).astype(np.float32)
t = g.random((2, 4)).astype(np.float32)
names = {"x_train": x, "y_train": np.array([0, 1, 1, 0, 1, 0], np.uint8), "x_test": t, "y_test": np.array([1, 0], np.uint8)}
np.savez(f"{folder}/stored.npz", **names)
np.savez_compressed(f"{folder}/packed.npz", **names)
save_file(names, f"{folder}/t.safetensors")
with zipfile.ZipFile(f"{folder}/zip64.npz", "w", zipfile.ZIP_DEFLATED) as z:
    for k, v in names.items():
        b = io.BytesIO()
        np.save(b, v)
        with z.open(k + ".npy", "w", force_zip64=True) as f:
            f.write(b.getvalue())
np.savez(f"{folder}/named.npz", pixels=x, price=np.arange(6, dtype=np.float16) / 4)
images = g.integers(0, 255, (5, 6, 7, 3), np.uint8)
np.save(f"{folder}/nhwc.npy", images)
print(json.dumps({"cases": cases, "x": x.tolist(), "t": t.tolist(), "nchw": (images.transpose(0, 3, 1, 2).reshape(5, -1) / 255).tolist()}))
"""


class Dumped(harness.Case):
    """What all of them share."""

    def dump(self, source, status=0):
        p = subprocess.run([DUMP, source if isinstance(source, str) else json.dumps(source)], capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, status, p.stdout[-300:] + p.stderr[-1000:])
        return p.stderr if status else json.loads(p.stdout)

    def made(self, code, *args):
        p = subprocess.run([harness.python_env("formats"), "-c", code, self.tmp, *args], capture_output=True, text=True, timeout=120)
        self.assertEqual(p.returncode, 0, p.stderr[-2000:])
        return json.loads(p.stdout)

    def near(self, a, b, what):
        self.assertEqual(len(a), len(b), what)
        for i, (u, v) in enumerate(zip(a, b)):
            self.assertEqual(len(u), len(v), what)
            for p, q in zip(u, v):
                self.assertAlmostEqual(p, q, delta=1e-6, msg=f"{what}, example {i}")


class Formats(Dumped):
    def test_the_documentation_has_a_row_for_each_format(self):
        help_text = subprocess.run([TRAINER, "--help"], capture_output=True, text=True, check=True).stdout
        listed = re.findall(r"^  ([a-z]+):", help_text.partition("Data sets")[2], re.M)
        with open(os.path.join(harness.ROOT, "docs", "TRAINER.md"), encoding="utf-8") as f:
            rows = re.findall(r"^\| `([a-z]+):", f.read(), re.M)
        self.assertGreaterEqual(len(listed), 9)
        self.assertEqual(rows, listed)

    def test_numpy_arrays_of_every_type_and_order_arrive_unchanged(self):
        made = self.made(ARRAYS)
        for name, shape, values in made["cases"]:
            d = self.dump(f"npy:{name}?label={self.tmp}/y.npy&layout=nchw")
            self.near(d["values"], values, f"{name} {shape}")
            self.assertEqual((d["labels"], d["classes"]), ([0, 2, 1, 2, 0], 3))
            self.assertEqual(d["shape"], {1: "1", 2: "3", 3: "1x2x3", 4: "2x3x4"}[len(shape)])

    def test_bundles_of_arrays_bring_their_test_part(self):
        made = self.made(ARRAYS)
        for source in ("npz:stored.npz", "npz:packed.npz", "npz:zip64.npz", "safetensors:t.safetensors"):
            d = self.dump(source.replace(":", f":{self.tmp}/"))
            self.near(d["values"], made["x"] + made["t"], source)
            self.assertEqual((d["labels"], d["test"]), ([0, 1, 1, 0, 1, 0, 1, 0], 2), source)
        d = self.dump(f"npz:{self.tmp}/named.npz?input=pixels&label=price&task=regression")
        self.assertEqual(d["targets"], [0, 0.25, 0.5, 0.75, 1, 1.25])
        self.assertIn('no array "x"; it holds pixels, price', self.dump(f"npz:{self.tmp}/named.npz", status=2))

    def test_images_with_channels_last_say_so(self):
        made = self.made(ARRAYS)
        source = f"npy:{self.tmp}/nhwc.npy?label={self.tmp}/y.npy"
        self.assertIn("say layout=nhwc", self.dump(source, status=2))
        d = self.dump(source + "&layout=nhwc")
        self.assertEqual(d["shape"], "3x6x7")
        self.near(d["values"], made["nchw"], "channels last")

    def test_a_model_trained_on_arrays_predicts_from_arrays(self):
        self.made(ARRAYS)
        trial = {"program": "builtin", "dataset": f"npz:{self.tmp}/stored.npz", "model": {"layers": [{"type": "dense", "units": 2}]},
                 "training": {"validation": 0.3}}
        file = self.write("trial.json", json.dumps(trial))
        subprocess.run([TRAINER, "--train", file, "--epochs", "1", "--checkpoints", self.tmp], check=True, capture_output=True)
        for data, rows in ((f"npz:{self.tmp}/packed.npz", 2), (f"{self.tmp}/t.safetensors", 2),
                           (f"npz:{self.tmp}/named.npz?input=pixels", 6)):
            p = subprocess.run([harness.MAGPIE, "predict", f"{self.tmp}/1", data], capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stdout.count("\n")), (0, rows + 1), data + p.stdout + p.stderr)
        p = subprocess.run([harness.MAGPIE, "predict", f"{self.tmp}/1", "csv:x.csv"], capture_output=True, text=True)
        self.assertEqual(p.returncode, 2)
        self.assertIn("the model takes examples without names", p.stderr)


# Pictures of one size and of several; what Pillow itself makes of the large ones.
PICTURES = r"""
import json, os, sys
import numpy as np
from PIL import Image
folder = sys.argv[1]
g = np.random.default_rng(5)
def put(path, image, **more):
    os.makedirs(os.path.dirname(f"{folder}/{path}"), exist_ok=True)
    image.save(f"{folder}/{path}", **more)
    return image
smooth = lambda h, w: Image.fromarray(g.integers(0, 255, (4, 4, 3), np.uint8)).resize((w, h), Image.BICUBIC)
same = {}
for i in range(6):
    same[f"{'ab'[i % 2]}/{i}.png"] = put(f"same/{'ab'[i % 2]}/{i}.png", smooth(5, 7))
put("same/a/notes.txt.d/x.png", smooth(5, 7))
mixed = []
for i, (h, w) in enumerate([(40, 30), (64, 64), (9, 200), (3, 3)]):
    name = f"mixed/{'train' if i < 3 else 'test'}/{'ab'[i % 2]}/{i}." + ("jpg" if i % 2 else "png")
    image = put(name, smooth(h, w), **({"quality": 95} if i % 2 else {}))
    small = Image.open(f"{folder}/{name}").convert("RGB").resize((12, 8), Image.BILINEAR)
    mixed.append((np.asarray(small).transpose(2, 0, 1).reshape(-1) / 255).tolist())
put("mixed/test/a/5.png", Image.new("L", (12, 8), 100))
put("clear/a/1.png", Image.new("RGBA", (2, 1), (200, 100, 50, 0)))
put("clear/b/1.png", Image.new("LA", (2, 1), (200, 255)))
order = sorted(same)
print(json.dumps({"same": [(np.asarray(same[k]).transpose(2, 0, 1).reshape(-1) / 255).tolist() for k in order], "mixed": mixed}))
"""


FITS = r"""
import json, os, sys
import numpy as np
from PIL import Image
folder = sys.argv[1]
sizes = [(40, 30), (16, 64), (9, 200), (3, 3), (1, 90), (120, 2), (8, 12)]
out = {}
for i, (h, w) in enumerate(sizes):
    y, x = np.mgrid[0:h, 0:w]
    image = Image.fromarray(np.stack([x * 255 // w, y * 255 // h, (x + y) * 255 // (h + w)], -1).astype(np.uint8))
    path = f"{folder}/fit/{'ab'[i % 2]}/{i}." + ("png" if i % 2 else "jpg")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image.save(path, **({} if i % 2 else {"quality": 95}))
def ratio(a, b, c, most):
    return min(most, max(1, int(a * b / c + 0.5)))
for fit in "crop", "pad":
    for H, W in (8, 12), (10, 10), (7, 3):
        rows = []
        for i in sorted(range(len(sizes)), key=lambda i: (i % 2, i)):
            image = Image.open(f"{folder}/fit/{'ab'[i % 2]}/{i}." + ("png" if i % 2 else "jpg")).convert("RGB")
            w, h = image.size
            if fit == "crop":
                cw, ch = (ratio(h, W, H, w), h) if w * H > h * W else (w, ratio(w, H, W, h))
                x, y = (w - cw) // 2, (h - ch) // 2
                done = image.crop((x, y, x + cw, y + ch)).resize((W, H), Image.BILINEAR)
            else:
                nw, nh = (W, ratio(h, W, w, H)) if w * H > h * W else (ratio(w, H, h, W), H)
                done = Image.new("RGB", (W, H))
                done.paste(image.resize((nw, nh), Image.BILINEAR), ((W - nw) // 2, (H - nh) // 2))
            rows.append((np.asarray(done).transpose(2, 0, 1).reshape(-1) / 255).tolist())
        out[f"{fit} {H}x{W}"] = rows
print(json.dumps(out))
"""

EXIF = r"""
import json, os, sys
import numpy as np
from PIL import Image, ImageOps
folder = sys.argv[1]
y, x = np.mgrid[0:8, 0:16]
image = Image.fromarray(np.stack([x * 16, y * 30, (x * y) % 256], -1).astype(np.uint8))
shapes, values = [], []
def put(path, **kw):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image.save(path, quality=90, **kw)
for way in range(1, 9):
    for k in "ab":
        exif = Image.Exif()
        exif[0x010E] = "a picture"
        exif[0x0112] = way
        put(f"{folder}/exif{way}/{k}/{way}.jpg", exif=exif)
    seen = ImageOps.exif_transpose(Image.open(f"{folder}/exif{way}/a/{way}.jpg"))
    shapes.append([seen.height, seen.width])
    values.append((np.asarray(seen).transpose(2, 0, 1).reshape(-1) / 255).tolist())
put(f"{folder}/odd/a/1.jpg")
for i, odd in enumerate([b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0"]):
    put(f"{folder}/odd/b/{i}.jpg", exif=odd)
print(json.dumps({"shapes": shapes, "values": values}))
"""


class Files(Dumped):
    """Pictures, texts and records."""

    def dump_on(self, threads, source, status):
        """What is printed by so many threads."""
        p = subprocess.run([DUMP, source], capture_output=True, text=True, timeout=60, env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
        self.assertEqual(p.returncode, status, p.stderr[-500:])
        return p.stdout + p.stderr

    def test_pictures_of_one_size_come_as_they_are(self):
        made = self.made(PICTURES)
        d = self.dump(f"images:{self.tmp}/same")
        self.assertEqual((d["shape"], d["labels"], d["names"]), ("3x5x7", [0, 0, 0, 1, 1, 1], ["a", "b"]))
        self.near(d["values"], made["same"], "pictures")
        self.assertEqual(self.dump(f"images:{self.tmp}/same?channels=1")["shape"], "1x5x7")

    def test_pictures_of_several_sizes_are_scaled_as_pillow_scales_them(self):
        made = self.made(PICTURES)
        self.assertIn("say size=HEIGHTxWIDTH", self.dump(f"images:{self.tmp}/mixed", status=2))
        d = self.dump(f"images:{self.tmp}/mixed?size=8x12")
        self.assertEqual((d["shape"], d["test"], d["rows"]), ("3x8x12", 2, 5))
        rows = d["values"][:2] + [d["values"][2]] + [d["values"][4]]  # files by name: 0, 2 of a, 1 of b; then the test part
        want = [made["mixed"][0], made["mixed"][2], made["mixed"][1], made["mixed"][3]]
        for a, b in zip(rows, want):
            self.assertLess(max(abs(p - q) for p, q in zip(a, b)), 2.5 / 255)
        self.assertAlmostEqual(d["values"][3][0], 100 / 255, delta=1e-6)

    def test_pictures_are_cropped_and_padded_as_pillow_does_it(self):
        made = self.made(FITS)
        for name, wanted in made.items():
            fit, size = name.split()
            d = self.dump(f"images:{self.tmp}/fit?size={size}&fit={fit}")
            self.assertEqual(d["shape"], "3x" + size)
            for i, (a, b) in enumerate(zip(d["values"], wanted)):
                self.assertLess(max(abs(p - q) for p, q in zip(a, b)), 2.5 / 255, f"{name}, {i}")
        self.assertEqual(self.dump(f"images:{self.tmp}/fit?size=8x12"), self.dump(f"images:{self.tmp}/fit?size=8x12&fit=stretch"))
        self.assertIn('"fit" is how pictures come to a "size"', self.dump(f"images:{self.tmp}/fit?fit=crop", status=2))
        self.assertIn('not "tile"', self.dump(f"images:{self.tmp}/fit?size=8&fit=tile", status=2))

    def test_photographs_are_turned_as_their_exif_tag_says(self):
        made = self.made(EXIF)
        for way in range(1, 9):
            with self.subTest(way):
                d = self.dump(f"images:{self.tmp}/exif{way}")
                self.assertEqual(d["shape"], "3x%dx%d" % tuple(made["shapes"][way - 1]))
                self.near([d["values"][0]], [made["values"][way - 1]], "turned")
        d = self.dump(f"images:{self.tmp}/odd")
        self.assertEqual(d["shape"], "3x8x16", "nonsense in the tag is passed over")
        self.assertEqual(d["values"][0], d["values"][1])

    def test_pictures_are_the_same_on_one_thread_and_on_many_and_so_are_messages(self):
        self.made(FITS)
        for name in ("b/1.png", "a/0.jpg"):
            said = {self.dump_on(threads, f"images:{self.tmp}/fit?size=9&fit=pad", 0 if name == "b/1.png" else 2) for threads in (1, 2, 7, 16)}
            self.assertEqual(len(said), 1)
            for broken in (name, "b/1.png"):
                with open(os.path.join(self.tmp, "fit", *broken.split("/")), "r+b") as f:
                    f.truncate(40)
        self.assertIn("a/0.jpg", self.dump(f"images:{self.tmp}/fit?size=9", status=2), "the first one is told")

    def test_a_model_knows_how_its_pictures_were_fitted(self):
        self.made(FITS)
        trial = {"program": "builtin", "dataset": f"images:{self.tmp}/fit?size=8x12&fit=pad&test=0", "training": {"validation": 0, "batch_size": 2},
                 "model": {"layers": [{"type": "dense", "units": 2}]}}
        subprocess.run([TRAINER, "--train", self.write("t.json", json.dumps(trial)), "--epochs", "1", "--checkpoints", self.tmp],
                       check=True, capture_output=True)
        said = []
        for data in (f"{self.tmp}/fit", f"images:{self.tmp}/fit?size=8x12&fit=pad", f"images:{self.tmp}/fit?size=8x12&fit=stretch"):
            p = subprocess.run([harness.MAGPIE, "predict", f"{self.tmp}/1", data, "--probabilities"], capture_output=True, text=True)
            self.assertEqual(p.returncode, 0, p.stderr)
            said.append(p.stdout)
        self.assertEqual(said[0], said[1])
        self.assertNotEqual(said[0], said[2])

    def test_transparency_lies_on_black(self):
        self.made(PICTURES)
        d = self.dump(f"images:{self.tmp}/clear")
        self.assertEqual((d["shape"], d["values"][0]), ("3x1x2", [0] * 6))
        self.near([d["values"][1]], [[200 / 255] * 6], "grey, opaque")

    def test_a_broken_picture_is_named(self):
        self.made(PICTURES)
        path = os.path.join(self.tmp, "same", "b", "3.png")
        with open(path, "rb") as f:
            whole = f.read()
        for bad in (whole[:60], b"", b"GIF89a", whole[:-30]):
            with open(path, "wb") as f:
                f.write(bad)
            self.assertIn(path, self.dump(f"images:{self.tmp}/same", status=2))
        os.remove(path)
        jpeg = os.path.join(self.tmp, "mixed", "train", "b", "1.jpg")
        with open(jpeg, "r+b") as f:
            f.truncate(200)
        self.assertIn(jpeg, self.dump(f"images:{self.tmp}/mixed?size=4", status=2))
        self.assertIn("each folder below it is one", self.dump(f"images:{self.tmp}/same/a", status=2))

    def test_a_model_of_pictures_predicts_pictures_of_any_size(self):
        self.made(PICTURES)
        trial = {"program": "builtin", "dataset": f"images:{self.tmp}/mixed?size=8x12", "training": {"validation": 0.34, "batch_size": 2},
                 "model": {"layers": [{"type": "conv", "filters": 2, "kernel": 3}, {"type": "dense", "units": 2}]}}
        subprocess.run([TRAINER, "--train", self.write("t.json", json.dumps(trial)), "--epochs", "1", "--checkpoints", self.tmp],
                       check=True, capture_output=True)
        for data, rows in ((f"{self.tmp}/mixed", 2), (f"{self.tmp}/same/b", 3), (f"{self.tmp}/mixed/train/a/0.png", 1)):
            p = subprocess.run([harness.MAGPIE, "predict", f"{self.tmp}/1", data], capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stdout.count("\n")), (0, rows + 1), data + p.stdout + p.stderr)
            self.assertRegex(p.stdout.splitlines()[1], "^1,[ab]$")

    def test_lines_and_files_of_text_are_read(self):
        lines = self.write("t.txt", "spam\tbuy now\nham\tsee you\n\nspam\tnow or never\n")
        d = self.dump(f"text:{lines}")
        self.assertEqual((d["shape"], d["labels"], d["names"]), ("4096", [1, 0, 1], ["ham", "spam"]))
        self.assertIn(":2: no tab", self.dump(f"text:{self.write('u.txt', 'a' + chr(9) + 'b' + chr(10) + 'c' + chr(10))}", status=2))
        for name in ("train/u/1", "train/v/2", "test/u/3"):
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            self.write(name, "some words")
        d = self.dump(f"text:{self.tmp}")
        self.assertEqual((d["rows"], d["test"], d["labels"]), (3, 1, [0, 1, 0]))

    def record(self, **features):
        """A framed tf.train.Example, written here byte by byte."""
        def varint(n):
            out = b""
            while n > 127:
                out, n = out + bytes([n & 127 | 128]), n >> 7
            return out + bytes([n])

        def field(number, data):
            return varint(number << 3 | 2) + varint(len(data)) + data

        entries = b""
        for name, v in features.items():
            if isinstance(v, (str, bytes)):
                inner = field(1, field(1, v.encode() if isinstance(v, str) else v))
            elif isinstance(v[0], float):
                inner = field(2, field(1, struct.pack(f"<{len(v)}f", *v)))
            else:
                inner = field(3, field(1, b"".join(varint(i & (1 << 64) - 1) for i in v)))
            entries += field(1, field(1, name.encode()) + field(2, inner))
        data = field(1, entries)

        def crc(b):
            c = 0xffffffff
            for x in b:
                c ^= x
                for _ in range(8):
                    c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
            c ^= 0xffffffff
            return struct.pack("<I", ((c >> 15 | c << 17) + 0xa282ead8) & 0xffffffff)

        head = struct.pack("<Q", len(data))
        return head + crc(head) + data + crc(data)

    def test_records_of_tensorflow_are_read(self):
        records = [self.record(x=[1.5, -2.0], n=[i, -i], city="Oslo" if i % 2 else "Rome", y=[i % 3], raw=b"\0\1") for i in range(4)]
        path = self.path("d.tfrecord")
        with open(path, "wb") as f:
            f.write(b"".join(records))
        self.assertIn('the feature "raw" holds bytes that are no text', self.dump(f"tfrecord:{path}?label=y", status=2))
        source = f"tfrecord:{path}?label=y&ignore=raw&standardize=false&test=0"
        d = self.dump(source)
        self.assertEqual((d["labels"], d["names"]), ([0, 1, 2, 0], ["0", "1", "2"]))
        self.assertEqual(d["values"][3], [1, 0, 3, -3, 1.5, -2])
        with open(path, "wb") as f:
            f.write(records[0] + records[1][:-1] + b"?")
        self.assertIn("record 2 is damaged", self.dump(source, status=2))
        with open(path, "wb") as f:
            f.write(records[0] + self.record(x=[1.0], n=[1, 1], city="Rome", y=[1]))
        self.assertIn('record 2: the feature "x" holds another number', self.dump(source, status=2))
        with open(path, "wb") as f:
            f.write(records[0] + records[1][:40])
        self.assertIn("record 2 is torn", self.dump(source, status=2))
        with gzip.open(path + ".gz", "wb") as f:
            f.write(b"".join(records))
        self.assertEqual(self.dump(source.replace(path, path + ".gz"))["rows"], 4)

    def pictures_in_records(self, names=("image/encoded", "image/class/label"), text=False):
        """The pictures of FITS as records, in the order of the folder's files."""
        self.made(FITS)
        records = []
        for k, label in enumerate("ab"):
            folder = os.path.join(self.tmp, "fit", label)
            for name in sorted(os.listdir(folder)):
                with open(os.path.join(folder, name), "rb") as f:
                    records.append(self.record(**{names[0]: f.read(), names[1]: label if text else [k], "image/height": [3]}))
        return records

    def write_records(self, name, records):
        path = os.path.join(self.tmp, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(b"".join(records))
        return path

    def test_pictures_in_records_are_those_of_a_folder(self):
        plain = self.dump(f"images:{self.tmp}/fit?size=8x12&fit=crop") if self.made(FITS) else None
        for names, text, query in ((("image/encoded", "image/class/label"), False, ""), (("image", "label"), True, ""),
                                   (("picture", "kind"), True, "&input=picture&label=kind")):
            path = self.write_records("d.tfrecord", self.pictures_in_records(names, text))
            d = self.dump(f"images:{path}?size=8x12&fit=crop{query}")
            self.assertEqual((d["shape"], d["values"], d["labels"]), ("3x8x12", plain["values"], plain["labels"]))
            self.assertEqual(d["names"], ["a", "b"] if text else ["0", "1"])
        many = self.pictures_in_records() * 100  # more than are decoded at once
        d = self.dump(f"images:{self.write_records('many.tfrecord', many)}?size=2")
        self.assertEqual((len(d["values"]), d["values"][:7]), (700, d["values"][-7:]))

    def test_files_of_records_with_test_in_their_names_are_the_test_part(self):
        records = self.pictures_in_records()
        for i, (name, part) in enumerate((("train.tfrecord-00000-of-00002", records[:3]), ("test.tfrecord-00000-of-00001", records[3:5]),
                                          ("train.tfrecord-00001-of-00002", records[5:]))):
            self.write_records("sharded/set-" + name, part)
        with open(os.path.join(self.tmp, "sharded", "features.json"), "w", encoding="utf-8") as f:
            f.write("{}")
        d = self.dump(f"images:{self.tmp}/sharded?size=4")
        whole = self.dump(f"images:{self.write_records('d.tfrecord', records)}?size=4")
        self.assertEqual((d["rows"], d["test"]), (7, 2))
        self.assertEqual(d["values"], whole["values"][:3] + whole["values"][5:] + whole["values"][3:5])

    def test_what_is_wrong_with_pictures_in_records_is_said(self):
        records = self.pictures_in_records()
        bad = self.record(**{"image/encoded": b"GIF89a", "image/class/label": [1]})
        none = self.record(**{"image/encoded": [1], "image/class/label": [1]})
        two = self.record(**{"image/encoded": b"x", "image/class/label": [1, 2]})
        for content, query, says in ((records[:2] + [bad], "size=4", "record 3: neither a JPEG nor a PNG file"),
                                     (records[:1] + [none], "size=4", 'record 2: the feature "image/encoded" (input=) is not the bytes'),
                                     (records[:1] + [two], "size=4", 'record 2: the feature "image/class/label" (label=) is not one value'),
                                     (records, "size=4&label=kind", 'record 1: the feature "kind" (label=) is not one value'),
                                     ([self.record(x=[1.0], label=[1])], "size=4", "say which one holds the picture (input=)"),
                                     ([self.record(image=b"x")], "size=4", "say which one holds the class (label=)"),
                                     (records[:3] * 2, "size=4", "every record has the same"), ([], "size=4", "no records"),
                                     (records, "test=0", "say size=HEIGHTxWIDTH"),
                                     ([records[0], records[1][:50]], "size=4", "record 2 is torn")):
            path = self.write_records("d.tfrecord", content)
            self.assertIn(says, self.dump(f"images:{path}?{query}", status=2))
        self.assertIn("are for pictures in TFRecord files", self.dump(f"images:{self.tmp}/fit?size=4&label=x", status=2))

    def test_a_model_of_pictures_in_records_predicts_records_and_files(self):
        records = self.pictures_in_records()
        path = self.write_records("d.tfrecord", records)
        trial = {"program": "builtin", "dataset": f"images:{path}?size=8x12&fit=pad&test=0", "training": {"validation": 0, "batch_size": 2},
                 "model": {"layers": [{"type": "dense", "units": 2}]}}
        subprocess.run([TRAINER, "--train", self.write("t.json", json.dumps(trial)), "--epochs", "1", "--checkpoints", self.tmp],
                       check=True, capture_output=True)
        said = []
        unlabelled = self.write_records("u.tfrecord", [self.record(**{"image/encoded": b"x"})])
        for data in (path, f"images:{path}", f"{self.tmp}/fit"):
            p = subprocess.run([harness.MAGPIE, "predict", f"{self.tmp}/1", data], capture_output=True, text=True)
            self.assertEqual(p.returncode, 0, p.stderr)
            said.append(p.stdout)
        self.assertEqual(said[0], said[1])
        self.assertEqual(said[0], said[2])
        p = subprocess.run([harness.MAGPIE, "predict", f"{self.tmp}/1", unlabelled], capture_output=True, text=True)
        self.assertIn("record 1: neither a JPEG nor a PNG", p.stderr)


class Columns(harness.Case):
    """A table of numbers, categories, booleans and texts: from training to predictions of raw rows."""
    ROWS = [(20, "Oslo", "yes", "a fine day", "u"), (31, "Bergen", "no", "rain again", "v"), ("", "Oslo", "yes", "fine and dry", "u"),
            (45, "Narvik", "no", "rain, rain", "v")] * 8
    STAGES = [{"type": "impute", "strategy": "median", "indicator": True}, {"type": "standardize", "columns": ["age"]},
              {"type": "onehot", "columns": ["city"]}, {"type": "tokenize", "pattern": "[^a-z]+"}, {"type": "hashing_tf", "features": "${n}"},
              {"type": "idf"}]

    def table(self, name, rows, columns=("age", "city", "dry", "note", "y")):
        return self.write(name, "\n".join([",".join(columns)] + [",".join(f'"{v}"' for v in r) for r in rows]) + "\n")

    def train(self, **more):
        data = self.table("people.csv", self.ROWS)
        trial = {"program": "builtin", "dataset": {"format": "csv", "path": data, "label": "y", "columns": {"note": "text"}, "test": 0},
                 "model": {"layers": [{"type": "dense", "units": 2}]}, "training": {"lr": 0.3, "validation": 0.25}, **more}
        file = self.write("trial.json", json.dumps(trial))
        p = subprocess.run([TRAINER, "--train", file, "--epochs", "8", "--params", '{"n": 64}', "--checkpoints", self.tmp],
                           capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        return os.path.join(self.tmp, "8"), data

    def predict(self, model, data, *more, status=0):
        p = subprocess.run([harness.MAGPIE, "predict", model, data, *more], capture_output=True, text=True)
        self.assertEqual(p.returncode, status, p.stdout + p.stderr)
        return p

    def test_a_model_predicts_from_raw_rows(self):
        model, data = self.train(preprocessing=self.STAGES)
        p = self.predict(model, data)
        self.assertIn("accuracy 1.0000", p.stderr)
        whole = p.stdout.splitlines()[1:5]
        few = self.table("few.csv", [(r[3], r[0], r[2], r[1]) for r in self.ROWS[:4]], ("note", "age", "dry", "city"))
        self.assertEqual(self.predict(model, few).stdout.splitlines()[1:], whole)
        file = os.path.join(self.tmp, "model.safetensors")
        subprocess.run([TRAINER, "--export", model, "--output", file], check=True)
        self.assertEqual(self.predict(file, few).stdout.splitlines()[1:], whole)

    def test_what_training_never_saw_is_predicted_all_the_same(self):
        model, _ = self.train(preprocessing=self.STAGES)
        odd = self.table("odd.csv", [("", "Atlantis", "no", "", ""), (30, "NA", "yes", "unheard of words", "")])
        self.assertEqual(len(self.predict(model, odd).stdout.splitlines()), 3)
        bad = self.table("bad.csv", [("old", "Oslo", "no", "", "u")])
        self.assertIn('"old", which is no number', self.predict(model, bad, status=2).stderr)
        short = self.table("short.csv", [(1, "Oslo", "no")], ("age", "city", "dry"))
        self.assertIn('no column "note"', self.predict(model, short, status=2).stderr)

    def test_without_an_impute_stage_a_missing_value_is_named(self):
        model, _ = self.train(preprocessing=[{"type": "onehot"}, *self.STAGES[3:]],
                              dataset={"format": "csv", "path": self.table("full.csv", [r for r in self.ROWS if r[0] != ""]), "label": "y",
                                       "columns": {"note": "text"}, "test": 0})
        gone = self.table("gone.csv", [self.ROWS[0], self.ROWS[2]])
        self.assertIn('"age" lacks 1 value, first in example 2', self.predict(model, gone, status=2).stderr)

    def test_the_check_tries_the_stages_of_every_corner(self):
        data = self.table("people.csv", self.ROWS)
        spec = {"name": "c", "objective": {"metric": "val_loss", "direction": "min"}, "searchspace": {"n": ["INTEGER", [16, 2000000]]},
                "optimizer": {"algorithm": "random"}, "limits": {"trials": 1},
                "trial": {"program": "builtin", "dataset": f"csv:{data}?label=y&columns=note:text", "preprocessing": self.STAGES,
                          "model": {"layers": [{"type": "dense", "units": 2}]}}}
        p = subprocess.run([TRAINER, "--check", self.write("e.json", json.dumps(spec))], capture_output=True, text=True)
        self.assertEqual(p.returncode, 1)
        self.assertIn("/trial/preprocessing/4/features", p.stdout + p.stderr)
        self.assertIn("must lie between 1 and 1048576", p.stdout + p.stderr)


if __name__ == "__main__":
    harness.main()
