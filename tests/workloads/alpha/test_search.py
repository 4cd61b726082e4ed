"""The search: a generation is a function of its number and the past; fitness knows copies and weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import DataError
from windlass.workloads.alpha import spec
from windlass.workloads.alpha.language.canonical import canonical, digest
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import size
from windlass.workloads.alpha.search.cookbook import COOKBOOK
from windlass.workloads.alpha.search.grammar import Grammar, usable
from windlass.workloads.alpha.search.search import (
    PARENTS,
    Candidate,
    Scored,
    Search,
    _overlap,
    fitness,
    overlap,
    unsigned,
)

PRICES = ("open", "high", "low", "close", "volume")
DAYS = 60


def search(idea: str = "Momentum + liquidity", *, seed: int = 7, candidates: int = 120, **more: Any) -> Search:
    settings = spec.Search(generation=more.pop("generation", 30), variation=more.pop("variation", 0.5))
    more = {"fields": PRICES, "groups": ("sector",), **more}
    return Search(idea, settings, seed, candidates=candidates, **more)


def scored(candidates: Sequence[Candidate], fitness: Sequence[float] | None = None) -> list[Scored]:
    """Fitness and returns that depend on the expression alone."""
    made = []
    for place, one in enumerate(candidates):
        rng = np.random.default_rng(int(one.digest, 16) % 2**32)
        value = float(rng.normal()) if fitness is None else fitness[place]
        made.append(Scored(one, value, rng.normal(size=DAYS).astype(np.float32)))
    return made


def campaign(made: Search, until: int | None = None) -> list[Candidate]:
    found: list[Candidate] = []
    for generation in range(made.generations if until is None else until):
        found += made.propose(generation, scored(found))
    return found


def of(text: str, proposer: Any = "user") -> Candidate:
    return Candidate.of(parse(text), proposer)


def test_a_resumed_campaign_proposes_the_same() -> None:
    whole = campaign(search())
    assert [campaign(search(), k) for k in range(5)] == [whole[: 30 * k] for k in range(5)]
    resumed = search()  # knows nothing but the past
    assert resumed.propose(3, scored(whole[:90])) == whole[90:]


def test_the_order_of_the_past_does_not_matter() -> None:
    past = scored(campaign(search(), 2))
    assert search().propose(2, past) == search().propose(2, past[::-1])


@pytest.mark.parametrize("changed", [{"seed": 8}, {"idea": "gap"}, {"fields": (*PRICES, "cap")}])
def test_another_seed_idea_or_panel_proposes_others(changed: dict[str, Any]) -> None:
    assert search(**changed).propose(0, []) != search().propose(0, [])


def test_no_trial_is_proposed_twice_not_even_with_the_other_sign() -> None:
    found = campaign(search(candidates=600, generation=100, variation=0.8))
    assert len(found) == 600
    assert len({one.digest for one in found}) == 600
    assert len({digest(unsigned(one.node)) for one in found}) == 600


def test_candidates_are_canonical_usable_and_say_where_they_come_from() -> None:
    found = campaign(search(candidates=200))
    digests = {one.digest for one in found}
    for one in found:
        assert one.node == canonical(one.node)
        assert digest(parse(one.text)) == one.digest
        assert usable(one.node)
        assert set(one.parents) <= digests
        assert bool(one.parents) == (one.proposer in ("mutation", "crossover", "jitter"))
    assert {one.proposer for one in found} == {"cookbook", "grammar", "mutation", "crossover", "jitter"}


def test_the_first_generation_is_new_and_later_ones_vary_by_their_share() -> None:
    found = campaign(search(candidates=120, variation=0.6))
    varied = [sum(bool(one.parents) for one in found[start : start + 30]) for start in range(0, 120, 30)]
    assert varied == [0, 18, 18, 18]
    assert sum(one.proposer == "cookbook" for one in found[:30]) == 15


def test_the_last_generation_is_what_is_left() -> None:
    made = search(candidates=70)
    assert made.generations == 3
    assert [len(made.propose(k, [])) for k in range(3)] == [30, 30, 10]


def test_parents_are_the_best() -> None:
    past = scored(campaign(search(), 2))
    best = {one.candidate.digest for one in sorted(past, key=lambda one: -one.fitness)[:PARENTS]}
    chosen = {parent for one in search(variation=1.0).propose(2, past) for parent in one.parents}
    assert chosen and chosen <= best


def test_what_never_traded_has_no_offspring() -> None:
    first = search().propose(0, [])
    dead = scored(first, [-math.inf] * len(first))
    assert not any(one.parents for one in search().propose(1, dead))


def test_an_idea_brings_its_snippets_first() -> None:
    tags = {canonical(parse(one.text)): one.tags for one in COOKBOOK}

    def share(idea: str) -> float:
        found = [c for seed in range(5) for c in search(idea, seed=seed).propose(0, []) if c.proposer == "cookbook"]
        return float(np.mean(["gap" in tags[one.node] for one in found]))

    assert share("overnight gaps") > 2 * share("momentum")


def test_given_expressions_come_first_and_count() -> None:
    mine, models = of("rank(close / open)"), of("zscore(ts_mean(returns, 30))", "language_model")
    made = search(given=(mine, models, of("rank(-(close / open))")))
    first = made.propose(0, [])
    assert first[:2] == [mine, models]
    assert len(first) == 30 and first[2].proposer == "cookbook"  # the third is the first one, sold
    assert mine not in made.propose(1, scored(first))


def test_given_expressions_that_do_not_fit_one_generation_wait_for_the_next() -> None:
    given = tuple(of(f"rank(ts_mean(returns, {days}))") for days in range(2, 42))
    made = search(given=given, candidates=60)
    first = made.propose(0, [])
    assert first == list(given[:30])
    assert made.propose(1, scored(first))[:10] == list(given[30:])


@pytest.mark.parametrize(
    ("text", "message"),
    [("rank(cap)", "needs the column 'cap'"), ("group_rank(close, industry)", "needs the group 'industry'")],
)
def test_a_given_expression_that_the_panel_cannot_answer_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        search(given=(of(text),))


def test_snippets_of_columns_that_the_panel_lacks_are_left_out() -> None:
    found = campaign(search("liquidity", candidates=400, generation=100, variation=0.0))
    snippets = [one.text for one in found if one.proposer == "cookbook"]
    assert len(snippets) == len(COOKBOOK) - sum("cap" in one.text for one in COOKBOOK)
    assert "rank(-cap)" not in snippets
    without = campaign(search(groups=(), candidates=400, generation=100))
    assert not any("sector" in one.text for one in without)


def test_a_space_that_is_used_up_gives_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grammar, "sample", lambda self, rng, sort="signal": parse("rank(close / open)"))
    made = search(candidates=100, generation=100, variation=0.0).propose(0, [])
    assert sum(one.proposer == "grammar" for one in made) == 1
    assert len(made) < 100


EXPRESSIONS = ("rank(close / delay(close, 20))", "rank(close / delay(close, 60))", "rank(ts_std(returns, 30))", "close")
SETTINGS = spec.Search(novelty=0.5, complexity=0.01)


def judged(ir: Sequence[float], bases: Any, texts: Sequence[str] = EXPRESSIONS) -> Any:
    given = [of(text) for text in texts]
    return fitness(given, np.array(ir), np.asarray(bases, dtype=np.float32), SETTINGS)


def test_the_best_pays_for_its_nodes_alone() -> None:
    bases = np.random.default_rng(0).normal(size=(4, 500))
    found = judged([1.0, 2.0, 0.5, 0.1], bases)
    assert found[1] == pytest.approx(2.0 - 0.01 * size(parse(EXPRESSIONS[1])))


def test_a_copy_of_something_better_loses_novelty_whichever_came_first() -> None:
    one = np.random.default_rng(0).normal(size=500)
    other = np.random.default_rng(1).normal(size=500)
    for sign in (1, -1):
        found = judged([1.0, 1.1], [sign * one, 2 * one], ("rank(ts_std(returns, 30))", "rank(close / open)"))
        assert found == pytest.approx([1.0 - 0.5 - 0.03, 1.1 - 0.04])
    apart = judged([1.0, 1.1], [one, other], ("rank(ts_std(returns, 30))", "rank(close / open)"))
    assert apart[0] > 1.0 - 0.5 * 0.2


def test_the_same_shape_with_other_returns_loses_half_of_it() -> None:
    bases = np.eye(2, 400)
    found = judged([1.0, 1.1], bases, EXPRESSIONS[:2])
    assert found[0] == pytest.approx(1.0 - 0.5 * 0.5 - 0.01 * size(parse(EXPRESSIONS[0])))


def test_missing_ratios_and_flat_or_missing_returns() -> None:
    bases = np.zeros((4, 100))
    bases[1] = np.nan
    bases[2] = np.random.default_rng(0).normal(size=100)
    found = judged([math.nan, 1.0, 2.0, -math.inf], bases)
    assert np.isneginf(found[[0, 3]]).all()
    assert found[1:3] == pytest.approx([1.0 - 0.05, 2.0 - 0.03])
    assert judged([], np.empty((0, 5)), ()).shape == (0,)


def test_overlap_is_of_shapes() -> None:
    def measured(one: str, other: str) -> float:
        return overlap(parse(one), parse(other))

    assert measured("rank(ts_mean(close, 5))", "rank(ts_mean(close, 50))") == 1
    assert measured("rank(close)", "rank(volume)") == 0
    assert measured("close", "close") == 1
    assert measured("rank(ts_mean(close, 5))", "zscore(ts_mean(close, 9))") == pytest.approx(1 / 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(COOKBOOK), min_size=1, max_size=8, unique=True))
def test_overlap_of_many_is_the_overlap_of_each(snippets: list[Any]) -> None:
    given = [of(one.text) for one in snippets]
    matrix = _overlap(given, np.arange(len(given)))
    for i, one in enumerate(given):
        for j, other in enumerate(given):
            assert matrix[i, j] == pytest.approx(overlap(one.node, other.node))
            assert 0 <= matrix[i, j] <= 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("rank(-close)", "rank(close)", True),
        ("-rank(close)", "rank(close)", True),
        ("rank(-decay_linear(-returns, 5))", "rank(decay_linear(returns, 5))", True),
        ("rank(-returns * volume)", "rank(returns * volume)", True),
        ("decay_linear(rank(-returns), 5)", "decay_linear(rank(returns), 5)", True),
        ("rank(-returns) * volume", "rank(returns) * volume", False),
        ("rank(abs(-returns))", "rank(returns)", False),
        ("rank(close - open)", "rank(open - close)", False),
        ("rank(ts_max(-returns, 5))", "rank(ts_max(returns, 5))", False),
    ],
)
def test_signs_that_only_turn_the_portfolio_are_dropped(one: str, other: str, same: bool) -> None:
    assert (digest(unsigned(parse(one))) == digest(unsigned(parse(other)))) == same
