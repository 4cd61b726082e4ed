"""A table and its target from a bundled data set or a CSV or Parquet file; the split into train, validation and test.

Numbers, booleans and dates become numeric features (dates as days since 1970); text becomes categories. What was
changed on the way is in ``Table.notes``. polars is imported only for files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from windlass.errors import DataError, nearest
from windlass.workloads.tabular.spec import BUNDLED, Options, Task

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: texts that stand for a missing value in a CSV file
MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?"]
#: the category of a missing text
MISSING_CATEGORY = "(missing)"
#: a target of whole numbers with at most this many different values is classification
MAX_INFERRED_CLASSES = 20
MAX_CLASSES = 200
MIN_TRAIN_ROWS_A_CLASS = 3  #: calibration and cross-validation inside the training part need these
MIN_ROWS_A_PART = 2  #: R2 of one row is undefined


@dataclass(frozen=True, kw_only=True)
class Table:
    """n rows, d features, K classes."""

    features: Floats | pl.DataFrame  #: (n, d); a data frame for files, so that the saved model takes named columns
    numeric: Sequence[int | str]  #: numeric columns, by position or name; NaN is missing
    categorical: Sequence[str]  #: text columns without nulls
    target: npt.NDArray[Any]  #: (n,) int64 positions in ``classes``, or float64
    classes: npt.NDArray[Any]  #: (K,) sorted labels; empty for regression
    positive: int | None  #: position of the positive class where K is 2
    rows: Indices  #: (n,) data rows in the source, from 0
    task: Task
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Split:
    """Positions in the table; disjoint, together all of it."""

    train: Indices
    validation: Indices
    test: Indices


def load(options: Options) -> Table:
    """Raises DataError for data that cannot be used as asked."""
    return _bundled(options) if options.dataset is not None else _file(options)


def file_task(options: Options) -> Task:
    """The task of a file's target; reads the file. Raises DataError."""
    frame = _read_file(options)
    return _task(frame[_target_name(options)].drop_nulls(), options)[0]


def split(table: Table, options: Options) -> Split:
    """By ``options.split_seed`` alone; stratified for classification.

    Raises DataError where a class, or the table, is too small to be in every part.
    """
    from sklearn.model_selection import train_test_split

    everything = np.arange(len(table.target))
    labels = table.target if table.task == "classification" else None
    shares = {"validation": options.validation_fraction, "test": options.test_fraction}
    shares["train"] = 1 - sum(shares.values())
    if labels is not None:
        counts = np.bincount(labels, minlength=len(table.classes))
        least = MIN_TRAIN_ROWS_A_CLASS / shares["train"]
        needed = math.ceil(max(least, 1 / shares["validation"], 1 / shares["test"]) - 1e-9)
        if counts.min() < needed:
            raise DataError(
                f"class {str(table.classes[counts.argmin()])!r} has {counts.min()} of {len(labels)} rows; to be in"
                f" train, validation and test ({', '.join(f'{name} {share:g}' for name, share in shares.items())})"
                f" a class needs {needed}",
                "Add rows of this class, drop it from the file, or enlarge the smallest part.",
            )
    smallest = min(shares.values()) * len(everything)
    if smallest < MIN_ROWS_A_PART:
        raise DataError(
            f"{len(everything)} usable rows leave {smallest:.1f} for the smallest part; {MIN_ROWS_A_PART} are needed",
            "Use more data, or larger validation_fraction and test_fraction.",
        )
    rest, test = train_test_split(
        everything, test_size=shares["test"], random_state=options.split_seed, shuffle=True, stratify=labels
    )
    train, validation = train_test_split(
        rest,
        test_size=shares["validation"] / (shares["train"] + shares["validation"]),
        random_state=options.split_seed,
        shuffle=True,
        stratify=None if labels is None else labels[rest],
    )
    return Split(train=np.sort(train), validation=np.sort(validation), test=np.sort(test))


def _bundled(options: Options) -> Table:
    from sklearn import datasets

    task, _ = BUNDLED[cast(str, options.dataset)]
    if options.dataset == "diabetes":
        bunch = datasets.load_diabetes(scaled=False)
    else:
        bunch = getattr(datasets, f"load_{options.dataset}")()
    features = np.asarray(bunch.data, dtype=np.float64)
    named = bunch.target_names[bunch.target] if task == "classification" else bunch.target
    target, classes = _encode(named, task)
    positive = options.positive
    if positive is None and options.dataset == "breast_cancer":
        positive = "malignant"
    return Table(
        features=features,
        numeric=list(range(features.shape[1])),
        categorical=[],
        target=target,
        classes=classes,
        positive=_positive(classes, positive),
        rows=np.arange(len(target)),
        task=task,
    )


def _file(options: Options) -> Table:
    import polars as pl

    frame = _read_file(options)
    notes = []
    name = _target_name(options)
    rows = np.flatnonzero(frame[name].is_not_null().to_numpy())
    kept = frame[rows]
    if kept.is_empty():
        raise DataError(f"{options.data}: all {len(frame)} rows lack the target {name!r}")
    if len(kept) < len(frame):
        notes.append(f"{len(frame) - len(kept)} of {len(frame)} rows left out: no target {name!r}")
    task, reason = _task(kept[name], options)
    notes.append(reason)
    values = kept[name]
    if task == "classification" and values.dtype.is_float() and values.equals(values.floor()):
        values = values.cast(pl.Int64)
    if task == "classification" and values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    target, classes = _encode(values.to_numpy(), task)
    if task == "classification" and values.dtype == pl.String:
        classes = classes.astype(str)
    features = kept.drop(name)
    numeric: list[int | str] = []
    categorical: list[str] = []
    columns = []
    for column in features:
        ready, note = _feature(column)
        columns.append(ready)
        (categorical if ready.dtype == pl.String else numeric).append(column.name)
        if note:
            notes.append(note)
    return Table(
        features=pl.DataFrame(columns),
        numeric=numeric,
        categorical=categorical,
        target=target,
        classes=classes,
        positive=_positive(classes, options.positive),
        rows=rows,
        task=task,
        notes=tuple(notes),
    )


