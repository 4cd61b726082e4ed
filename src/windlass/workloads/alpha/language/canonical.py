"""One form for expressions that mean the same, its text, and its digest.

Every rewrite keeps every value to the bit, the sign of a zero aside: IEEE addition and multiplication commute (two
arguments; longer sums keep their order), a sign moves through sums, products, quotients, ``delay``, ``delta`` and
``sign`` without rounding, and only exact operations on numbers are carried out. No rewrite makes a tree larger,
deeper (a sign is no level) or its look-back longer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from windlass.workloads.alpha.language.operators import LARGEST, LONGEST, OPERATORS
from windlass.workloads.alpha.language.tree import Node, number

_DIGITS = 16
_ODD = frozenset({"delay", "delta", "sign"})  #: f(-x) = -f(x)
_CARRIES = _ODD | {"add", "mul", "div"}  #: a sign may move from an argument to the result
_ONE_DAY = frozenset({"ts_sum", "ts_mean", "ts_min", "ts_max", "ts_product", "decay_linear"})  #: f(x, 1) = x
_IDEMPOTENT = frozenset({"rank", "group_rank", "abs", "sign", "clip"})  #: f(f(x)) = f(x) with the same parameters
_POWERS = frozenset({"power", "signed_power"})
_FLAGS = frozenset({"eq", "lt", "le", "gt", "ge", "and", "or", "not"})
_MIRROR = {"gt": "lt", "ge": "le"}  #: a > b is b < a
_OPPOSITE = {"lt": "le", "le": "lt"}  #: not (a < b) is b <= a
_EXACT: dict[str, Callable[..., float]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "sqrt": math.sqrt,
    "min": min,
    "max": max,
    "eq": lambda x, y: float(x == y),
    "lt": lambda x, y: float(x < y),
    "le": lambda x, y: float(x <= y),
}

#: how tightly a node binds in a text; calls and leaves most
_BINDING = {
    "or": 1, "and": 2, "not": 3, "eq": 4, "lt": 4, "le": 4, "gt": 4, "ge": 4,
    "add": 5, "sub": 5, "mul": 6, "div": 6, "neg": 7, "power": 8,
}  # fmt: skip
_ATOM = 9
_SIGNS = {
    "or": "or", "and": "and", "eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "add": "+", "sub": "-", "mul": "*", "div": "/", "power": "**",
}  # fmt: skip


def canonical(node: Node) -> Node:
    """The form that all equal spellings share, as far as the rewrites above go; ``canonical`` of it is itself."""
    return _signed(*_normal(node))


def text(node: Node) -> str:
    """Shortest plain text of a tree; ``parse`` of it has the same canonical form."""
    return _write(node)[0]


def digest(node: Node) -> str:
    """16 hex digits of the SHA-256 of the canonical text: equal for expressions that differ in spelling alone."""
    return hashlib.sha256(text(canonical(node)).encode()).hexdigest()[:_DIGITS]


def _signed(negative: bool, core: Node) -> Node:
    """The tree of a core with its sign, without a node for it where the core can take it in."""
    if not negative:
        return core
    return _opposite(core) or Node("neg", (core,))


def _opposite(core: Node) -> Node | None:
    """A tree of the same size for the core's negative: a number's sign, a difference turned round; None without one."""
    if core.op == "number":
        return number(0.0 - float(core.params[0]))  # zero has no sign
    if core.op == "sub":
        return Node("sub", (core.args[1], core.args[0]))
    if core.op not in _CARRIES:
        return None
    turned = [_opposite(one) for one in core.args]
    if core.op == "add" and any(turned):
        left, right = turned
        if left and right:
            return Node("add", (left, right))
        return Node("sub", (left, core.args[1]) if left else (right or core, core.args[0]))
    for index, one in enumerate(turned):
        if one:
            return Node(core.op, (*core.args[:index], one, *core.args[index + 1 :]), core.params)
    return None


def _normal(node: Node) -> tuple[bool, Node]:
    """(negative, core): the value is the core's or its negative, and the core carries no outer sign."""
    if node.op == "number":
        value = float(node.params[0])
        return value < 0, number(abs(value))
    if node.op == "neg":
        negative, core = _normal(node.args[0])
        return not negative, core
    if node.op == "add":
        return _sum(_normal(node.args[0]), _normal(node.args[1]))
    if node.op == "sub":
        negative, core = _normal(node.args[1])
        return _sum(_normal(node.args[0]), (not negative, core))
    if node.op in ("mul", "div"):
        return _scaled(node.op, _normal(node.args[0]), _normal(node.args[1]))
    if node.op in _ODD:
        negative, core = _normal(node.args[0])
        return _plain(Node(node.op, (core,), node.params), negative)
    if node.op == "abs":
        return _plain(Node("abs", (_normal(node.args[0])[1],)))
    return _plain(Node(node.op, tuple(map(canonical, node.args)), node.params))


