# SPDX-License-Identifier: Apache-2.0
"""Sending a function to worker processes, with the standard library alone.

What can be imported goes by its name. What was written in a script, a notebook or inside another function goes by value: its
code, defaults, closure, and the globals that it uses, functions and classes among them in the same way. The receiver is the same
Python on the same machine."""
from __future__ import annotations

import importlib
import io
import marshal
import pickle
import sys
import types
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from .errors import MagpieError

REPEAT = "run_number"  # the parameter of a search that repeats the function as it is
ROW = "row"  # the parameter of a search over rows

_spaces: Dict[str, Dict[str, Any]] = {}  # of the receiver: the globals of what came by value


def _namespace(name: str) -> Dict[str, Any]:
    return _spaces.setdefault(name, {"__builtins__": __builtins__, "__name__": name})


def _make_function(code: bytes, module: str, name: str, closure: Optional[Tuple[types.CellType, ...]]) -> types.FunctionType:
    return types.FunctionType(marshal.loads(code), _namespace(module), name, None, closure)


def _set_function(f: types.FunctionType, state: Dict[str, Any]) -> None:
    f.__globals__.update(state.pop("globals"))
    f.__dict__.update(state.pop("dict"))
    for name, value in state.items():
        setattr(f, name, value)


def _make_cell() -> types.CellType:
    return types.CellType()


def _set_cell(cell: types.CellType, state: Tuple[Any, ...]) -> None:
    if state:
        cell.cell_contents = state[0]


def _make_class(meta: Any, name: str, bases: Tuple[type, ...], slots: Dict[str, Any]) -> Any:
    return types.new_class(name, bases, {"metaclass": meta}, lambda ns: ns.update(slots))


def _set_class(cls: type, state: Dict[str, Any]) -> None:
    for name, value in state.items():
        try:
            setattr(cls, name, value)
        except (AttributeError, TypeError):
            pass


def _importable(thing: Any) -> bool:
    """Can another process find it by module and name?"""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    if module in (None, "__main__", "__mp_main__") or "<" in name:
        return False
    found: Any = sys.modules.get(str(module))
    if found is None or (getattr(found, "__file__", None) is None and getattr(found, "__spec__", None) is None):
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _names(c)


def globals_used(f: types.FunctionType) -> Dict[str, Any]:
    """The globals that a function's code names; of a dotted import (`import os.path`) the package is enough."""
    return {n: f.__globals__[n] for n in dict.fromkeys(_names(f.__code__)) if n in f.__globals__}


_CLASS_OWN = ("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "_abc_impl", "__slots__")


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, types.FunctionType) and not _importable(thing):
            state = {"globals": globals_used(thing), "dict": thing.__dict__, "__defaults__": thing.__defaults__,
                     "__kwdefaults__": thing.__kwdefaults__, "__qualname__": thing.__qualname__, "__doc__": thing.__doc__}
            return (_make_function, (marshal.dumps(thing.__code__), thing.__module__ or "__main__", thing.__name__, thing.__closure__),
                    state, None, None, _set_function)
        if isinstance(thing, type) and not _importable(thing) and thing.__module__ != "builtins":
            own = {k: v for k, v in vars(thing).items() if k not in _CLASS_OWN and not isinstance(v, types.MemberDescriptorType)
                   and not isinstance(v, types.GetSetDescriptorType)}
            fixed = {"__module__": thing.__module__, "__qualname__": thing.__qualname__, "__doc__": thing.__doc__}
            if "__slots__" in vars(thing):
                fixed["__slots__"] = vars(thing)["__slots__"]
            return _make_class, (type(thing), thing.__name__, thing.__bases__, fixed), own, None, None, _set_class
        if isinstance(thing, types.CellType):
            try:
                contents: Tuple[Any, ...] = (thing.cell_contents,)
            except ValueError:
                contents = ()
            return _make_cell, (), contents, None, None, _set_cell
        if isinstance(thing, types.ModuleType):
            if thing.__name__ == "__main__" or getattr(thing, "__spec__", None) is None:
                raise pickle.PicklingError(f"the module {thing.__name__} cannot be imported elsewhere")
            return importlib.import_module, (thing.__name__,)
        if isinstance(thing, property):
            return property, (thing.fget, thing.fset, thing.fdel, thing.__doc__)
        if isinstance(thing, (staticmethod, classmethod)):
            return type(thing), (thing.__func__,)
        return NotImplemented


def _dump(thing: Any) -> bytes:
    out = io.BytesIO()
    _Pickler(out, protocol=4).dump(thing)
    return out.getvalue()


def _parts(f: Any, seen: Set[int]) -> Iterator[Tuple[str, Any]]:
    """What a function uses, by name, with what the functions among it use."""
    f = getattr(f, "__func__", f)
    if not isinstance(f, types.FunctionType) or id(f) in seen or _importable(f):
        return
    seen.add(id(f))
    closed: Dict[str, Any] = {}
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
        try:
            closed[name] = cell.cell_contents
        except ValueError:
            pass
    for name, value in {**globals_used(f), **closed}.items():
        yield name, value
        yield from _parts(value, seen)


def _blame(function: Callable[..., Any]) -> str:
    """Which of the things that a function uses cannot be sent."""
    for name, value in _parts(function, set()):
        if isinstance(value, types.FunctionType):
            continue
        try:
            _dump(value)
        except Exception:
            return (f"it uses \"{name}\" ({type(value).__module__}.{type(value).__name__}), which cannot be sent to another process: make it "
                    "inside the function, or move the function to a module of its own and import it")
    return "move it to a module of its own and import it"


def by_value(function: Callable[..., Any]) -> bytes:
    """The function's pickle. MagpieError names what cannot be sent and how to mend it."""
    name = getattr(function, "__name__", type(function).__name__)
    try:
        return _dump(function)
    except Exception as e:
        raise MagpieError(f"{name} cannot be sent to the workers: {_blame(function)} ({type(e).__name__}: {e})") from e


def reference(function: Callable[..., Any]) -> Optional[str]:
    """`module:name` of what another process can import, else None."""
    if isinstance(function, types.FunctionType) and _importable(function):
        return f"{function.__module__}:{function.__qualname__}"
    return None


def write(path: str, function: Callable[..., Any], decode: Mapping[str, Mapping[str, Any]]) -> None:
    """A file from which an executor calls the function (`shipped:PATH`), with the parameters' own values put back."""
    what: Any = reference(function) or by_value(function)
    with open(path, "wb") as f:
        pickle.dump({"path": [p for p in sys.path if p], "argv": sys.argv, "function": what, "decode": {k: dict(v) for k, v in decode.items()}}, f)


def read(path: str) -> Tuple[Callable[..., Any], Dict[str, Dict[str, Any]]]:
    """The function of such a file, and how parameters are put back."""
    with open(path, "rb") as f:
        shipped = pickle.load(f)
    known: List[str] = sys.path
    known.extend(p for p in shipped["path"] if p not in known)
    sys.argv[:] = shipped["argv"]
    what = shipped["function"]
    if isinstance(what, str):
        module, _, name = what.partition(":")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    else:
        found = pickle.loads(what)
    return found, shipped["decode"]


def decoded(params: Mapping[str, Any], decode: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    """A trial's parameters as the function is to get them."""
    return {k: decode[k].get(v, v) if k in decode and isinstance(v, str) else v for k, v in params.items() if k != REPEAT}


class Rows:
    """Calls the function with one of some rows of arguments."""

    def __init__(self, function: Callable[..., Any], rows: List[Dict[str, Any]]) -> None:
        self.function, self.rows = function, rows
        self.__name__ = getattr(function, "__name__", "function")