def _read_file(options: Options) -> pl.DataFrame:
    """Without the dropped columns; NaN in the target is null."""
    import polars as pl

    path = Path(cast(str, options.data))
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame = pl.read_csv(
                path, separator=separator, null_values=MISSING, try_parse_dates=True, infer_schema_length=None
            )
        elif path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(path)
        else:
            raise DataError(f"{path} is neither .csv, .tsv nor .parquet", "Export the table as one of these.")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", "Check 'data' in the options.") from error
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    target = _target_name(options)
    for what, name in [("target", target), *(("drop", name) for name in options.drop)]:
        if name not in frame.columns:
            raise DataError(
                f"{path} has no column {name!r} ('{what}').{nearest(name, frame.columns)}",
                f"Columns: {', '.join(frame.columns)}",
            )
    frame = frame.drop(options.drop)
    if frame.is_empty():
        raise DataError(f"{path} has a header and no rows")
    if frame.width < 2:
        raise DataError(f"{path} has no column beside the target {target!r}", "Is ',' the separator of this file?")
    return frame.with_columns(pl.col(target).fill_nan(None)) if frame[target].dtype.is_float() else frame


def _target_name(options: Options) -> str:
    return cast(str, options.target)


def _task(target: pl.Series, options: Options) -> tuple[Task, str]:
    """The task and, in words, how it was found. ``target`` has no nulls."""
    import polars as pl

    name, kind, distinct = target.name, target.dtype, target.n_unique()
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.String, pl.Categorical, pl.Enum)):
        raise DataError(f"the target {name!r} is a column of {kind}; it has to be numbers, booleans or text")
    if kind.is_numeric() and target.is_infinite().any():
        raise DataError(f"the target {name!r} has infinite values")
    whole = kind.is_integer() or (kind.is_numeric() and target.equals(target.floor()))
    if options.task == "regression" and not kind.is_numeric():
        raise DataError(f"regression needs a numeric target; {name!r} is a column of {kind}", "task: classification")
    if options.task == "classification" and kind.is_numeric() and not whole:
        raise DataError(f"the target {name!r} has fractions, so it names no classes", "task: regression")
    if options.task != "auto":
        task, reason = options.task, f"task: {options.task}, as asked"
    elif not kind.is_numeric():
        task, reason = "classification", f"task: classification, the target {name!r} is {kind}"
    elif whole and distinct <= MAX_INFERRED_CLASSES:
        task, reason = "classification", f"task: classification, the target {name!r} has {distinct} whole numbers"
    else:
        task, reason = "regression", f"task: regression, the target {name!r} has {distinct} different numbers"
    if distinct < 2:
        raise DataError(f"the target {name!r} is {target[0]!r} in every row" if distinct else f"no values in {name!r}")
    if task == "classification" and distinct > MAX_CLASSES:
        raise DataError(f"the target {name!r} has {distinct} classes, more than {MAX_CLASSES}", "Is it an identifier?")
    return task, reason


def _feature(column: pl.Series) -> tuple[pl.Series, str]:
    """Float64 with NaN for missing, or String without nulls; and a note in words."""
    import polars as pl

    name, kind = column.name, column.dtype
    if column.null_count() == len(column):
        raise DataError(f"column {name!r} has no value in any row that has a target", f"drop: [{name}]")
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return column.cast(pl.String).fill_null(MISSING_CATEGORY), ""
    if kind == pl.Date:
        column = column.cast(pl.Int32)
    elif kind.is_temporal() and kind != pl.Time:
        column = column.dt.epoch("us") / 86_400e6 if kind == pl.Datetime else column.dt.total_microseconds() / 86_400e6
    elif not (kind.is_numeric() or kind == pl.Boolean):
        raise DataError(f"column {name!r} is of type {kind}, which is no feature", f"drop: [{name}]")
    values = column.cast(pl.Float64)
    infinite = int(values.is_infinite().sum())
    if infinite:
        values = pl.select(pl.when(values.is_infinite()).then(None).otherwise(values)).to_series().alias(name)
    values = values.fill_null(math.nan)
    if values.is_nan().all():
        raise DataError(f"column {name!r} has no finite value", f"drop: [{name}]")
    return values, f"column {name!r}: {infinite} infinite values count as missing" if infinite else ""


def _encode(target: npt.NDArray[Any], task: Task) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if task == "regression":
        return target.astype(np.float64), np.empty(0)
    classes, codes = np.unique(target, return_inverse=True)
    return codes.astype(np.int64), classes


def _positive(classes: npt.NDArray[Any], wanted: bool | int | str | None) -> int | None:
    names = [str(label) for label in classes]
    if wanted is None:
        return 1 if len(names) == 2 else None
    if len(names) != 2:
        raise DataError(f"'positive' needs a target of two classes, this one has {len(names)}")
    if str(wanted) not in names:
        raise DataError(f"'positive' {wanted!r} is no class.{nearest(str(wanted), names)}", f"Classes: {names}")
    return names.index(str(wanted))
