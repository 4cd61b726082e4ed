"""The evaluator: a checkpoint of this workload on a table that it was not trained on. Runs inside the job.

    benchmarks:
      - name: heldout
        data: heldout.csv
        function: windlass.workloads.tabular.evaluate:evaluate
        metric: accuracy

The table has the columns of the training table, the target included. Every row is scored, with the columns of
``windlass.workloads.tabular.scoring.example_scores``; columns that the benchmark's ``slices`` name are carried over.

Options: ``id``, the column that names the rows (by default ``id`` and the like, where that is no feature; else rows
are numbered from 0), and ``target`` (by default the one that was trained for).

polars starts threads, and is imported only inside the job, so that a parent process can preload this module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from windlass.errors import DataError, nearest
from windlass.runs.folder import read_json
from windlass.runs.scores import ROW_COLUMNS
from windlass.workloads.tabular import models
from windlass.workloads.tabular.data import MISSING, MISSING_CATEGORY, Floats, Table
from windlass.workloads.tabular.scoring import example_scores

if TYPE_CHECKING:
    import polars as pl

    from windlass.runs.sdk import Run

OPTIONS = ("id", "target")
ROW = ROW_COLUMNS[0]


def evaluate(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Publish per-example scores; their means are the metrics.

    Raises DataError for a checkpoint that is none of this workload, and for a table that does not fit it.
    """
    import polars as pl

    files, path = Path(config["checkpoint"]), Path(config["data"])
    card = _card(files)
    name, target = _named_columns(config)
    frame = _read(path, as_text=[*card["categorical"], *([target] if _has_text_classes(card) else [])])
    _check(path, frame, "feature", [*card["numeric"], *card["categorical"]])
    _check(path, frame, "target", [target])
    _check(path, frame, "id", [] if name is None else [name])
    with threadpool_limits(1):
        model = models.load(files / "model.skops")
        predicted = models.predict(model, _features(path, frame, card), card["task"] == "classification")
    scores = _scores(path, frame[target], card, predicted)
    used = {*card["numeric"], *card["categorical"], target}
    name = name or next((known for known in ROW_COLUMNS if known in frame.columns and known not in used), None)
    names = pl.Series(range(len(frame))) if name is None else frame[name]
    groups = _groups(path, frame, config.get("slices", ()), scores)
    pl.DataFrame({ROW: names, **scores, **groups}).write_parquet(run.artifacts_dir / "scores.parquet")
    run.artifact(run.artifacts_dir / "scores.parquet", name="scores", kind="scores")
    return {metric: float(np.mean(values)) for metric, values in scores.items()}


def _card(files: Path) -> dict[str, Any]:
    """What the model takes and gives, as the trainer wrote it."""
    card = read_json(files / "model.json")
    if not isinstance(card, dict) or not (files / "model.skops").is_file():
        raise DataError(f"{files} holds no model.json and model.skops: it is no checkpoint of the workload 'tabular'")
    if any(isinstance(name, int) for name in card["numeric"]):
        raise DataError(
            "this model was trained on a bundled data set, whose columns have no names",
            "Train on a file to evaluate on one: trainer.options.data",
        )
    return card


def _named_columns(config: Mapping[str, Any]) -> tuple[str | None, str]:
    """The columns that name the rows and that hold the target."""
    options = config.get("options", {})
    if unknown := [option for option in options if option not in OPTIONS]:
        raise DataError(
            f"this evaluator has no option {unknown[0]!r}.{nearest(unknown[0], OPTIONS)}",
            f"Options: {', '.join(OPTIONS)}",
        )
    target = options.get("target") or config.get("trained_with", {}).get("workload", {}).get("target")
    if target is None:
        raise DataError("it is not known which column is the target", "In the benchmark: options: {target: COLUMN}")
    return options.get("id"), target


def _has_text_classes(card: Mapping[str, Any]) -> bool:
    return any(isinstance(label, str) for label in card["classes"])


