"""Variation keeps what its parents keep: limits, units, comparability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.workloads.alpha.language.operators import OPERATORS
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import Node, size, walk
from windlass.workloads.alpha.language.units import unit
from windlass.workloads.alpha.search.cookbook import COOKBOOK, weights
from windlass.workloads.alpha.search.grammar import Grammar, usable
from windlass.workloads.alpha.search.variation import _put, cross, jitter, mutate

GRAMMAR = Grammar(weights(""), fields=("open", "high", "low", "close", "volume"), groups=("sector",))
NODES = [parse(one.text) for one in COOKBOOK]
WHICH = st.integers(0, len(NODES) - 1)
SEED = st.integers(0, 2**32 - 1)


def skeleton(node: Node) -> tuple[object, ...]:
    """The tree without its windows."""
    params = node.params if node.op in ("field", "number", "group") else node.params[1:]
    return (node.op, params, tuple(map(skeleton, node.args)))


@settings(max_examples=60, deadline=None)
@given(WHICH, WHICH, SEED)
def test_what_comes_out_is_new_and_usable(one: int, other: int, seed: int) -> None:
    node, second = NODES[one], NODES[other]
    for made in (
        mutate(node, np.random.default_rng(seed), GRAMMAR),
        cross(node, second, np.random.default_rng(seed)),
        jitter(node, np.random.default_rng(seed)),
    ):
        if made is not None:
            assert made != node
            assert usable(made)
            assert unit(made).plain
            assert made.op == node.op  # the outermost operator is what makes names comparable


@settings(max_examples=60, deadline=None)
@given(WHICH, SEED)
def test_jitter_moves_windows_and_nothing_else(which: int, seed: int) -> None:
    node = NODES[which]
    made = jitter(node, np.random.default_rng(seed))
    if made is None:
        assert not any(one.op in OPERATORS and OPERATORS[one.op].reach != "none" for one in walk(node))
        return
    assert skeleton(made) == skeleton(node)
    for before, after in zip(walk(node), walk(made), strict=True):
        if before != after and before.params != after.params:
            assert isinstance(after.params[0], int) and after.params[0] >= 1
            assert 0.4 <= after.params[0] / int(before.params[0]) <= 2.0


def test_a_crossed_part_comes_from_the_other_parent() -> None:
    node, other = parse("rank(ts_mean(close / open, 20))"), parse("rank(ts_std(returns, 60) / ts_std(returns, 10))")
    of_other = set(walk(other))
    for seed in range(20):
        made = cross(node, other, np.random.default_rng(seed))
        assert made is not None
        assert any(part in of_other for part in set(walk(made)) - set(walk(node)))


def test_parts_of_unlike_units_do_not_change_places() -> None:
    node, other = parse("rank(close)"), parse("rank(volume)")
    assert all(cross(node, other, np.random.default_rng(seed)) is None for seed in range(20))


def test_a_mutation_smooths_now_and_then() -> None:
    node = parse("rank(close / delay(close, 20))")
    made = [mutate(node, np.random.default_rng(seed), GRAMMAR) for seed in range(200)]
    assert all(one is not None for one in made)
    smoothed = [one for one in made if one is not None and one.args[0].op in ("decay_linear", "ts_mean")
                and one.args[0].args == node.args]  # fmt: skip
    assert len(smoothed) > 3
    assert len(set(made)) > 60


def test_nothing_to_vary_gives_nothing() -> None:
    assert jitter(parse("rank(close / open)"), np.random.default_rng(0)) is None


@pytest.mark.parametrize("which", range(0, len(NODES), 5))
def test_a_part_is_put_where_it_is_counted(which: int) -> None:
    node, mark = NODES[which], parse("low / high")
    for where, old in enumerate(walk(node)):
        made = _put(node, where, mark)
        assert list(walk(made))[where] == mark
        assert size(made) == size(node) - size(old) + size(mark)
        assert _put(made, where, old) == node
