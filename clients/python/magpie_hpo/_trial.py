# SPDX-License-Identifier: Apache-2.0
"""One trial, seen from inside a training script."""
from __future__ import annotations

import atexit
import operator
import os
import pathlib
import shutil
import sys
import tempfile
import types
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Tuple, Type

from . import channel as _channel
from . import state
from .errors import Stopped, cause_of, reason_of

if TYPE_CHECKING:
    _PathLike = os.PathLike[str]
else:
    _PathLike = os.PathLike

METRICS_MAX = 64  # of one step
METRIC_NAME_MAX = 128  # bytes
STEP_MAX = 2**53


class Params(Mapping[str, Any]):
    """The trial's parameters: a mapping whose entries are attributes too (`params["lr"]`, `params.lr`)."""

    __slots__ = ("_values",)
    _values: Dict[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"{name}: this trial has {', '.join(self._values) or 'no parameters'} (an inactive one is "
                           "absent; give it a default in magpie.trial)") from None

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no parameter {name}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("parameters are not changed by the trial")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values!r})"


def number(name: str, value: Any) -> _channel.Number:
    """A metric's value: anything that float() takes but text. None says that there is none."""
    kind = type(value)
    if kind is float or value is None:
        return value  # type: ignore[no-any-return]
    if kind is int and -STEP_MAX < value < STEP_MAX:
        return value  # type: ignore[no-any-return]
    if isinstance(value, (str, bytes)):
        raise TypeError(f"metric {name}={value!r} is text, not a number")
    try:
        return float(value)
    except (TypeError, ValueError) as e:
        raise TypeError(f"metric {name} is no number but {type(value).__name__} ({e}); a tensor of several values needs "
                        "its mean() first") from None


def numbers(metrics: Mapping[str, Any]) -> Dict[str, _channel.Number]:
    """Checked metrics, as they are sent."""
    if len(metrics) > METRICS_MAX:
        raise ValueError(f"{len(metrics)} metrics in one step: at most {METRICS_MAX}")
    for name in metrics:
        if not 0 < len(name.encode()) <= METRIC_NAME_MAX:
            raise ValueError(f"a metric's name has 1 to {METRIC_NAME_MAX} bytes, not {name!r}")
    return {name: number(name, v) for name, v in metrics.items()}


class CheckpointDir(_PathLike):
    """The folder of one checkpoint. `with` it, and it is announced at the end of the block; as a path (`folder / "model.pt"`)
    call complete() when all is written."""

    def __init__(self, trial: "Trial", step: int, path: pathlib.Path, keep: bool) -> None:
        self._trial, self.step, self.path, self._keep = trial, step, path, keep
        self._done = False

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def complete(self) -> None:
        """Nothing in it changes any more: the worker may publish it."""
        if self._done:
            return
        self._done = True
        if self._keep:
            self._trial._channel.checkpoint(self.step, str(self.path))
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> pathlib.Path:
        return self.path

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[types.TracebackType]) -> None:
        if kind is None:
            self.complete()
        else:  # half a checkpoint is none
            self._done = True
            shutil.rmtree(self.path, ignore_errors=True)


