# SPDX-License-Identifier: Apache-2.0
"""The Python package as installed: by pip, without the network, into an environment of its own."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
import harness

PYTHON = "/usr/bin/python3"  # Debian's, which has setuptools and wheel by its packages


class Installed(harness.Case):
    def run_it(self, *argv, cwd=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAGPIE_", "PYTHON"))}
        p = subprocess.run(argv, capture_output=True, text=True, timeout=240, env=env, cwd=cwd or self.tmp)
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)
        return p.stdout

    def test_pip_installs_a_typed_package_that_runs(self):
        needs = subprocess.run([PYTHON, "-c", "import venv, ensurepip, setuptools, wheel"], capture_output=True, text=True)
        if needs.returncode != 0:
            self.skipTest(f"{PYTHON}: {needs.stderr.strip().splitlines()[-1]}")
        source, env = self.path("source"), self.path("env")
        shutil.copytree(harness.CLIENT, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        self.run_it(PYTHON, "-m", "venv", "--system-site-packages", env)
        python = os.path.join(env, "bin", "python")
        self.run_it(python, "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation", source)
        out = self.run_it(python, "-c", "import magpie_hpo, os; print(magpie_hpo.__version__, magpie_hpo.__file__)")
        version, where = out.split()
        self.assertEqual(version, os.environ.get("MAGPIE_VERSION", version))
        self.assertTrue(where.startswith(env), where)
        have = set(os.listdir(os.path.dirname(where)))
        want = {f for f in os.listdir(os.path.join(harness.CLIENT, "magpie_hpo")) if f != "__pycache__"}
        self.assertEqual(have - {"__pycache__"}, want)
        self.assertIn("py.typed", have)
        script = self.write("s.py", "import magpie_hpo as m\nwith m.trial(x=2) as t:\n    t.report(1, loss=t.params.x)\n")
        self.assertEqual(self.run_it(python, script), "step 1  loss 2\n")
        shown = self.run_it(python, "-m", "pip", "show", "magpie-hpo")
        self.assertRegex(shown, r"(?m)^Requires: *$")


if __name__ == "__main__":
    harness.main()
