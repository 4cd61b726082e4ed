"""The audit: each way to fool a verifier is found, and a good one is let through."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Sequence

import pytest

from verifying import task
from windlass.errors import DataError
from windlass.records.task import Task, Verdict
from windlass.verifiers import AuditReport, audit, build, for_task


class Rule:
    """A verifier by a rule; None is no score."""

    def __init__(self, rule: Callable[[str, Task], float | None]) -> None:
        self.rule = rule

    def verify(self, completion: str, task: Task) -> Verdict:
        return Verdict(score=self.rule(completion, task))


def tasks(count: int = 6) -> list[Task]:
    return [
        task(str(100 + i), f"What is {50 + i} + 50?", f"t{i}", metadata={"solution": str(100 + i)})
        for i in range(count)
    ]


def problems(rule: Callable[[str, Task], float | None], of: Sequence[Task] | None = None) -> str:
    return "\n".join(audit(of or tasks(), Rule(rule)).problems)


def equal(completion: str, task: Task) -> float:
    return float(completion.strip() == task.expected)


def test_a_good_verifier_is_let_through() -> None:
    report = audit(tasks(), Rule(equal))
    assert report.ok and report.problems == ()
    assert "can be trained on" in report.words()


def test_an_oracle_that_does_not_score_1_is_found() -> None:
    found = problems(lambda completion, task: 0.9 * equal(completion, task))
    assert "a right completion '100' on task 't0' gets 0.9, not 1" in found and "so on 6 tasks" in found


def test_an_oracle_without_a_score_is_found() -> None:
    assert "gets no score, not 1" in problems(lambda completion, task: 0.0 if completion != task.expected else None)


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (lambda completion, task: equal(completion, task) or float(not completion.strip()), "an empty completion"),
        (lambda completion, task: equal(completion, task) or float("amet" in completion), "junk 'Lorem ipsum"),
        (lambda completion, task: equal(completion, task) or float(completion == task.prompt), "the echoed prompt"),
    ],
)
def test_what_answers_nothing_must_not_pay(rule: Callable[[str, Task], float], what: str) -> None:
    found = problems(rule)
    assert what in found and "the mean over 6 tasks is 1, above 0.1" in found


def test_a_verifier_that_looks_for_the_answer_anywhere_is_found() -> None:
    verifier = build({"kind": "regex", "anywhere": True})
    report = audit([task(f"r{i}ght", f"p{i}", f"t{i}", metadata={"solution": f"r{i}ght"}) for i in range(3)], verifier)
    assert report.ok, "a pattern tells no answers, so that there is no list of them"
    function = build({"kind": "function", "function": "verifying:graded"})
    kind = type(function)
    anywhere = function.model_copy()
    anywhere._call = lambda completion, task: float(str(task.expected) in completion)
    assert isinstance(anywhere, kind)
    report = audit([task(f"w{i}", f"p{i}", f"t{i}") for i in range(5)], anywhere)
    assert "a list of all answers" in report.problems[0]


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_rule_of_position_is_no_weakness(which: str) -> None:
    numeric = build({"kind": "numeric", "which": which})
    assert audit([task(100 + i, id=str(i)) for i in range(5)], numeric).ok
    assert audit([task(100 + i, id=str(i)) for i in range(2)], numeric).ok


def test_a_chance_hit_is_a_note_not_a_problem() -> None:
    arithmetic = [task(i, f"0 + {i} =" if i == 3 else f"{i} - 0 =", str(i)) for i in range(1, 21)]
    report = audit(arithmetic, build({"kind": "numeric"}))
    assert report.ok
    assert any("the echoed prompt on task '3' gets 1" in note for note in report.notes)


def test_what_raises_is_found_and_the_audit_goes_on() -> None:
    def rule(completion: str, task: Task) -> float:
        if not completion.strip():
            raise IndexError("list index out of range")
        return 1.0

    report = audit(tasks(), Rule(rule))
    assert any("it raises on an empty completion" in problem and "IndexError" in problem for problem in report.problems)
    assert any("junk" in problem for problem in report.problems)
    assert next(probe.raised for probe in report.probes if probe.name == "empty") == 12


def test_a_verifier_that_is_not_the_same_twice_is_found() -> None:
    count = itertools.count()
    found = problems(lambda completion, task: equal(completion, task) and next(count) % 2)
    assert "a second time" in found


def test_a_verifier_that_fails_in_threads_is_found() -> None:
    def rule(completion: str, task: Task) -> float:
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("signal only works in main thread of the main interpreter")
        return equal(completion, task)

    report = audit(tasks(), Rule(rule), threads=2)
    assert len(report.problems) == 1
    assert "from 2 threads" in report.problems[0] and "signal only works in main thread" in report.problems[0]


def test_a_verifier_whose_threads_share_state_is_found() -> None:
    both, shared = threading.Barrier(2), [""]

    def rule(completion: str, task: Task) -> float:
        if threading.current_thread() is threading.main_thread():
            return equal(completion, task)
        shared[0] = completion
        both.wait(30)
        return equal(shared[0], task)

    checks = [task("1", "a", "1", metadata={"solution": "1"}), task("2", "b", "2", metadata={"solution": "2"})]
    assert "from 2 threads" in "\n".join(audit(checks, Rule(rule), threads=2).problems)


def test_without_any_right_completion_nothing_is_known() -> None:
    bare = [task(None, f"p{i}", f"t{i}") for i in range(3)]
    assert "no task says what a right completion is" in problems(lambda completion, task: 0.0, bare)
    some = [*bare, task(None, "p", "t", metadata={"solution": "yes"})]
    report = audit(some, Rule(lambda completion, task: float(completion == "yes")))
    assert report.ok
    assert "3 of 4 tasks do not say what a right completion is (metadata.solution)" in report.notes


def test_worthless_completions_without_a_score_are_noted() -> None:
    report = audit(tasks(2), Rule(lambda completion, task: equal(completion, task) or None))
    assert report.ok
    assert any("no score instead of 0" in note for note in report.notes)


def test_an_answer_that_many_tasks_have_is_noted() -> None:
    same = [task("yes" if i < 4 else "no", f"p{i}", f"t{i}") for i in range(5)]
    report = audit(same, build({"kind": "exact"}))
    assert "always saying 'yes' is right on 4 of 5 tasks" in report.notes


def test_tasks_that_cannot_be_judged_are_problems_not_crashes() -> None:
    report = audit([task("x", id="bad"), task(4, id="good")], for_task({"kind": "numeric"}))
    assert not report.ok
    assert "task 'bad': the verifier 'numeric' needs a number" in report.problems[0]
    unknown = audit([task("x", verifier={"kind": "exat"})], for_task())
    assert any("no verifier of kind 'exat'" in problem for problem in unknown.problems)


def test_each_task_is_audited_with_its_own_verifier() -> None:
    mixed = [task(4, id="1", verifier={"kind": "numeric"}), task("Rome", id="2", verifier={"kind": "exact"})]
    assert audit(mixed, for_task()).ok


def test_tasks_are_spread_evenly_and_the_floor_can_be_set() -> None:
    seen: set[str] = set()

    def rule(completion: str, task: Task) -> float:
        seen.add(task.id)
        return max(equal(completion, task), 0.2)

    report = audit(tasks(100), Rule(rule), most=5, floor=0.2)
    assert (report.ok, report.tasks, report.of) == (True, 5, 100)
    assert seen == {"t0", "t20", "t40", "t60", "t80"}
    assert not audit(tasks(100), Rule(rule), most=5, floor=0.19).ok


def test_without_tasks_there_is_nothing_to_audit() -> None:
    with pytest.raises(DataError):
        audit([], Rule(equal))


def test_a_report_is_words_and_json_and_the_same_but_for_latencies() -> None:
    def timeless(report: AuditReport) -> dict[str, object]:
        data = json.loads(json.dumps(report.to_dict()))
        return {key: value for key, value in data.items() if key not in ("first", "p50", "p95", "slowest")}

    one, other = (audit(tasks(), build({"kind": "exact"})) for _ in range(2))
    assert timeless(one) == timeless(other)
    assert one.to_dict()["ok"] is True
    assert [line.split()[0] for line in one.words().splitlines()[1:6]] == [
        "oracle",
        "empty",
        "junk",
        "echo",
        "candidates",
    ]
    assert 0 < one.p50 <= one.p95 <= one.slowest


def test_progress_ends_at_its_total() -> None:
    told: list[tuple[int, int]] = []
    audit(tasks(2), Rule(equal), on_check=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