def _read(path: Path, as_text: Collection[str]) -> pl.DataFrame:
    """``as_text``: columns that the model knows as text; "01" in them is no 1."""
    import polars as pl

    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise DataError(f"{path} is neither .csv, .tsv nor .parquet", "Export the table as one of these.")
    try:
        if suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            separator = "\t" if suffix == ".tsv" else ","
            header = pl.read_csv(path, separator=separator, n_rows=0).columns
            frame = pl.read_csv(
                path,
                separator=separator,
                null_values=MISSING,
                try_parse_dates=True,
                infer_schema_length=None,
                schema_overrides={name: pl.String for name in as_text if name in header},
            )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if frame.is_empty():
        raise DataError(f"{path} has no rows")
    return frame


def _check(path: Path, frame: pl.DataFrame, what: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise DataError(
                f"{path} has no column {name!r} ({what}).{nearest(name, frame.columns)}",
                f"Columns: {', '.join(frame.columns)}",
            )


def _features(path: Path, frame: pl.DataFrame, card: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [_number(path, frame[name]) for name in card["numeric"]]
        + [frame[name].cast(pl.String).fill_null(MISSING_CATEGORY) for name in card["categorical"]]
    )


def _number(path: Path, column: pl.Series) -> pl.Series:
    """Float64 with NaN for what is missing or infinite; times as days since 1970, as in training."""
    import polars as pl

    if column.dtype == pl.Date:
        column = column.cast(pl.Int32)
    elif column.dtype == pl.Datetime:
        column = column.dt.epoch("us") / 86_400e6
    elif column.dtype == pl.Duration:
        column = column.dt.total_microseconds() / 86_400e6
    try:
        values = column.cast(pl.Float64)
    except pl.exceptions.PolarsError:
        raise DataError(f"{path}: column {column.name!r} is {column.dtype}; it was numbers in training") from None
    finite = pl.select(pl.when(values.is_finite()).then(values)).to_series()
    return finite.fill_null(float("nan")).alias(column.name)


def _scores(path: Path, target: pl.Series, card: Mapping[str, Any], predicted: Floats) -> dict[str, Any]:
    """Column name -> (n,) scores. A class that the model does not know is one more, which it never predicts."""
    import polars as pl

    if wrong := int((~np.isfinite(predicted)).sum()):
        raise DataError(f"{wrong} of {predicted.size} predictions are NaN or infinite")
    if target.dtype.is_float():
        target = target.fill_nan(None)
    if missing := target.null_count():
        raise DataError(
            f"{path}: {missing} of {len(target)} rows have no target {target.name!r}; all have to be scored"
        )
    y: Any
    if card["task"] == "regression":
        y = _number(path, target).to_numpy()
        if not np.isfinite(y).all():
            raise DataError(f"{path}: the target {target.name!r} has infinite values")
    else:
        if target.dtype.is_float() and target.equals(target.floor()):
            target = target.cast(pl.Int64)
        known = {_label(label): k for k, label in enumerate(card["classes"])}
        y = np.array([known.get(label, len(known)) for label in target.cast(pl.String).to_list()])
        predicted = np.hstack([predicted, np.zeros((len(y), 1))])
    table = Table(
        features=pl.DataFrame(),
        numeric=(),
        categorical=(),
        target=y,
        classes=np.arange(predicted.shape[-1]),
        positive=None,
        rows=np.arange(len(y)),
        task=card["task"],
    )
    return example_scores(table, y, predicted)


def _label(label: Any) -> str:
    """A class as polars writes it."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def _groups(path: Path, frame: pl.DataFrame, slices: Iterable[str], scores: Collection[str]) -> dict[str, pl.Series]:
    """Columns that divide the rows, as text; those that are scores are there already."""
    import polars as pl

    names = [name for name in slices if name not in scores]
    if ROW in names:
        raise DataError(f"a slice cannot be named {ROW!r}: that column names the examples", "Rename the column.")
    _check(path, frame, "slice", names)
    return {name: frame[name].cast(pl.String) for name in names}
