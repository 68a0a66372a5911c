#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model with a trade-off, in closed form: more units and layers make it better, slower and larger. It reports three metrics at once.

    {"command": ["python3", "examples/tradeoff.py", "--units", "${units}", "--layers", "${layers}", "--dropout", "${dropout}"]}
"""
import argparse
import json
import math

p = argparse.ArgumentParser()
p.add_argument("--units", type=int, default=64)
p.add_argument("--layers", type=int, default=2)
p.add_argument("--dropout", type=float, default=0.1)
a = p.parse_args()
weights = a.units * a.units * a.layers
accuracy = 1 - 0.3 / (1 + math.log10(weights)) - (a.dropout - 0.15) ** 2 - 0.004 * (a.layers - 3) ** 2
print("::magpie " + json.dumps({"result": {
    "accuracy": accuracy, "latency_ms": 0.05 * a.layers + weights * 4e-6, "memory_mb": 2 + weights * 8e-6}}))
