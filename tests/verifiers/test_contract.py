"""What every kind of verifier has to hold: the same checks for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from verifying import KIND_CASES, KindCase, cases
from windlass.errors import DataError
from windlass.verifiers import KINDS, audit, build
from windlass.verifiers.audit import EMPTY, JUNK
from windlass.verifiers.worker import worker

every_kind = pytest.mark.parametrize("case", KIND_CASES)


@pytest.fixture(scope="module", autouse=True)
def _processes() -> Iterator[None]:
    """They are shared, and end with these tests."""
    yield
    for check in ("regex", "schema", "math", "gym"):
        worker(check).close()


def test_every_kind_is_here() -> None:
    assert sorted(case.kind for case in cases()) == sorted(KINDS)


@every_kind
def test_a_right_completion_scores_as_it_should(case: KindCase) -> None:
    verifier = build(case.spec)
    for task in case.tasks:
        known = verifier.known(task)
        assert known is not None
        assert verifier.verify(known.completion, task).score == known.score
    for completion in case.right:
        assert verifier.verify(completion, case.tasks[0]).score == 1, completion


@every_kind
def test_a_wrong_completion_does_not_score_1_and_is_told_why(case: KindCase) -> None:
    verifier = build(case.spec)
    for completion in case.wrong:
        verdict = verifier.verify(completion, case.tasks[0])
        assert verdict.score is not None and verdict.score < 1, completion
        assert verdict.reason


@every_kind
def test_nothing_and_junk_are_worth_nothing(case: KindCase) -> None:
    verifier = build(case.spec)
    for completion in (*EMPTY, *JUNK[: 1 if case.kind == "code" else None], "\ud800", "\x00"):
        assert not verifier.verify(completion, case.tasks[0]).score, completion


@every_kind
def test_the_same_question_has_the_same_answer_also_from_many_threads(case: KindCase) -> None:
    verifier = build(case.spec)
    known = [verifier.known(task) for task in case.tasks]
    asked = [(one.completion, task) for one in known if one for task in case.tasks]
    asked += [(completion, case.tasks[0]) for completion in case.wrong]
    alone = [verifier.verify(*one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: verifier.verify(*one), asked)) == alone
    assert [verifier.verify(*one) for one in reversed(asked)] == alone[::-1]


@every_kind
def test_bad_options_are_refused_by_name(case: KindCase) -> None:
    with pytest.raises(DataError, match="unknown option 'wieght'"):
        build({**case.spec, "wieght": 1})
    ((name, value),) = case.bad.items()
    with pytest.raises(DataError, match=name):
        build({**case.spec, name: value})


@every_kind
def test_it_passes_the_audit(case: KindCase) -> None:
    report = audit(case.tasks, build(case.spec))
    assert report.ok, report.words()


@pytest.mark.parametrize("case", [case for case in KIND_CASES if case.id not in ("math", "gym")])  # slow to load
def test_it_works_again_after_it_was_closed(case: KindCase) -> None:
    verifier = build(case.spec)
    verifier.close()
    known = verifier.known(case.tasks[0])
    assert known is not None
    assert verifier.verify(known.completion, case.tasks[0]).score == known.score