class Trial:
    """One trial. Made by magpie.trial(); see docs/PYTHON.md."""

    params: Params
    budget: Optional[int]  #: the last step to run; None: the script decides
    resume_step: int  #: the step of the checkpoint to go on from, 0 without one
    resume_from: Optional[pathlib.Path]  #: its folder, None without one
    seed: int  #: the experiment's
    fold: Optional[int]  #: cross-validation: 1 to folds; 0: the refit on all data; None: no folds
    folds: Optional[int]

    def __init__(self, channel: _channel.Channel, defaults: Mapping[str, Any],
                 sigterm: Optional[_channel.Sigterm] = None) -> None:
        s = channel.start
        self._channel = channel
        self._sigterm = sigterm
        self.params = Params({**defaults, **s.params})
        self.budget = s.budget
        self.resume_step = s.resume_step
        self.resume_from = pathlib.Path(s.resume_from) if s.resume_from else None
        self.seed = s.seed
        self.fold, self.folds = s.fold, s.folds
        self.split: Mapping[str, Any] = s.split  #: how the data is to be divided, with folds
        self.number = s.trial  #: the trial's number, None without magpie
        self.experiment, self.attempt = s.experiment, s.attempt
        self.metric, self.direction = s.metric, s.direction  #: the objective, where the worker tells it
        self.checkpoint_every = s.every  #: the experiment file's checkpoint.every
        self.step = s.resume_step  #: the last step reported
        self.managed = not isinstance(channel, _channel.Terminal)  #: does magpie run this?
        self._trial_dir: Optional[str] = s.trial_dir
        self._checkpointed: Dict[int, CheckpointDir] = {}
        self._result: Dict[str, _channel.Number] = {}
        self._epoch: Optional[int] = None
        self._holds = False  # at the budget: its report waits, so that no promotion overtakes the checkpoint
        self._held: List[Tuple[int, Dict[str, _channel.Number]]] = []
        self._asked = False  # the script asks should_stop() or uses epochs()
        self._warned = False  # a report came after the order
        self._obeyed: Optional[str] = None  # the order that ended it
        self._ended = False
        self._depth = 0

    # ---- orders ----
    @property
    def order(self) -> Optional[str]:
        """`stop` or `pause` once magpie ordered it, else None."""
        if self._sigterm is not None and self._sigterm.came:
            return "stop"
        return self._channel.order()

    def should_stop(self) -> bool:
        """Is it time to end: stopped, paused, or at the end of the budget? Ask after each report, end the loop when true."""
        self._asked = True
        order = self.order
        if order is not None:
            self._obeyed = order
            return True
        return self.budget is not None and self.step >= self.budget

    # ---- reports ----
    def report(self, step: Optional[int] = None, metrics: Optional[Mapping[str, Any]] = None, **more: Any) -> None:
        """Tells the metrics of a step (1, 2, ...), by default the epoch of epochs(), else the step after the last. Values are
        numbers or what float() takes (numpy and torch scalars). Returns at once."""
        if step is None:
            step = self._epoch if self._epoch is not None else self.step + 1
        else:
            step = operator.index(step)
        if not self.step <= step < STEP_MAX:
            raise ValueError(f"step {step} after step {self.step}: steps rise")
        values = numbers({**metrics, **more} if metrics else more)
        self._obey_at_report()
        self.step = step
        if self._holds:
            self._held.append((step, values))
        else:
            self._channel.report(step, values)

    def _release(self) -> None:
        """Reports that waited for their checkpoint leave."""
        self._holds = False
        held, self._held = self._held, []
        for step, values in held:
            self._channel.report(step, values)

    def _obey_at_report(self) -> None:
        """A script that never asks is ended at the second report after an order."""
        order = None if self._asked else self.order
        if order is not None:
            if self._warned:
                self._obeyed = order
                raise Stopped()
            self._warned = True

    def result(self, **metrics: Any) -> None:
        """The final values, where they are not those of the last report."""
        self._result = numbers(metrics)

    # ---- checkpoints ----
    @property
    def keeps_checkpoints(self) -> bool:
        """Does anybody keep them? Without magpie only when MAGPIE_CHECKPOINT_DIR names a folder."""
        return self._channel.start.checkpoint_dir is not None

    def checkpoint_dir(self, step: Optional[int] = None) -> CheckpointDir:
        """The folder for the checkpoint of a step: `with t.checkpoint_dir(step) as folder: ...`. Where nobody keeps
        checkpoints it is a temporary one."""
        step = operator.index(self.step if step is None else step)
        if step in self._checkpointed:
            raise ValueError(f"there is a checkpoint of step {step} already, and a finished one is not changed")
        root = self._channel.start.checkpoint_dir
        if root is None:
            path = pathlib.Path(tempfile.mkdtemp(prefix="magpie-checkpoint-"))
        else:
            path = pathlib.Path(root, str(step))
            if not self.managed:
                shutil.rmtree(path, ignore_errors=True)  # of an earlier run by hand
            path.mkdir(parents=True, exist_ok=True)
        folder = CheckpointDir(self, step, path, root is not None)
        self._checkpointed[step] = folder
        return folder

    def save(self, step: Optional[int] = None, **objects: Any) -> None:
        """A checkpoint of these objects (state_dict where they have one, else pickle) and of the random generators."""
        with self.checkpoint_dir(step) as folder:
            state.save(folder, self.step if step is None else step, objects)

    def restore(self, **objects: Any) -> bool:
        """Puts the objects back as save() or epochs() left them in the checkpoint to go on from; False without one."""
        state.check(objects)
        if self.resume_from is None:
            return False
        state.restore(self.resume_from, objects)
        return True

    def epochs(self, n: Optional[int] = None, **objects: Any) -> Iterator[int]:
        """The epochs to run, from 1: up to the trial's budget, or to `n` where it has none.

        The objects (model, optimizer, ...) are first put back as they were at the checkpoint to go on from, saved every
        `checkpoint.every` epochs, at the end and when the trial is paused. Ends at a stop or a pause."""
        last = self.budget if self.budget is not None else n
        if last is None:
            raise ValueError("epochs(n): how many, where the experiment has no resource?")
        self._asked = True
        self.restore(**objects)
        return self._epochs(operator.index(last), objects)

    def _epochs(self, last: int, objects: Dict[str, Any]) -> Iterator[int]:
        for epoch in range(self.resume_step + 1, last + 1):
            if self.order is not None:
                self._obeyed = self.order
                return
            self._epoch = epoch
            self._holds = bool(objects) and epoch == self.budget and self.keeps_checkpoints
            try:
                yield epoch
                self._epoch = None
                order = self.order
                due = epoch == last or epoch % self.checkpoint_every == 0 or order == "pause"
                if objects and due and order != "stop" and self.keeps_checkpoints and epoch not in self._checkpointed:
                    self.save(epoch, **objects)
            finally:
                self._release()

    # ---- folders ----
    @property
    def trial_dir(self) -> pathlib.Path:
        """A scratch folder of this attempt; it goes with it."""
        if self._trial_dir is None:
            self._trial_dir = tempfile.mkdtemp(prefix="magpie-trial-")
            atexit.register(shutil.rmtree, self._trial_dir, ignore_errors=True)
        return pathlib.Path(self._trial_dir)

    # ---- its end ----
    @property
    def ended(self) -> bool:
        """Was its end told? Then nothing more of it counts."""
        return self._ended

    @property
    def status(self) -> str:
        """How it stands to its orders: `completed`, or `stopped` or `paused` when an order ended it."""
        return {None: "completed", "stop": "stopped", "pause": "paused"}[self._obeyed]

    def __enter__(self) -> "Trial":
        self._depth += 1
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[types.TracebackType]) -> bool:
        self._depth -= 1
        if self._depth > 0 or self._ended:
            return False
        if error is None or isinstance(error, Stopped) or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self._ended = True
            self._release()
            self._channel.result(self.status, self._result)
            return isinstance(error, Stopped)
        if isinstance(error, Exception):
            self._fail(error)
        return False

    def _fail(self, error: BaseException) -> None:
        if not self._ended:
            self._ended = True
            self._channel.error(reason_of(error), cause_of(error))


