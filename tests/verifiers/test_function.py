"""A user's function, recorded rewards, weighted means."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verifying import task
from windlass.errors import DataError
from windlass.records.task import Task, Verdict
from windlass.verifiers import VerifierFailed, build

GIVEN: list[Any] = []  #: what the function below gives


def gives(completion: str, task: Task) -> Any:
    if isinstance(GIVEN[-1], Exception):
        raise GIVEN[-1]
    return GIVEN[-1]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "grading_module.py").write_text(
        "value = 0.5\nclass Group:\n    @staticmethod\n    def grade(completion, task): return value, 'half'\n"
        "def grade(completion, task): return value\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "grading_module"


def function(given: Any, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    import verifying

    monkeypatch.setattr(verifying, "graded", lambda completion, task: given)
    return build({"kind": "function", "function": "verifying:graded"}).verify("x", task())


@pytest.mark.parametrize(
    ("given", "score", "reason"),
    [
        (0.25, 0.25, ""),
        (1, 1.0, ""),
        (True, 1.0, ""),
        (np.float32(0.5), 0.5, ""),
        ((0.5, "half"), 0.5, "half"),
        (None, None, ""),
        ((None, "no idea"), None, "no idea"),
    ],
)
def test_what_a_function_may_give(given: Any, score: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert function(given, monkeypatch) == Verdict(score=score, reason=reason)


@pytest.mark.parametrize(
    "given", [math.nan, math.inf, -0.1, 1.5, "0.5", [0.5], (0.5,), (0.5, 1), (math.nan, "x"), 1j, np.array([0.5])]
)
def test_what_is_no_score_ends_the_run_with_the_value(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VerifierFailed) as error:
        function(given, monkeypatch)
    assert repr(given) in error.value.message or repr(given[0]) in error.value.message
    assert "verifying:graded" in error.value.message


def test_what_a_function_raises_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    import verifying

    def broken(completion: str, task: Task) -> float:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(verifying, "graded", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        build({"kind": "function", "function": "verifying:graded"}).verify("x", task())


def test_functions_are_found_by_name(module: str) -> None:
    assert build({"kind": "function", "function": f"{module}:grade"}).verify("x", task()).score == 0.5
    assert build({"kind": "function", "function": f"{module}:Group.grade"}).verify("x", task()).reason == "half"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}:grad", "has no 'grad'. Did you mean 'grade'?"),
        ("{}:Group.grad", "has no 'Group.grad'. Did you mean 'grade'?"),
        ("{}:number", "is no function but 3"),
        ("no_such_module:grade", "there is no module 'no_such_module'"),
        ("grade", "module:function"),
    ],
)
def test_a_function_that_is_not_there_is_refused_as_it_is_built(name: str, message: str, module: str) -> None:
    with pytest.raises(DataError) as error:
        build({"kind": "function", "function": name.format(module)})
    assert message in error.value.message


# Recorded rewards --------------------------------------------------------------------------------------------------


def test_a_recorded_reward_is_for_the_completion_that_it_was_recorded_for() -> None:
    verifier = build({"kind": "recorded", "reward": 0.75})
    assert verifier.verify(" the log\nsays so ", task("the log says so")).score == 0.75
    assert verifier.verify("something else", task("the log says so")).score is None


@pytest.mark.parametrize("expected", [None, "", " ", 3])
def test_a_reward_without_its_completion_judges_nothing(expected: Any) -> None:
    with pytest.raises(DataError, match="the completion that the reward was recorded for"):
        build({"kind": "recorded", "reward": 1}).verify("", task(expected))


# Weighted means ----------------------------------------------------------------------------------------------------


def weighted(*parts: dict[str, Any]) -> Any:
    return build({"kind": "weighted", "parts": list(parts)})


EXACT, RECORDED = {"kind": "exact"}, {"kind": "recorded", "reward": 0.5}


def test_the_mean_is_weighted() -> None:
    verifier = weighted({"verifier": EXACT, "weight": 3}, {"verifier": {"kind": "exact", "case": False}})
    assert verifier.verify("a", task("a")).score == 1
    verdict = verifier.verify("A", task("a"))
    assert verdict.score == 0.25
    assert verdict.reason.startswith("exact 0: the answer is 'A', not 'a'; exact 1:")


def test_a_part_without_a_score_is_none_of_all_unless_it_is_optional() -> None:
    hard = weighted({"verifier": EXACT}, {"verifier": RECORDED}).verify("b", task("a"))
    assert hard.score is None and hard.reason.startswith("recorded: no reward was recorded")
    soft = weighted({"verifier": EXACT, "weight": 2}, {"verifier": RECORDED, "optional": True})
    assert soft.verify("b", task("a")).score == 0
    assert soft.verify("a", task("a")).score == pytest.approx((2 + 0.5) / 3)
    assert weighted({"verifier": RECORDED, "optional": True}).verify("b", task("a")).score is None


def test_weighted_parts_may_be_weighted_themselves() -> None:
    inner = {"kind": "weighted", "parts": [{"verifier": EXACT}]}
    assert weighted({"verifier": inner}).verify("a", task("a")).score == 1
