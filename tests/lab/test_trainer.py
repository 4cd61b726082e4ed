"""What every run of a study is told about its code and its data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import StudyError
from windlass.lab.trainer import code_and_data, job_template
from windlass.records.study import Study
from windlass.registry.evaluating import training_fingerprint


def study(trainer: dict[str, Any]) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "trainer": trainer,
            "space": {"model": {"type": "categorical", "choices": ["forest"]}},
            "objectives": [{"metric": "loss", "direction": "minimize"}],
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").write_text("def main(config, run): ...\n")
    (folder / "data" / "a.csv").write_text("x,y\n1,2\n")
    (folder / "more.csv").write_text("x,y\n3,4\n")
    return folder


@pytest.mark.parametrize("kind", [{"command": "python train.py"}, {"function": "train:main"}])
def test_data_of_a_trainer_are_absolute_and_known_by_content(folder: Path, kind: dict[str, str]) -> None:
    spec = job_template(study({**kind, "data": ["data", "./more.csv"]}), folder)
    assert spec.data == (str(folder / "data"), str(folder / "more.csv"))
    assert spec.fingerprints["data"] == training_fingerprint([folder / "data", folder / "more.csv"])
    moved = folder.rename(folder.with_name("moved"))
    again = job_template(study({**kind, "data": ["data", "./more.csv"]}), moved)
    assert (again.fingerprints["data"], again.fingerprints["code"]) == (
        spec.fingerprints["data"],
        spec.fingerprints["code"],
    )
    (moved / "data" / "a.csv").write_text("x,y\n1,3\n")
    changed = code_and_data(again.command, again.function, again.config, moved, again.data)
    assert changed["data"] != spec.fingerprints["data"]
    assert changed["code"] == spec.fingerprints["code"]


def test_a_trainer_without_data_has_none(folder: Path) -> None:
    spec = job_template(study({"command": "python train.py"}), folder)
    assert spec.data == ()
    assert "data" not in spec.fingerprints
    assert spec.command == ("python", str(folder / "train.py"))


def test_data_that_are_not_there(folder: Path) -> None:
    with pytest.raises(StudyError, match=r"trainer\.data: there is no .*none.csv, .*gone") as caught:
        job_template(study({"command": "python train.py", "data": ["none.csv", "more.csv", "gone"]}), folder)
    assert str(folder) in caught.value.next_step


def test_data_of_a_workload_are_its_file(folder: Path) -> None:
    spec = job_template(study({"workload": "tabular", "options": {"data": "more.csv", "target": "y"}}), folder)
    assert spec.data == (str(folder / "more.csv"),)
    assert spec.fingerprints["data"] == training_fingerprint([folder / "more.csv"])
    assert spec.fingerprints["data"] == hashlib.sha256((folder / "more.csv").read_bytes()).hexdigest()
    assert job_template(study({"workload": "tabular", "options": {"dataset": "wine"}}), folder).data == ()


def test_code_in_a_command_is_no_file_name(folder: Path) -> None:
    code = "print('x' * 10)\n" * 500
    spec = job_template(study({"command": ["python", "-c", code, "a\x00b"]}), folder)
    assert spec.command == ("python", "-c", code, "a\x00b")


def test_a_workloads_evaluator_has_a_code_fingerprint_like_any_function(folder: Path) -> None:
    evaluator = "windlass.workloads.tabular.evaluate:evaluate"
    assert code_and_data((), evaluator, {"checkpoint": "x"}, folder).keys() == {"code"}
