"""Rules: relations between the values of a config, such as ``train + validation + test == 1``.

The language: numbers, 'texts', true and false, names (dotted), ``+ - * /``, comparisons (chained too), ``in [...]``,
``and``, ``or``, ``not``, ``min()``, ``max()``, ``abs()``. Text is parsed by ``ast`` into closures; nothing is evaluated
by Python itself. Equality of numbers has a relative tolerance of 1e-9. A rule with a name that a config lacks (an
inactive parameter) says nothing about it: it holds.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]
Term = Callable[[Values], Any]

TOLERANCE = 1e-9
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
_LITERALS = {"true": True, "false": False, "True": True, "False": False}


class RuleSyntaxError(ValueError):
    """A rule that cannot be read; ``column`` counts from 0."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class Linear:
    """``sum(coefficients[name] * name) + constant == 0``."""

    coefficients: Mapping[str, float]
    constant: float


@dataclass(frozen=True)
class Rule:
    text: str
    names: frozenset[str]
    term: Term
    linear: Linear | None  #: where the rule is a linear equality

    def holds(self, values: Values) -> bool:
        """True as well where a name is absent, or where the values cannot be compared or divided."""
        if not self.names <= values.keys():
            return True
        try:
            return bool(self.term(values))
        except (TypeError, ZeroDivisionError, OverflowError):
            return False