def _sum(left: tuple[bool, Node], right: tuple[bool, Node]) -> tuple[bool, Node]:
    (one_negative, one), (other_negative, other) = left, right
    if _is(one, 0):
        return right
    if _is(other, 0):
        return left
    if one_negative == other_negative:
        return _folded(Node("add", _sorted(one, other)), one_negative)
    first, second = _sorted(one, other)
    return _folded(Node("sub", (first, second)), one_negative if first is one else other_negative)


def _scaled(op: str, left: tuple[bool, Node], right: tuple[bool, Node]) -> tuple[bool, Node]:
    (one_negative, one), (other_negative, other) = left, right
    negative = one_negative != other_negative
    if _is(other, 1):
        return negative, one
    if op == "mul" and _is(one, 1):
        return negative, other
    return _folded(Node(op, _sorted(one, other) if op == "mul" else (one, other)), negative)


def _plain(node: Node, negative: bool = False) -> tuple[bool, Node]:
    """A node with canonical arguments, after the rewrites that look at it alone."""
    first = node.args[0] if node.args else None
    if first is None:
        return negative, node
    if node.op in _IDEMPOTENT and first == Node(node.op, first.args[:1] + node.args[1:], node.params):
        return negative, first
    if node.op == "abs" and (first.op in _FLAGS or first.op in ("rank", "sqrt")):
        return negative, first
    if (node.op in _ONE_DAY and node.params == (1,)) or (node.op in _POWERS and _is(node.args[1], 1)):
        return _again(first, negative)
    if node.op == "delay" and first.op == "delay":
        days = int(node.params[0]) + int(first.params[0])
        return negative, Node("delay", first.args, (days,)) if days <= LONGEST else node
    if node.op in _MIRROR:
        return _plain(Node(_MIRROR[node.op], (node.args[1], first)), negative)
    if node.op == "not" and first.op in _OPPOSITE:
        return negative, Node(_OPPOSITE[first.op], (first.args[1], first.args[0]))
    if node.op == "not" and first.op == "not" and first.args[0].op in _FLAGS:
        return negative, first.args[0]
    if node.op == "where" and first.op == "not":
        return _plain(Node("where", (first.args[0], node.args[2], node.args[1])), negative)
    if OPERATORS[node.op].commutative:
        node = Node(node.op, _sorted(*node.args), node.params)
    return _folded(node, negative)


def _again(node: Node, negative: bool) -> tuple[bool, Node]:
    inner, core = _normal(node)
    return inner != negative, core


def _folded(node: Node, negative: bool) -> tuple[bool, Node]:
    """The number, where all arguments are numbers and the operation is exact or correctly rounded everywhere."""
    if node.op in _EXACT and all(one.op == "number" for one in node.args):
        try:
            value = float(_EXACT[node.op](*(one.params[0] for one in node.args)))
        except (ArithmeticError, ValueError):
            return negative, node
        if abs(value) <= LARGEST:
            return (value < 0) != negative, number(abs(value))
    return negative, node


def _is(node: Node, value: float) -> bool:
    return node.op == "number" and node.params[0] == value


def _sorted(left: Node, right: Node) -> tuple[Node, Node]:
    """Numbers first, then by text."""
    one, other = sorted((left, right), key=lambda node: (node.op != "number", text(node)))
    return one, other


def _write(node: Node) -> tuple[str, int]:
    """Text of a node and how tightly it binds."""
    if node.op == "number":
        value = float(node.params[0])
        return _number(value), _ATOM if value >= 0 else _BINDING["neg"]
    if node.op in ("field", "group"):
        return str(node.params[0]), _ATOM
    binding = _BINDING.get(node.op, _ATOM)
    if node.op in ("neg", "not"):
        return f"{'-' if node.op == 'neg' else 'not '}{_within(node.args[0], binding)}", binding
    if node.op in _SIGNS:
        tight_left = binding + (node.op == "power" or binding == _BINDING["eq"])
        tight_right = _BINDING["neg"] if node.op == "power" else binding + 1
        left, right = _within(node.args[0], tight_left), _within(node.args[1], tight_right)
        return f"{left} {_SIGNS[node.op]} {right}", binding
    pieces = [_write(one)[0] for one in node.args]
    declared = OPERATORS[node.op].params
    literals = [_number(value) for value in node.params]
    while literals and node.params[len(literals) - 1] == declared[len(literals) - 1].default:
        literals.pop()
    return f"{node.op}({', '.join(pieces + literals)})", _ATOM


def _within(node: Node, least: int) -> str:
    written, binding = _write(node)
    return written if binding >= least else f"({written})"


def _number(value: float | int | str) -> str:
    written = repr(float(value))
    return written.removesuffix(".0")
