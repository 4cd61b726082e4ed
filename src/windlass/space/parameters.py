"""One parameter: its domain, and its place in the unit cube.

A float, int, categorical or bool parameter has one dimension; a set has one for each choice. Ints, categories and
booleans own equal cells of [0, 1] (a log int: cells of equal ratio), so a uniform point gives each value its share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from windlass.errors import nearest
from windlass.records.parameters import (
    BoolParameter,
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    SetParameter,
)
from windlass.records.region import same


def width(parameter: Parameter) -> int:
    """How many dimensions it has in the unit cube."""
    return len(parameter.choices) if isinstance(parameter, SetParameter) else 1


def is_ordered(parameter: Parameter) -> bool:
    """Whether near points in the unit cube are near values."""
    return isinstance(parameter, (FloatParameter, IntParameter))


def describe(parameter: Parameter) -> str:
    """Its domain in words."""
    match parameter:
        case BoolParameter():
            return "true or false"
        case CategoricalParameter():
            return f"one of {listed(parameter.choices)}"
        case SetParameter():
            low, high = sizes(parameter)
            return f"a list of {low} to {high} of {listed(parameter.choices)}"
        case _:
            return f"{'a whole number' if parameter.type == 'int' else 'a number'} from {_range(parameter)}"


def listed(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values))


def sizes(parameter: SetParameter) -> tuple[int, int]:
    """Smallest and largest number of members."""
    return parameter.min_size, len(parameter.choices) if parameter.max_size is None else parameter.max_size


def canonical_value(parameter: Parameter, value: Any) -> Any:
    """``value`` as configs hold it: a float is a float, a set is a list in the order of its choices.

    Raises ValueError, in words, on a value outside the domain.
    """
    match parameter:
        case FloatParameter() | IntParameter():
            return _canonical_number(parameter, value)
        case BoolParameter():
            if not isinstance(value, bool):
                raise ValueError(f"must be true or false, not {value!r}")
            return value
        case CategoricalParameter():
            return parameter.choices[choice_index(parameter.choices, value)]
        case SetParameter():
            return _canonical_set(parameter, value)


def _canonical_number(parameter: FloatParameter | IntParameter, value: Any) -> float | int:
    kind = "a whole number" if isinstance(parameter, IntParameter) else "a number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"must be {kind}, not {value!r}")
    number: Any = value
    if not parameter.low <= number <= parameter.high:
        raise ValueError(f"must be {kind} from {_range(parameter)}, not {value!r}")
    if isinstance(parameter, FloatParameter):
        return float(number) + 0.0  # -0.0 becomes 0.0
    if not float(number).is_integer():
        raise ValueError(f"must be a whole number, not {value!r}")
    return int(float(number))


def _range(parameter: FloatParameter | IntParameter) -> str:
    return f"{parameter.low!r} to {parameter.high!r}"


def _canonical_set(parameter: SetParameter, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError(f"must be a list, not {value!r}")
    chosen = {choice_index(parameter.choices, member) for member in value}
    low, high = sizes(parameter)
    if len(chosen) != len(value):
        raise ValueError(f"{list(value)} repeats a member")
    if not low <= len(chosen) <= high:
        raise ValueError(f"must have {low} to {high} members, not {len(chosen)}: {list(value)}")
    return [parameter.choices[index] for index in sorted(chosen)]


def choice_index(choices: Sequence[Any], value: Any) -> int:
    """Raises ValueError, with the nearest choice, where ``value`` is none."""
    for index, choice in enumerate(choices):
        if same(value, choice):
            return index
    hint = nearest(value, [choice for choice in choices if isinstance(choice, str)]) if isinstance(value, str) else ""
    raise ValueError(f"{value!r} is none of {listed(choices)}{'.' if hint else ''}{hint}")


def from_unit(parameter: Parameter, point: Sequence[float]) -> Any:
    """The value at a point of [0, 1]^width."""
    u = point[0]
    match parameter:
        case FloatParameter(low=low, high=high, log=log):
            # 12 digits: people read configs, and libraries differ in the last bits of exp
            return min(max(float(f"{_at(low, high, u, log):.12g}"), low), high) + 0.0
        case IntParameter(low=low, high=high, log=log):
            return min(max(math.floor(_at(low - 0.5, high + 0.5, u, log) + 0.5), low), high)
        case BoolParameter():
            return u >= 0.5
        case CategoricalParameter(choices=choices):
            return choices[min(int(u * len(choices)), len(choices) - 1)]
        case SetParameter(choices=choices):
            low, high = sizes(parameter)
            wanted = min(max(sum(u >= 0.5 for u in point), low), high)
            ranked = sorted(range(len(choices)), key=lambda index: -point[index])
            return [choices[index] for index in sorted(ranked[:wanted])]


def to_unit(parameter: Parameter, value: Any) -> list[float]:
    """A point of [0, 1]^width, inside the value's cell, that :func:`from_unit` turns back into ``value``.

    Raises ValueError on a value outside the domain.
    """
    value = canonical_value(parameter, value)
    match parameter:
        case FloatParameter(low=low, high=high, log=log):
            return [_share(low, high, value, log)]
        case IntParameter(low=low, high=high, log=log):
            return [_share(low - 0.5, high + 0.5, value, log)]
        case BoolParameter():
            return [0.75 if value else 0.25]
        case CategoricalParameter(choices=choices):
            return [(choice_index(choices, value) + 0.5) / len(choices)]
        case SetParameter(choices=choices):
            return [0.75 if any(same(choice, member) for member in value) else 0.25 for choice in choices]


def _at(low: float, high: float, u: float, log: bool) -> float:
    if log:
        return math.exp(_at(math.log(low), math.log(high), u, False))
    return low * (1 - u) + high * u


def _share(low: float, high: float, value: float, log: bool) -> float:
    if log:
        return _share(math.log(low), math.log(high), math.log(value), False)
    return min(max((value - low) / (high - low), 0.0), 1.0)
