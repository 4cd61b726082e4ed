"""Runs as tables: for ``windlass runs list``, for JSON, and as a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from windlass.records.result import encode_number
from windlass.records.run import Failure, RunRecord
from windlass.report.blocks import Paragraph
from windlass.runs.text import duration, number, when

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsTable:
    """``rows`` are text for people, in the order of ``columns``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def runs_table(runs: Sequence[RunRecord], metrics: Sequence[str] | None = None) -> RunsTable:
    """One row a run: id, study, status, started, duration and ``metrics``; by default the first four that runs have."""
    if metrics is None:
        metrics = tuple(dict.fromkeys(m for run in runs for m in run.metrics if not m.startswith("system/")))[:4]
    rows = [
        (
            run.id,
            run.study or run.name,
            status_words(run),
            when(run.started).removesuffix(" UTC"),
            duration(run.duration_s),
            *(number(run.metrics[name].last) if name in run.metrics else "–" for name in metrics),
        )
        for run in runs
    ]
    return RunsTable(columns=("id", "study", "status", "started (UTC)", "duration", *metrics), rows=tuple(rows))


def status_words(run: RunRecord) -> str:
    """``completed``, ``failed: timeout``, ``stopped early``, ``running (attempt 2)``."""
    words = f"failed: {run.failure.kind}" if run.failure else str(run.status)
    words = "stopped early" if run.stopped_early else words
    return words if run.attempt == 1 else f"{words} (attempt {run.attempt})"


def told_failure(failure: Failure) -> Iterator[Paragraph]:
    """Its kind and message, and what to do."""
    yield Paragraph(f"Failed ({failure.kind}): {failure.message}")
    if failure.next_step:
        yield Paragraph(f"To do: {failure.next_step}")


def run_dict(run: RunRecord) -> dict[str, Any]:
    """A run as JSON values; NaN and infinity as strings."""
    failure = run.failure
    return {
        "id": run.id,
        "name": run.name,
        "study": run.study,
        "number": run.number,
        "status": run.status,
        "failure": failure and {"kind": failure.kind, "message": failure.message, "next_step": failure.next_step},
        "stopped_early": _early_stop(run),
        "attempt": run.attempt,
        "created": run.created,
        "started": run.started,
        "ended": run.ended,
        "duration_s": run.duration_s,
        "seed": run.seed,
        "params": run.params,
        "metrics": {name: _summary(run, name) for name in run.metrics},
        "tags": dict(run.tags),
        "lineage": dict(run.lineage),
        "fingerprints": dict(run.fingerprints),
    }


def _early_stop(run: RunRecord) -> Mapping[str, Any] | None:
    stop = run.stopped_early
    return None if stop is None else {**asdict(stop), "value": encode_number(stop.value)}


def _summary(run: RunRecord, name: str) -> Mapping[str, Any]:
    summary = run.metrics[name]
    values = {key: encode_number(getattr(summary, key)) for key in ("last", "min", "max")}
    return {**values, "step": summary.step, "count": summary.count}


def runs_frame(runs: Sequence[RunRecord]) -> pl.DataFrame:
    """One row a run; columns id, study, status, … and ``params.*``, ``metrics.*`` (last values), ``tags.*``.

    A parameter with values of several types becomes text.
    """
    import polars as pl

    fixed: Mapping[str, Any] = {
        "id": pl.String,
        "study": pl.String,
        "number": pl.Int64,
        "status": pl.String,
        "failure": pl.String,
        "created": pl.Float64,
        "started": pl.Float64,
        "duration_s": pl.Float64,
        "seed": pl.Int64,
    }
    columns: dict[str, list[Any]] = {name: [getattr(run, name) for run in runs] for name in fixed if name != "failure"}
    columns["status"] = [str(run.status) for run in runs]
    columns["failure"] = [str(run.failure.kind) if run.failure else None for run in runs]
    frame = pl.DataFrame({name: columns[name] for name in fixed}, schema=dict(fixed))
    parts = [
        *_columns("params", [run.params for run in runs]),
        *(series.cast(pl.Float64) for series in _columns("metrics", [run.values for run in runs])),
        *_columns("tags", [run.tags for run in runs]),
    ]
    return frame.with_columns(parts) if parts else frame


def _columns(prefix: str, mappings: Sequence[Mapping[str, Any]]) -> list[pl.Series]:
    import polars as pl

    series = []
    for name in dict.fromkeys(key for mapping in mappings for key in mapping):
        values = [mapping.get(name) for mapping in mappings]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1 or kinds & {list, tuple, dict}:
            values = [None if value is None else str(value) for value in values]
        series.append(pl.Series(f"{prefix}.{name}", values))
    return series
