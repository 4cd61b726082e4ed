"""Operators cell by cell. NaN in gives NaN out; an infinite result is the engine's to turn into NaN.

Arguments are arrays of one shape or plain numbers. A minimum ends with ``+ 0.0`` because numpy may keep either of
0.0 and -0.0, which depends on a cell's place in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from windlass.workloads.alpha.engine.kernels import Bools, Floats

Value = Floats | float


def _missing(*values: Value) -> Bools | np.bool_:
    found = np.isnan(values[0])
    for one in values[1:]:
        found = found | np.isnan(one)
    return found


def _log(x: Value) -> Value:
    return np.log(np.where(np.greater(x, 0), x, np.nan))


def _power(x: Value, y: Value) -> Value:
    return np.where(_missing(x, y), np.nan, np.power(x, y))  # in C, NaN to the power of 0 is 1


def _signed_power(x: Value, y: Value) -> Value:
    return np.sign(x) * _power(np.abs(x), y)


def _where(condition: Value, x: Value, y: Value) -> Value:
    return np.where(np.isnan(condition), np.nan, np.where(np.not_equal(condition, 0), x, y))


def _flag(test: Callable[[Value, Value], Any]) -> Callable[[Value, Value], Value]:
    def compare(x: Value, y: Value) -> Value:
        return np.where(_missing(x, y), np.nan, test(x, y))

    return compare


def _sqrt(x: Value) -> Value:
    root: Value = np.sqrt(x)
    return root


ELEMENTWISE: Mapping[str, Callable[..., Value]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "log": _log,
    "sign": np.sign,
    "sqrt": _sqrt,
    "power": _power,
    "signed_power": _signed_power,
    "min": lambda x, y: np.minimum(x, y) + 0.0,
    "max": lambda x, y: np.maximum(x, y) + 0.0,
    "where": _where,
    "eq": _flag(np.equal),
    "lt": _flag(np.less),
    "le": _flag(np.less_equal),
    "gt": _flag(np.greater),
    "ge": _flag(np.greater_equal),
    "and": _flag(np.logical_and),
    "or": _flag(np.logical_or),
    "not": lambda x: np.where(np.isnan(x), np.nan, np.equal(x, 0)),
    "clip": lambda x, least, most: np.clip(x, least, most) + 0.0,
}

COSTLY = frozenset({"log", "power", "signed_power"})  #: worth keeping; the others are faster computed than kept
