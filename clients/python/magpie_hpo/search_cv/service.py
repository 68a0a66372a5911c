# SPDX-License-Identifier: Apache-2.0
"""The driver behind a search: one that runs already, or one of the search's own for as long as it lasts."""
import contextlib
import os
import select
import shutil
import subprocess
import tempfile

from ..client import Client
from ..errors import MagpieError
from ..transport import Invalid
from .units import with_parent

READY = 30.0  # seconds for a driver to start
PATIENCE = 120.0  # seconds in which a driver that went away must be back


@contextlib.contextmanager
def experiment(url, spec):
    """A new experiment; cancelled when the block ends by an exception. A spec that the driver refuses is a ValueError."""
    with contextlib.ExitStack() as stack:
        client = Client(url if url is not None else stack.enter_context(_own_driver()), patience=PATIENCE)
        stack.callback(client.close)
        try:
            x = client.submit(spec)
        except Invalid as e:
            raise ValueError("; ".join(f"{i.get('pointer')}: {i.get('detail')}" for i in e.issues) or str(e)) from None
        try:
            yield x
        except BaseException:
            with contextlib.suppress(MagpieError):
                Client(client.url, patience=1.0).experiment(x.id).cancel()
            raise


@contextlib.contextmanager
def _own_driver():
    """The address of a new driver, which is gone afterwards with all that it kept."""
    folder = tempfile.mkdtemp(prefix="magpie-search-")
    p = None
    try:
        p = subprocess.Popen([_program(), "driver", "--data", os.path.join(folder, "data"), "--http", "127.0.0.1:0",
                              "--listen", f"ipc://{folder}/nng", "--durability", "normal"], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True, env={"MAGPIE_LOG": "error", **os.environ}, preexec_fn=with_parent)
        yield _ready(p)
    finally:
        if p is not None:
            p.kill()
            p.wait()
            p.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def _program():
    found = os.environ.get("MAGPIE") or shutil.which("magpie")
    if not found:
        raise MagpieError("no program magpie in PATH: install it, set MAGPIE to it, or give the url of a driver")
    return found


def _ready(p):
    if not select.select([p.stdout], [], [], READY)[0]:
        raise MagpieError(f"the driver did not start within {READY:.0f} s")
    line = p.stdout.readline()
    for field in line.split():
        if field.startswith("http="):
            return field[5:]
    raise MagpieError(f"the driver did not start: {line.strip() or 'it ended with status %s' % p.wait()}")
