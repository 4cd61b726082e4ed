"""Bounds against the literature and scipy; what is called shown is wrong as seldom as it says, to the last count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, fisher_exact

from windlass.registry import wilson as w

LEVELS = st.sampled_from([0.2, 0.05, 0.025, 1e-3, 1e-6])
COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_a_two_sided_interval_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    x, n = counts
    expected = binomtest(x, n).proportion_ci(confidence, method="wilson")
    assert w.wilson(x, n, (1 - confidence) / 2) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("alternative, side", [("greater", "low"), ("less", "high")])
def test_a_one_sided_bound_is_scipys(alternative: str, side: str) -> None:
    expected = binomtest(37, 60, alternative=alternative).proportion_ci(0.99, method="wilson")
    assert getattr(w.wilson(37, 60, 0.01), side) == pytest.approx(getattr(expected, side), abs=1e-12)


@pytest.mark.parametrize(
    "counts, expected",
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_differences_are_those_of_newcombes_table(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    assert w.newcombe(*counts, 0.025) == pytest.approx(expected, abs=5e-5)


def test_no_answers_say_nothing() -> None:
    assert w.wilson(0, 0, 0.05) == (0, 1)
    for counts in ((0, 0, 0, 0), (5, 5, 0, 0), (0, 0, 3, 4)):
        assert w.newcombe(*counts, 0.05) == (-1, 1)
    assert not w.above(0, 0, 0.01, 0.4)
    assert not w.lower(0, 0, 90, 100, 0.4) and not w.lower(1, 100, 0, 0, 0.4)
    assert not w.no_worse(0, 0, 90, 100, 0.05, 0.4) and not w.no_worse(99, 99, 0, 0, 0.05, 0.4)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0, -0.1])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        w.wilson(1, 2, level)


@given(COUNTS, COUNTS, LEVELS)
def test_bounds_hold_the_estimate_and_mirror(a: tuple[int, int], b: tuple[int, int], level: float) -> None:
    low, high = w.wilson(*a, level)
    assert 0 <= low <= a[0] / a[1] + 1e-12 and a[0] / a[1] - 1e-12 <= high <= 1
    assert w.wilson(a[1] - a[0], a[1], level) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    forth, back = w.newcombe(*a, *b, level), w.newcombe(*b, *a, level)
    assert forth == pytest.approx((-back.high, -back.low), abs=1e-12)
    wider = w.newcombe(*a, *b, level / 10)
    assert wider.low <= forth.low + 1e-12 and wider.high >= forth.high - 1e-12


def test_arrays_are_what_numbers_are() -> None:
    x, n = np.array([0, 3, 50, 80]), np.array([0, 9, 100, 80])
    alone = [w.newcombe(int(a), int(b), 40, 50, 0.01) for a, b in zip(x, n, strict=True)]
    together = w.newcombe(x, n, 40, 50, 0.01)
    assert np.column_stack(together) == pytest.approx(np.array(alone), abs=1e-15)


@settings(deadline=None)
@given(COUNTS, COUNTS)
def test_fishers_test_is_scipys(a: tuple[int, int], b: tuple[int, int]) -> None:
    table = [[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]
    assert w.fisher(*a, *b) == pytest.approx(fisher_exact(table, alternative="less").pvalue, rel=1e-8, abs=1e-300)


def test_fishers_test_is_exact_for_millions() -> None:
    """A champion so well known that it is a constant: what is left is the binomial test of the challenger."""
    assert w.fisher(860, 1000, 9 * 10**8, 10**9) == pytest.approx(binom.cdf(860, 1000, 0.9), rel=1e-3)


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("level", [0.025, 1e-4])
def test_a_share_at_its_limit_is_seldom_shown_to_be_beyond(limit: float, level: float) -> None:
    for n in (8, 62, 300):
        x = np.arange(n + 1)
        chances = binom.pmf(x, n, limit)
        assert chances[[w.above(int(k), n, limit, level) for k in x]].sum() <= level
        assert chances[[w.below(int(k), n, limit, level) for k in x]].sum() <= level


def test_the_bound_alone_would_be_too_sure() -> None:
    n, share, level = 62, 0.98, 1e-6
    x = np.arange(n + 1)
    wrong = binom.pmf(x, n, share)[w.wilson(x, n, level).high < share].sum()
    assert wrong / level == pytest.approx(240, abs=1)


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_equal_shares_are_seldom_shown_to_differ(p: float) -> None:
    n_a, n_b, level = 40, 60, 0.01
    wrong = sum(
        binom.pmf(a, n_a, p) * binom.pmf(b, n_b, p)
        for a in range(n_a + 1)
        for b in range(n_b + 1)
        if w.lower(a, n_a, b, n_b, level)
    )
    assert 0 < wrong <= level


def test_chances_are_sums_over_all_counts() -> None:
    n = 50
    x = np.arange(n + 1)
    above = [w.above(int(k), n, 0.8, 0.02) for k in x]
    below = [w.below(int(k), n, 0.8, 0.02) for k in x]
    counts = np.array([n])
    assert w.chance_above(counts, 0.8, 0.9, 0.02)[0] == pytest.approx(binom.pmf(x, n, 0.9)[above].sum(), abs=1e-12)
    assert w.chance_below(counts, 0.8, 0.7, 0.02)[0] == pytest.approx(binom.pmf(x, n, 0.7)[below].sum(), abs=1e-12)
    assert w.chance_above(counts, 0.8, 1.0, 0.02)[0] == float(above[n])


def test_chances_of_differences_are_sums_over_all_pairs() -> None:
    n_a, n_b, p_a, p_b = 30, 70, 0.6, 0.9
    pairs = [
        (binom.pmf(a, n_a, p_a) * binom.pmf(b, n_b, p_b), (a, n_a, b, n_b))
        for a in range(n_a + 1)
        for b in range(n_b + 1)
    ]
    lower = sum(chance for chance, counts in pairs if w.lower(*counts, 0.01))
    no_worse = sum(chance for chance, counts in pairs if w.no_worse(*counts, 0.2, 0.1))
    assert w.chance_lower(n_a, n_b, p_a, p_b, 0.01) == pytest.approx(lower, abs=1e-9)
    assert w.chance_no_worse(n_a, n_b, p_a, p_b, 0.2, 0.1) == pytest.approx(no_worse, abs=1e-9)


def test_a_needed_count_is_enough_and_no_more_than_that() -> None:
    power = {n: float(w.chance_above(np.array([n]), 0.9, 0.95, 0.0225)[0]) for n in range(1, 601)}
    needed = w.least_of_all(lambda n: w.chance_above(n, 0.9, 0.95, 0.0225) >= 0.8)
    assert power[needed - 1] < 0.8 <= min(power[n] for n in range(needed, 2 * needed))
    by_the_normal_distribution = ((2.0047 * 0.3 + 0.8416 * np.sqrt(0.95 * 0.05)) / 0.05) ** 2
    assert needed == pytest.approx(by_the_normal_distribution, rel=0.05)


def test_bisection_finds_where_it_begins() -> None:
    assert [w.least(lambda n, k=k: n >= k) for k in (1, 2, 3, 64, 1000)] == [1, 2, 3, 64, 1000]
    assert w.least_of_all(lambda n: n >= 50_000) == pytest.approx(50_000, rel=1e-4)


def test_what_is_out_of_reach_is_said() -> None:
    with pytest.raises(ValueError, match="answers"):
        w.least(lambda n: False)
    with pytest.raises(ValueError, match="answers"):
        w.least_of_all(lambda n: n < 0)
