"""What is shown holds as often as it says, and the degenerate cases show nothing."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial, norm, ttest_1samp

from windlass.registry import statistics
from windlass.registry.exact import SPENT_ON_PSI, exact_paired, exact_share, mcnemar, score, unconditional
from windlass.registry.statistics import FEWEST, Shown, paired_bootstrap

LEVELS = (0.05, 0.0025)


def shown(differences: Any, threshold: float = 0.0, level: float = 0.05, beside: Any = None) -> Shown:
    """Of differences; ``beside`` are the champion's scores, else noise that does not matter."""
    d = np.asarray(differences, float)
    y = np.random.default_rng(0).normal(size=len(d)) if beside is None else np.asarray(beside, float)
    return paired_bootstrap(y + d, y, threshold, level)


def graded(wins: int, ties: int, losses: int = 0, step: float = 1.0, level: float = 0.05) -> Shown:
    """Scores between 0 and 1 that are not all 0 or 1; most are 0.5 for both."""
    x = np.array([0.5 + step / 2] * wins + [0.5] * ties + [0.5 - step / 2] * losses)
    y = np.array([0.5 - step / 2] * wins + [0.5] * ties + [0.5 + step / 2] * losses)
    return paired_bootstrap(x, y, 0.0, level)


# Paired bootstrap ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [150, 400])
def test_normal_differences_are_judged_much_as_by_student(n: int, level: float) -> None:
    d = np.random.default_rng(n).normal(0.3, 1, n)
    one = shown(d, level=level)
    student = ttest_1samp(d, 0).confidence_interval(1 - 2 * level)
    assert one.delta == pytest.approx(d.mean())
    assert one.low == pytest.approx(student.low, abs=0.5 * one.error) and one.low <= student.low + 1e-9
    assert one.high == pytest.approx(student.high, abs=0.5 * one.error) and one.high >= student.high - 1e-9
    assert one.p_value >= ttest_1samp(d, 0, alternative="greater").pvalue


def test_a_long_tail_of_losses_is_known_of() -> None:
    d = np.quantile(1 - np.random.default_rng(1).exponential(size=100_000), np.linspace(0.0025, 0.9975, 200)) + 0.13
    t = ttest_1samp(d, 0, alternative="greater").pvalue
    assert shown(d).p_value > 1.3 * t
    assert shown(-d, threshold=-1.0).delta < 0  # the other side has its own tail
    assert shown(d).delta - shown(d).low > shown(d).high - shown(d).delta


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(FEWEST, 80),
    kind=st.sampled_from(["normal", "skewed", "tied", "equal"]),
    threshold=st.floats(-0.5, 0.5),
    level=st.sampled_from(LEVELS),
)
@settings(max_examples=60, deadline=None)
def test_bounds_and_p_value_say_the_same(seed: int, n: int, kind: str, threshold: float, level: float) -> None:
    rng = np.random.default_rng(seed)
    d = {
        "normal": rng.normal(0.2, 0.5, n),
        "skewed": 0.5 - rng.exponential(0.4, n),
        "tied": rng.choice([-0.5, 0, 0.5], n, p=[0.05, 0.7, 0.25]),
        "equal": np.full(n, 0.25),
    }[kind]
    one = shown(d, threshold, level, beside=rng.choice([0.25, 0.5], n))
    assert one.low <= one.delta <= one.high
    if abs(one.low - threshold) > 1e-9:
        assert one.passed == (one.low > threshold)


@given(seed=st.integers(0, 10**6), tied=st.booleans())
@settings(max_examples=30, deadline=None)
def test_neither_order_nor_unit_nor_names_of_the_sides_matter(seed: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 0.25, 0.5, 1], 60)
    x = np.where(rng.random(60) < 0.7, y, rng.choice([0.25, 0.5, 1], 60)) if tied else y + rng.normal(0.1, 0.5, 60)
    one = paired_bootstrap(x, y, 0.03, 0.05)
    order = rng.permutation(60)
    assert paired_bootstrap(x[order], y[order], 0.03, 0.05) == one
    assert paired_bootstrap(-y, -x, 0.03, 0.05) == one
    scaled = paired_bootstrap(1024 * x, 1024 * y, 1024 * 0.03, 0.05)
    assert (scaled.p_value, scaled.low, scaled.high) == (one.p_value, 1024 * one.low, 1024 * one.high)


