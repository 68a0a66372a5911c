#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images and labels of MNIST's format as CSV: a column "label", then one for each pixel.

    idx_to_csv.py IMAGES LABELS [ROWS] > mnist_train.csv
"""
import gzip
import itertools
import struct
import sys


def read(path, magic, dimensions):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        head = struct.unpack(f">{1 + dimensions}I", f.read(4 * (1 + dimensions)))
        if head[0] != magic:
            sys.exit(f"{path}: not a file of MNIST's format (it begins with {head[0]}, not {magic})")
        return head[1:], f.read()


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__.strip())
    (n, rows, columns), pixels = read(sys.argv[1], 2051, 3)
    (n_labels,), labels = read(sys.argv[2], 2049, 1)
    size = rows * columns
    if n != n_labels:
        sys.exit(f"{n} images, but {n_labels} labels")
    print(",".join(itertools.chain(["label"], (f"pixel{i}" for i in range(size)))))
    for i in range(min(n, int(sys.argv[3]) if len(sys.argv) == 4 else n)):
        print(",".join(map(str, itertools.chain([labels[i]], pixels[i * size:(i + 1) * size]))))


main()
