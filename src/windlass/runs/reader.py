"""Readers of a run's history: the journal while the run lives, the columnar file and the journal's tail afterwards.

A torn last line is left for later; lines that are no events are passed over and counted. Within an attempt, points are
ordered by step, and by arrival among equal steps. A later attempt hides an earlier one's points of the same metric from
its own first step on: a resumed run has one curve.
"""

from __future__ import annotations

import gc
import io
import itertools
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from windlass.records.result import decode_number
from windlass.records.run import MetricSummary
from windlass.runs.folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

CHUNK = 16 * 2**20  #: bytes of journal parsed at a time
COLUMNS = ("metric", "step", "time", "value", "attempt")  #: of metrics.parquet
LONG = 500_000  #: bytes of journal that are worth polars' parser
OFFSET_KEY = "windlass.journal_offset"  #: in the metadata of metrics.parquet: the journal's bytes that it holds


@dataclass(slots=True)
class Series:
    """Points of one metric in order of arrival; four arrays of equal length."""

    steps: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    attempts: array[int] = field(default_factory=lambda: array("i"))


@dataclass(slots=True)
class Journaled:
    """What a stretch of journal says."""

    series: dict[str, Series] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    artifacts: list[Mapping[str, Any]] = field(default_factory=list)
    attempt: int = 1
    bad_lines: int = 0
    offset: int = 0  #: behind the last whole line
    counts: Mapping[str, int] = field(default_factory=dict)  #: points of a metric before this stretch


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[list[Any], int, int]]:
    """Parsed lines in chunks, each with the number of bad lines in it and the offset behind it."""
    try:
        file = open(path, "rb")  # noqa: SIM115  closed by the with below
    except OSError:
        return
    with file:
        end = file.seek(offset)
        rest = b""
        while data := file.read(CHUNK):
            data = rest + data
            whole = data.rfind(b"\n") + 1
            rest = data[whole:]
            if whole:
                end += whole
                yield *_parse(data[: whole - 1]), end
        if rest.rstrip().endswith(b"}"):
            events, bad = _parse_lines([rest])
            if not bad:  # whole, but for its line's end
                yield events, 0, end + len(rest)


def _parse(data: bytes) -> tuple[list[Any], int]:
    """All lines in one go; line by line where one of them is garbage."""
    with _no_collection():  # a hundred thousand new dictionaries would set it off again and again
        try:
            events = orjson.loads(b"[" + data.replace(b"\n", b",") + b"]")
            if len(events) == data.count(b"\n") + 1:  # two torn lines can make one array
                return events, 0
        except ValueError:
            pass
        return _parse_lines(data.split(b"\n"))


def _parse_lines(lines: Iterable[bytes]) -> tuple[list[Any], int]:
    events, bad = [], 0
    for line in filter(bytes.strip, lines):
        try:
            events.append(orjson.loads(line))
        except ValueError:
            try:
                events.append(json.loads(line))  # a bare NaN, as Python's json writes it
            except ValueError:
                bad += 1
    return events, bad


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_journal(
    folder: RunFolder,
    offset: int = 0,
    attempt: int = 1,
    only: str | None = None,
    counts: Mapping[str, int] | None = None,
) -> Journaled:
    """Everything behind ``offset``; ``only`` one metric's points where it is named.

    ``counts`` says how many points of a metric came before, where steps without a number go on.
    """
    found = Journaled(attempt=attempt, offset=offset, counts=counts or {})
    for events, bad, end in read_events(folder.journal_file, offset):
        found.offset = end
        found.bad_lines += bad
        if only is not None:
            events = [event for event in events if _tells_of(event, only)]
        for shape, alike in itertools.groupby(events, key=_shape):
            group = list(alike)
            if shape is None or not _take_columns(found, group, shape if only is None else (only,)):
                for event in group:
                    _take(found, event, only)
    return found


def _tells_of(event: Any, metric: str) -> bool:
    metrics = event.get("metrics") if event.__class__ is dict else None
    return (metrics.__class__ is dict and metric in metrics) or (event.__class__ is dict and "attempt" in event)


def _shape(event: Any) -> tuple[str, ...] | None:
    """The names of an event's metrics; None for every other event."""
    metrics = event.get("metrics") if event.__class__ is dict else None
    return tuple(metrics) if metrics.__class__ is dict else None


