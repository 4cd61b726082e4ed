"""The quality filter: each reason, the order of reasons, and that nothing is lost without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.quality import Filtered, Limits, Reason, sift, to_tasks
from windlass.datasets.tasks import read_tasks, write_tasks
from windlass.datasets.traces import Trace


def trace(name: str = "t", outcome: str = "success", labels: dict[str, Any] | None = None, **more: Any) -> Trace:
    data = {"id": name, "tool_name": "search", "tool_input": f"about {name}", "tool_output": "found", **more}
    return Trace.model_validate({**data, "labels": {"task_outcome": outcome, **(labels or {})}})


def sifted(*traces: Trace, limits: Limits | None = None) -> Filtered:
    found = sift(list(enumerate(traces, 1)), limits)
    assert len(found.kept) + len(found.dropped) == len(traces)
    return found


def reasons(found: Filtered) -> list[tuple[int, Reason]]:
    return [(one.row, one.reason) for one in found.dropped]


ALONE = [
    ({"labels": {"reward_hacking_signal": "confirmed"}}, Reason.HACKING, "by its label"),
    ({"tool_output": None}, Reason.EMPTY, ""),
    ({"tool_output": " \n"}, Reason.EMPTY, ""),
    ({"tool_input": "abcd"}, Reason.SHORT_PROMPT, "4 characters, at least 5 are wanted"),
    ({"tool_input": "a" * 51}, Reason.LONG_PROMPT, "51 characters, at most 50 are wanted"),
    ({"tool_output": "ab"}, Reason.SHORT_OUTPUT, "2 characters, at least 3 are wanted"),
    ({"tool_output": {"text": "a" * 99}}, Reason.LONG_OUTPUT, "110 characters, at most 100 are wanted"),
    (
        {"verification_passed": False, "labels": {"verification_alignment": "aligned"}},
        Reason.LABELS,
        "verification failed, outcome success: conflict, not aligned",
    ),
]


@pytest.mark.parametrize(("change", "reason", "words"), ALONE, ids=[str(reason) for _, reason, _ in ALONE])
def test_what_is_wrong_with_one_trace(change: dict[str, Any], reason: Reason, words: str) -> None:
    limits = Limits(prompt_min=5, prompt_max=50, output_min=3, output_max=100)
    (dropped,) = sifted(trace("first"), trace("second", **change), limits=limits).dropped
    assert dropped == (2, "second", reason, words)


def test_what_nobody_knows_is_no_contradiction() -> None:
    unknown = trace("a", verification_passed=False, labels={"verification_alignment": "unknown"})
    partial = trace("b", "partial", verification_passed=True, labels={"verification_alignment": "conflict"})
    aligned = trace("c", "fail", verification_passed=False, labels={"verification_alignment": "aligned"})
    assert not sifted(unknown, partial, aligned).dropped


def test_of_duplicates_the_first_stays() -> None:
    same = {"tool_input": "q", "tool_output": "a"}
    found = sifted(trace("a", **same), trace("b", **same, duration_ms=3), trace("c", **same, tool_name="other"))
    assert reasons(found) == [(2, Reason.DUPLICATE)] and found.dropped[0].words == "of row 1"
    assert [row for row, _ in found.kept] == [1, 3]


def test_what_was_judged_in_two_ways_is_dropped_everywhere() -> None:
    same = {"tool_input": "q", "tool_output": "a"}
    found = sifted(trace("a", **same), trace("b", "fail", **same), trace("c", **same), trace("d", **same, reward=0.5))
    assert reasons(found) == [
        (1, Reason.CONTRADICTION),
        (2, Reason.CONTRADICTION),
        (3, Reason.DUPLICATE),
        (4, Reason.CONTRADICTION),
    ]
    assert "here fail" in found.dropped[1].words and "row 1: success" in found.dropped[1].words


def durations(values: Sequence[float], tool: str = "search") -> list[Trace]:
    return [trace(f"{tool}{i}", duration_ms=value, tool_name=tool) for i, value in enumerate(values)]


def test_outlying_durations_are_outlying_for_their_tool() -> None:
    usual = [100.0 + i for i in range(30)]
    slow = durations([value * 1000 for value in usual], "train")
    found = sifted(*durations(usual), *durations([115_000, 0.1], "search, too"), *slow)
    assert not found.dropped  # two durations of a tool say nothing; a slow tool is slow
    found = sifted(*durations([*usual, 115_000, 0.1]), *slow)
    assert reasons(found) == [(31, Reason.DURATION), (32, Reason.DURATION)]
    assert "115000 ms, of search usually" in found.dropped[0].words


def test_durations_that_are_all_alike_have_no_outliers() -> None:
    assert not sifted(*durations([5.0] * 30 + [5.1, 900.0])).dropped
    assert not sifted(*durations([5.0 + i for i in range(18)] + [9000.0])).dropped  # 19 of them


def test_a_trace_that_was_dropped_makes_no_other_a_duplicate() -> None:
    same = {"tool_input": "q", "tool_output": "a"}
    hacked = trace("a", **same, labels={"reward_hacking_signal": "confirmed"})
    assert reasons(sifted(hacked, trace("b", **same))) == [(1, Reason.HACKING)]


TRACES = st.lists(
    st.builds(
        lambda outcome, text, output, passed, reward, signal: trace(
            "t", outcome, {"reward_hacking_signal": signal}, tool_input=text, tool_output=output,
            verification_passed=passed, reward=reward,
        ),
        st.sampled_from(["success", "partial", "fail"]),
        st.sampled_from(["a", "bb", ""]),
        st.sampled_from([None, "", "x", "y", "long" * 9]),
        st.sampled_from([None, True, False]),
        st.sampled_from([None, 0.5]),
        st.sampled_from(["none", "suspected", "confirmed"]),
    ),
    max_size=12,
)  # fmt: skip


@given(TRACES)
def test_nothing_is_lost_and_what_is_kept_is_kept_again(traces: list[Trace]) -> None:
    found = sifted(*traces, limits=Limits(output_max=20))
    rows = [row for row, _ in found.kept] + [one.row for one in found.dropped]
    assert sorted(rows) == list(range(1, len(traces) + 1))
    assert sum(found.counts.values()) == len(found.dropped)
    assert sift(found.kept, Limits(output_max=20)).kept == found.kept


@given(TRACES)
def test_tasks_of_traces_can_be_read_together(tmp_path_factory: pytest.TempPathFactory, traces: list[Trace]) -> None:
    numbered = [(row, one.model_copy(update={"id": f"{row}"})) for row, one in enumerate(traces, 1)]
    tasks, dropped = to_tasks(numbered)
    assert len(tasks) + len(dropped) == len(traces)
    if tasks:
        path = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
        write_tasks(path, tasks)
        assert read_tasks(path) == tasks


def test_why_a_trace_makes_no_task() -> None:
    same = {"tool_input": "q", "tool_output": "a"}
    other = {"tool_input": "r", "tool_output": "a"}
    traces = [
        trace("a", **same), trace("b", **same), trace("c", tool_output=None), trace("d", **other),
        trace("e", "fail", **other),
    ]  # fmt: skip
    tasks, dropped = to_tasks(list(enumerate(traces, 1)))
    assert [task.id for task in tasks] == ["a"]
    assert [(one.row, one.reason) for one in dropped] == [
        (2, Reason.DUPLICATE),
        (3, Reason.EMPTY),
        (4, Reason.CONTRADICTION),
        (5, Reason.CONTRADICTION),
    ]
    assert dropped[2].words == "rewards of one prompt and completion: 0.2, 0.7"
