# SPDX-License-Identifier: Apache-2.0
"""For tests that need the libraries of tests/python/libraries.txt: the script goes on in their environment.

    import libraries                       # first: may start the script again under the other interpreter
    if libraries.here:
        import sklearn

    class Something(libraries.Case): ...   # skips, with the reason, where the libraries cannot be had
"""
import os
import sys
import unittest

import harness

_MARK = "MAGPIE_TEST_LIBRARIES"


def _enter():
    """The reason why the libraries are not here, None when they are."""
    if os.environ.get(_MARK) == sys.executable:
        return None
    try:
        python = harness.python_env("libraries")
    except unittest.SkipTest as e:
        return str(e)
    os.environ[_MARK] = python
    os.execv(python, [python, *sys.argv])


reason = _enter()
here = reason is None
sys.path.insert(0, harness.CLIENT)
# Trial programs and executors find the package and the environment's interpreter as a user's would.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [harness.CLIENT, os.environ.get("PYTHONPATH")]))
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
os.environ["MAGPIE"] = harness.MAGPIE
os.environ["KERAS_BACKEND"] = "jax"
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


class Case(harness.Case):
    def setUp(self):
        if not here:
            self.skipTest(reason)
        super().setUp()
