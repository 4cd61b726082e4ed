"""The monitor finds a fall that matters, soon; it holds its peace over a champion as good as ever."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.records.gate import Monitor
from windlass.registry.monitor import BLOCKS, Watch, regression
from windlass.registry.outcomes import Tally

A = "a" * 12
POLICY = Monitor(window=320)
GOOD, BAD = ServedOutcome.ACCEPTED, ServedOutcome.REJECTED


def serve(watch: Watch, outcome: ServedOutcome, n: int = 1, role: Role = Role.CHAMPION, checkpoint: str = A) -> None:
    for _ in range(n):
        watch.add(Served(checkpoint=checkpoint, role=role, outcome=outcome))


def steady(watch: Watch, n: int) -> None:
    """90 % accepted."""
    for _ in range(n // 10):
        serve(watch, GOOD, 9)
        serve(watch, BAD)


def test_a_fall_is_told_with_its_numbers() -> None:
    found = regression(Monitor(), Tally(accepted=9000, rejected=1000), Tally(accepted=800, threw=200), level=1e-4)
    assert found is not None
    assert "800 of the newest 1000 answers accepted (80 %), of 10000 before 90 %" in found.reason
    assert found.evidence["difference"]["high"] < 0 and found.evidence["p_value"] < 1e-4
    assert json.loads(json.dumps(found.evidence, allow_nan=False)) == found.evidence


@pytest.mark.parametrize(
    "recent",
    [
        Tally(accepted=900, rejected=100),
        Tally(accepted=950, rejected=50),
        Tally(accepted=880, rejected=120),
        Tally(),
    ],
)
def test_no_fall_is_found_where_none_is_shown(recent: Tally) -> None:
    assert regression(Monitor(), Tally(accepted=90_000, rejected=10_000), recent, level=1e-4) is None


def test_a_fall_too_small_to_matter_is_none() -> None:
    before, recent = Tally(accepted=900_000, rejected=100_000), Tally(accepted=880_000, rejected=120_000)
    assert regression(Monitor(drop=0.05), before, recent, level=1e-4) is None
    assert regression(Monitor(drop=0.02), before, recent, level=1e-4) is not None


def test_a_breakdown_is_found_within_a_few_blocks() -> None:
    watch = Watch(POLICY, A)
    steady(watch, 10 * POLICY.window)
    assert watch.found is None
    at = watch.answers
    while watch.found is None and watch.answers < at + POLICY.window:
        serve(watch, ServedOutcome.THREW)
    assert watch.found and watch.answers - at <= 2 * POLICY.window // BLOCKS
    known = watch.found
    serve(watch, GOOD, 5 * POLICY.window)
    assert watch.found is known, "the first one stands"


def test_a_slow_champion_is_held_against_its_predecessor() -> None:
    predecessor = Tally(accepted=950, rejected=50)
    alone, after = Watch(POLICY, A), Watch(POLICY, A, predecessor)
    for watch in (alone, after):
        for _ in range(POLICY.window):
            serve(watch, GOOD)
            serve(watch, BAD)
    assert alone.found is None, "half accepted is what it always did"
    assert after.found and after.found.evidence["before"] == predecessor.to_dict()


def test_a_predecessor_that_hardly_served_says_nothing() -> None:
    watch = Watch(POLICY, A, Tally(accepted=POLICY.window - 1))
    serve(watch, BAD, 2 * POLICY.window)
    assert watch.found is None


def test_answers_of_others_are_passed_over() -> None:
    watch = Watch(POLICY, A, Tally(accepted=1000))
    serve(watch, BAD, 400, role=Role.CANARY)
    serve(watch, BAD, 400, checkpoint="b" * 12)
    assert watch.found is None and watch.answers == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200))
def test_every_size_is_looked_at_in_turn_without_overlap(blocks: int) -> None:
    watch = Watch(Monitor(window=BLOCKS), A)
    looked: list[tuple[int, int]] = []
    watch._look = lambda size, recent: looked.append((size, recent.n))  # type: ignore[method-assign]
    for _ in range(blocks):
        watch.add_block(Tally(accepted=1))
    assert all(n == 2**size for size, n in looked)
    assert len(looked) == sum(blocks >> size for size in range(blocks.bit_length()))
    assert len(watch._sizes) == blocks.bit_length(), "memory grows with the logarithm"


def test_a_champion_as_good_as_ever_seldom_alarms() -> None:
    """60 champions, 20 windows each; ``benchmarks/gate/serving.py`` has more."""
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(60):
        watch = Watch(POLICY, A, Tally(accepted=9000, rejected=1000))
        for accepted in rng.binomial(20, 0.9, 20 * BLOCKS).tolist():
            watch.add_block(Tally(accepted=accepted, rejected=20 - accepted))
        alarms += watch.found is not None
    assert alarms <= 1
