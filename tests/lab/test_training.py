"""``windlass train``: what is refused before anything runs, and what makes two jobs the same one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from windlass.datasets.tasks import write_tasks
from windlass.errors import DataError, NotFound, PreflightError, StudyError
from windlass.lab import Lab, load_study
from windlass.lab.training import TrainingOrder, prepare
from windlass.records.task import Task

CONFIG = {"model_type": "llama", "hidden_size": 8}


def tasks(count: int) -> list[Task]:
    return [Task(id=f"t{i}", prompt=f"{i}+1=", expected=str(i + 1)) for i in range(count)]


@pytest.fixture
def order(tmp_path: Path) -> TrainingOrder:
    """A model's folder that nobody loads here, and 200 tasks."""
    model = tmp_path / "base"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "model.safetensors").write_bytes(b"\0" * 64)
    write_tasks(tmp_path / "tasks.jsonl", tasks(200))
    return TrainingOrder(
        program="rlvr",
        data=tmp_path / "tasks.jsonl",
        model=str(model),
        profile="adder",
        options={"verifier": {"kind": "exact"}},
    )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.create(tmp_path / "lab")


def test_the_preset_is_a_study_file_that_anybody_can_read(lab: Lab, order: TrainingOrder) -> None:
    job = prepare(lab, replace(order, trials=4, parameters={"steps": 20}, minutes=2.0, tokens=10_000))
    study = load_study(job.study_file)
    assert study.name == job.id and study.trainer.workload == "rlvr"
    assert study.budget.runs == 7 and study.baseline_runs == 3  # three of the baseline, four others
    assert (study.budget.run_time, study.budget.run_tokens) == (150.0, 10_000)
    assert study.baseline["steps"] == 20
    assert study.gate is not None and study.gate.deployment == "adder"
    assert [b.data for b in study.gate.benchmarks] == ["data/heldout.jsonl"]


def test_splits_are_apart_and_together_the_whole(lab: Lab, order: TrainingOrder) -> None:
    job = prepare(lab, order)
    folder = job.study_file.parent / "data"
    rows = {split.name: (folder / f"{split.name}.jsonl").read_text().splitlines() for split in job.splits}
    assert {name: len(lines) for name, lines in rows.items()} == {split.name: split.rows for split in job.splits}
    everything = [line for lines in rows.values() for line in lines]
    assert len(everything) == len(set(everything)) == 200
    assert all(lines for lines in rows.values())


def test_the_same_content_is_the_same_job_wherever_it_lies(lab: Lab, order: TrainingOrder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_tasks(elsewhere / "other-name.jsonl", [replaced(task) for task in reversed(tasks(200))])
    copy = tmp_path / "copied-base"
    copy.mkdir()
    for file in Path(order.model).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    moved = replace(order, data=elsewhere / "other-name.jsonl", model=str(copy))
    there = Lab.create(tmp_path / "other-lab")
    one, other = prepare(lab, order), prepare(there, moved)
    assert one.id == other.id
    prompts = [
        [json.loads(line)["prompt"] for line in (job.study_file.parent / "data/train.jsonl").read_text().splitlines()]
        for job in (one, other)
    ]
    assert prompts[0] == prompts[1]  # the order of the rows is part of a training


def replaced(task: Task) -> Task:
    """Under another id: what a task is called is not what it asks."""
    return task.model_copy(update={"id": f"other-{task.id}"})


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"trials": 1},
        {"parameters": {"steps": 3}},
        {"profile": "other"},
        {"options": {"verifier": {"kind": "numeric"}}},
        {"tokens": 9},
    ],
)
def test_another_question_is_another_job(lab: Lab, order: TrainingOrder, change: dict[str, object]) -> None:
    assert prepare(lab, replace(order, **change)).id != prepare(lab, order).id  # type: ignore[arg-type]


def test_another_model_is_another_job(lab: Lab, order: TrainingOrder) -> None:
    before = prepare(lab, order).id
    (Path(order.model) / "model.safetensors").write_bytes(b"\1" * 64)
    assert prepare(lab, order).id != before


def test_what_is_evaluated_on_must_not_be_trained_on(lab: Lab, order: TrainingOrder, tmp_path: Path) -> None:
    write_tasks(tmp_path / "heldout.jsonl", [Task(id="h", prompt="7+1=", expected="8")])
    with pytest.raises(
        DataError, match=r"'h' in the heldout split asks what 't7' in the (train|validation) split does"
    ):
        prepare(lab, replace(order, heldout=tmp_path / "heldout.jsonl"))


def test_too_few_rows_for_every_split(lab: Lab, order: TrainingOrder) -> None:
    write_tasks(order.data, tasks(2))
    with pytest.raises(DataError, match=r"has 2 tasks: too few for a .* split of its own"):
        prepare(lab, order)


def test_a_file_and_a_model_that_are_not_there(lab: Lab, order: TrainingOrder, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*none\.jsonl"):
        prepare(lab, replace(order, data=tmp_path / "none.jsonl"))
    with pytest.raises(PreflightError, match=r"there is no model folder .*nowhere \[model\.missing\]"):
        prepare(lab, replace(order, model=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreflightError, match=r"holds no \.safetensors file"):
        prepare(lab, replace(order, model=str(tmp_path / "empty")))


def test_a_misspelt_hyper_parameter_runs_nothing(lab: Lab, order: TrainingOrder) -> None:
    with pytest.raises(StudyError, match=r"learnign_rate: unknown key\. Did you mean 'learning_rate'\?"):
        prepare(lab, replace(order, parameters={"learnign_rate": 0.1}))
    assert not lab.runs() and not list((lab.path / "studies").glob("*"))


def test_a_folder_that_was_changed_since_its_export_is_refused(lab: Lab, order: TrainingOrder, tmp_path: Path) -> None:
    from windlass.datasets.export import export
    from windlass.datasets.folder import PreferenceFolder
    from windlass.datasets.reviews import ReviewState

    rows = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = PreferenceFolder(tmp_path / "preferences")
    folder.import_file(tmp_path / "pairs.jsonl", by="ada", at=1.0)
    folder.review(None, ReviewState.APPROVED, by="ada", at=2.0)
    out = tmp_path / "export"
    export(folder.read(), out, {"train": 0.6, "validation": 0.2, "heldout": 0.2})
    preference = replace(order, program="orpo", data=out, options={})
    assert sum(split.rows for split in prepare(lab, preference).splits) == 60
    train = out / "train.jsonl"
    train.chmod(0o644)
    train.write_text(train.read_text().replace("yes", "no!"))
    with pytest.raises(DataError, match="is not as it was exported"):
        prepare(lab, preference)