@pytest.mark.parametrize("wins", range(13))
def test_a_few_wins_among_ties_are_worth_no_more_than_as_many_coins(wins: int) -> None:
    for level in LEVELS:
        one = graded(wins, 500 - wins, level=level)
        assert one.p_value >= 0.5**wins
        assert one.passed <= (0.5**wins <= level)
    assert graded(20, 480, level=0.0025).passed


def test_what_was_not_seen_may_be_as_bad_as_scores_get() -> None:
    wins = np.r_[np.full(15, 0.1), np.zeros(285)]
    assert shown(wins, level=0.0025, beside=np.linspace(0.1, 0.15, 300)).passed
    unseen = shown(wins, level=0.0025, beside=np.linspace(0, 0.9, 300))  # one in 200 losing 0.9 undoes the gain
    assert not unseen.passed
    assert unseen.p_value >= (1 - 0.005 / 0.9) ** 300


def test_equal_scores_show_no_more_than_their_number() -> None:
    y = np.r_[0.0, 1.0, np.full(98, 0.5)]
    assert paired_bootstrap(y, y, 0.0, 0.05).p_value == 1
    few, many = paired_bootstrap(y, y, -0.02, 0.05), paired_bootstrap(np.tile(y, 2), np.tile(y, 2), -0.02, 0.05)
    assert few.p_value == pytest.approx(0.98**100) and many.p_value == pytest.approx(0.98**200)
    assert not few.passed and many.passed
    assert few.power(0.1) is None


def test_the_same_gain_everywhere_is_no_certainty() -> None:
    one = shown(np.full(50, 0.01), level=0.0025, beside=np.linspace(0, 1, 50))
    assert one.sd == 0 and not one.passed
    assert shown(np.full(50, 0.3), level=0.0025, beside=np.linspace(0, 1, 50)).passed


def test_rounding_makes_no_difference_between_equal_differences() -> None:
    y = np.arange(100) / 10
    assert paired_bootstrap(y + 0.1, y, 0.0, 0.05).sd == 0


@pytest.mark.parametrize("n", range(1, FEWEST))
def test_a_handful_shows_nothing(n: int) -> None:
    one = shown(np.linspace(0.9, 1, n))
    assert one.p_value == 1 and math.isfinite(one.low) and math.isfinite(one.high)


@pytest.mark.parametrize("constant", [0.0, 0.5, -3.0])
def test_scores_that_never_vary_show_no_improvement(constant: float) -> None:
    one = paired_bootstrap(np.full(1000, constant), np.full(1000, constant), 0.0, 0.05)
    assert one.p_value == 1 and one.low <= 0 <= one.high


def test_what_is_no_pair_of_scores_is_refused() -> None:
    good = np.ones(20)
    for x, y in ((good, np.ones(19)), (np.ones((2, 10)), np.ones((2, 10))), (np.array([]), np.array([]))):
        with pytest.raises(ValueError, match="same examples"):
            paired_bootstrap(x, y, 0.0, 0.05)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            paired_bootstrap(np.r_[good, bad], np.r_[good, 1.0], 0.0, 0.05)


