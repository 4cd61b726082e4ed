"""Rules of early stopping on curves as trainings give them, and the guess of a stopped run's last value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.history.curves import Course, Curve, extrapolate, verdict
from windlass.records.deciding import EarlyStopping


def rule(**changes: Any) -> EarlyStopping:
    return EarlyStopping.model_validate({"metric": "loss", "direction": "minimize", "from_step": 3, **changes})


def training(
    floor: float, rate: float, steps: int = 27, seed: int = 0, noise: float = 0.01
) -> list[tuple[float, float]]:
    """A loss that falls from 2.3 to ``floor``."""
    rng = np.random.default_rng(seed)
    return [
        (float(step), floor + (2.3 - floor) * math.exp(-rate * step) + float(rng.normal(0, noise)))
        for step in range(1, steps + 1)
    ]


OTHERS = [training(0.2 + 0.05 * i, 0.3, seed=i) for i in range(8)]


@pytest.mark.parametrize("name", ["median", "halving"])
def test_a_hopeless_run_is_stopped_and_a_good_one_is_not(name: str) -> None:
    hopeless, good = training(2.2, 0.1)[:9], training(0.1, 0.4)[:9]
    stopped = verdict(rule(rule=name), hopeless, OTHERS)
    assert stopped.stop and "loss" in stopped.reason
    assert stopped.evidence["best"] == min(value for _, value in hopeless) and stopped.evidence["curves"] == 8
    assert not verdict(rule(rule=name), good, OTHERS).stop


@pytest.mark.parametrize("name", ["median", "halving"])
def test_directions_mirror_each_other(name: str) -> None:
    def turned(curve: Curve) -> Curve:
        return [(step, -value) for step, value in curve]

    for floor in (0.1, 0.3, 0.5, 2.2):
        curve = training(floor, 0.2)[:10]
        down = verdict(rule(rule=name), curve, OTHERS)
        up = verdict(rule(rule=name, direction="maximize"), turned(curve), [turned(one) for one in OTHERS])
        assert up.stop == down.stop and up.evidence["best"] == -down.evidence["best"]


def test_the_median_rule_compares_the_best_with_the_median_of_averages() -> None:
    flat = [[(1.0, level), (2.0, level), (3.0, level)] for level in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert not verdict(rule(), [(1, 9.0), (2, 3.0), (3, 9.0)], flat).stop, "as good as the median at its best"
    found = verdict(rule(), [(1, 9.0), (2, 3.1), (3, 9.0)], flat)
    assert found.stop and found.evidence == {"step": 3, "best": 3.1, "median": 3.0, "curves": 5}
    assert found.reason == ("best loss up to step 3 is 3.1, worse than 3, the median of 5 runs' averages up to there")


def test_halving_keeps_the_best_share_at_each_rung() -> None:
    flat = [[(float(step), level) for step in range(1, 30)] for level in (1.0, 2.0, 3.0, 4.0, 5.0)]
    halving = rule(rule="halving")  # rungs at 3, 9, 27; of 6 runs the best 2 go on
    assert not verdict(halving, [(3, 1.5)], flat).stop
    found = verdict(halving, [(3, 2.5)], flat)
    assert (
        found.stop and found.evidence["place"] == 3 and found.evidence["kept"] == 2 and found.evidence["needed"] == 2.0
    )
    late = verdict(halving, [(3, 1.5), (8, 9.0)], flat)
    assert not late.stop and late.evidence["step"] == 3, "the next rung is at 9"
    assert verdict(halving, [(3, 2.5), (9, 2.1)], flat).evidence["step"] == 9


def test_nobody_is_judged_early_or_by_few() -> None:
    assert not verdict(rule(), training(2.2, 0.1)[:2], OTHERS).stop
    few = verdict(rule(), training(2.2, 0.1)[:9], OTHERS[:4])
    assert not few.stop and few.reason == "4 other curves reach step 9; 5 are needed"
    short = [one[:5] for one in OTHERS]
    assert not verdict(rule(), training(2.2, 0.1)[:9], short).stop, "they did not come that far"
    assert not verdict(rule(), [], OTHERS).stop
    assert not verdict(rule(), [(5, math.nan)], OTHERS).stop, "divergence is another rule"


def test_points_that_are_not_finite_are_passed_over() -> None:
    curve = training(2.2, 0.1)[:9]
    holes = [*curve[:4], (4.5, math.nan), (4.6, -math.inf), *curve[4:]]
    assert verdict(rule(), holes, OTHERS) == verdict(rule(), curve, OTHERS)


def test_curves_with_other_steps_are_compared() -> None:
    sparse = [[(step, value) for step, value in one if step % 10 == 0] for one in OTHERS]
    for name in ("median", "halving"):
        assert verdict(rule(rule=name), training(2.2, 0.1)[:12], sparse).stop
        assert not verdict(rule(rule=name, from_step=0), training(0.1, 0.4)[:12], sparse).stop


@given(
    st.sampled_from(["median", "halving"]),
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.floats(-1e3, 1e3)), max_size=8), max_size=8),
    st.lists(st.tuples(st.integers(0, 30), st.floats(-1e3, 1e3)), max_size=8),
    st.floats(0, 100),
)
def test_a_better_curve_is_never_stopped_where_a_worse_one_is_not(
    name: str, others: list[Any], curve: list[Any], gain: float
) -> None:
    strict = rule(rule=name, runs=2, from_step=1)
    better = [(step, value - gain) for step, value in curve]
    assert verdict(strict, curve, others).stop or not verdict(strict, better, others).stop
    assert verdict(strict, curve, others[::-1]).stop == verdict(strict, curve, others).stop


# ---------------------------------------------------------------- where it would have ended


def test_the_last_value_is_guessed_and_its_error_is_honest() -> None:
    rng = np.random.default_rng(3)
    z = []
    for trial in range(200):
        floors = rng.uniform(0.1, 1.0, 13)
        curves = [training(floor, 0.1, seed=100 * trial + i, noise=0.02) for i, floor in enumerate(floors)]
        guess = extrapolate(curves[0][:6], curves[1:])
        assert guess is not None
        z.append((curves[0][-1][1] - guess[0]) / guess[1])
    inside = float(np.mean(np.abs(z) < 1.645))
    assert 0.82 <= inside <= 0.95, f"within 90 % of a normal: {inside}"


def test_a_guess_far_out_is_less_certain() -> None:
    curves = [training(floor, 0.1, seed=i) for i, floor in enumerate(np.linspace(0.2, 0.6, 8))]
    near, far = extrapolate(training(0.4, 0.1)[:6], curves), extrapolate(training(2.2, 0.1)[:6], curves)
    assert near is not None and far is not None and far[1] > 2 * near[1] and far[0] > near[0]


def test_no_guess_from_fewer_than_four_curves_or_from_nothing() -> None:
    assert extrapolate(training(0.4, 0.1)[:6], OTHERS[:3]) is None
    assert extrapolate([], OTHERS) is None
    assert extrapolate([(6, math.nan)], OTHERS) is None
    assert extrapolate(training(0.4, 0.1)[:6], [one[:6] for one in OTHERS]) is None, "those are not complete"
    level = [[(1.0, 1.0), (2.0, end)] for end in (0.1, 0.2, 0.3, 0.4)]
    guess = extrapolate([(1, 1.0)], level)
    assert guess is not None and guess[0] == pytest.approx(0.25) and guess[1] > 0.1


ragged = st.lists(st.tuples(st.integers(0, 9).map(float), st.floats(width=16)), max_size=9)


@given(
    st.sampled_from(["median", "halving"]),
    st.sampled_from(["minimize", "maximize"]),
    ragged,
    st.lists(ragged, max_size=7),
)
def test_a_curve_that_was_prepared_is_judged_alike(
    name: str, direction: str, curve: Curve, others: list[Curve]
) -> None:
    asked = rule(rule=name, direction=direction, runs=2)
    prepared = [Course(other) for other in others]
    assert verdict(asked, Course(curve), prepared) == verdict(asked, curve, others)
    assert extrapolate(Course(curve), prepared) == extrapolate(curve, others)
