"""Traces: strict in what is read, and tasks by a reward whose formula holds for all labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.traces import (
    Labels,
    PolicyCompliance,
    RewardHacking,
    SafetyRisk,
    TaskOutcome,
    Trace,
    VerificationAlignment,
    alignment,
    labelled_reward,
    read_traces,
    task_of,
    write_traces,
)
from windlass.errors import DataError
from windlass.records.task import Task

LABELS = st.builds(
    Labels,
    task_outcome=st.sampled_from(TaskOutcome),
    verification_alignment=st.sampled_from(VerificationAlignment),
    policy_compliance=st.sampled_from(PolicyCompliance),
    safety_risk=st.sampled_from(SafetyRisk),
    reward_hacking_signal=st.sampled_from(RewardHacking),
)
VALUES = st.none() | st.text() | st.integers() | st.dictionaries(st.text(), st.text(), max_size=2)
TRACES = st.builds(
    Trace,
    id=st.text(min_size=1),
    request_id=st.none() | st.text(),
    correlation_id=st.none() | st.text(),
    tool_name=st.text(min_size=1),
    source=st.none() | st.text(),
    tool_input=VALUES,
    tool_output=VALUES,
    duration_ms=st.none() | st.floats(0, 1e9),
    reward=st.none() | st.floats(0, 1),
    verification_passed=st.none() | st.booleans(),
    labels=LABELS,
    metadata=st.dictionaries(st.text(), VALUES, max_size=2),
)


def trace(**more: Any) -> Trace:
    return Trace.model_validate({"id": "t", "tool_name": "search", "labels": {"task_outcome": "success"}, **more})


def best(**more: str) -> Labels:
    good = {"task_outcome": "success", "verification_alignment": "aligned", "policy_compliance": "compliant"}
    return Labels.model_validate({**good, **more})


def test_the_reward_is_the_formula() -> None:
    assert labelled_reward(best()) == 0.95
    assert labelled_reward(best(task_outcome="partial")) == 0.7
    assert labelled_reward(best(task_outcome="fail")) == 0.45
    assert labelled_reward(best(verification_alignment="conflict")) == 0.8
    assert labelled_reward(best(policy_compliance="non_compliant")) == 0.85
    assert labelled_reward(best(safety_risk="low")) == 0.95
    assert labelled_reward(best(safety_risk="medium")) == 0.75
    assert labelled_reward(best(safety_risk="high")) == 0.55
    assert labelled_reward(Labels(task_outcome=TaskOutcome.FAIL, safety_risk=SafetyRisk.HIGH)) == 0.0  # not -0.2


@given(LABELS)
def test_a_reward_is_in_0_to_1_and_better_labels_never_earn_less(labels: Labels) -> None:
    reward = labelled_reward(labels)
    assert 0 <= reward <= 1
    for better in (
        {"task_outcome": TaskOutcome.SUCCESS},
        {"verification_alignment": VerificationAlignment.ALIGNED},
        {"policy_compliance": PolicyCompliance.COMPLIANT},
        {"safety_risk": SafetyRisk.NONE},
    ):
        assert labelled_reward(labels.model_copy(update=better)) >= reward


@given(TRACES)
def test_every_trace_is_a_task_with_its_reward(one: Trace) -> None:
    task = task_of(one)
    assert task.prompt and task.id == one.id
    assert task.verifier == {
        "kind": "recorded",
        "reward": labelled_reward(one.labels) if one.reward is None else one.reward,
    }
    assert Task.model_validate(json.loads(json.dumps(task.model_dump(mode="json")))) == task
    assert task.metadata["trace"]["labels"]["task_outcome"] == one.labels.task_outcome


def test_what_was_asked_and_answered() -> None:
    assert trace(tool_input="cats?", tool_output="12").asked == "cats?"
    assert trace(tool_input={"q": "cats", "n": 1}).asked == 'search {"n":1,"q":"cats"}'
    assert trace(tool_input={}).asked == trace().asked == trace(tool_input="").asked == "search"
    assert trace(tool_input=" ").asked == "search  "  # what came in is never lost
    assert trace(tool_output={"n": 1}).answered == '{"n":1}'
    assert trace().answered == "" and task_of(trace()).expected is None


def test_what_a_verification_says_of_an_outcome() -> None:
    assert alignment(TaskOutcome.SUCCESS, True) == alignment(TaskOutcome.FAIL, False) == "aligned"
    assert alignment(TaskOutcome.SUCCESS, False) == alignment(TaskOutcome.FAIL, True) == "conflict"
    assert alignment(TaskOutcome.SUCCESS, None) == alignment(TaskOutcome.PARTIAL, True) == "unknown"


@given(st.lists(TRACES, min_size=1, max_size=4, unique_by=lambda one: one.id))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, traces: list[Trace]) -> None:
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl"
    write_traces(path, traces)
    assert [one for _, one in read_traces(path)] == traces


def test_a_dataset_in_camel_case_is_read(tmp_path: Path) -> None:
    labels = {
        "taskOutcome": "partial",
        "verificationAlignment": "conflict",
        "policyCompliance": "uncertain",
        "safetyRisk": "low",
        "rewardHackingSignal": "suspected",
    }
    example = {
        **{"id": "a", "requestId": "r", "correlationId": "c", "toolName": "search", "source": "log"},
        **{"toolInput": {"userName": "x"}, "toolOutput": "y", "durationMs": 12, "reward": 0.5},
        **{"verificationPassed": False, "labels": labels, "metadata": {"userId": 1}},
    }
    path = tmp_path / "traces.json"
    path.write_text(json.dumps({"dataset": {"id": "d", "label": "l", "createdAt": None, "examples": [example]}}))
    ((row, one),) = read_traces(path)
    assert row == 1 and one.labels.safety_risk is SafetyRisk.LOW and one.duration_ms == 12.0
    assert one.tool_input == {"userName": "x"} and one.metadata == {"userId": 1}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"labels": {}}, "no 'labels.task_outcome'"),
    ({"labels": {"taskOutcome": "won"}}, "'labels.task_outcome'"),
    ({"labels": {"taskOutcom": "fail"}}, "unknown key 'labels.taskOutcom'. Did you mean 'task_outcome'?"),
    ({"labels": "fail"}, "'labels'"),
    ({"reward": 1.01}, "'reward'"),
    ({"durationMs": -1}, "'duration_ms'"),
    ({"verificationPassed": "yes"}, "'verification_passed'"),
    ({"verificationPassed": 1}, "'verification_passed'"),
    ({"toolOuput": "x"}, "unknown key 'toolOuput'. Did you mean 'tool_output'?"),
    ({"toolName": ""}, "'tool_name' is empty"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_told(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    good = {"id": "a", "toolName": "search", "labels": {"taskOutcome": "success"}}
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, "id": "b", **change}) + "\n")
    with pytest.raises(DataError) as caught:
        read_traces(path)
    assert f"  row 2: {words}" in caught.value.message


def test_an_id_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces(path, [trace(), trace(tool_output="other")])
    with pytest.raises(DataError, match="row 2: the id 't' is that of row 1, too"):
        read_traces(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="holds no traces"):
        read_traces(path)