def _take_columns(found: Journaled, events: list[Any], names: tuple[str, ...]) -> bool:
    """Take events with equal metrics at once; False, and nothing taken, where one of them needs a closer look."""
    try:
        steps, times = [event["step"] for event in events], [event["time"] for event in events]
        columns = [[event["metrics"][name] for event in events] for name in names]
    except KeyError:
        return False
    if not all(set(map(type, column)) <= {int, float} for column in (steps, times, *columns)):
        return False
    for name, values in zip(names, columns, strict=True):
        series = found.series.setdefault(name, Series())
        series.steps.extend(steps)
        series.times.extend(times)
        series.values.extend(values)
        series.attempts.extend([found.attempt] * len(values))
    return True


def _take(found: Journaled, event: Any, only: str | None) -> None:
    """Take one event; what is malformed is counted."""
    try:
        if "metrics" in event:
            _take_points(found, event, only)
        elif "tags" in event:
            found.tags.update({str(k): str(v) for k, v in event["tags"].items()})
        elif "note" in event:
            found.notes.append(str(event["note"]))
        elif "artifact" in event:
            found.artifacts.append(dict(event["artifact"]))
        elif "attempt" in event:
            found.attempt = int(event["attempt"])
    except (TypeError, ValueError, AttributeError):
        found.bad_lines += 1


def _take_points(found: Journaled, event: Mapping[str, Any], only: str | None) -> None:
    step, time = event.get("step"), float(event.get("time", 0.0))
    for name, value in event["metrics"].items():
        if only is not None and name != only:
            continue
        number = decode_number(value)
        series = found.series.setdefault(name, Series())
        counted = found.counts.get(name, 0) + len(series.steps)
        series.steps.append(counted if step is None else decode_number(step))
        series.times.append(time)
        series.values.append(number)
        series.attempts.append(found.attempt)


def summaries(folder: RunFolder) -> dict[str, MetricSummary]:
    """Every metric of a run, summed up; ``records.run.MetricSummary`` says how."""
    return summarise(read_journal(folder))


def summarise(found: Journaled) -> dict[str, MetricSummary]:
    return {name: _summary(series, found.attempt > 1) for name, series in found.series.items()}


def _summary(series: Series, resumed: bool) -> MetricSummary:
    if resumed:
        series = _unmasked(series)
    last = max(range(len(series.steps)), key=lambda i: (series.attempts[i], series.steps[i], i))
    numbers = [value for value in series.values if value == value]
    return MetricSummary(
        last=float(series.values[last]),
        min=float(min(numbers, default=math.nan)),
        max=float(max(numbers, default=math.nan)),
        step=float(series.steps[last]),
        count=len(series.values),
    )


def _unmasked(series: Series) -> Series:
    first: dict[int, float] = {}
    for attempt, step in zip(series.attempts, series.steps, strict=True):
        first[attempt] = min(step, first.get(attempt, step))
    keep = [
        i
        for i, (attempt, step) in enumerate(zip(series.attempts, series.steps, strict=True))
        if all(step < begin for later, begin in first.items() if later > attempt)
    ]
    return Series(
        steps=array("d", [series.steps[i] for i in keep]),
        times=array("d", [series.times[i] for i in keep]),
        values=array("d", [series.values[i] for i in keep]),
        attempts=array("i", [series.attempts[i] for i in keep]),
    )


def last_attempt(folder: RunFolder) -> tuple[int, float | None]:
    """The number of the last attempt, and the highest step of any metric, system metrics left out."""
    found = read_journal(folder)
    steps = [step for name, s in found.series.items() if not name.startswith("system/") for step in s.steps]
    return found.attempt, max(steps, default=None)


