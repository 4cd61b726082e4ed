"""One codec a parameter: between values and coordinates in [0, 1], and from what people write to canonical values.

An int has equal cells (equal ratios on a log scale), a categorical equal cells, a set one coordinate a choice: 0.5 and
above is in.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from windlass.errors import nearest
from windlass.records.study import (
    BoolParameter,
    CategoricalParameter,
    Contains,
    FloatParameter,
    Interval,
    IntParameter,
    OneOf,
    Parameter,
    SetParameter,
    same,
)


class Codec(ABC):
    """``width`` coordinates stand for one value; ``ordered`` where near coordinates mean near values."""

    width: int = 1
    ordered: bool = False

    @abstractmethod
    def decode(self, u: Sequence[float]) -> Any:
        """The value of ``width`` coordinates in [0, 1]."""

    @abstractmethod
    def encode(self, value: Any) -> Sequence[float]:
        """``width`` coordinates of a canonical value."""

    @abstractmethod
    def canonical(self, value: Any) -> Any:
        """The value as configs hold it. Raises ValueError, in words, on a value outside."""

    @abstractmethod
    def values(self) -> Iterator[Any] | None:
        """All values, or None where they cannot be counted."""

    @abstractmethod
    def misfit(self, condition: Interval | Contains | OneOf) -> str:
        """Why a condition can never hold for this parameter, or an empty string."""


class _Numeric(Codec):
    ordered = True

    def __init__(self, low: float, high: float, log: bool) -> None:
        self.low, self.high, self.log = low, high, log

    def _scale(self, u: float, low: float, high: float) -> float:
        if self.log:
            return math.exp((1 - u) * math.log(low) + u * math.log(high))
        return (1 - u) * low + u * high

    def _unscale(self, value: float, low: float, high: float) -> float:
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def _in_range(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise ValueError(f"must be a number, not {value!r}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is outside {self.low:g} to {self.high:g}")
        return value

    def misfit(self, condition: Interval | Contains | OneOf) -> str:
        if isinstance(condition, Contains):
            return "'contains' is for parameters of type set"
        if isinstance(condition, Interval):
            low = -math.inf if condition.min is None else condition.min
            high = math.inf if condition.max is None else condition.max
            if low > self.high or high < self.low:
                return f"the interval is outside the range {self.low:g} to {self.high:g}"
            return ""
        return _first_misfit(self, condition.root)


class FloatCodec(_Numeric):
    def decode(self, u: Sequence[float]) -> float:
        return min(max(self._scale(float(u[0]), self.low, self.high), self.low), self.high)

    def encode(self, value: Any) -> Sequence[float]:
        return (self._unscale(value, self.low, self.high),)

    def canonical(self, value: Any) -> float:
        return float(self._in_range(value))

    def values(self) -> None:
        return None


class IntCodec(_Numeric):
    def decode(self, u: Sequence[float]) -> int:
        if self.log:
            value = round(self._scale(float(u[0]), self.low - 0.5, self.high + 0.5))
        else:
            value = int(self.low + math.floor(float(u[0]) * (self.high - self.low + 1)))
        return int(min(max(value, self.low), self.high))

    def encode(self, value: Any) -> Sequence[float]:
        low, high = self.low - 0.5, self.high + 0.5
        if self.log:
            return (self._unscale(math.sqrt((value - 0.5) * (value + 0.5)), low, high),)
        return (self._unscale(value, low, high),)

    def canonical(self, value: Any) -> int:
        if self._in_range(value) != int(value):
            raise ValueError(f"must be a whole number, not {value!r}")
        return int(value)

    def values(self) -> Iterator[int]:
        return iter(range(int(self.low), int(self.high) + 1))


class ChoiceCodec(Codec):
    """Categorical and boolean parameters."""

    def __init__(self, choices: Sequence[Any]) -> None:
        self.choices = tuple(choices)

    def decode(self, u: Sequence[float]) -> Any:
        return self.choices[min(int(u[0] * len(self.choices)), len(self.choices) - 1)]

    def encode(self, value: Any) -> Sequence[float]:
        return ((self._index(value) + 0.5) / len(self.choices),)

    def canonical(self, value: Any) -> Any:
        return self.choices[self._index(value)]

    def _index(self, value: Any) -> int:
        for i, choice in enumerate(self.choices):
            if same(value, choice):
                return i
        known = [choice for choice in self.choices if isinstance(choice, str)]
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{value!r} is none of {_listed(self.choices)}.{hint}")

    def values(self) -> Iterator[Any]:
        return iter(self.choices)

    def misfit(self, condition: Interval | Contains | OneOf) -> str:
        if isinstance(condition, OneOf):
            return _first_misfit(self, condition.root)
        if isinstance(condition, Interval) and any(condition.holds(choice) for choice in self.choices):
            return ""
        kind = "an interval" if isinstance(condition, Interval) else "'contains'"
        return f"{kind} fits none of its choices {_listed(self.choices)}"


class SetCodec(Codec):
    """A value is a list in the order of the choices."""

    def __init__(self, choices: Sequence[Any], min_size: int, max_size: int) -> None:
        self.choices, self.min_size, self.max_size = tuple(choices), min_size, max_size
        self.width = len(self.choices)
        self._one = ChoiceCodec(choices)

    def decode(self, u: Sequence[float]) -> list[Any]:
        size = min(max(sum(x >= 0.5 for x in u), self.min_size), self.max_size)
        chosen = sorted(range(self.width), key=lambda i: (-u[i], i))[:size]
        return [self.choices[i] for i in sorted(chosen)]

    def encode(self, value: Any) -> Sequence[float]:
        return tuple(0.75 if any(same(choice, v) for v in value) else 0.25 for choice in self.choices)

    def canonical(self, value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ValueError(f"must be a list of some of {_listed(self.choices)}, not {value!r}")
        chosen = sorted(self.choices.index(self._one.canonical(v)) for v in value)
        if len(set(chosen)) != len(chosen):
            raise ValueError(f"{list(value)!r} repeats a choice")
        if not self.min_size <= len(chosen) <= self.max_size:
            raise ValueError(f"{list(value)!r} has {len(chosen)} choices; wanted {self.min_size} to {self.max_size}")
        return [self.choices[i] for i in chosen]

    def values(self) -> Iterator[list[Any]]:
        sizes = range(self.min_size, self.max_size + 1)
        return (list(chosen) for size in sizes for chosen in itertools.combinations(self.choices, size))

    def misfit(self, condition: Interval | Contains | OneOf) -> str:
        if isinstance(condition, Contains):
            return _first_misfit(self._one, condition.contains)
        return "a condition on a set is written {contains: [...]}"


def codec(parameter: Parameter) -> Codec:
    match parameter:
        case FloatParameter(low=low, high=high, log=log):
            return FloatCodec(low, high, log)
        case IntParameter(low=low, high=high, log=log):
            return IntCodec(low, high, log)
        case CategoricalParameter(choices=choices):
            return ChoiceCodec(choices)
        case BoolParameter():
            return ChoiceCodec((False, True))
        case SetParameter(choices=choices, min_size=least, max_size=most):
            return SetCodec(choices, least, len(choices) if most is None else most)


def _first_misfit(owner: Codec, values: Sequence[Any]) -> str:
    for value in values:
        try:
            owner.canonical(value)
        except ValueError as error:
            return str(error)
    return ""


def _listed(choices: Sequence[Any]) -> str:
    return ", ".join(map(repr, choices))
