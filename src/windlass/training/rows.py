"""The rows that a training learns from and those it is judged by: read, held against the spec, and kept apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from windlass.datasets.splits import held_out
from windlass.errors import DataError, PreflightError
from windlass.training.door import Door

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

SHOWN = 10  #: rows that a message lists
_Row = TypeVar("_Row")


class Options(Protocol):
    """Of a workload: a file to learn from, and one to judge by or a share to hold out."""

    @property
    def data(self) -> str: ...
    @property
    def validation(self) -> str | None: ...
    @property
    def validation_share(self) -> float: ...


def divided(
    options: Options,
    run: Run,
    door: Door,
    numbered: Callable[[Path], Sequence[tuple[int, _Row]]],
    together: Callable[[_Row], str],
) -> tuple[Sequence[tuple[int, _Row]], Sequence[tuple[int, _Row]], dict[str, str]]:
    """Numbered rows to learn from, numbered rows to judge by, and the fingerprints of the files.

    ``together`` is what a split keeps on one side. Raises DataError for rows that cannot be used or divided, and for a
    row of both; PreflightError ``data.changed`` where the files are not what the run was made for.
    """
    files = [Path(path) for path in (options.data, options.validation) if path is not None]
    read = [(path, numbered(path)) for path in files]
    found = door.fingerprints_of([(path, [row for _, row in rows]) for path, rows in read])
    _refuse_changes(files, found, run.spec.fingerprints)
    (_, rows), *more = read
    if more:
        ((_, validation),) = more
        _refuse_leaks(rows, validation, options.data, door.rows, together)
        return rows, validation, found
    share = options.validation_share
    aside = held_out([together(row) for _, row in rows], share, within="training")
    train = [row for row, out in zip(rows, aside, strict=True) if not out]
    validation = [row for row, out in zip(rows, aside, strict=True) if out]
    for part, words in ((train, "to train on"), (validation, "to judge by")):
        if not part:
            raise DataError(
                f"{options.data} has {len(rows)} {door.rows}: a held-out share of {share:g} leaves none {words};"
                f" {door.rows} with one prompt stay together",
                f"Give more {door.rows}, another validation_share, or a file of their own: validation",
            )
    return train, validation, found


def _refuse_changes(files: Sequence[Path], found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for name, now in found.items():
        asked = wanted.get(name)
        if asked not in (None, now):
            raise PreflightError(
                "data.changed",
                f"{' and '.join(map(str, files))}: not what this run was made for, fingerprint {name!r} is {now[:12]},"
                f" not {asked[:12]}",
                "Restore the files, or start a new run.",
            )


def _refuse_leaks(
    train: Sequence[tuple[int, _Row]],
    validation: Sequence[tuple[int, _Row]],
    data: str,
    rows: str,
    together: Callable[[_Row], str],
) -> None:
    where = {together(row): number for number, row in train}
    leaks = [(number, where[together(row)]) for number, row in validation if together(row) in where]
    if leaks:
        listed = ", ".join(f"row {number} (row {there} of the training {rows})" for number, there in leaks[:SHOWN])
        more = f" and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
        raise DataError(
            f"{len(leaks)} of {len(validation)} validation {rows} have a prompt that is trained on: {listed}{more}",
            f"Remove them from one of the files, for example from {data}.",
        )