@pytest.mark.parametrize("kind", ["normal", "skewed", "tied"])
def test_many_examples_are_judged_alike_without_the_bootstrap(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    draws = {"normal": rng.normal(size=5000), "skewed": 1 - rng.lognormal(0, 0.8, 5000)}
    d = draws.get(kind, rng.choice([-0.5, 0, 0.5], 5000, p=[0.1, 0.78, 0.12]))
    drawn = shown(d)
    monkeypatch.setattr(statistics, "RESAMPLED", 100)
    limit = shown(d)
    assert drawn.test != limit.test
    assert limit.low == pytest.approx(drawn.low, abs=0.15 * drawn.error)
    assert limit.high == pytest.approx(drawn.high, abs=0.15 * drawn.error)
    assert limit.p_value == pytest.approx(drawn.p_value, abs=0.03)


@pytest.mark.parametrize("kind", ["normal", "skewed", "rare", "graded"])
def test_no_true_difference_is_rarely_shown(kind: str) -> None:
    rng = np.random.default_rng(11)
    size, n = 400, 60
    d = {
        "normal": rng.normal(size=(size, n)),
        "skewed": 1 - rng.exponential(size=(size, n)),
        "rare": np.where(rng.random((size, n)) < 0.05, rng.normal(size=(size, n)), 0),
        "graded": rng.choice([-0.5, 0, 0.5], (size, n), p=[0.2, 0.6, 0.2]),
    }[kind]
    found = sum(shown(one, beside=np.linspace(0, 1, n)).passed for one in d)
    assert found <= 0.05 * size + 2.6 * math.sqrt(0.05 * 0.95 * size)


# Power and more examples --------------------------------------------------------------------------------------------


def test_an_improvement_is_found_as_often_as_computed() -> None:
    rng = np.random.default_rng(5)
    ones = [shown(rng.normal(0.3, 1, 80)) for _ in range(200)]
    computed = np.mean([one.power(0.3) for one in ones])
    assert np.mean([one.passed for one in ones]) == pytest.approx(computed, abs=0.09)


def test_detectable_is_what_is_found_with_that_power() -> None:
    for one in (shown(np.random.default_rng(2).normal(0.1, 1, 200), 0.05), exact_paired(30, 20, 400, 0.0, 0.05)):
        assert one.power(one.detectable(0.8)) == pytest.approx(0.8)
        assert one.detectable(0.9) > one.detectable(0.8) > one.threshold


def test_no_number_of_examples_passes_what_lies_on_the_wrong_side() -> None:
    one = shown(np.random.default_rng(4).normal(0.02, 1, 100), 0.0)
    below = shown(np.random.default_rng(4).normal(0.02, 1, 100), one.delta + 0.1)
    assert below.examples_to_pass(0.8) is None
    assert one.delta < 0 or (one.examples_to_pass(0.9) or 0) > (one.examples_to_pass(0.5) or 0) > 0
    assert one.examples_to_exclude(one.delta, 0.8) is None


@pytest.mark.parametrize("binary", [False, True])
def test_the_examples_asked_for_settle_it_as_often_as_asked(binary: bool) -> None:
    rng = np.random.default_rng(9)
    x, y = np.repeat([1.0, 0.0, 1.0], [14, 8, 178]), np.repeat([0.0, 1.0], [14, 186])
    if not binary:
        y, x = rng.normal(size=200), rng.normal(size=200)
        x += 0.12 - (x - y).mean()

    def test_of(x: Any, y: Any) -> Shown:
        return exact_paired(int((x > y).sum()), int((x < y).sum()), len(x), 0, 0.05) if binary else shown(x - y)

    now = test_of(x, y)
    more = now.examples_to_pass(0.8)
    assert not now.passed and more is not None
    again = [rng.integers(200, size=more) for _ in range(60)]
    settled = np.mean([test_of(np.r_[x, x[i]], np.r_[y, y[i]]).passed for i in again])
    assert 0.65 < settled < 0.95


# Exact tests --------------------------------------------------------------------------------------------------------


def test_mcnemar_is_the_binomial_test() -> None:
    for b, c in itertools.product(range(12), range(12)):
        expected = binomtest(b, b + c, alternative="greater").pvalue if b + c else 1.0
        assert mcnemar(b, c) == pytest.approx(expected)


def enumerated(n: int) -> list[tuple[int, int]]:
    return [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]


@pytest.mark.parametrize("theta", [-0.15, 0.2])
def test_the_unconditional_p_value_is_what_enumeration_gives(theta: float) -> None:
    n = 9
    counts = np.array([(b, c, n - b - c) for b, c in enumerated(n)])
    scores = score(counts[:, 0].astype(float), counts[:, 1].astype(float), n, theta)
    error = 0.001
    for b, c in enumerated(n)[::4]:
        extreme = counts[scores >= score(float(b), float(c), n, theta) - 1e-9]
        inside = binomtest(b + c, n).proportion_ci(1 - error)
        low, high = max(inside.low, -theta), inside.high
        if low > high:
            assert unconditional(b, c, n, theta, error) == error
            continue
        truths = [(psi, min(theta, psi)) for psi in np.linspace(low, high, 201)]
        tails = [
            multinomial.pmf(extreme, n, [(psi + delta) / 2, (psi - delta) / 2, 1 - psi]).sum() for psi, delta in truths
        ]
        assert unconditional(b, c, n, theta, error) == pytest.approx(min(1.0, max(tails) + error), abs=2e-4)


@pytest.mark.parametrize("theta", [-0.1, 0.0, 0.15])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_the_exact_tests_hold_their_level_wherever_the_truth_lies(theta: float, level: float) -> None:
    n = 24
    rejected = [
        (b, c, n - b - c)
        for b, c in enumerated(n)
        if (mcnemar(b, c) if theta >= 0 else 0) <= level
        and (theta == 0 or unconditional(b, c, n, theta, SPENT_ON_PSI * level) <= level)
    ]
    truths = [(psi, delta) for delta in (theta, theta - 0.1, theta - 0.4) for psi in np.linspace(abs(delta), 1, 15)]
    rates = [
        multinomial.pmf(rejected, n, [(psi + delta) / 2, (psi - delta) / 2, 1 - psi]).sum() for psi, delta in truths
    ]
    assert max(rates) <= level
    assert max(rates) > level / 3  # and is no idle test


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 150), (7, 3, 60), (40, 44, 300), (90, 40, 300), (12, 0, 12)])
def test_bounds_are_the_improvements_that_the_test_does_not_rule_out(b: int, c: int, n: int) -> None:
    one = exact_paired(b, c, n, -0.5, 0.05)
    slack = 0.02 * (one.delta - one.low)
    for theta, within in ((one.low - slack, False), (one.low + slack, True)):
        if -1 < theta < 0:
            assert (unconditional(b, c, n, theta, SPENT_ON_PSI * 0.05) > 0.05) == within
    mirrored = exact_paired(c, b, n, -0.5, 0.05)
    assert (mirrored.low, mirrored.high) == pytest.approx((-one.high, -one.low))
    assert norm.cdf(2) > one.low >= -1 and one.high <= 1