_current: List[Trial] = []  # the process's trial: at most one


def current() -> Optional[Trial]:
    """The trial that runs in this process, if any."""
    return _current[-1] if _current else None


def _hook(t: Trial) -> None:
    """An exception that ends the script tells its reason, without `with` too."""
    before = sys.excepthook

    def hook(kind: Type[BaseException], error: BaseException, trace: Optional[types.TracebackType]) -> None:
        if isinstance(error, Exception):
            t._fail(error)
        before(kind, error, trace)

    sys.excepthook = hook


def trial(**defaults: Any) -> Trial:
    """The trial that this script is. The defaults stand for parameters that magpie does not give: all of them when the script
    is run by hand.

        with magpie.trial(lr=0.01) as t:
            for epoch in t.epochs(10, model=model):
                t.report(epoch, val_accuracy=train(model, t.params["lr"]))
    """
    t = current()
    if t is not None and not t.ended:
        if defaults:
            t.params = Params({**defaults, **t.params})
        return t
    if t is not None and t.managed:
        raise RuntimeError("this trial has ended, and a command is one trial: see magpie_hpo.executor for many in one process")
    ch = _channel.open_channel(os.environ)
    managed = not isinstance(ch, _channel.Terminal)
    if managed and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # so that logs can be followed
    t = Trial(ch, defaults, _channel.Sigterm() if managed else None)
    if managed:
        _hook(t)
    _current[:] = [t]
    return t

