"""The trainer: one model of one family on one table. Runs inside the job, on one thread."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from windlass.errors import DataError
from windlass.runs.folder import read_json, write_atomic
from windlass.workloads.tabular import models
from windlass.workloads.tabular.data import Floats, Indices, Table, load, split
from windlass.workloads.tabular.figures import FIGURE_TITLES, figures, write_figure
from windlass.workloads.tabular.models import Problem, Sample, Stage
from windlass.workloads.tabular.scoring import curve_point, evaluate, example_scores
from windlass.workloads.tabular.spec import read_config
from windlass.workloads.tabular.workload import WORKLOAD

if TYPE_CHECKING:
    from windlass.runs.sdk import Run


def train(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Fit on train, measure on validation; the test part is used only where ``workload.final`` is set.

    The same config and ``run.seed`` give the same metrics, to the bit, on one machine.

    Raises StudyError for a wrong config, DataError for data that cannot be used, Diverged where training did.
    """
    settings = read_config(config)
    _refuse_changed_data(config["workload"], run)
    with threadpool_limits(1):
        table = load(settings.workload)
        for note in table.notes:
            run.note(note)
        parts = split(table, settings.workload)
        preprocess = models.preprocessor(table).fit(_rows(table, parts.train))

        def sample(part: Indices) -> Sample:
            return Sample(x=preprocess.transform(_rows(table, part)), y=table.target[part])

        training, validation = sample(parts.train), sample(parts.validation)

        def report(stage: Stage) -> None:
            _refuse_non_finite(stage.predicted, run)
            point = curve_point(table, validation.y, stage.predicted)
            if stage.train_loss is not None:
                point["train_loss"] = stage.train_loss
            run.log(point, step=stage.step)

        estimator = models.fit(
            settings,
            Problem(
                train=training,
                validation=validation,
                classes=table.classes,
                seed=run.seed,
                report=report,
                note=run.note,
                weights=models.balanced_weights(training, table) if settings.balanced else None,
            ),
        )
        metrics: dict[str, float] = {}
        evaluated = {"": parts.validation} | ({"test_": parts.test} if settings.workload.final else {})
        for prefix, part in evaluated.items():
            known = validation if part is parts.validation else sample(part)
            predicted = models.predict(estimator, known.x, table.task == "classification")
            _refuse_non_finite(predicted, run)
            metrics |= {f"{prefix}{name}": value for name, value in evaluate(table, known.y, predicted).items()}
            _publish(run, table, part, prefix, predicted)
        model = Pipeline([("preprocess", preprocess), ("model", estimator)])
        _save_model(run, model, table, parts.validation)
    return metrics


def _refuse_changed_data(options: Mapping[str, Any], run: Run) -> None:
    """Runs of one study are compared with each other, so they have to see the same bytes."""
    asked = (read_json(run.folder.spec_file) or {}).get("fingerprints", {}).get("data")
    found = WORKLOAD.fingerprints(options)["data"]
    if asked not in (None, found):
        raise DataError(
            f"the data of {options.get('data') or options.get('dataset')} changed since this run was decided:"
            f" SHA-256 {found[:12]} where {asked[:12]} was asked for",
            "Restore the file, or start a study of its own on the new data.",
        )


def _rows(table: Table, part: Indices) -> Any:
    return table.features[part]


def _refuse_non_finite(predicted: Floats, run: Run) -> None:
    wrong = int((~np.isfinite(predicted)).sum())
    if wrong:
        run.diverged(f"{wrong} of {predicted.size} predictions are NaN or infinite")


def _publish(run: Run, table: Table, part: Indices, prefix: str, predicted: Floats) -> None:
    """Per-example scores, predictions and figures of one part; artifact names begin with ``prefix``."""
    y, rows = table.target[part], table.rows[part]
    scores = example_scores(table, y, predicted)
    _publish_csv(run, f"{prefix}scores", "scores", ["row", *scores], [rows, *scores.values()])
    if table.task == "regression":
        columns = {"target": y, "prediction": predicted}
    else:
        columns = {"target": table.classes[y], "prediction": table.classes[predicted.argmax(axis=1)]}
        columns |= {f"p({label})": predicted[:, k] for k, label in enumerate(table.classes)}
    _publish_csv(run, f"{prefix}predictions", "other", ["row", *columns], [rows, *columns.values()])
    for figure, data in figures(table, y, predicted).items():
        title = f"{FIGURE_TITLES[figure]}, {len(y)} {'test' if prefix else 'validation'} rows"
        for path in write_figure(run.artifacts_dir, f"{prefix}{figure}", figure, data, title):
            run.artifact(path, name=path.name, kind="figure")


def _publish_csv(run: Run, name: str, kind: str, header: Sequence[str], columns: Sequence[npt.NDArray[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    path = run.artifacts_dir / f"{name}.csv"
    write_atomic(path, text.getvalue().encode())
    run.artifact(path, name=name, kind=kind)


def _save_model(run: Run, model: Pipeline, table: Table, part: Indices) -> None:
    """The pipeline as ``model.skops`` and, for people and loaders, what it takes and gives as ``model.json``."""
    classification = table.task == "classification"
    raw = _rows(table, part)
    folder: Path = run.checkpoint_dir
    models.save(model, folder / "model.skops", raw, models.predict(model, raw, classification), classification)
    card = {
        "task": table.task,
        "numeric": list(table.numeric),
        "categorical": list(table.categorical),
        "classes": table.classes.tolist(),
        "positive": None if table.positive is None else table.classes[table.positive].item(),
    }
    write_atomic(folder / "model.json", json.dumps(card, ensure_ascii=False, indent=1).encode())
    run.artifact(folder / "model.skops", name="model", kind="model")
