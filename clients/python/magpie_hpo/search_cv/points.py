# SPDX-License-Identifier: Apache-2.0
"""From what scikit-learn calls parameter distributions to a search space of magpie, and back.

A value may be a list (numbers, strings or any objects), a range, a frozen distribution of SciPy, or a
parameter as in an experiment file: ``["DOUBLE", [1e-4, 1]]``, ``{"type": "INTEGER", "range": [1, 9]}``.
Several dicts in a list are several spaces; each point is drawn from one of them.
"""
import math
import numbers

TYPES = ("DOUBLE", "INTEGER", "DISCRETE", "CATEGORICAL")
SPACE = "space"  # the parameter that chooses between several spaces
LABEL = 60  # bytes of an object's text that name it


def _is_type(x):
    return isinstance(x, str) and x.upper() in TYPES


def _is_number(x):
    return isinstance(x, numbers.Real) and not isinstance(x, bool) and type(x).__name__ != "bool_" and math.isfinite(x)


def _plain(x):
    """A number as JSON has it."""
    return int(x) if isinstance(x, numbers.Integral) else float(x)


class _Magpie:
    """A parameter as an experiment file writes it; its values are what they are."""

    def __init__(self, definition, prefix):
        if isinstance(definition, dict):
            definition = dict(definition)
            if "when" in definition:
                definition["when"] = {prefix + k: v for k, v in definition["when"].items()}
        else:
            definition = {"type": definition[0], "values" if _lists(definition[0]) else "range": definition[1]}
        self.definition = definition

    def decode(self, value):
        return value


def _lists(type_name):
    return type_name.upper() in ("DISCRETE", "CATEGORICAL")


class _Numbers:
    def __init__(self, values):
        self.values = sorted({float(v): v for v in values}.items())
        self.definition = {"type": "DISCRETE", "values": [_plain(v) for _, v in self.values]}

    def decode(self, value):
        return min(self.values, key=lambda pair: abs(pair[0] - value))[1]


class _Objects:
    """Strings by themselves, other objects by their text."""

    def __init__(self, values):
        self.values = {}
        for v in values:
            label = v if isinstance(v, str) else _label(v)
            n = 1
            while label in self.values and not _same(self.values[label], v):
                n += 1
                label = f"{v if isinstance(v, str) else _label(v)} #{n}"
            self.values[label] = v
        self.definition = {"type": "CATEGORICAL", "values": list(self.values)}

    def decode(self, value):
        return self.values[value]


def _same(a, b):
    return a is b or (isinstance(a, str) and isinstance(b, str) and a == b)


def _label(v):
    return " ".join(repr(v).split()).encode()[:LABEL].decode(errors="ignore")


class _Range:
    def __init__(self, values):
        low, high = sorted((values[0], values[-1]))
        self.definition = {"type": "INTEGER", "range": [low, high]}
        if abs(values.step) != 1 and len(values) > 1:
            self.definition["step"] = abs(values.step)

    def decode(self, value):
        return int(value)


class _Distribution:
    """A frozen distribution of SciPy: the even and the log-even ones as such, others by their quantiles."""

    def __init__(self, dist, name):
        kind = getattr(getattr(dist, "dist", None), "name", None)
        low, high = (float(b) for b in dist.support())
        self.dist, self.quantile = dist, False
        self.whole = not hasattr(getattr(dist, "dist", dist), "pdf")
        if kind == "randint":
            self.definition = {"type": "INTEGER", "range": [int(low), int(high)]}
        elif kind == "uniform":
            self.definition = {"type": "DOUBLE", "range": [low, high]}
        elif kind in ("loguniform", "reciprocal"):
            self.definition = {"type": "DOUBLE", "range": [low, high], "scale": "log"}
        else:
            self.quantile = True
            edge = 1e-6
            self.definition = {"type": "DOUBLE", "range": [0.0 if math.isfinite(low) else edge,
                                                           1.0 if math.isfinite(high) else 1 - edge]}

    def decode(self, value):
        if self.quantile:
            value = max(self.dist.ppf(value), self.dist.support()[0])
        return int(value) if self.whole else float(value)


def _parameter(name, values, prefix):
    if isinstance(values, dict):
        if "type" not in values:
            raise ValueError(f"parameter {name!r}: an object needs \"type\", one of {', '.join(TYPES)}")
        return _Magpie(values, prefix)
    if isinstance(values, (list, tuple)) and len(values) == 2 and _is_type(values[0]) and isinstance(values[1], (list, tuple)):
        return _Magpie(values, prefix)
    if hasattr(values, "ppf") and hasattr(values, "support"):
        return _Distribution(values, name)
    if isinstance(values, range) and len(values):
        return _Range(values)
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise TypeError(f"parameter {name!r} needs a list of values, a frozen distribution of SciPy or a parameter of "
                        f"magpie such as [\"DOUBLE\", [0, 1]], not {values!r}")
    values = list(values)
    if not values:
        raise ValueError(f"parameter {name!r}: need at least one value, the list is empty")
    return _Numbers(values) if all(_is_number(v) for v in values) else _Objects(values)


class Points:
    """``searchspace`` for an experiment file; ``decode`` turns a trial's params into the estimator's."""

    def __init__(self, distributions):
        spaces = [distributions] if isinstance(distributions, dict) else distributions
        if not isinstance(spaces, (list, tuple)) or not spaces or not all(isinstance(s, dict) for s in spaces):
            raise TypeError(f"param_distributions must be a dict or a list of dicts, not {distributions!r}")
        self._parameters = {}  # by the name that magpie knows: (the estimator's name, parameter)
        self.searchspace = {}
        if len(spaces) > 1 or not spaces[0]:
            self.searchspace[SPACE] = {"type": "CATEGORICAL", "values": [str(i) for i in range(len(spaces))]}
        for i, space in enumerate(spaces):
            prefix = f"{i}/" if len(spaces) > 1 else ""
            for name, values in space.items():
                p = _parameter(name, values, prefix)
                self._parameters[prefix + name] = (name, p)
                self.searchspace[prefix + name] = p.definition
                if prefix:
                    p.definition.setdefault("when", {SPACE: [str(i)]})

    def names(self):
        """The estimator's names, each once."""
        return list(dict.fromkeys(name for name, _ in self._parameters.values()))

    def decode(self, params):
        out = {}
        for key, value in params.items():
            if key in self._parameters:
                name, p = self._parameters[key]
                out[name] = p.decode(value)
        return dict(sorted(out.items()))
