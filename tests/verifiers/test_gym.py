"""Tasks of reasoning-gym: made, scored, refused; and what answers cannot do to the scorer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from windlass.errors import DataError
from windlass.records.task import Task
from windlass.verifiers import VerifierFailed, audit, build, for_task
from windlass.verifiers.gym import make_tasks
from windlass.verifiers.worker import MEMORY, worker


def test_tasks_are_the_same_each_time_and_score_their_own_answers() -> None:
    tasks = make_tasks("chain_sum", size=5, seed=42)
    assert tasks == make_tasks("chain_sum", size=5, seed=42)
    assert tasks != make_tasks("chain_sum", size=5, seed=43)
    verifier = for_task(tasks=tasks)
    assert [verifier.verify(task.expected, task).score for task in tasks] == [1] * 5
    assert [verifier.verify(f"Well.\n<answer> {task.expected} </answer>", task).score for task in tasks] == [1] * 5
    assert audit(tasks, verifier).ok


def test_options_reach_the_generator() -> None:
    (task,) = make_tasks("chain_sum", size=1, min_terms=6, max_terms=6)
    assert task.prompt.count("+") + task.prompt.count("-") >= 5
    assert task.verifier is not None and task.verifier["options"] == {"min_terms": 6, "max_terms": 6}


def test_wrong_answers_are_worth_nothing_unless_the_librarys_share_is_asked_for() -> None:
    (task,) = make_tasks("chain_sum", size=1)
    hedge = f"{task.expected} or not"
    strict = build(task.verifier or {}).verify(hedge, task)
    assert strict.score == 0 and "only 1 counts" in strict.reason
    partial = build({**(task.verifier or {}), "partial": True}).verify(hedge, task)
    assert partial.score == pytest.approx(len(task.expected) / len(hedge))


@pytest.mark.parametrize("name", ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"])
def test_a_dataset_that_does_not_score_its_own_answers_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"reasoning-gym's '{name}' gives no answer"):
        make_tasks(name, size=2)


def test_the_audit_refuses_a_dataset_that_pays_for_junk() -> None:
    tasks = make_tasks("game_of_life_halting", size=8, seed=1)
    report = audit(tasks, for_task())
    assert not report.ok
    assert any("junk" in problem for problem in report.problems)


def test_a_scorer_that_raises_is_a_failure_not_a_score() -> None:
    tasks = make_tasks("prime_factorization", size=2)
    with pytest.raises(VerifierFailed, match="ValueError"):
        for_task().verify("I do not know", tasks[0])
    assert any("it raises on junk" in problem for problem in audit(tasks, for_task()).problems)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("chian_sum", {}, "no dataset 'chian_sum'. Did you mean 'chain_sum'?"),
        ("chain_sum", {"min_term": 3}, "unexpected keyword argument 'min_term'"),
        ("chain_sum", {"min_terms": 5, "max_terms": 2}, "cannot be made so"),
    ],
)
def test_names_and_options_that_are_not_there_are_refused(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError) as error:
        make_tasks(name, size=1, **options)
    assert message in error.value.message


def test_a_task_of_another_version_or_seed_is_refused() -> None:
    (task,) = make_tasks("chain_sum", size=1, seed=1)
    for changed, message in (
        ({"verifier": {**(task.verifier or {}), "seed": 2}}, "does not hold the question"),
        ({"metadata": {}}, "metadata.index"),
        ({"metadata": {"index": 1}}, "has entries 0 to 0, not 1"),
    ):
        with pytest.raises(DataError, match="task 'chain_sum-1-0'") as error:
            for_task().verify("1", Task(**{**task.model_dump(), **changed}))
        assert message in error.value.message


def test_the_question_may_have_instructions_around_it() -> None:
    (task,) = make_tasks("chain_sum", size=1)
    asked = task.model_copy(update={"prompt": f"{task.prompt}\nThink first."})
    assert for_task().verify(task.expected, asked).score == 1


#: these scorers evaluate the answer as Python or through SymPy's parser, which does
@pytest.mark.parametrize(
    "name",
    [
        *("string_insertion", "spiral_matrix", "binary_matrix", "n_queens", "countdown", "puzzle24"),
        *("polynomial_multiplication", "simple_integration", "intermediate_integration"),
    ],
)
def test_an_answer_is_never_run_as_a_program(name: str, tmp_path: Path) -> None:
    (task,) = make_tasks(name, size=1, seed=1)
    verifier = for_task()
    written = tmp_path / "written"
    for code in (
        f"__import__('pathlib').Path('{written}').touch()",
        f"[open('{written}', 'w').close() for _ in '1']",
        f"(lambda: __import__('os').system('touch {written}'))()",
        "().__class__.__base__.__subclasses__()",
        "__import__('sys').modules",
    ):
        assert verifier.verify(code, task).score == 0
    assert not written.exists()
    assert verifier.verify(task.expected, task).score == 1


def test_an_answer_cannot_change_its_scorer() -> None:
    (task,) = make_tasks("string_insertion", size=1, seed=1)
    scorer = "__import__('sys').modules['reasoning_gym.algorithmic.string_insertion'].StringInsertionDataset"
    attack = for_task().verify(f"[setattr({scorer}, 'score_answer', lambda *a, **k: 1.0)]", task)
    assert attack.score == 0 and "more than arithmetic" in attack.reason
    assert for_task().verify("junk", task).score == 0


def test_an_answer_gets_no_more_memory_than_a_check_may_have() -> None:
    (task,) = make_tasks("string_insertion", size=1, seed=1)
    assert for_task().verify("['a'] * 700_000_000", task).score == 0
    process = worker("gym")._process
    assert process is not None and process.poll() is None
    (peak,) = re.findall(r"VmPeak:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert int(peak) * 1024 <= MEMORY < 8 * 700_000_000


def test_the_bare_library_runs_an_answer_as_a_program(tmp_path: Path) -> None:
    import reasoning_gym

    written = tmp_path / "written"
    made = reasoning_gym.create_dataset("countdown", size=1, seed=1)
    made.score_answer(answer=f"__import__('pathlib').Path('{written}').touch()", entry=made[0])
    assert written.exists()
