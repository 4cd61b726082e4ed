"""Rules across parameters, such as ``train + validation + test == 1`` or ``model != 'svm' or svm.C < 10``.

A rule knows numbers, texts, true, false, null, dotted names, ``+ - * /``, comparisons (also chained, and with ``in``),
``and or not`` and ``min max abs len``. It is read into a small tree of its own; Python never evaluates it.

Numbers are compared with a relative tolerance of 1e-9: exactly one of ``a < b``, ``a == b``, ``a > b`` is true.
A rule that names an absent (inactive) parameter holds.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from windlass.errors import StudyError
from windlass.records.region import same

RELATIVE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE = 1e-12  #: where one side is 0
LONGEST_RULE = 500  #: characters

_WORDS = {"true": True, "false": False, "null": None}
_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs, "len": len}


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any
    position: int  #: offset of the first character in the rule's text


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Expression, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: str
    left: Expression
    right: Expression
    position: int


@dataclass(frozen=True, slots=True)
class Compare:
    first: Expression
    rest: tuple[tuple[str, Expression], ...]  #: operator and right side
    position: int


@dataclass(frozen=True, slots=True)
class Logic:
    operator: str  #: and, or
    terms: tuple[Expression, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    term: Expression
    position: int


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Expression, ...]
    position: int


Expression = Literal | Name | Items | Arithmetic | Compare | Logic | Not | Call


@dataclass(frozen=True, slots=True)
class Rule:
    text: str
    tree: Expression
    names: tuple[str, ...]  #: in the order of the text

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether flat ``values`` obey it. Raises ValueError where it cannot be evaluated (division by zero, ...)."""
        if any(name not in values for name in self.names):
            return True
        return _a_truth(evaluate(self.tree, values))


