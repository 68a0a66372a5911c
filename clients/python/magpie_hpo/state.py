# SPDX-License-Identifier: Apache-2.0
"""Saving training state in a checkpoint folder and putting it back, so that a trial goes on as if it had not paused.

torch and numpy are looked at only where the script has loaded them itself."""
from __future__ import annotations

import importlib
import json
import os
import pickle
import random
import sys
from typing import Any, Dict, Mapping

from .errors import MagpieError

INDEX = "magpie.json"
RANDOM = "random.pickle"


def _torch() -> Any:
    return sys.modules.get("torch")


def _numpy() -> Any:
    return sys.modules.get("numpy")


def _kind(name: str, thing: Any) -> str:
    """How `thing` is saved; a TypeError for what cannot be put back into the same object."""
    if callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None)):
        return "state_dict"
    if isinstance(thing, random.Random):
        return "random"
    np = _numpy()
    if np is not None and isinstance(thing, np.ndarray):
        return "array"
    if np is not None and isinstance(thing, getattr(np.random, "Generator", ())):
        return "generator"
    if isinstance(thing, (dict, list, bytearray, set)):
        return "container"
    if callable(getattr(thing, "__setstate__", None)) or hasattr(thing, "__dict__"):
        return "object"
    raise TypeError(f"{name}={thing!r} cannot be restored in place: give an object with state_dict and load_state_dict, a "
                    f"dict, a list, an array, or an object with attributes ({name} could be an entry of a dict)")


def _state(kind: str, thing: Any) -> Any:
    if kind == "state_dict":
        return thing.state_dict()
    if kind == "random":
        return thing.getstate()
    if kind == "generator":
        return thing.bit_generator.state
    if kind == "object":
        own = getattr(thing, "__getstate__", None)
        state = own() if callable(own) else None
        return state if state is not None else dict(thing.__dict__)
    return thing


def _restore_object(thing: Any, state: Any) -> None:
    own = getattr(thing, "__setstate__", None)
    if callable(own):
        own(state)
    else:
        thing.__dict__.clear()
        thing.__dict__.update(state)


def _restore(kind: str, thing: Any, state: Any) -> None:
    if kind == "state_dict":
        thing.load_state_dict(state)
    elif kind == "random":
        thing.setstate(state)
    elif kind == "generator":
        thing.bit_generator.state = state
    elif kind == "array":
        thing[...] = state
    elif kind == "container" and isinstance(thing, (list, bytearray)):
        thing[:] = state
    elif kind == "container":
        thing.clear()
        thing.update(state)
    else:
        _restore_object(thing, state)


def check(objects: Mapping[str, Any]) -> Dict[str, str]:
    """How each object is saved. Raises what save() would, before anything is trained."""
    return {name: _kind(name, thing) for name, thing in objects.items()}


def _randomness() -> Dict[str, Any]:
    state: Dict[str, Any] = {"python": random.getstate()}
    np, torch = _numpy(), _torch()
    if np is not None:
        state["numpy"] = np.random.get_state()
    if torch is not None:
        state["torch"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = [s.cpu().numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return state


def _set_randomness(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    np, torch = _numpy(), _torch()
    if np is not None and "numpy" in state:
        np.random.set_state(state["numpy"])
    if torch is not None and "torch" in state:
        def tensor(raw: bytes) -> Any:
            return torch.frombuffer(bytearray(raw), dtype=torch.uint8)

        torch.set_rng_state(tensor(state["torch"]))
        if "cuda" in state and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all([tensor(s) for s in state["cuda"]])


def save(folder: "os.PathLike[str]", step: int, objects: Mapping[str, Any]) -> None:
    """Writes every object and the state of the random generators into the folder."""
    kinds = check(objects)
    torch = _torch()
    files = {}
    for name, thing in objects.items():
        state = _state(kinds[name], thing)
        by_torch = torch is not None and kinds[name] == "state_dict"
        files[name] = f"{name}.pt" if by_torch else f"{name}.pickle"
        path = os.path.join(folder, files[name])
        if by_torch:
            torch.save(state, path)
        else:
            with open(path, "wb") as f:
                pickle.dump(state, f, protocol=4)
    with open(os.path.join(folder, RANDOM), "wb") as f:
        pickle.dump(_randomness(), f, protocol=4)
    with open(os.path.join(folder, INDEX), "w", encoding="utf-8") as index:
        json.dump({"format": 1, "step": step, "files": files}, index)


def _load_torch(path: str) -> Any:
    torch = importlib.import_module("torch")
    try:  # our own file, as trusted as the pickles beside it
        return torch.load(path, map_location="cpu", weights_only=False)
    except TypeError:  # torch before 1.13
        return torch.load(path, map_location="cpu")


def restore(folder: "os.PathLike[str]", objects: Mapping[str, Any]) -> None:
    """Puts back what save() wrote."""
    kinds = check(objects)
    index_path = os.path.join(folder, INDEX)
    try:
        with open(index_path, encoding="utf-8") as f:
            files = json.load(f)["files"]
    except FileNotFoundError:
        raise MagpieError(f"{folder} was not written by save() or epochs() of this package: restore it by hand "
                          "(trial.resume_from) or start anew") from None
    for name, thing in objects.items():
        if name not in files:
            raise MagpieError(f"the checkpoint {folder} has no \"{name}\", only {', '.join(sorted(files)) or 'nothing'}")
        path = os.path.join(folder, files[name])
        if files[name].endswith(".pt"):
            state = _load_torch(path)
        else:
            with open(path, "rb") as raw:
                state = pickle.load(raw)
        _restore(kinds[name], thing, state)
    with open(os.path.join(folder, RANDOM), "rb") as raw:
        _set_randomness(pickle.load(raw))
