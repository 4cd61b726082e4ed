"""Evaluations that were made elsewhere, as JSON; marked as imported, and only taken with a score for every example.

{"checkpoint": "3f9a…", "benchmark": "heldout", "data_sha256": "9c1b…", "evaluator": "their harness 2.1",
 "source": "who made it, and where", "made_at": "2026-03-01T12:00:00Z",
 "examples": [{"id": "q1", "scores": {"accuracy": 1, "log_loss": 0.2}, "groups": {"site": "north"}}, …]}
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from windlass.errors import DataError, nearest
from windlass.records.checkpoint import SHA256
from windlass.registry.scores import Scores, read
from windlass.runs.scores import ROW_COLUMNS

KEYS = ("checkpoint", "benchmark", "data_sha256", "evaluator", "source", "made_at", "examples")
EXAMPLE_KEYS = ("id", "scores", "groups")
CLOCKS_DIFFER_S = 300.0  #: how far ahead another machine's clock may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was given, checked."""

    checkpoint: str  #: as it was written
    benchmark: str
    data_sha256: str  #: 64 hex digits
    evaluator: str
    source: str
    made_at: float  #: seconds since the epoch
    scores: Scores
    file: Path  #: the same scores as a file, while the context is open


@contextmanager
def read_import(given: Mapping[str, Any] | Path, now: float) -> Iterator[Imported]:
    """The same examples in any order give a file of the same bytes.

    Raises DataError that names the key which is missing, unknown or wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scores.parquet"
        where = str(given) if isinstance(given, Path) else "the evaluation"
        try:
            values = _read(given) if isinstance(given, Path) else given
            _check_keys(values, KEYS, KEYS, "")
            sha256 = _text(values["data_sha256"], "data_sha256").lower()
            if not SHA256.fullmatch(sha256):
                raise DataError(f"data_sha256: {sha256!r} is no SHA-256: 64 hex digits")
            texts = {key: _text(values[key], key) for key in ("checkpoint", "benchmark", "evaluator", "source")}
            made = _time(values["made_at"], now)
            _write(_table(values["examples"]), file)
            scores = read(file)
        except DataError as error:
            message = error.message.removeprefix(f"{file}: ")
            raise DataError(f"{where}: {message}", error.next_step) from None
        except UnicodeEncodeError:
            raise DataError(f"{where}: some text in it holds half a character, which UTF-8 cannot write") from None
        yield Imported(data_sha256=sha256, made_at=made, scores=scores, file=file, **texts)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is no JSON: {error}") from error


def _check_keys(values: Any, known: Iterable[str], needed: Iterable[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise DataError(f"{where}is an object with keys, not {str(values)[:40]!r}")
    if unknown := [key for key in values if key not in known]:
        raise DataError(
            f"{where}unknown key {unknown[0]!r}.{nearest(str(unknown[0]), known)}", f"Known: {', '.join(known)}"
        )
    for key in needed:
        if key not in values:
            proof = "; a mean without its examples proves nothing" if key == "examples" else ""
            raise DataError(f"{where}{key} is missing{proof}", f"Needed: {', '.join(needed)}")


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{key}: must be text, not {value!r}")
    return value.strip()


def _time(value: Any, now: float) -> float:
    """Seconds since the epoch, of a number or of a time as ISO 8601 writes it (without a zone: UTC)."""
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            seconds = (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        elif isinstance(value, bool):
            raise ValueError
        else:
            seconds = float(value)
        shown = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (TypeError, ValueError, OverflowError, OSError):
        raise DataError(f"made_at: {value!r} is no time; write 2026-03-01T12:00:00Z, or seconds since 1970") from None
    if seconds > now + CLOCKS_DIFFER_S:
        raise DataError(f"made_at: {shown} lies in the future")
    return seconds


def _table(examples: Any) -> dict[str, list[Any]]:
    """Columns: the name of the row, every score, every group."""
    if not isinstance(examples, list) or not examples:
        raise DataError("examples: must be a list with an object an example; a mean without them proves nothing")
    columns: dict[str, list[Any]] = {ROW_COLUMNS[0]: []}
    scores: list[str] = []
    groups = list(dict.fromkeys(name for one in examples if isinstance(one, Mapping) for name in _groups_of(one)))
    for i, example in enumerate(examples):
        where = f"examples[{i}]"
        _check_keys(example, EXAMPLE_KEYS, EXAMPLE_KEYS[:2], f"{where}: ")
        name = example["id"]
        if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
            raise DataError(f"{where}.id: must be text or a whole number, not {name!r}")
        columns[ROW_COLUMNS[0]].append(str(name))
        given = example["scores"]
        scores = scores or _score_names(given, groups, where)
        _check_keys(given, scores, scores, f"{where}.scores: ")
        for score in scores:
            columns.setdefault(score, []).append(_number(given[score], f"{where}.scores.{score}"))
        own = _groups_of(example)
        for group in groups:
            columns.setdefault(group, []).append(None if own.get(group) is None else str(own[group]))
    return columns


def _groups_of(example: Mapping[str, Any]) -> Mapping[str, Any]:
    groups = example.get("groups", {})
    if not isinstance(groups, Mapping):
        raise DataError(f"groups: must be an object of names to texts, not {groups!r}")
    return groups


def _score_names(given: Any, groups: Iterable[str], where: str) -> list[str]:
    if not isinstance(given, Mapping) or not given:
        raise DataError(f"{where}.scores: must be an object of names to numbers, not {given!r}")
    for name in (*given, *groups):
        if name == ROW_COLUMNS[0] or (name in given and name in groups):
            raise DataError(f"{where}: {name!r} names the example, a score or a group, and only one of them")
    return list(given)


def _number(value: Any, where: str) -> float:
    if not isinstance(value, (bool, int, float)):
        raise DataError(f"{where}: must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"{where}: is a number too large to compare") from None


def _write(table: Mapping[str, list[Any]], path: Path) -> None:
    import polars as pl

    columns = [
        pl.Series(name, values, dtype=pl.Float64 if isinstance(values[0], float) else pl.String)
        for name, values in table.items()
    ]
    first, *rest = columns
    rest.sort(key=lambda column: column.name)
    pl.DataFrame([first, *rest]).sort(first.name).write_parquet(path)
