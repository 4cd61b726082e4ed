"""An expression as a tree of immutable nodes, and what can be counted on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from windlass.workloads.alpha.language.operators import FIELDS, LONGEST, OPERATORS

Literal = int | float | str


@dataclass(frozen=True, slots=True)
class Node:
    """One operator with its arguments and literal parameters.

    Leaves: ``Node("field", params=("close",))``, ``Node("number", params=(0.5,))`` (always a float),
    ``Node("group", params=("sector",))``. Windows are ints in ``params``: ``Node("ts_mean", (x,), (20,))``.
    """

    op: str
    args: tuple[Node, ...] = ()
    params: tuple[Literal, ...] = ()


def field(name: str) -> Node:
    return Node("field", params=(name,))


def number(value: float) -> Node:
    return Node("number", params=(float(value),))


def group(name: str) -> Node:
    return Node("group", params=(name,))


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes below it, parents first, arguments from left to right."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(reversed(one.args))


def size(node: Node) -> int:
    """Number of nodes, leaves included, parameters not."""
    return sum(1 for _ in walk(node))


def depth(node: Node) -> int:
    """Nodes on the longest way from the root to a leaf, where a sign (``neg``) does not count; 1 for a leaf alone."""
    deepest, waiting = 0, [(node, 0)]
    while waiting:
        one, level = waiting.pop()
        level += one.op != "neg"
        deepest = max(deepest, level)
        waiting.extend((child, level) for child in one.args)
    return deepest


def rows_before(node: Node) -> int:
    """Rows before today that this node alone reads of its arguments (of the panel, for a leaf)."""
    if node.op == "field":
        rule = FIELDS.get(str(node.params[0]))
        return rule.rows_before if rule else 0
    operator = OPERATORS.get(node.op)
    return operator.rows_before(node.params) if operator else 0


def lookback(node: Node) -> int:
    """Rows before t that row t needs: the largest sum of ``rows_before`` on a way from the root to a leaf.

    ``delay(close, 5)`` needs 5, ``ts_mean(close, 20)`` 19, ``ts_mean(delay(close, 5), 20)`` 24, ``returns`` 1.
    """
    longest, waiting = 0, [(node, 0)]
    while waiting:
        one, before = waiting.pop()
        before += rows_before(one)
        longest = max(longest, before)
        waiting.extend((child, before) for child in one.args)
    return longest


def fields(node: Node) -> frozenset[str]:
    """Columns of the panel that the tree names; ``adv`` reads close and volume, ``returns`` stays ``returns``."""
    named = {str(one.params[0]) for one in walk(node) if one.op == "field"}
    if any(one.op == "adv" for one in walk(node)):
        named |= {"close", "volume"}
    return frozenset(named)


def groups(node: Node) -> frozenset[str]:
    return frozenset(str(one.params[0]) for one in walk(node) if one.op == "group")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a text may ask for."""

    depth: int = 8
    nodes: int = 31
    lookback: int = LONGEST
    floor_windows: bool = False  #: a window of 8.9 days means 8, as in the paper of the 101 alphas; else an error

    def broken(self, node: Node) -> str:
        """What the tree breaks, in words; empty where it keeps all limits."""
        for what, value, most in (
            ("levels of nesting", depth(node), self.depth),
            ("nodes", size(node), self.nodes),
            ("days of look-back", lookback(node), self.lookback),
        ):
            if value > most:
                return f"{value} {what}, and at most {most} are allowed"
        return ""


FORMULAIC = Limits(depth=20, nodes=64, lookback=504, floor_windows=True)  #: wide enough for the 101 alphas
