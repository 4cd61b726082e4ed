"""Units of expressions, and warnings about those that mix them.

A unit is a product of powers of currency and shares: a price is currency per share, traded value is currency. What
has no unit is told apart by kind (ratio, rank, flag, number), because a rank and a plain ratio are used differently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from windlass.workloads.alpha.language.canonical import text
from windlass.workloads.alpha.language.operators import FIELDS, OPERATORS
from windlass.workloads.alpha.language.tree import Node, walk

Kind = Literal["dimension", "ratio", "rank", "flag", "number", "any"]


@dataclass(frozen=True, slots=True)
class Unit:
    kind: Kind
    currency: float = 0.0  #: exponent
    shares: float = 0.0  #: exponent

    @property
    def name(self) -> str:
        if self.kind != "dimension":
            return self.kind
        known = {(1.0, -1.0): "price", (0.0, 1.0): "volume", (1.0, 0.0): "money"}
        return known.get((self.currency, self.shares), f"currency^{self.currency:g} shares^{self.shares:g}")

    @property
    def plain(self) -> bool:
        """Without a dimension: the same whatever currency or share count the panel uses."""
        return self.kind not in ("dimension", "any")


PRICE, VOLUME, MONEY = Unit("dimension", 1.0, -1.0), Unit("dimension", 0.0, 1.0), Unit("dimension", 1.0)
RATIO, RANK, FLAG, NUMBER, ANY = Unit("ratio"), Unit("rank"), Unit("flag"), Unit("number"), Unit("any")
_NAMED = {"price": PRICE, "volume": VOLUME, "money": MONEY, "ratio": RATIO, "rank": RANK, "flag": FLAG, "any": ANY}


def unit(node: Node) -> Unit:
    """Unit of the values of a tree; ``ANY`` where it cannot be known."""
    if node.op == "field":
        rule = FIELDS.get(str(node.params[0]))
        return _NAMED[rule.unit] if rule else ANY
    if node.op == "number":
        return NUMBER
    operator = OPERATORS.get(node.op)
    if operator is None:
        return ANY
    match operator.gives:
        case "same":
            return _common([unit(one) for one in _values(node)])
        case "product":
            left, right = map(unit, node.args)
            return _combined(left, right, 1.0)
        case "quotient":
            left, right = map(unit, node.args)
            return _combined(left, right, -1.0)
        case "root":
            return _raised(unit(node.args[0]), 0.5)
        case "power":
            base, exponent = node.args
            return _raised(unit(base), float(exponent.params[0]) if exponent.op == "number" else None)
    return _NAMED[operator.gives]


def _values(node: Node) -> tuple[Node, ...]:
    """Arguments whose unit the result has: not a condition, a control or a group."""
    if node.op == "where":
        return node.args[1:]
    return node.args if node.op in ("add", "sub", "min", "max") else node.args[:1]


def _common(units: list[Unit]) -> Unit:
    """The unit of a sum: the first one with a dimension; else the first that is no plain number."""
    dimensions = [one for one in units if not one.plain]
    return next(iter(dimensions), next((one for one in units if one.kind != "number"), units[0]))


def _combined(left: Unit, right: Unit, sign: float) -> Unit:
    if ANY in (left, right):
        return ANY
    found = Unit("dimension", left.currency + sign * right.currency, left.shares + sign * right.shares)
    if found.currency or found.shares:
        return found
    if right == NUMBER or (left == NUMBER and sign > 0):
        scaled = left if right == NUMBER else right
        return scaled if scaled.kind != "flag" else RATIO
    return RATIO


def _raised(base: Unit, exponent: float | None) -> Unit:
    if base.kind == "any" or (base.kind == "dimension" and exponent is None):
        return ANY
    if base.kind != "dimension" or exponent == 0:
        return RATIO
    assert exponent is not None
    return Unit("dimension", base.currency * exponent, base.shares * exponent)


def lint(node: Node) -> list[str]:
    """Warnings, in the order of the text; an expression with warnings is still valid."""
    found = [warning for one, parent in _pairs(node) for warning in _warnings(one, parent)]
    last = unit(node)
    if last.kind == "dimension":
        found.append(f"the signal is a {last.name}, so it compares names by their size; put rank or zscore around it")
    if last.kind == "flag":
        found.append("the signal has only two values, so most names are tied")
    return list(dict.fromkeys(found))


def _pairs(node: Node) -> Iterator[tuple[Node, Node | None]]:
    yield node, None
    for parent in walk(node):
        for child in parent.args:
            yield child, parent


def _warnings(node: Node, parent: Node | None) -> Iterator[str]:
    piece = _short(node)
    if node.op in ("add", "sub", "min", "max", "where", "eq", "lt", "le", "gt", "ge"):
        left, right = node.args[-2:]
        one, other = unit(left), unit(right)
        zero = any(side.op == "number" and side.params[0] == 0 for side in (left, right))
        if not zero and "any" not in (one.kind, other.kind) and _dimension(one) != _dimension(other):
            yield f"{piece}: a {one.name} beside a {other.name}"
    if node.op in ("min", "max"):
        for side in node.args:
            if side.op == "number" and float(side.params[0]) >= 2 and float(side.params[0]).is_integer():
                days = f"{side.params[0]:g}"
                yield f"{piece}: compares with the number {days}; a window of {days} days is ts_{node.op}"
    if node.op == "log" and unit(node.args[0]).kind == "dimension" and (parent is None or parent.op != "delta"):
        yield f"{piece}: log of a {unit(node.args[0]).name} depends on its unit; take a ratio first"
    if node.op in ("power", "signed_power") and unit(node.args[1]).kind == "dimension":
        yield f"{piece}: the exponent is a {unit(node.args[1]).name}"
    if node.op == "div" and node.args[1].op == "number" and node.args[1].params[0] == 0:
        yield f"{piece}: division by zero, so every value is missing"


def _dimension(one: Unit) -> tuple[float, float]:
    return one.currency, one.shares


def _short(node: Node, most: int = 60) -> str:
    written = text(node)
    return written if len(written) <= most else f"{written[: most - 3]}..."
