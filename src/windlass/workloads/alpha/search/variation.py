"""New expressions from good ones: a part replaced, a part taken from another, windows moved, the whole smoothed.

Each returns None where no draw of several gives a tree within the limits whose units fit. Parts change places with
parts of the same unit only, so that what comes out is typed where its parents are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from windlass.workloads.alpha.language.operators import OPERATORS
from windlass.workloads.alpha.language.tree import Node, walk
from windlass.workloads.alpha.language.units import unit
from windlass.workloads.alpha.search.grammar import WINDOWS, Grammar, usable

TRIES = 20
SMOOTHED = 0.25  #: share of mutations that put a mean over time around the part, instead of replacing it
STRETCH = (0.5, 0.7, 1.4, 2.0)  #: what a window is multiplied by


def mutate(node: Node, rng: np.random.Generator, grammar: Grammar) -> Node | None:
    """With one part replaced by a newly drawn one of its unit, or smoothed over a slow window."""

    def draw() -> Node | None:
        where, part = _choose(node, rng)
        if rng.random() < SMOOTHED:
            slow = int(rng.choice(WINDOWS["$slow"]))
            return _put(node, where, Node("decay_linear" if rng.random() < 0.5 else "ts_mean", (part,), (slow,)))
        sort = unit(part).name
        return _put(node, where, grammar.sample(rng, sort)) if sort in grammar.sorts else None

    return _first(draw, node)


def cross(node: Node, other: Node, rng: np.random.Generator) -> Node | None:
    """With one part replaced by a part of ``other`` that has the same unit."""

    def draw() -> Node | None:
        where, part = _choose(node, rng)
        fitting = [one for one in walk(other) if _is_part(one) and unit(one) == unit(part)]
        return _put(node, where, fitting[rng.integers(len(fitting))]) if fitting else None

    return _first(draw, node)


def jitter(node: Node, rng: np.random.Generator) -> Node | None:
    """With one window, at least, about half to twice as long."""

    def draw() -> Node | None:
        windows = [where for where, one in enumerate(walk(node)) if _windowed(one)]
        if not windows:
            return None
        moved = node
        for where in rng.permutation(windows)[: 1 + int(rng.integers(len(windows)))]:
            one = _at(moved, int(where))
            moved = _put(moved, int(where), _stretched(one, STRETCH[rng.integers(len(STRETCH))]))
        return moved

    return _first(draw, node)


def _first(draw: Callable[[], Node | None], parent: Node) -> Node | None:
    for _ in range(TRIES):
        made = draw()
        if made is not None and made != parent and usable(made):
            return made
    return None


def _choose(node: Node, rng: np.random.Generator) -> tuple[int, Node]:
    """Where a part is, counted as ``walk`` does, and the part. Not the whole, unless there is nothing else."""
    parts = [(where, one) for where, one in enumerate(walk(node)) if _is_part(one)]
    inner = parts[1:] or parts
    return inner[rng.integers(len(inner))]


def _is_part(node: Node) -> bool:
    return node.op not in ("number", "group")


def _windowed(node: Node) -> bool:
    return node.op in OPERATORS and OPERATORS[node.op].reach != "none"


def _stretched(node: Node, factor: float) -> Node:
    bounds = OPERATORS[node.op].params[0]
    days = round(int(node.params[0]) * factor)
    return replace(node, params=(int(min(max(days, bounds.least), bounds.most)), *node.params[1:]))


def _at(node: Node, where: int) -> Node:
    return next(one for place, one in enumerate(walk(node)) if place == where)


def _put(node: Node, where: int, part: Node) -> Node:
    """The tree with ``part`` in the place that ``walk`` counts as ``where``."""
    made, _ = _replaced(node, where, part)
    return made


def _replaced(node: Node, where: int, part: Node) -> tuple[Node, int]:
    """The tree, and how many places were passed; ``where`` counts from this node."""
    if where == 0:
        return part, sum(1 for _ in walk(node))
    passed, args = 1, list[Node]()
    for arg in node.args:
        made, count = _replaced(arg, where - passed, part)
        args.append(made)
        passed += count
    return replace(node, args=tuple(args)), passed