def parse_rule(text: str) -> Rule:
    """Raises StudyError that points at the token that cannot be read."""
    text = " ".join(text.splitlines()).strip()
    if len(text) > LONGEST_RULE:
        raise StudyError(f"a rule of {len(text)} characters is too long; at most {LONGEST_RULE}")
    try:
        tree = _Reader(text).read(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        at = min(max(0, (error.offset or 1) - 1), len(text))
        single = "=" in text and not any(sign in text for sign in ("==", "<=", ">=", "!="))
        refuse(text, at, "cannot be read here; equality is written ==" if single else "cannot be read here")
    except (ValueError, RecursionError, MemoryError) as error:
        raise StudyError(f"cannot be read: {error}\n  {text}") from error
    names = dict.fromkeys(node.name for node in walk(tree) if isinstance(node, Name))
    if not names:
        refuse(text, 0, "names no parameter")
    return Rule(text, tree, tuple(names))


def refuse(text: str, position: int, message: str) -> NoReturn:
    """Raise StudyError with a caret under ``position``."""
    raise StudyError(f"{message} (column {position + 1})\n  {text}\n  {' ' * position}^")


class _Reader:
    """From Python's syntax tree to ours."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._bytes = text.encode()

    def read(self, node: ast.expr) -> Expression:
        at = len(self._bytes[: node.col_offset].decode(errors="ignore"))
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return Literal(value, at)
            case ast.Name(id=word) if word in _WORDS:
                return Literal(_WORDS[word], at)
            case ast.Name() | ast.Attribute():
                return Name(self._dotted(node, at), at)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return Items(self._all(items), at)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Not(self.read(operand), at)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Arithmetic("-", Literal(0, at), self.read(operand), at)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.read(operand)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                return Arithmetic(_ARITHMETIC[type(operator)], self.read(left), self.read(right), at)
            case ast.Compare(left=left, ops=ops, comparators=rights) if all(type(op) in _COMPARISONS for op in ops):
                signs = (_COMPARISONS[type(op)] for op in ops)
                return Compare(self.read(left), tuple(zip(signs, self._all(rights), strict=True)), at)
            case ast.BoolOp(op=operator, values=terms):
                return Logic("and" if isinstance(operator, ast.And) else "or", self._all(terms), at)
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in _FUNCTIONS:
                single = function in ("abs", "len")
                if (len(arguments) != 1) if single else (len(arguments) < 2):
                    refuse(self.text, at, f"{function} takes {'one value' if single else 'two values or more'}")
                return Call(function, self._all(arguments), at)
            case ast.Call(func=ast.Name(id=function)):
                refuse(self.text, at, f"no function {function!r}; there are {', '.join(_FUNCTIONS)}")
        refuse(self.text, at, f"{ast.get_source_segment(self.text, node)!r} is not part of the rule language")

    def _all(self, nodes: list[ast.expr]) -> tuple[Expression, ...]:
        return tuple(self.read(node) for node in nodes)

    def _dotted(self, node: ast.expr, at: int) -> str:
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value, at)}.{node.attr}"
        if isinstance(node, ast.Name):
            return node.id
        refuse(self.text, at, "a dot belongs into a name, as in optimizer.lr")


def children(node: Expression) -> tuple[Expression, ...]:
    match node:
        case Items(items=items):
            return items
        case Arithmetic(left=left, right=right):
            return left, right
        case Compare(first=first, rest=rest):
            return first, *(right for _, right in rest)
        case Logic(terms=terms):
            return terms
        case Not(term=term):
            return (term,)
        case Call(arguments=arguments):
            return arguments
    return ()


def walk(node: Expression) -> Iterator[Expression]:
    """The node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def evaluate(node: Expression, values: Mapping[str, Any]) -> Any:
    """The value of an expression. Raises ValueError on operands of the wrong kind and on division by zero."""
    match node:
        case Literal(value=value):
            return value
        case Name(name=name):
            return values[name]
        case Items(items=items):
            return [evaluate(item, values) for item in items]
        case Arithmetic(operator=operator, left=left, right=right):
            return _calculate(operator, _a_number(evaluate(left, values)), _a_number(evaluate(right, values)))
        case Compare(first=first, rest=rest):
            here = evaluate(first, values)
            for operator, right in rest:
                there = evaluate(right, values)
                if not _compares(operator, here, there):
                    return False
                here = there
            return True
        case Logic(operator="and", terms=terms):
            return all(_a_truth(evaluate(term, values)) for term in terms)
        case Logic(terms=terms):
            return any(_a_truth(evaluate(term, values)) for term in terms)
        case Not(term=term):
            return not _a_truth(evaluate(term, values))
        case Call(function="len", arguments=(only,)):
            return len(_a_list(evaluate(only, values)))
        case Call(function=function, arguments=arguments):
            return _FUNCTIONS[function](*[_a_number(evaluate(argument, values)) for argument in arguments])


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(left: Any, right: Any) -> bool:
    """The ``==`` of rules: numbers within the tolerance; true is not 1."""
    if is_number(left) and is_number(right):
        if isinstance(left, int) and isinstance(right, int):
            return left == right
        return math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return same(left, right)


def _a_number(value: Any) -> Any:
    if not is_number(value):
        raise ValueError(f"{value!r} is no number")
    return value


def _a_truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false")
    return value


def _a_list(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is no list")
    return value


def _calculate(operator: str, left: Any, right: Any) -> Any:
    try:
        match operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case _:
                return left / right
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"{left!r} {operator} {right!r}: {error}") from None


def _compares(operator: str, left: Any, right: Any) -> bool:
    match operator:
        case "==":
            return equal(left, right)
        case "!=":
            return not equal(left, right)
        case "in":
            return any(equal(left, member) for member in _a_list(right))
        case "not in":
            return not any(equal(left, member) for member in _a_list(right))
    left, right = _a_number(left), _a_number(right)
    if equal(left, right):
        return operator in ("<=", ">=")
    return bool(left < right) if operator in ("<", "<=") else bool(left > right)
