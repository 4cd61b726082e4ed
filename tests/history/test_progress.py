"""Progress and stop rules over constructed histories."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.history import review, stop_reason
from windlass.records.ranking import repeat_noise
from windlass.records.run import EarlyStop, Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.records.study import Study


def study(**changes: Any) -> Study:
    data: dict[str, Any] = {
        "name": "s",
        "trainer": {"command": ["train"]},
        "space": {"x": {"type": "float", "low": 0, "high": 1}},
        "objectives": [{"metric": "loss", "direction": "minimize", "scale": 0.5}],
    }
    return Study.model_validate({**data, **changes})


def run(number: int, loss: float | None, config: int | None = None, **metrics: float) -> RunRecord:
    """A completed run with a loss, or a failed one without; of a config of its own, unless one is given."""
    values = metrics if loss is None else {"loss": loss, **metrics}
    return RunRecord(
        id=f"r{number}",
        name="s",
        number=number,
        created=float(number),
        config={"x": (number if config is None else config) / 1000},
        status=Status.FAILED if loss is None else Status.COMPLETED,
        failure=Failure(kind=FailureKind.ERROR, message="boom") if loss is None else None,
        metrics={name: MetricSummary.of(value) for name, value in values.items()},
    )


def test_best_and_ranking_follow_the_direction_and_leave_failures_out() -> None:
    progress = review(study(), [run(1, 3.0), run(2, None), run(3, 1.0), run(4, 2.0)])
    assert [r.number for r in progress.ranked] == [3, 4, 1]
    assert progress.best_score == -2.0, "minus the loss, in units of scale"
    assert progress.failures == {FailureKind.ERROR: 1}
    assert progress.since_improvement == 1


def test_a_run_that_breaks_a_guard_is_never_best() -> None:
    guarded = study(guards=[{"metric": "sensitivity", "min": 0.9}])
    history = [run(1, 0.1, sensitivity=0.5), run(2, 0.4, sensitivity=0.95), run(3, 0.2)]
    assert [r.number for r in review(guarded, history).ranked] == [2]


def test_a_run_stopped_early_is_settled_and_has_neither_failed_nor_a_place() -> None:
    stop = EarlyStop(metric="loss", step=3, value=9.0, rule="median", reason="worse than half")
    stopped = RunRecord(id="r2", name="s", number=2, created=2.0, status=Status.STOPPED, stopped_early=stop)
    progress = review(study(), [run(1, 1.0), stopped])
    assert (progress.settled, progress.completed, progress.failed, progress.since_improvement) == (2, 1, 0, 1)
    assert [r.number for r in progress.ranked] == [1]


def test_stagnation_counts_settled_runs_and_wants_the_margin() -> None:
    rule = study(stop={"stagnation": {"runs": 3, "min_improvement": 1.0}})
    history = [run(1, 5.0), run(2, 4.9), run(3, 4.8), run(4, None)]
    assert "stagnation: 3" in (stop_reason(rule, review(rule, history)) or "")
    assert stop_reason(rule, review(rule, [*history[:3], run(4, 4.0)])) is None, "1.6 scale units better"


def test_many_small_improvements_add_up_to_one() -> None:
    rule = study(stop={"stagnation": {"runs": 3, "min_improvement": 1.0}})
    history = [run(i, 5.0 - 0.3 * i) for i in range(1, 9)]
    assert stop_reason(rule, review(rule, history)) is None


def test_what_noise_explains_is_no_improvement() -> None:
    history = [run(1, 5.0), run(2, 4.9), run(3, 4.8)]
    assert review(study(), history).since_improvement == 0
    assert review(study(), history, noise_sd=1.0).since_improvement == 2, "0.4 scale units better, noise 1"
    repeated = [*history, run(4, 4.7, config=3)]
    assert repeat_noise(study(), repeated) == pytest.approx(0.2 / 2**0.5)
    assert review(study(), repeated, noise_sd=1.0).since_improvement == 1, "repeats tell better than a model"


def test_a_better_repeat_is_no_improvement_and_a_lucky_first_run_bars_nobody() -> None:
    again = [run(1, 5.0), run(2, 4.0, config=1)]
    assert review(study(), again).since_improvement == 1
    lucky = [run(1, 1.0), run(2, 5.0, config=1), run(3, 5.0, config=1), run(4, 1.2), run(5, 1.2, config=4)]
    progress = review(study(), lucky)
    assert progress.best is not None and progress.best.number == 4
    assert progress.since_improvement == 1, "config 4 beat the mean of config 1"
    assert progress.best_score is not None and progress.best_score < -2.4, "the mean less its standard error"


def test_the_target_stops_only_through_a_run_that_keeps_the_guards() -> None:
    rule = study(stop={"target": {"loss": 0.5}}, guards=[{"metric": "a", "min": 1}])
    assert stop_reason(rule, review(rule, [run(1, 0.4, a=0.0), run(2, 0.6, a=2.0)])) is None
    assert "target reached: run r3" in (stop_reason(rule, review(rule, [run(3, 0.5, a=1.0)])) or "")


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=30), st.randoms())
def test_progress_adds_up_in_any_order(losses: list[float | None], shuffle: random.Random) -> None:
    runs = [run(i, loss) for i, loss in enumerate(losses, start=1)]
    progress = review(study(), runs)
    assert progress.settled == len(losses) == progress.completed + progress.failed
    finite = [loss for loss in losses if loss is not None]
    assert (progress.best is None) == (not finite)
    if finite and progress.best is not None:
        assert progress.best.values["loss"] == min(finite)
    assert 0 <= progress.since_improvement <= len(losses)
    shuffle.shuffle(runs)
    assert review(study(), runs) == progress
