"""The cookbook: every snippet is an expression that compares names; an idea leans towards what it speaks of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.workloads.alpha.language.canonical import digest
from windlass.workloads.alpha.language.operators import OPERATORS
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import Limits, lookback, walk
from windlass.workloads.alpha.language.units import lint
from windlass.workloads.alpha.search.cookbook import COOKBOOK, FLOOR, TAGS, Snippet, reading, weight, weights
from windlass.workloads.alpha.search.search import unsigned


@pytest.mark.parametrize("snippet", COOKBOOK, ids=lambda one: one.name)
def test_a_snippet_is_typed_within_limits_and_compares_names(snippet: Snippet) -> None:
    node = parse(snippet.text, Limits())
    assert lint(node) == []
    assert node.op in ("rank", "group_rank", "zscore")
    assert snippet.belief.endswith((".", ")."))
    assert 0 < len(set(snippet.tags)) == len(snippet.tags)


def test_no_two_snippets_are_one_trial_or_share_a_name() -> None:
    assert len({digest(unsigned(parse(one.text))) for one in COOKBOOK}) == len(COOKBOOK)
    assert len({one.name for one in COOKBOOK}) == len(COOKBOOK)


def test_every_tag_has_many_snippets_and_most_of_them_are_slow() -> None:
    for tag in TAGS:
        assert sum(tag in one.tags for one in COOKBOOK) >= 8
    slow = [one for one in COOKBOOK if lookback(parse(one.text)) >= 19]
    assert len(slow) > 0.8 * len(COOKBOOK)
    longest = [
        max((node.params[0] for node in walk(parse(one.text)) if node.op in OPERATORS and node.params), default=0)
        for one in COOKBOOK
    ]
    assert sum(20 <= int(days) <= 180 for days in longest) > 0.8 * len(COOKBOOK)


@pytest.mark.parametrize(
    ("idea", "meant"),
    [
        ("Momentum + liquidity", {"momentum", "liquidity"}),
        ("mean reversion after overnight gaps", {"reversal", "gap"}),
        ("ILLIQUID stocks", {"liquidity"}),
        ("low-volatility names", {"volatility"}),
        ("Volume spikes ahead of trends", {"volume-price", "momentum"}),
        ("candlestick shadows and contrarian flow", {"range", "reversal", "volume-price"}),
        ("post-earnings announcement drift", {"gap", "momentum"}),
    ],
)
def test_an_idea_leans_towards_what_it_names(idea: str, meant: set[str]) -> None:
    shares = weights(idea)
    heavy = {tag for tag, share in shares.items() if share > 1 / len(TAGS)}
    assert heavy == meant
    assert all(tag in reading(idea) for tag in meant)


def test_what_an_idea_rules_out_has_no_weight() -> None:
    shares = weights("momentum without volatility")
    assert (shares["volatility"], shares["momentum"]) == (0, pytest.approx(1 - FLOOR + FLOOR / 6))
    assert reading("momentum without volatility") == "the idea was read as momentum, without volatility"
    assert weight(("momentum", "volatility"), shares) == 0
    assert weight(("momentum", "gap"), shares) == pytest.approx((shares["momentum"] + shares["gap"]) / 2)
    assert weights("trends, but not risky ones")["volatility"] == 0
    assert weights("no momentum at first, then momentum")["momentum"] > 1 / len(TAGS)
    rest = weights("no volume")
    assert rest["volume-price"] == 0 and len({share for share in rest.values() if share}) == 1


@pytest.mark.parametrize("idea", ["", "  ", "quantum astrology", "動量"])
def test_an_idea_without_a_known_word_is_uniform_and_says_so(idea: str) -> None:
    assert weights(idea) == pytest.approx(dict.fromkeys(TAGS, 1 / len(TAGS)))
    assert "all kinds count alike" in reading(idea)
    assert ("no idea was given" in reading(idea)) == (not idea.strip())


@given(st.text(max_size=200))
def test_weights_add_up_to_one_whatever_the_idea(idea: str) -> None:
    shares = weights(idea)
    assert tuple(shares) == TAGS
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0
    assert reading(idea)


def test_everything_ruled_out_is_everything() -> None:
    words = ("momentum", "reversal", "liquidity", "volatility", "volume", "range", "gap")
    assert weights(" ".join(f"no {word}" for word in words)) == pytest.approx(dict.fromkeys(TAGS, 1 / len(TAGS)))
