# SPDX-License-Identifier: Apache-2.0
"""Maggy's Searchspace: `Searchspace(lr=("DOUBLE", [1e-4, 1e-1]), units=("INTEGER", [32, 512]))`."""
from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from .errors import MagpieError

TYPES = ("DOUBLE", "INTEGER", "DISCRETE", "CATEGORICAL")


def _is_number(v: Any) -> bool:
    return isinstance(v, (int, float)) and not isinstance(v, bool)


def _check_range(name: str, kind: str, values: Sequence[Any]) -> None:
    if len(values) != 2 or not all(_is_number(v) for v in values):
        raise ValueError(f"{name}: {kind} wants [low, high], not {list(values)}")
    if kind == "INTEGER" and not all(isinstance(v, int) for v in values):
        raise ValueError(f"{name}: the bounds of an INTEGER are whole numbers, not {list(values)}")
    if not values[0] < values[1]:
        raise ValueError(f"{name}: the lower bound {values[0]} is not below the upper one {values[1]}")


class Searchspace:
    """What is searched: names with a type (in any case) and values. An entry may also be one of magpie's own objects
    (`{"type": "DOUBLE", "range": [...], "scale": "log"}`)."""

    def __init__(self, **parameters: Any) -> None:
        self._entries: Dict[str, Any] = {}
        for name, value in parameters.items():
            self.add(name, value)

    def add(self, name: str, value: Any) -> None:
        """Adds `name` with (type, values). A ValueError for a name that is taken or reserved, and for values that make no sense."""
        if name in self._entries or hasattr(type(self), name) or name.startswith("_"):
            raise ValueError(f"\"{name}\" is reserved or there already: choose another name")
        if isinstance(value, Mapping):
            self._entries[name] = dict(value)
            return
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2 or not isinstance(value[0], str):
            raise ValueError(f"{name}: write (type, values), as in (\"DOUBLE\", [0, 1]), not {value!r}")
        kind, values = value[0].upper(), value[1]
        if kind not in TYPES:
            raise ValueError(f"{name}: there is no type {value[0]}; types are {', '.join(TYPES)}")
        if isinstance(values, (str, bytes)) or not isinstance(values, Sequence) or len(values) == 0:
            raise ValueError(f"{name}: {kind} wants a list of values, not {values!r}")
        if kind in ("DOUBLE", "INTEGER"):
            _check_range(name, kind, values)
        self._entries[name] = (kind, list(values))

    def get(self, name: str, default: Any = None) -> Any:
        """The values of a parameter."""
        entry = self._entries.get(name)
        if entry is None:
            return default
        return entry[1] if isinstance(entry, tuple) else entry.get("range", entry.get("values"))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._entries:
            return self.get(name)
        raise AttributeError(f"no parameter {name}")

    def names(self) -> Dict[str, str]:
        """Each name with its type."""
        return {n: e[0] if isinstance(e, tuple) else str(e.get("type")) for n, e in self._entries.items()}

    def to_dict(self) -> Dict[str, Any]:
        """`Searchspace(**s.to_dict())` is the same space."""
        return {n: (e[0], list(e[1])) if isinstance(e, tuple) else dict(e) for n, e in self._entries.items()}

    def keys(self) -> List[str]:
        return list(self._entries)

    def values(self) -> List[Any]:
        return [self.get(n) for n in self._entries]

    def items(self) -> List[Tuple[str, Any]]:
        return [(n, self.get(n)) for n in self._entries]

    def json(self) -> str:
        return json.dumps({n: list(e) if isinstance(e, tuple) else e for n, e in self._entries.items()}, sort_keys=True)

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        for name, kind in self.names().items():
            yield {"name": name, "type": kind, "values": self.get(name)}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Searchspace({', '.join(f'{n}={e!r}' for n, e in self.to_dict().items())})"


def encode(space: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Dict[str, Any]]]:
    """The driver's search space, and how values that it has no type for (booleans, None, mixtures) are put back: for each
    parameter the text that stands for a value, and the value."""
    out: Dict[str, Any] = {}
    decode: Dict[str, Dict[str, Any]] = {}
    for name, entry in space.items():
        if isinstance(entry, Mapping):
            out[name] = dict(entry)
            continue
        kind, values = entry
        if kind in ("DOUBLE", "INTEGER"):
            out[name] = {"type": kind, "range": list(values)}
            continue
        unique: List[Any] = []
        for v in values:
            if not any(v is u or (type(v) is type(u) and v == u) for u in unique):
                unique.append(v)
        if all(_is_number(v) for v in unique) and len(set(unique)) == len(unique):
            out[name] = {"type": "DISCRETE", "values": unique}
        elif all(isinstance(v, str) for v in unique):
            out[name] = {"type": "CATEGORICAL", "values": unique}
        else:
            texts = [v if isinstance(v, str) else repr(v) for v in unique]
            if len(set(texts)) != len(texts):
                raise MagpieError(f"{name}: two of the values {unique} read the same")
            out[name] = {"type": "CATEGORICAL", "values": texts}
            decode[name] = dict(zip(texts, unique))
    return out, decode