def read_metric(folder: RunFolder, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Steps, times (seconds since the epoch) and values of one metric, three arrays of shape (points,), by step."""
    import numpy as np

    stored = _read_compacted(folder, name)
    offset, attempt = (0, 1) if stored is None else (stored[1], stored[2])
    columns = _plain_columns(folder, name, offset, attempt)
    if columns is None:
        counts = {name: stored[0].height} if stored is not None else None
        tail = read_journal(folder, offset, attempt, name, counts).series.get(name, Series())
        columns = [np.asarray(c, dtype=np.float64) for c in (tail.steps, tail.times, tail.values, tail.attempts)]
    if stored is not None:
        frame = stored[0]
        columns = [
            np.concatenate([frame[key].to_numpy().astype(np.float64), column])
            for key, column in zip(COLUMNS[1:], columns, strict=True)
        ]
    return _one_curve(*columns)


def _one_curve(
    steps: NDArray[np.float64], times: NDArray[np.float64], values: NDArray[np.float64], attempts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Points in order of arrival -> by step, without those that a later attempt hides; all of shape (points,)."""
    import numpy as np

    for later in np.unique(attempts)[1:]:
        begin = steps[attempts == later].min()
        keep = (attempts >= later) | (steps < begin)
        steps, times, values, attempts = steps[keep], times[keep], values[keep], attempts[keep]
    order = np.argsort(steps, kind="stable")
    return steps[order], times[order], values[order]


def _plain_columns(folder: RunFolder, name: str, offset: int, attempt: int) -> list[NDArray[np.float64]] | None:
    """Steps, times, values and attempts of a long, plain stretch of journal, by polars' parser.

    None where a closer look is needed: short stretches, attempts, NaN or infinity, missing steps, garbage.
    """
    try:
        with open(folder.journal_file, "rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return None
    data = data[: data.rfind(b"\n") + 1]
    if (
        len(data) < LONG
        or name in ("step", "time")
        or any(sign in data for sign in (b'"attempt"', b'"NaN"', b'Infinity"'))
    ):
        return None
    import numpy as np
    import polars as pl

    point = pl.Struct({name: pl.Float64})
    try:
        frame = pl.read_ndjson(
            io.BytesIO(data), schema={"step": pl.Float64, "time": pl.Float64, "metrics": point}, ignore_errors=True
        )
    except pl.exceptions.PolarsError:
        return None
    frame = frame.unnest("metrics").filter(pl.col(name).is_not_null())
    if frame["step"].null_count() or frame["time"].null_count():
        return None
    columns = [frame[key].to_numpy() for key in ("step", "time", name)]
    return [*columns, np.full(frame.height, float(attempt))]


def read_metrics(folder: RunFolder) -> pl.DataFrame:
    """The whole history: columns metric, step, time, value; metrics in order of first arrival, points by step."""
    import numpy as np
    import polars as pl

    parts = []
    for (name,), points in _history(folder).group_by("metric", maintain_order=True):
        columns = (points[key].to_numpy().astype(np.float64) for key in COLUMNS[1:])
        steps, times, values = _one_curve(*columns)
        curve = pl.DataFrame({"step": steps, "time": times, "value": values})
        parts.append(curve.select(pl.lit(name).alias("metric"), "step", "time", "value"))
    if not parts:
        return pl.DataFrame(schema={"metric": pl.String, "step": pl.Float64, "time": pl.Float64, "value": pl.Float64})
    return pl.concat(parts)


def _history(folder: RunFolder) -> pl.DataFrame:
    """Every point, in order of arrival within each metric."""
    import polars as pl

    stored = _read_compacted(folder)
    if stored is None:
        return points_frame(read_journal(folder))
    frame, offset, attempt = stored
    counts = dict(frame.group_by("metric").len().iter_rows())
    return pl.concat([frame, points_frame(read_journal(folder, offset, attempt, counts=counts))])


def points_frame(found: Journaled) -> pl.DataFrame:
    """A stretch of journal as columns metric, step, time, value, attempt."""
    import numpy as np
    import polars as pl

    schema = dict(zip(COLUMNS, (pl.String, pl.Float64, pl.Float64, pl.Float64, pl.Int32), strict=True))
    parts = [
        pl.DataFrame(
            {
                "step": np.asarray(series.steps),
                "time": np.asarray(series.times),
                "value": np.asarray(series.values),
                "attempt": np.asarray(series.attempts, dtype=np.int32),
            }
        ).select(pl.lit(name).alias("metric"), "step", "time", "value", "attempt")
        for name, series in found.series.items()
    ]
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def metric_names(folder: RunFolder) -> list[str]:
    """In order of first arrival."""
    return _history(folder)["metric"].unique(maintain_order=True).to_list()


def stored_offset(folder: RunFolder) -> tuple[int, int] | None:
    """The journal's offset and attempt that metrics.parquet reaches to; None without a usable file.

    A file that reaches further than the journal belongs to another journal.
    """
    if not folder.metrics_file.exists():
        return None
    import polars as pl

    try:
        offset, attempt = pl.read_parquet_metadata(folder.metrics_file)[OFFSET_KEY].split()
        size = folder.journal_file.stat().st_size
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError):
        return None
    return (int(offset), int(attempt)) if int(offset) <= size else None


def _read_compacted(folder: RunFolder, metric: str | None = None) -> tuple[pl.DataFrame, int, int] | None:
    stored = stored_offset(folder)
    if stored is None:
        return None
    import polars as pl

    try:
        scanned = pl.scan_parquet(folder.metrics_file)
        return (scanned if metric is None else scanned.filter(pl.col("metric") == metric)).collect(), *stored
    except (pl.exceptions.PolarsError, OSError):
        return None
