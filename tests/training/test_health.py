"""The health checks: each is held against values that a broken training gives, and that a healthy one gives."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from windlass.errors import Unhealthy
from windlass.training import health
from windlass.training.health import Check, Point

NAN, INF = float("nan"), float("inf")
scores = st.floats(0, 1)


def test_importing_the_modules_loads_no_library() -> None:
    modules = ("tensors", "state", "preemption", "health", "environment", "models", "callbacks", "callbacks.recorder")
    names = ", ".join(f"windlass.training.{module}" for module in modules)
    code = f"import sys, {names}; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "scipy", "safetensors", "transformers", "pydantic"}


# Weights, steps, losses ----------------------------------------------------------------------------------------------


def test_weights_that_are_nan_are_named() -> None:
    torch = pytest.importorskip("torch")
    good = {"a": torch.ones(2), "b": torch.zeros(2, dtype=torch.bfloat16), "step": torch.tensor(3)}
    assert health.finite_weights(good).passed
    broken = health.finite_weights({**good, "c": torch.tensor([1.0, NAN]), "d": torch.tensor(-INF)})
    assert not broken.passed and broken.value == 2
    assert broken.words == "2 of 5 tensors hold NaN or infinity: c, d"
    everything = health.finite_weights({f"w{index}": torch.tensor(NAN) for index in range(9)})
    assert everything.words == "9 of 9 tensors hold NaN or infinity: w0, w1, w2 and 6 more"
    assert not health.finite_weights({}).passed


def test_weights_that_never_changed() -> None:
    assert health.weights_changed("a" * 64, "b" * 64).passed
    same = health.weights_changed("a" * 64, "a" * 64)
    assert not same.passed and same.words == "no weight has changed: still aaaaaaaaaaaa"


@pytest.mark.parametrize(("done", "wanted", "passed"), [(10, 10, True), (9, 10, False), (0, 10, False), (0, 0, False)])
def test_steps_that_were_not_done(done: int, wanted: int, passed: bool) -> None:
    assert health.steps_done(done, wanted).passed is passed


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([2.0, 1.5], None),
        ([2.0, NAN, INF], "2 of 3 losses are NaN or infinite, the first at position 1"),
        ([], "no loss was logged"),
    ],
)
def test_losses(losses: list[float], words: str | None) -> None:
    check = health.loss_finite(iter(losses))
    assert check.passed is (words is None) and check.words == (words or "all 2 losses are finite")


# Rewards -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "passed"), [(0.0, True), (0.95, True), (0.951, False), (1.0, False), (NAN, False)])
def test_rewards_without_variance(share: float, passed: bool) -> None:
    assert health.reward_varied(share).passed is passed


@pytest.mark.parametrize(
    ("invalid", "total", "passed"), [(0, 100, True), (2, 100, True), (3, 100, False), (100, 100, False), (0, 0, False)]
)
def test_verdicts_without_a_score(invalid: int, total: int, passed: bool) -> None:
    assert health.verdicts_valid(invalid, total).passed is passed


@pytest.mark.parametrize(("drift", "passed"), [(1e-5, True), (0.01, True), (0.3, False), (NAN, False), (INF, False)])
def test_a_sampler_that_disagrees(drift: float, passed: bool) -> None:
    assert health.logprobs_agree(drift).passed is passed
    assert health.logprobs_agree(0.05, most=0.1).passed


# Held-out scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", range(9))
@pytest.mark.parametrize("won", range(4))
def test_of_scores_of_0_and_1_no_more_is_refused_than_the_exact_test_refuses(lost: int, won: int) -> None:
    before = [1.0] * lost + [0.0] * won + [1.0] * 40
    after = [0.0] * lost + [1.0] * won + [1.0] * 40
    check = health.held_out(before, after)
    if not check.passed:
        assert binomtest(won, won + lost, 0.5, alternative="less").pvalue <= 0.025
    if won == 0:
        assert check.passed is (lost < 6)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=80), st.floats(-0.5, 0.5), st.floats(0.1, 10))
def test_an_interval_moves_with_its_data(pairs: list[tuple[float, float]], shift: float, unit: float) -> None:
    differences = [y - x for x, y in pairs]
    mean, low, high = health.paired_interval(differences)
    assert low <= mean + 1e-9 and mean - 1e-9 <= high
    assert mean == pytest.approx(math.fsum(differences) / len(differences), abs=1e-12)
    turned = health.paired_interval([-d for d in differences])
    assert turned == pytest.approx((-mean, -high, -low), abs=1e-9)
    scaled = health.paired_interval([unit * d for d in differences])
    assert scaled == pytest.approx((unit * mean, unit * low, unit * high), abs=1e-9)
    narrow = health.paired_interval(differences, 0.5)
    assert low - 1e-9 <= narrow[1] and narrow[2] <= high + 1e-9
    before, after = [x for x, _ in pairs], [y for _, y in pairs]
    check = health.held_out(before, after)
    assert check.passed is (high >= 0) and check.value == pytest.approx(mean)


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=60))
def test_a_mean_that_has_not_fallen_is_never_refused(pairs: list[tuple[float, float]]) -> None:
    before, after = [x for x, _ in pairs], [y for _, y in pairs]
    if math.fsum(after) >= math.fsum(before):
        assert health.held_out(before, after).passed


def test_held_out_scores_of_three_kinds_of_end() -> None:
    rng = random.Random(1)
    before = [float(rng.random() < 0.4) for _ in range(64)]
    better = [float(x or rng.random() < 0.6) for x in before]
    collapsed = [0.0] * 64
    assert health.held_out(before, better).passed
    assert health.held_out(before, before).passed
    refused = health.held_out(before, collapsed)
    assert not refused.passed
    assert "-> 0.000 of 64 examples" in refused.words and "95% interval" in refused.words


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0, NAN], [1.0, 1.0]), ([1.0], [INF])])
def test_held_out_scores_that_say_nothing_are_refused(before: list[float], after: list[float]) -> None:
    assert not health.held_out(before, after).passed


def test_scores_of_different_examples_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="2 scores before, 3 after"):
        health.held_out([0, 1], [0, 1, 1])


def test_wilsons_interval() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3
    for x, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        mean, below, above = health.score_interval([1.0] * x + [0.0] * (n - x))
        assert (mean, below, above) == pytest.approx((x / n, low, high), abs=5e-5)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        health.score_interval([0.5, 1.5])


# Reward against an independent check ---------------------------------------------------------------------------------

STEPS = range(0, 200, 10)
RISING: list[Point] = [(step, 0.3 + 0.6 * step / 200) for step in STEPS]
SATURATED: list[Point] = [(step, 0.99 + 0.01 * (step % 20 == 0)) for step in STEPS]
FALLING: list[Point] = [(step, 0.9 - 0.8 * step / 200) for step in STEPS]
CHECKS = [(step, 0.4 + 0.4 * step / 190) for step in STEPS]
HACKED = [(step, 0.4 + 0.002 * step if step < 100 else 0.6 - 0.005 * (step - 90)) for step in STEPS]


@pytest.mark.parametrize(
    ("rewards", "checks", "passed"),
    [
        (RISING, CHECKS, True),
        (RISING, HACKED, False),
        (SATURATED, HACKED, False),
        ([], HACKED, False),  # no reward is no excuse
        ([(0, INF), (10, -INF), (20, 0.5), (30, NAN)], HACKED, False),
        ([(0, INF), (10, -INF), (20, 0.5), (30, NAN)], CHECKS, True),
        (FALLING, HACKED, True),  # a collapse of both, which the held-out score shows
        (RISING, [(0, 0.5), (190, 0.45)], True),  # noise of 64 examples
        (RISING, [(0, 0.8), (190, 0.2)], False),
        (RISING, [(0, 0.5)], True),
        (RISING, [], True),
        (RISING, [(0, 0.5), (10, NAN)], False),
        (RISING, [(0, 0.5), (10, 1.5)], False),
    ],
)
def test_a_reward_that_goes_on_while_the_check_falls(rewards: list[Point], checks: list[Point], passed: bool) -> None:
    assert health.independent(rewards, checks, 64).passed is passed
    assert health.independent(rewards[::-1], checks[::-1], 64).passed is passed


def test_what_it_says_of_a_hacked_reward() -> None:
    check = health.independent(SATURATED, HACKED, 64)
    assert check.value == pytest.approx(-0.48) and check.limit is not None and check.value < check.limit
    assert check.words.startswith("held-out check 0.580 at step 90, 0.100 at the end: -0.480, of 64 examples ")
    assert check.words.endswith("training reward 0.994 then, 0.994 at the end")


@given(
    course=st.lists(st.integers(0, 64), min_size=2, max_size=20),
    last=st.integers(0, 64),
    rewards=st.lists(scores, max_size=40),
)
def test_an_end_at_or_above_every_check_always_passes(course: list[int], last: int, rewards: list[float]) -> None:
    checks = [(step, score / 64) for step, score in enumerate([*course, max(*course, last)])]
    assert health.independent(list(enumerate(rewards)), checks, 64).passed


@given(scale=st.floats(0.001, 1000), offset=st.floats(-10, 10), checks=st.sampled_from([CHECKS, HACKED]))
def test_the_scale_of_the_reward_does_not_matter(scale: float, offset: float, checks: list[Point]) -> None:
    for rewards in (RISING, FALLING):
        scaled = [(step, offset + scale * reward) for step, reward in rewards]
        assert health.independent(scaled, checks, 64).passed is health.independent(rewards, checks, 64).passed


def test_more_checks_ask_for_a_larger_fall() -> None:
    limits = [health.independent(RISING, [(s, 0.6) for s in range(k)] + [(k, 0.3)], 64).limit for k in (1, 4, 19)]
    assert limits == sorted(limits, key=lambda limit: -(limit or 0)) and len(set(limits)) == 3


def test_a_flat_run_is_refused_as_rarely_as_the_docstring_says() -> None:
    rng = random.Random(3)
    refused = 0
    for _ in range(1500):
        checks = [(step, sum(rng.random() < 0.5 for _ in range(64)) / 64) for step in range(8)]
        refused += not health.independent(RISING, checks, 64).passed
    assert refused <= 30  # 15 are expected at most; 30 or more come with less than 1 in 1000


# Verdict -------------------------------------------------------------------------------------------------------------


def check(name: str, passed: bool, value: float | None = 1.0) -> Check:
    return Check(name=name, passed=passed, value=value, limit=None, words=f"words of {name}")


def test_every_check_that_failed_is_listed() -> None:
    health.require([check("a", True), check("b", True)])
    with pytest.raises(Unhealthy) as refused:
        health.require(iter([check("a", False), check("b", True), check("c", False)]))
    assert refused.value.message == "2 health checks failed: a: words of a; c: words of c"


def test_the_report_is_json_whatever_the_values_are(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    health.write([check("a", True, NAN), check("b", True, None), check("c", True, INF)], path)
    report = json.loads(path.read_bytes(), parse_constant=lambda constant: pytest.fail(constant))
    assert report["healthy"] is True
    assert [row["value"] for row in report["checks"]] == ["NaN", None, "Infinity"]
    assert report["checks"][0] == {"name": "a", "passed": True, "value": "NaN", "limit": None, "words": "words of a"}
    health.write([check("a", False)], path)
    assert json.loads(path.read_bytes())["healthy"] is False