def test_no_differing_example_is_the_rule_of_three() -> None:
    assert exact_paired(0, 0, 150, -0.02, 0.05).p_value == pytest.approx(0.98**150 + SPENT_ON_PSI * 0.05)
    assert exact_paired(0, 0, 1000, 0.0, 0.05).p_value == 1


def test_asking_for_more_is_never_easier() -> None:
    for b, c, n in ((8, 0, 200), (30, 12, 300), (9, 1, 1000)):
        ps = [exact_paired(b, c, n, theta, 0.0025).p_value for theta in (0.0, 1e-9, 0.001, 0.01, 0.03)]
        assert ps == sorted(ps)


@given(b=st.integers(0, 40), c=st.integers(0, 40), ties=st.integers(1, 200), theta=st.sampled_from([-0.05, 0, 0.05]))
@settings(max_examples=40, deadline=None)
def test_a_win_for_a_loss_or_a_tie_never_hurts(b: int, c: int, ties: int, theta: float) -> None:
    n = b + c + ties
    now = exact_paired(b, c, n, theta, 0.05)
    assert (now.low > theta or now.low == pytest.approx(theta)) if now.passed else now.low <= theta
    # the values of psi that are left out move with the counts, so p-values alone may rise a little
    if now.passed:
        assert exact_paired(b + 1, c, n, theta, 0.05).passed
        assert c == 0 or exact_paired(b, c - 1, n, theta, 0.05).passed


def test_counts_that_cannot_be_are_refused() -> None:
    for b, c, n in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="differ"):
            exact_paired(b, c, n, 0.0, 0.05)


def test_a_share_has_the_bounds_of_clopper_and_pearson() -> None:
    for right, n in ((0, 20), (7, 20), (20, 20)):
        one, known = exact_share(right, n, 0.3, 0.05), binomtest(right, n, 0.3, alternative="greater")
        bounds = binomtest(right, n).proportion_ci(0.9)
        assert (one.low, one.high) == pytest.approx((bounds.low, bounds.high))
        assert one.p_value == pytest.approx(known.pvalue)
    assert exact_share(0, 20, -0.1, 0.05).passed and not exact_share(20, 20, 1.1, 0.05).passed
