"""Symbolic mathematics: what is equal, the quirks of the library, answers that attack the checker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from verifying import task
from windlass.errors import DataError
from windlass.verifiers import build


def verdict(completion: str, expected: Any, **options: Any) -> tuple[float | None, str]:
    given = build({"kind": "math", **options}).verify(completion, task(expected))
    return given.score, given.reason


@pytest.mark.parametrize(
    ("completion", "expected", "score"),
    [
        ("$\\frac{1}{2}$", "0.5", 1),
        ("$1/2$", "\\frac{2}{4}", 1),
        ("so the answer is \\boxed{42}", 42, 1),
        ("$3,000$", "3000", 1),
        ("$10\\%$", "0.1", 1),
        ("$\\sqrt{8}$", "2\\sqrt{2}", 1),
        ("$x^2+2x+1$", "(x+1)^2", 1),
        ("$x>3$", "3<x", 1),
        ("$\\int_0^1 x dx$", "1/2", 1),
        ("\\boxed{x=3}", "3", 1),
        ("$(1,2]$", "(1,2)", 0),
        ("$\\sqrt{8}$", "2.83", 0),
        ("no idea", "42", 0),
        ("", "42", 0),
    ],
)
def test_what_is_equal(completion: str, expected: Any, score: float) -> None:
    assert verdict(completion, expected)[0] == score


def test_the_last_number_of_prose_counts_unless_a_box_is_asked_for() -> None:
    assert verdict("I think 41 no 42", "42")[0] == 1
    assert verdict("I think 41 no 42", "42", boxed=True) == (0.0, "there is no \\boxed{...}")


def test_several_boxes_are_one_set_unless_the_last_is_asked_for() -> None:
    two = "I am not sure. \\boxed{1} \\boxed{42}"
    score, reason = verdict(two, "42")
    assert score == 0 and "2 boxes are one set" in reason
    assert verdict(two, "42", boxed=True)[0] == 1
    assert verdict(two, "1", boxed=True)[0] == 0
    assert verdict("\\boxed{1} and \\boxed{42", "1", boxed=True)[0] == 1


@pytest.mark.parametrize("completion", ["$9^{9^{9^{9}}}$", "${}$".format("{" * 1900 + "}" * 1900)])
def test_an_answer_that_never_ends_scores_0_and_the_next_one_is_checked(completion: str) -> None:
    assert verdict(completion, "1", limit=0.3) == (0.0, "checking it takes more than 0.3 s of CPU time")
    assert verdict("42", "42")[0] == 1


def test_the_bare_library_raises_in_a_thread_and_this_does_not() -> None:
    from math_verify import parse

    outcomes: dict[str, Any] = {}

    def bare() -> None:
        try:
            outcomes["bare"] = parse("$1$")
        except ValueError as error:
            outcomes["bare"] = str(error)

    def ours() -> None:
        outcomes["ours"] = verdict("$1$", "1")[0]

    for target in (bare, ours):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert "threaded environment" in outcomes["bare"]
    assert outcomes["ours"] == 1


@pytest.mark.parametrize("expected", ["?!", "\\", "", None, True, [1]])
def test_what_cannot_be_read_as_mathematics_is_refused_not_rewarded(expected: Any) -> None:
    with pytest.raises(DataError):
        verdict("\\boxed{1}", expected)


@pytest.mark.parametrize("form", ["{}", "${}$", "\\boxed{{{}}}", "The final answer is {}.", "\\text{{{}}} = 1"])
def test_an_answer_is_never_run_as_a_program(form: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    for code in (
        f"__import__('pathlib').Path('{written}').touch()",
        f"open('{written}', 'w')",
        f'exec(\'open("{written}","w")\')',
    ):
        assert not verdict(form.format(code), "2")[0]
    assert not written.exists()


def test_only_the_end_of_a_long_answer_is_read() -> None:
    assert verdict("1 + 1 " * 1000 + "so \\boxed{42}", "42")[0] == 1
    assert verdict("\\boxed{42}" + " and then" * 1000, "42")[0] == 0
