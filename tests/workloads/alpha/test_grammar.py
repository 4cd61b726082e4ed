"""Samples of the grammar: typed, within limits, comparable across names, and of what the panel has."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from windlass.workloads.alpha.language.canonical import digest, text
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import Limits, Node, depth, fields, groups, lookback, size, walk
from windlass.workloads.alpha.language.units import lint, unit
from windlass.workloads.alpha.search.cookbook import TAGS, weights
from windlass.workloads.alpha.search.grammar import PRODUCTIONS, Grammar, usable

PRICES = ("open", "high", "low", "close", "volume")
ALL = (*PRICES, "vwap", "cap", "sentiment")


def grammar(idea: str = "", *, fields: tuple[str, ...] = PRICES, groups: tuple[str, ...] = ("sector",)) -> Grammar:
    return Grammar(weights(idea), fields=fields, groups=groups)


def drawn(made: Grammar, count: int = 250, seed: int = 0, sort: str = "signal") -> list[Node]:
    rng = np.random.default_rng(seed)
    return [made.sample(rng, sort) for _ in range(count)]


@pytest.mark.parametrize("idea", ["", "momentum + liquidity", "gap", "no volume", "range without reversal or momentum"])
def test_samples_are_typed_within_limits_and_compare_names(idea: str) -> None:
    for node in drawn(grammar(idea, fields=ALL, groups=("sector", "industry"))):
        assert depth(node) <= 8 and size(node) <= 31 and lookback(node) <= 252
        assert lint(node) == []
        assert unit(node).plain
        assert node.op in ("rank", "group_rank", "zscore") or {one.op for one in node.args} == {"zscore"}
        assert usable(node)
        again = parse(text(node), Limits(), fields=("sentiment",))
        assert digest(again) == digest(node)


def test_a_sort_gives_its_unit() -> None:
    made = grammar()
    for sort in ("price", "volume", "money", "rank"):
        assert {unit(node).name for node in drawn(made, 50, sort=sort)} == {sort}
    assert {unit(node).plain for node in drawn(made, 200, sort="ratio")} == {True}


def test_only_what_the_panel_has_is_named() -> None:
    for node in drawn(grammar(groups=())):
        assert fields(node) <= {*PRICES, "returns", "vwap"}
        assert groups(node) == frozenset()
    named = frozenset().union(*(fields(node) for node in drawn(grammar(fields=ALL), 800)))
    assert named == {*ALL, "returns"}
    assert frozenset().union(*(groups(node) for node in drawn(grammar(groups=("industry",))))) == {"industry"}


def test_every_production_can_be_drawn() -> None:
    made = grammar(fields=ALL)
    kinds = Counter(one.sort for one in PRODUCTIONS)
    assert kinds.keys() == made.sorts
    ops = {one.op for node in drawn(made, 800) for one in walk(node)}
    assert {"ts_corr", "neutralize", "group_neutralize", "winsorize", "signed_power", "adv", "ts_argmax"} <= ops
    for one in PRODUCTIONS:
        assert set(one.tags) <= set(TAGS) and one.weight > 0


def test_an_idea_shifts_what_is_drawn() -> None:
    def share(idea: str, *ops: str) -> float:
        return float(np.mean([any(one.op in ops for one in walk(node)) for node in drawn(grammar(idea))]))

    assert share("volatility", "ts_std") > 1.5 * share("momentum", "ts_std")
    assert share("liquidity", "adv") > 2 * share("gap", "adv")
    volumeless = drawn(grammar("no volume, no liquidity"))
    assert not any({"volume"} & fields(node) for node in volumeless)


def test_the_same_seed_draws_the_same_and_draws_differ() -> None:
    first = drawn(grammar("momentum"), 50)
    assert first == drawn(grammar("momentum"), 50)
    assert first != drawn(grammar("momentum"), 50, seed=1)
    assert len({digest(node) for node in drawn(grammar(), 500)}) > 450


@pytest.mark.parametrize("text", ["rank(rank(close) - rank(close))", "rank(neutralize(returns, volume, returns))",
                                  "rank(ts_corr(close, close, 20))", "rank(volume / volume)"])  # fmt: skip
def test_what_cancels_out_is_of_no_use(text: str) -> None:
    assert not usable(parse(text))
    assert usable(parse("rank(returns * returns / (close / delay(close, 5)))"))


def test_most_windows_are_long() -> None:
    windows = [
        int(one.params[0]) for node in drawn(grammar()) for one in walk(node) if one.op.startswith(("ts_", "decay"))
    ]
    assert np.median(windows) >= 30
