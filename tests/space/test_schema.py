#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schema agrees with the parser: it takes every example and every resolved document, refuses
what a schema can refuse (data/broken.json says which), and takes the rest, which only the parser can judge.

usage: test_schema.py SOURCE_ROOT RESOLVE_PROGRAM
"""
import copy
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

import jsonschema

ROOT, RESOLVE = sys.argv[1:3]
DATA = os.path.join(ROOT, "tests", "space", "data")


def load(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return json.load(f)


def merge(target, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


class Schema(unittest.TestCase):
    def setUp(self):
        self.schema = load("docs", "experiment.schema.json")
        self.validator = jsonschema.Draft202012Validator(self.schema)

    def errors(self, doc):
        return [f"{list(e.absolute_path)}: {e.message[:200]}" for e in self.validator.iter_errors(doc)]

    def test_the_schema_is_a_schema(self):
        jsonschema.Draft202012Validator.check_schema(self.schema)

    def test_every_example_and_its_resolved_form_pass(self):
        files = sorted(glob.glob(os.path.join(ROOT, "examples", "*.json"))) + [os.path.join(DATA, "base.json")]
        self.assertGreaterEqual(len(files), 3)
        for name in files:
            self.assertEqual(self.errors(load(name)), [], name)
            out = subprocess.run([RESOLVE, name], capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assertEqual(self.errors(json.loads(out.stdout)), [], name)

    def resolve(self, doc):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(doc, f)
            f.flush()
            return subprocess.run([RESOLVE, f.name], capture_output=True, text=True, check=False, timeout=60)

    def test_the_page_about_the_file_names_every_key_and_its_json_is_right(self):
        with open(os.path.join(ROOT, "docs", "EXPERIMENT.md"), encoding="utf-8") as f:
            page = f.read()
        keys = list(self.schema["properties"])
        keys += self.schema["properties"]["limits"]["properties"]
        for part in ("resource", "requires", "checkpoint", "notify"):
            keys += self.schema["properties"][part]["properties"]
        for key in keys:
            self.assertIn(f"`{key}`", page)
        blocks = re.findall(r"```json\n(.*?)```", page, re.S)
        self.assertGreaterEqual(len(blocks), 3)
        for block in blocks:
            doc = json.loads(block)
            if "objective" not in doc and "objectives" not in doc:
                doc = merge(load("tests", "space", "data", "base.json"), doc)
            self.assertEqual(self.errors(doc), [], block)
            out = self.resolve(doc)
            self.assertEqual(out.returncode, 0, out.stderr)

    def test_broken_files_are_refused_where_a_schema_can_tell(self):
        base = load("tests", "space", "data", "base.json")
        for i, row in enumerate(load("tests", "space", "data", "broken.json")):
            errors = self.errors(merge(base, row["patch"]))
            self.assertEqual(bool(errors), row["schema"], f"row {i}: {row['patch']}: {errors}")

    def test_every_key_has_a_meaning(self):
        for name, part in self.schema["properties"].items():
            self.assertTrue(part.keys() & {"description", "properties", "oneOf", "pattern", "type"}, name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=0)
