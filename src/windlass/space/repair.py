"""Linear equality rules (splits that sum to 1) are met by moving, not by luck.

A rule ``a.x = t`` over floats x in a box: the nearest point of the box on that plane, where distances are measured in
shares of each parameter's range. With y in [0, 1]^n the shares, c = a * range and s what c.y has to be, the point is
y(k) = clip(y0 + k c, 0, 1) for the k with c.y(k) = s; c.y(k) never falls as k grows and is linear between the k at
which a coordinate reaches 0 or 1, so k is found exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.records.parameters import FloatParameter
from windlass.space.rules import Arithmetic, Compare, Expression, Name, Rule, evaluate, is_number, walk

PASSES = 100  #: over rules that share parameters, before the rest is left to rejection

#: coefficients by name, and a constant
Linear = tuple[dict[str, float], float]


def repair(
    values: Mapping[str, Any], fixed: Mapping[str, Any], rules: Sequence[Rule], floats: Mapping[str, FloatParameter]
) -> dict[str, Any]:
    """``values`` with its floats moved so that linear equality rules hold, as far as that is possible.

    ``fixed`` has the values of other names; only entries of ``values`` move. Rules that hold change nothing.
    """
    repaired = dict(values)
    free = {name: floats[name] for name in values if name in floats}
    for _ in range(PASSES):
        moved = False
        for rule in rules:
            moved |= _meet(rule, repaired, fixed, free)
        if not moved:
            break
    return repaired


def _meet(rule: Rule, values: dict[str, Any], fixed: Mapping[str, Any], free: Mapping[str, FloatParameter]) -> bool:
    """Move ``values`` onto the rule's plane; whether anything moved."""
    merged = {**fixed, **values}
    if not isinstance(rule.tree, Compare) or [operator for operator, _ in rule.tree.rest] != ["=="]:
        return False
    if any(name not in merged for name in rule.names):
        return False
    try:
        if rule.holds(merged):
            return False
        form = linear(Arithmetic("-", rule.tree.first, rule.tree.rest[0][1], 0), merged, free)
    except ValueError:
        return False
    if form is None or not any(form[0].values()):
        return False
    coefficients = {name: c for name, c in form[0].items() if c}
    names = list(coefficients)
    moved = project(
        [values[name] for name in names],
        [coefficients[name] for name in names],
        [(free[name].low, free[name].high) for name in names],
        -form[1],
    )
    if not rule.holds({**merged, **dict(zip(names, moved, strict=True))}):
        return False
    values.update(zip(names, moved, strict=True))
    return True


def linear(node: Expression, values: Mapping[str, Any], free: Mapping[str, Any]) -> Linear | None:
    """``node`` as a linear function of the ``free`` names, the others at their ``values``; None where it is none.

    Raises ValueError where a part without free names cannot be evaluated.
    """
    if not any(isinstance(part, Name) and part.name in free for part in walk(node)):
        constant = evaluate(node, values)
        return ({}, constant) if is_number(constant) else None
    if isinstance(node, Name):
        return {node.name: 1.0}, 0.0
    if not isinstance(node, Arithmetic):
        return None
    left, right = linear(node.left, values, free), linear(node.right, values, free)
    if left is None or right is None:
        return None
    match node.operator:
        case "+":
            return _sum(left, right, 1.0)
        case "-":
            return _sum(left, right, -1.0)
        case "*" if not left[0]:
            return _sum(({}, 0.0), right, left[1])
        case "*" if not right[0]:
            return _sum(({}, 0.0), left, right[1])
        case "/" if not right[0] and right[1]:
            return _sum(({}, 0.0), left, 1 / right[1])
    return None


def _sum(left: Linear, right: Linear, factor: float) -> Linear:
    names = dict.fromkeys((*left[0], *right[0]))
    coefficients = {name: left[0].get(name, 0.0) + factor * right[0].get(name, 0.0) for name in names}
    return coefficients, left[1] + factor * right[1]


def project(
    point: Sequence[float], normal: Sequence[float], box: Sequence[tuple[float, float]], target: float
) -> list[float]:
    """The nearest x in ``box`` with ``normal . x == target``; where there is none, the x that comes closest to it.

    ``point`` (in the box) and ``normal`` (no zeros) have length n, ``box`` n pairs (low, high).
    """
    ranges = [high - low for low, high in box]
    slopes = [a * width for a, width in zip(normal, ranges, strict=True)]
    scale = max(map(abs, slopes))
    slopes = [slope / scale for slope in slopes]
    wanted = (target - sum(a * low for a, (low, _) in zip(normal, box, strict=True))) / scale
    start = [(x - low) / width for x, (low, _), width in zip(point, box, ranges, strict=True)]

    def shares(k: float) -> list[float]:
        return [min(max(y + k * slope, 0.0), 1.0) for y, slope in zip(start, slopes, strict=True)]

    def reached(k: float) -> float:
        return sum(slope * y for slope, y in zip(slopes, shares(k), strict=True))

    ends = ((end - y) / slope for y, slope in zip(start, slopes, strict=True) for end in (0.0, 1.0) if slope)
    bends = sorted(filter(math.isfinite, ends))
    below = [k for k in bends if reached(k) <= wanted]
    above = [k for k in bends if reached(k) > wanted]
    if below and above:
        left, right = below[-1], above[0]
        low, high = reached(left), reached(right)
        step = left + (right - left) * ((wanted - low) / (high - low))
    else:
        step = bends[-1] if below else bends[0]
    moved = [low + y * width for y, (low, _), width in zip(shares(step), box, ranges, strict=True)]
    return _polish(moved, normal, box, target)


def _polish(
    point: list[float], normal: Sequence[float], box: Sequence[tuple[float, float]], target: float
) -> list[float]:
    """Take up what rounding left over, coordinate by coordinate, inside the box."""
    for i, (low, high) in enumerate(box):
        rest = target - sum(a * x for a, x in zip(normal, point, strict=True))
        point[i] = min(max(point[i] + rest / normal[i], low), high) if rest else min(max(point[i], low), high)
    return point