def parse_rule(text: str) -> Rule:
    """Raises RuleSyntaxError with the column of what is wrong."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        column = (getattr(error, "offset", None) or 1) - 1
        hint = (
            "; equality is written ==" if "==" not in text and "=" in text.replace("<=", "").replace(">=", "") else ""
        )
        raise RuleSyntaxError(f"cannot be read{hint}", column) from None
    names: set[str] = set()
    term = _term(tree, names)
    if not isinstance(tree, (ast.Compare, ast.BoolOp)) and not (
        isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    ):
        raise RuleSyntaxError("is no comparison", 0)
    if not names:
        raise RuleSyntaxError("names no parameter", 0)
    return Rule(text.strip(), frozenset(names), term, _linear_equality(tree))


def _term(node: ast.expr, names: set[str]) -> Term:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return lambda _: value
        case ast.Name(id=literal) if literal in _LITERALS:
            return lambda _: _LITERALS[literal]
        case ast.Name() | ast.Attribute():
            name = _name(node)
            names.add(name)
            return lambda values: values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _term(operand, names)
            return lambda values: -inner(values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _term(operand, names)
            return lambda values: not inner(values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            combine, a, b = _ARITHMETIC[type(op)], _term(left, names), _term(right, names)
            return lambda values: combine(a(values), b(values))
        case ast.BoolOp(op=op, values=parts):
            terms, every = [_term(part, names) for part in parts], isinstance(op, ast.And)
            return lambda values: (all if every else any)(term(values) for term in terms)
        case ast.Compare():
            return _comparison(node, names)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            terms = [_term(item, names) for item in items]
            return lambda values: [term(values) for term in terms]
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if function in _FUNCTIONS and args:
            call, terms = _FUNCTIONS[function], [_term(arg, names) for arg in args]
            return lambda values: call(*(term(values) for term in terms))
    raise RuleSyntaxError(f"{ast.unparse(node)!r} is not part of the language of rules", node.col_offset)


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=attribute):
            return f"{_name(inner)}.{attribute}"
    raise RuleSyntaxError(f"{ast.unparse(node)!r} is no name", node.col_offset)


def _comparison(node: ast.Compare, names: set[str]) -> Term:
    terms = [_term(part, names) for part in (node.left, *node.comparators)]
    tests = []
    for op in node.ops:
        if type(op) not in _COMPARISONS:
            raise RuleSyntaxError(f"{ast.unparse(node)!r} is not part of the language of rules", node.col_offset)
        tests.append(_COMPARISONS[type(op)])

    def compare(values: Values) -> bool:
        seen = [term(values) for term in terms]
        return all(test(a, b) for test, a, b in zip(tests, seen, seen[1:], strict=False))

    return compare


def _equal(a: Any, b: Any) -> bool:
    if _is_number(a) and _is_number(b):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda a, b: not _equal(a, b),
    ast.Lt: lambda a, b: bool(a < b),
    ast.LtE: lambda a, b: bool(a <= b) or _equal(a, b),
    ast.Gt: lambda a, b: bool(a > b),
    ast.GtE: lambda a, b: bool(a >= b) or _equal(a, b),
    ast.In: lambda a, b: any(_equal(a, one) for one in b),
    ast.NotIn: lambda a, b: not any(_equal(a, one) for one in b),
}


def _linear_equality(node: ast.expr) -> Linear | None:
    match node:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            a, b = _linear(left), _linear(right)
            if a is None or b is None:
                return None
            names = a.coefficients.keys() | b.coefficients.keys()
            difference = {n: a.coefficients.get(n, 0.0) - b.coefficients.get(n, 0.0) for n in sorted(names)}
            return Linear({n: c for n, c in difference.items() if c}, a.constant - b.constant)
    return None


def _linear(node: ast.expr) -> Linear | None:
    """The linear form of an arithmetic expression, or None."""
    match node:
        case ast.Constant(value=int() | float() as value) if _is_number(value):
            return Linear({}, float(value))
        case ast.Name() | ast.Attribute():
            return Linear({_name(node): 1.0}, 0.0)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _linear(operand)
            return inner and _scaled(inner, -1.0)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _linear(left), _linear(right)
            if a is None or b is None:
                return None
            if isinstance(op, (ast.Add, ast.Sub)):
                b = b if isinstance(op, ast.Add) else _scaled(b, -1.0)
                total = {
                    n: a.coefficients.get(n, 0.0) + b.coefficients.get(n, 0.0)
                    for n in {**a.coefficients, **b.coefficients}
                }
                return Linear(total, a.constant + b.constant)
            if isinstance(op, ast.Mult) and not (a.coefficients and b.coefficients):
                return _scaled(b, a.constant) if not a.coefficients else _scaled(a, b.constant)
            if isinstance(op, ast.Div) and not b.coefficients and b.constant:
                return _scaled(a, 1 / b.constant)
    return None


def _scaled(form: Linear, factor: float) -> Linear:
    return Linear({n: c * factor for n, c in form.coefficients.items()}, form.constant * factor)


def repair(values: Values, linear: Linear, bounds: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Move the ``bounds`` parameters of ``values`` onto a linear equality, staying within their bounds.

    The weighted projection: each parameter moves in proportion to its coefficient and the square of its range; the
    multiplier is found by bisection, as the sum is monotone in it. Values without a solution are returned as they are.
    """
    free = [name for name in linear.coefficients if name in bounds]
    if not free or not linear.coefficients.keys() <= values.keys():
        return dict(values)
    try:
        fixed = linear.constant + sum(c * values[n] for n, c in linear.coefficients.items() if n not in bounds)
    except TypeError:
        return dict(values)
    rates = {n: linear.coefficients[n] * (bounds[n][1] - bounds[n][0]) ** 2 for n in free}

    def moved(multiplier: float) -> dict[str, float]:
        return {n: min(max(values[n] + multiplier * rates[n], bounds[n][0]), bounds[n][1]) for n in free}

    def excess(at: Mapping[str, float]) -> float:
        return float(fixed + sum(linear.coefficients[n] * at[n] for n in free))

    if abs(excess(moved(0.0))) <= 1e-12:
        return {**values, **moved(0.0)}
    reach = max((bounds[n][1] - bounds[n][0]) / abs(rates[n]) for n in free)
    low, high = -reach, reach
    if excess(moved(low)) > 1e-12 or excess(moved(high)) < -1e-12:
        return dict(values)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(moved(middle)) < 0 else (low, middle)
    return {**values, **moved((low + high) / 2)}
