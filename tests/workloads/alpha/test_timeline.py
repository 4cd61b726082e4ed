import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import DataError
from windlass.workloads.alpha.evaluation.timeline import LABEL, SEALED_HOLDING, Timeline, timeline
from windlass.workloads.alpha.spec import WalkForward

WALK = WalkForward()


def test_five_years_by_default() -> None:
    made = timeline(1259, 0.3, WALK, holding=5)
    assert made.gap == 2 + 5 + 21
    assert made.holdout == slice(881, 1259)
    assert made.dev == slice(0, 837)
    assert made.scored == slice(100, 835)
    assert made.sealed == slice(881, 1257)
    first, last = made.segments[0], made.segments[-1]
    assert (first.train, first.valid, first.test) == (slice(100, 352), slice(380, 443), slice(471, 534))
    assert last.test == slice(723, 835)  # the 49 rows that are left do not make a segment of their own
    assert len(made.segments) == 5
    assert made.walked == slice(471, 835)


def feasible(days: int, share: float, walk: WalkForward, holding: int) -> Timeline | None:
    try:
        return timeline(days, share, walk, holding)
    except DataError:
        return None


@given(
    days=st.integers(100, 3000),
    share=st.floats(0.1, 0.6),
    holding=st.integers(1, 63),
    walk=st.builds(
        WalkForward,
        train=st.integers(60, 400),
        valid=st.integers(10, 100),
        test=st.integers(10, 100),
        embargo=st.integers(0, 100),
        warmup=st.integers(0, 252),
    ),
)
def test_parts_never_touch(days: int, share: float, holding: int, walk: WalkForward) -> None:
    made = feasible(days, share, walk, holding)
    if made is None:
        return
    purge = LABEL + holding
    assert made.gap == purge + walk.embargo
    assert made.holdout.start - made.dev.stop == LABEL + max(holding, SEALED_HOLDING) + walk.embargo
    assert made.holdout.stop == days
    assert made.scored.stop + LABEL <= made.dev.stop, "a label of dev may not end in the gap"
    assert made.sealed.stop + LABEL == days
    stop = made.walked.start
    for segment in made.segments:
        assert segment.train.start == walk.warmup
        assert segment.train.stop - segment.train.start >= walk.train
        assert segment.valid.start - segment.train.stop == made.gap
        assert segment.valid.stop - segment.valid.start == walk.valid
        assert segment.test.start - segment.valid.stop == made.gap
        assert segment.test.start == stop, "tests are one continuous path"
        stop = segment.test.stop
        assert walk.test <= segment.test.stop - segment.test.start < 2 * walk.test
    assert stop == made.scored.stop


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_too_short_says_how_many_days_fit(share: float) -> None:
    with pytest.raises(DataError, match=r"has 200 days.* needs \d+") as caught:
        timeline(200, share, WALK, 5)
    needed = int(caught.value.message.rsplit(" ", 1)[-1])
    assert timeline(needed, share, WALK, 5).segments
    assert feasible(needed - 1, share, WALK, 5) is None


def test_too_short_by_little_names_a_train_that_fits() -> None:
    with pytest.raises(DataError) as caught:
        timeline(780, 0.3, WALK, 5)
    shorter = int(caught.value.next_step.split("walk.train to ")[1].split()[0])
    assert 60 <= shorter < WALK.train
    assert timeline(780, 0.3, WALK.model_copy(update={"train": shorter}), 5).segments
    assert feasible(780, 0.3, WALK.model_copy(update={"train": shorter + 1}), 5) is None
