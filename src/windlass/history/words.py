"""Conditions and scores in words."""

from __future__ import annotations

from windlass.records.region import Condition, Contains, Interval, OneOf


def number(value: float | None) -> str:
    """All its digits, and no ``.0``."""
    return "" if value is None else repr(float(value)).removesuffix(".0")


def condition_words(name: str, condition: Condition) -> str:
    """``batch >= 96``, ``0.1 <= lr <= 0.3``, ``model in svm, mlp``, ``augment has flip and crop``."""
    match condition:
        case Interval(min=low, max=None):
            return f"{name} >= {number(low)}"
        case Interval(min=None, max=high):
            return f"{name} <= {number(high)}"
        case Interval(min=low, max=high) if low == high:
            return f"{name} = {number(low)}"
        case Interval(min=low, max=high):
            return f"{number(low)} <= {name} <= {number(high)}"
        case Contains(contains=members):
            return f"{name} has {' and '.join(map(str, members))}"
        case OneOf(root=values):
            return f"{name} {'=' if len(values) == 1 else 'in'} {', '.join(map(str, values))}"
