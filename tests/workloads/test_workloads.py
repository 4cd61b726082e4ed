"""The lab's door to the workloads: names, options, defaults, fingerprints."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import DataError, StudyError
from windlass.records.content import flatten, nest
from windlass.records.parameters import CategoricalParameter, FloatParameter, IntParameter
from windlass.records.study import Study
from windlass.records.studyfile import StudyFile
from windlass.workloads import complete, workload
from windlass.workloads.tabular.spec import BUNDLED, read_config

EXAMPLES = Path(__file__).parents[2] / "examples"


def completed(folder: Path = EXAMPLES, **study: Any) -> Study:
    return Study.model_validate(complete({"name": "s", **study}, folder))


def tabular(**options: Any) -> dict[str, Any]:
    return {"workload": "tabular", "options": options}


@pytest.mark.parametrize("dataset", BUNDLED)
def test_a_trainer_alone_is_a_usable_study(dataset: str) -> None:
    study = completed(trainer=tabular(dataset=dataset))
    assert "model" in study.space
    assert study.objectives[0].metric in ("log_loss", "r2")
    assert ("logistic.C" in study.space) == (BUNDLED[dataset][0] == "classification")


SPACES = {task: completed(trainer=tabular(dataset=dataset)).space for dataset, (task, _) in BUNDLED.items()}


@given(st.data(), st.sampled_from(sorted(SPACES)))
def test_every_point_of_a_default_space_is_a_config(data: st.DataObject, task: str) -> None:
    values: dict[str, Any] = {}
    for name, parameter in SPACES[task].items():
        if parameter.when and not parameter.when.contains(values):
            continue
        match parameter:
            case CategoricalParameter():
                values[name] = data.draw(st.sampled_from(parameter.choices))
            case IntParameter():
                values[name] = data.draw(st.integers(parameter.low, parameter.high))
            case FloatParameter():
                values[name] = data.draw(st.floats(parameter.low, parameter.high))
    config = read_config({"workload": {"dataset": "digits"}, **nest(values)})
    assert config.model == values["model"]
    group = getattr(config, config.model)
    assert {f"{config.model}.{key}" for key in group.model_fields_set} <= values.keys()
    assert all(value == getattr(group, name.partition(".")[2]) for name, value in values.items() if "." in name)


def test_what_the_study_says_stays() -> None:
    space = {"model": {"type": "categorical", "choices": ["svm"]}, "svm.C": {"type": "float", "low": 1, "high": 2}}
    study = completed(
        trainer=tabular(dataset="wine"),
        space=space,
        baseline={"svm": {"kernel": "linear"}},
        objectives=[{"metric": "auc", "direction": "maximize"}],
    )
    assert set(study.space) == {"model", "svm.C"}
    assert study.baseline == {"svm": {"kernel": "linear"}}
    assert [objective.metric for objective in study.objectives] == ["auc"]


@pytest.mark.parametrize(
    ("name", "parameter", "kept"),
    [
        ("model", {"type": "categorical", "choices": ["svm", "mlp"]}, False),
        ("model", {"type": "categorical", "choices": ["svm", "boosting"]}, True),
        ("portfolio.holding", {"type": "int", "low": 40, "high": 50}, False),
        ("portfolio.holding", {"type": "int", "low": 1, "high": 50}, True),
    ],
)
def test_a_default_that_the_studys_space_excludes_is_left_out(name: str, parameter: dict[str, Any], kept: bool) -> None:
    alpha = {"workload": "alpha", "options": {"idea": "Momentum"}}
    study = {"trainer": tabular(dataset="digits") if name == "model" else alpha, "space": {name: parameter}}
    assert (name in flatten(complete(study, EXAMPLES)["baseline"])) == kept
    own = complete({**study, "baseline": nest({name: "mine"})}, EXAMPLES)
    assert flatten(own["baseline"])[name] == "mine"


def test_other_trainers_are_left_alone() -> None:
    data = {"name": "s", "trainer": {"command": "python train.py"}}
    assert complete(data, EXAMPLES) == data


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"trainer": {"workload": "tabuler"}}, "no workload 'tabuler'. Did you mean 'tabular'"),
        ({"trainer": {"workload": "tabular"}}, "exactly one of 'dataset' and 'data'"),
        ({"trainer": tabular(dataset="digit")}, "'digit' is not one of .*digits"),
        ({"trainer": tabular(datset="digits")}, "trainer.options.datset: unknown key. Did you mean 'dataset'"),
        ({"trainer": tabular(dataset="digits", data="x.csv", target="y")}, "exactly one"),
        ({"trainer": tabular(data="x.csv")}, "needs 'target'"),
        ({"trainer": tabular(dataset="digits", target="y")}, "go with 'data'"),
        ({"trainer": tabular(data="x.csv", target="y", drop=["y"])}, "'drop' names the target"),
        ({"trainer": tabular(dataset="digits", test_fraction=0.9)}, "leave nothing to train on"),
        ({"trainer": tabular(dataset="digits", test_fraction=-1)}, "test_fraction: .*greater than 0, not -1"),
        ({"trainer": tabular(dataset="digits"), "baseline": {"svm": {"c": 1}}}, "'svm.c'. Did you mean 'svm.C'"),
        ({"trainer": tabular(dataset="digits"), "space": {"mlp.lr": {}}}, "reads no parameter 'mlp.lr'"),
        ({"trainer": tabular(dataset="digits"), "space": {"workload.split_seed": {}}}, "trainer.options: split_seed"),
    ],
)
def test_mistakes_are_named(study: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        complete(study, EXAMPLES)


def test_a_wrong_config_is_named() -> None:
    with pytest.raises(StudyError, match=r"config.svm.kernel: 'rfb' is not one of"):
        read_config({"workload": {"dataset": "digits"}, "svm": {"kernel": "rfb"}})
    with pytest.raises(StudyError, match=r"config.mlp.widht: unknown key. Did you mean 'width'"):
        read_config({"workload": {"dataset": "digits"}, "mlp": {"widht": 3}})


def test_a_missing_file_is_found_before_any_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        complete({"trainer": tabular(data="nowhere.csv", target="y")}, tmp_path)


def test_paths_are_relative_to_the_study_and_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(30))
    chosen, prints = workload("tabular"), []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "table.csv").write_text(text)
        options = chosen.options({"data": "table.csv", "target": "y"}, folder)
        assert options["data"] == str(folder / "table.csv")
        prints.append(chosen.fingerprints(options)["data"])
    assert prints[0] == prints[1]
    (tmp_path / "b" / "table.csv").write_text(text.replace("29,1", "29,0"))
    assert chosen.fingerprints(options)["data"] != prints[0]
    (tmp_path / "b" / "table.csv").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        chosen.fingerprints(options)


def test_bundled_data_sets_have_fingerprints_of_their_own() -> None:
    prints = {workload("tabular").fingerprints({"dataset": dataset})["data"] for dataset in BUNDLED}
    assert len(prints) == len(BUNDLED)


def test_the_door_loads_no_training_library(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(30)))
    code = f"""
import sys
from pathlib import Path
from windlass.workloads import complete, workload
for options in ({{"dataset": "digits"}}, {{"data": "table.csv", "target": "y"}}):
    chosen = workload("tabular")
    complete({{"trainer": {{"workload": "tabular", "options": options}}}}, Path({str(tmp_path)!r}))
    chosen.fingerprints(chosen.options(options, Path({str(tmp_path)!r})))
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"sklearn", "skops", "matplotlib", "torch", "scipy"}


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "file"])
def test_the_examples_are_studies(name: str, tmp_path: Path) -> None:
    if name == "file":
        script = runpy.run_path(str(EXAMPLES / "write_diabetes_csv.py"))
        script["main"](tmp_path)
    path = EXAMPLES / f"{name}.yaml"
    data = StudyFile(path.read_text(), str(path)).data
    study = Study.model_validate(complete(data, tmp_path))
    assert study.budget.concurrent == 2
    assert math.isfinite(study.objectives[0].scale)
