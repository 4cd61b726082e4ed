"""Real trainings: every family on real data, and what a run promises about its numbers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from windlass.errors import DataError, Diverged
from windlass.runs.folder import RunFolder
from windlass.workloads import workload
from windlass.workloads.tabular import models
from windlass.workloads.tabular.data import load, split
from windlass.workloads.tabular.spec import Options

#: ``train(options, {"svm.C": 10.0}, seed=0)``, see conftest
Train = Callable[..., Any]

SMALL = {
    "logistic": {},
    "ridge": {},
    "svm": {},
    "forest": {"forest.trees": 25},
    "boosting": {"boosting.iterations": 15},
    "mlp": {"mlp.epochs": 12, "mlp.learning_rate": 0.01},
}
CLASSIFICATION = {"auc", "sensitivity", "specificity", "accuracy", "balanced_accuracy", "log_loss"}
REGRESSION = {"rmse", "mae", "r2"}


def family(name: str, **more: Any) -> dict[str, Any]:
    return {"model": name, **SMALL[name], **more}


@pytest.mark.parametrize("model", ["logistic", "svm", "forest", "boosting", "mlp"])
@pytest.mark.parametrize("dataset", ["breast_cancer", "wine"])
def test_classifiers_learn(train: Train, dataset: str, model: str) -> None:
    done = train({"dataset": dataset}, family(model))
    assert done.metrics.keys() == CLASSIFICATION
    assert done.metrics["auc"] > 0.95
    assert done.metrics["balanced_accuracy"] > 0.85
    assert done.metrics["log_loss"] < 0.4


@pytest.mark.parametrize("model", ["ridge", "svm", "forest", "boosting", "mlp"])
def test_regressors_learn(train: Train, model: str) -> None:
    done = train({"dataset": "diabetes"}, family(model))
    assert done.metrics.keys() == REGRESSION
    assert done.metrics["r2"] > 0.25
    assert done.metrics["rmse"] < 68  # the target's standard deviation is 77


@pytest.mark.parametrize("model", ["logistic", "svm", "forest", "boosting", "mlp"])
def test_equal_config_and_seed_give_equal_bits(train: Train, model: str) -> None:
    first, second = (train({"dataset": "wine", "final": True}, family(model), seed=3) for _ in range(2))
    assert first.metrics == second.metrics
    assert first.curve == second.curve
    for name in ("scores.csv", "predictions.csv", "confusion.svg", "roc.svg", "roc.json"):
        assert (first.folder / "artifacts" / name).read_bytes() == (second.folder / "artifacts" / name).read_bytes()


@pytest.mark.parametrize("model", ["forest", "mlp", "svm"])
def test_the_seed_matters(train: Train, model: str) -> None:
    first, second = (train({"dataset": "digits"}, family(model), seed=seed) for seed in (0, 1))
    assert first.metrics["log_loss"] != second.metrics["log_loss"]


@pytest.mark.parametrize(("model", "points"), [("mlp", 12), ("boosting", 8), ("forest", 9), ("logistic", 1)])
def test_learning_curves(train: Train, model: str, points: int) -> None:
    """``points`` is the least number of them; the last one of a grown ensemble is the result."""
    done = train({"dataset": "wine"}, family(model))
    steps = [step for step, _ in done.curve]
    assert len(steps) >= points
    assert steps == sorted(set(steps))
    losses = [metrics["validation_log_loss"] for _, metrics in done.curve]
    if model == "mlp":
        training = [metrics["train_loss"] for _, metrics in done.curve]
        assert training[-1] < training[0]
        assert done.metrics["log_loss"] == pytest.approx(min(losses))
    else:
        assert done.metrics["log_loss"] == pytest.approx(losses[-1])


def test_an_mlp_ends_when_validation_stops_improving(train: Train) -> None:
    done = train({"dataset": "wine"}, {"model": "mlp", "mlp.learning_rate": 0.1, "mlp.epochs": 60, "mlp.patience": 3})
    losses = [metrics["validation_log_loss"] for _, metrics in done.curve]
    assert len(losses) < 60
    assert int(np.argmin(losses)) == len(losses) - 4
    assert done.metrics["log_loss"] == pytest.approx(min(losses))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("dataset", ["digits", "diabetes"])
def test_a_huge_learning_rate_diverges(train: Train, dataset: str, optimizer: str) -> None:
    with pytest.raises(Diverged, match=r"training loss is .* after epoch \d+ with learning rate 100 .*constant"):
        train({"dataset": dataset}, {"model": "mlp", "mlp.learning_rate": 100.0, "mlp.optimizer": optimizer})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_sound_learning_rate_does_not(train: Train, optimizer: str) -> None:
    for rate in (1e-4, 1e-2):
        parameters = {"model": "mlp", "mlp.learning_rate": rate, "mlp.optimizer": optimizer, "mlp.epochs": 4}
        assert math.isfinite(train({"dataset": "digits"}, parameters).metrics["log_loss"])


def measured_table(path: Path, rows: int = 240) -> pl.DataFrame:
    """Numbers with gaps, two text columns (one with rare values and gaps), and a class that depends on them."""
    rng = np.random.default_rng(5)
    x, z = rng.normal(size=(2, rows))
    place = rng.choice(["north", "south", "east"], rows)
    frame = pl.DataFrame(
        {
            "x": [None if i % 10 == 0 else float(v) for i, v in enumerate(x)],
            "z": z,
            "place": [None if i % 17 == 0 else str(v) for i, v in enumerate(place)],
            "code": [f"c{i}" if i < 6 else "usual" for i in range(rows)],
            "same": [1.0] * rows,
            "ill": np.where(x + (place == "north") + 0.4 * z > 1.3, "ill", "well"),
        }
    )
    frame.write_csv(path)
    return frame


@pytest.mark.parametrize("model", ["logistic", "svm", "forest", "boosting", "mlp"])
def test_a_file_with_gaps_and_text(train: Train, tmp_path: Path, model: str) -> None:
    frame = measured_table(tmp_path / "table.csv")
    options = {"data": str(tmp_path / "table.csv"), "target": "ill", "positive": "ill"}
    done = train(options, family(model))
    assert done.metrics["auc"] > 0.8
    assert "task: classification" in done.notes
    saved = models.load(done.folder / "checkpoint" / "model.skops")
    fresh = frame.drop("ill")[:3].with_columns(pl.lit("never seen").alias("place"), pl.lit(None, pl.Float64).alias("x"))
    assert set(saved.predict(fresh)) <= {"ill", "well"}


def test_validation_numbers_know_nothing_of_the_test_rows(train: Train, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    frame = measured_table(path)
    options = {"data": str(path), "target": "ill"}
    before = train(options, family("logistic"))
    assert not any(name.startswith("test_") for name in before.metrics)
    assert not list((before.folder / "artifacts").glob("test_*"))
    final = train({**options, "final": True}, family("logistic"))

    read = Options(**options)
    test_rows = split(load(read), read).test
    spoiled = np.array(frame["z"])
    spoiled[test_rows] = 1e6
    frame.with_columns(pl.Series("z", spoiled)).write_csv(path)
    after = train(options, family("logistic"))
    assert after.metrics == before.metrics
    assert after.table("predictions") == before.table("predictions")
    spoiled_final = train({**options, "final": True}, family("logistic"))
    assert {k: v for k, v in spoiled_final.metrics.items() if not k.startswith("test_")} == before.metrics
    assert spoiled_final.metrics["test_log_loss"] > final.metrics["test_log_loss"]
    assert {row["row"] for row in final.table("test_scores")} == {str(row) for row in test_rows}


@pytest.mark.parametrize("model", ["logistic", "svm", "forest", "boosting", "mlp"])
@pytest.mark.parametrize("labels", [(False, True), (-1, 5)])
def test_labels_of_any_kind_come_back(train: Train, tmp_path: Path, model: str, labels: tuple[Any, Any]) -> None:
    table = [{"x": float(i % 13), "y": labels[i % 13 > 6]} for i in range(90)]
    pl.DataFrame(table).write_parquet(tmp_path / "table.parquet")
    done = train({"data": str(tmp_path / "table.parquet"), "target": "y"}, family(model))
    assert {row["target"] for row in done.table("predictions")} == set(map(str, labels))
    saved = models.load(done.folder / "checkpoint" / "model.skops")
    assert set(saved.predict(pl.DataFrame({"x": [0.0, 12.0]})).tolist()) <= set(labels)


def test_data_that_changed_after_the_decision_are_refused(tmp_path: Path, train: Train) -> None:
    measured_table(tmp_path / "table.csv")
    options = {"data": str(tmp_path / "table.csv"), "target": "ill"}
    asked = workload("tabular").fingerprints(options)
    assert train(options, family("logistic"), fingerprints=asked).metrics
    measured_table(tmp_path / "table.csv", rows=241)
    with pytest.raises(DataError, match="changed since this run was decided"):
        train(options, family("logistic"), fingerprints=asked)


@pytest.mark.parametrize("model", ["logistic", "svm", "forest", "boosting", "mlp"])
def test_balance_finds_more_of_a_rare_class(train: Train, tmp_path: Path, model: str) -> None:
    rng = np.random.default_rng(1)
    rare = rng.random(500) < 0.1
    columns = {f"x{i}": rng.normal(size=500) + 1.1 * rare for i in range(2)}
    pl.DataFrame({**columns, "y": np.where(rare, "rare", "usual")}).write_csv(tmp_path / "table.csv")
    options = {"data": str(tmp_path / "table.csv"), "target": "y", "positive": "rare"}
    gentle = {"forest.min_leaf": 5, "boosting.leaves": 4}
    plain, balanced = (train(options, family(model, balanced=on, **gentle)).metrics for on in (False, True))
    assert balanced["sensitivity"] > plain["sensitivity"]
    assert balanced["balanced_accuracy"] > plain["balanced_accuracy"]


@pytest.mark.parametrize(("dataset", "model"), [("digits", "svm"), ("wine", "boosting"), ("diabetes", "mlp")])
def test_the_saved_model_gives_the_published_predictions(train: Train, dataset: Any, model: str) -> None:
    done = train({"dataset": dataset}, family(model))
    options = Options(dataset=dataset)
    table = load(options)
    validation = split(table, options).validation
    saved = models.load(done.folder / "checkpoint" / "model.skops")
    published = done.table("predictions")
    assert [int(row["row"]) for row in published] == validation.tolist()
    if table.task == "regression":
        assert saved.predict(table.features[validation]).tolist() == [float(row["prediction"]) for row in published]
        return
    assert [str(label) for label in saved.predict(table.features[validation])] == [
        row["prediction"] for row in published
    ]
    probabilities = saved.predict_proba(table.features[validation])
    assert probabilities.tolist() == [[float(row[f"p({label})"]) for label in table.classes] for row in published]
    card = json.loads((done.folder / "checkpoint" / "model.json").read_text())
    assert card["classes"] == table.classes.tolist()


def test_scores_are_per_example_and_average_to_the_metrics(train: Train) -> None:
    done = train({"dataset": "wine"}, family("logistic"))
    scores = done.table("scores")
    assert len(scores) == len({row["row"] for row in scores}) == 36
    for metric in ("accuracy", "log_loss"):
        assert np.mean([float(row[metric]) for row in scores]) == pytest.approx(done.metrics[metric])


def test_figures_hold_their_data(train: Train) -> None:
    done = train({"dataset": "breast_cancer"}, family("logistic"))
    figures = {p.stem: json.loads(p.read_text()) for p in (done.folder / "artifacts").glob("*.json")}
    counts = np.array(figures["confusion"]["counts"])
    benign, malignant = 0, 1
    assert figures["confusion"]["classes"] == ["benign", "malignant"]
    assert counts[malignant, malignant] / counts[malignant].sum() == pytest.approx(done.metrics["sensitivity"])
    assert counts[benign, benign] / counts[benign].sum() == pytest.approx(done.metrics["specificity"])
    (curve,) = figures["roc"]["curves"]
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(done.metrics["auc"], abs=1e-3)
    for name, title in (("confusion", "Confusion matrix"), ("roc", "ROC")):
        picture = (done.folder / "artifacts" / f"{name}.svg").read_text()
        assert picture.rstrip().endswith("</svg>")
        assert f"{title}, 114 validation rows" in picture


def test_a_model_that_loads_otherwise_is_never_published(tmp_path: Path, train: Train) -> None:
    done = train({"dataset": "wine"}, family("logistic"))
    fitted = models.load(done.folder / "checkpoint" / "model.skops")
    rows = load(Options(dataset="wine")).features
    with pytest.raises(DataError, match="does not survive saving"):
        models.save(fitted, tmp_path / "model.skops", rows, models.predict(fitted, rows, True) + 1e-9, True)
    assert not (tmp_path / "model.skops").exists()


@pytest.mark.parametrize(
    ("dataset", "parameters", "message"),
    [
        ("diabetes", {"model": "logistic"}, "model 'logistic' does not serve regression"),
        ("wine", {"model": "ridge"}, "model 'ridge' does not serve classification"),
        ("diabetes", {"model": "ridge", "balanced": True}, "regression has none"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(train: Train, dataset: str, parameters: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train({"dataset": dataset}, parameters)


def test_an_svm_that_stops_early_says_so(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MAX_SVM_ITERATIONS", 5)
    assert "terminated early" in train({"dataset": "wine"}, family("svm")).notes


def as_a_job(folder: RunFolder) -> tuple[int, dict[str, Any]]:
    """Exit code and result of the run in a process of its own, by the trainer contract."""
    command = [sys.executable, "-c", "from windlass.runs.entry import main; main()", "--spec", str(folder.spec_file)]
    done = subprocess.run([*command, "--output-dir", str(folder.path)], capture_output=True, check=False, timeout=120)
    return done.returncode, json.loads(folder.result_file.read_text())


def test_a_job_leaves_metrics_and_artifacts(
    make_folder: Callable[[dict[str, Any]], RunFolder],
) -> None:
    folder = make_folder({"workload": {"dataset": "wine"}, "model": "logistic"})
    code, result = as_a_job(folder)
    assert code == 0
    assert result["metrics"].keys() == CLASSIFICATION
    kinds = {artifact["name"]: artifact["kind"] for artifact in result["artifacts"]}
    assert kinds == {
        "scores": "scores",
        "predictions": "other",
        "confusion.json": "figure",
        "confusion.svg": "figure",
        "roc.json": "figure",
        "roc.svg": "figure",
        "model": "model",
    }
    for artifact in result["artifacts"]:
        assert (folder.path / artifact["path"]).stat().st_size == artifact["bytes"] > 0


def test_a_job_that_diverges_says_so(make_folder: Callable[[dict[str, Any]], RunFolder]) -> None:
    folder = make_folder({"workload": {"dataset": "wine"}, "model": "mlp", "mlp": {"learning_rate": 1000.0}})
    code, result = as_a_job(folder)
    assert code == 1
    assert result["failure"]["kind"] == "diverged"
    assert "learning rate 1000" in result["failure"]["message"]
    assert not (folder.path / "checkpoint").exists()
