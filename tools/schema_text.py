# SPDX-License-Identifier: Apache-2.0
"""How docs/experiment.schema.json is written: shared by the tools that put parts into it."""
import json

WIDTH = 110


def in_words(text):
    return text[0].upper() + text[1:] + "."


def whole(x):
    return int(x) if x == int(x) and abs(x) <= 1e15 else x


def dump(v, indent=0):
    """JSON with short values on one line."""
    flat = json.dumps(v, ensure_ascii=False)
    if not isinstance(v, (dict, list)) or not v or (len(flat) + indent <= WIDTH and not any(
            isinstance(x, (dict, list)) and x and isinstance(v, list) for x in v) and "properties" not in v):
        return flat
    pad = " " * (indent + 2)
    if isinstance(v, list):
        return "[\n" + ",\n".join(pad + dump(x, indent + 2) for x in v) + "\n" + " " * indent + "]"
    return "{\n" + ",\n".join(pad + json.dumps(k) + ": " + dump(x, indent + 2) for k, x in v.items()) + "\n" + " " * indent + "}"
