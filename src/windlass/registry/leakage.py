"""Examples of a benchmark that were trained on: found by content, counted.

What counts as an example, by the kind of file:

    .csv .tsv .parquet        a row; what it holds by the name of the column
    .jsonl .ndjson            a line; an object's keys are its columns
    .json                     an item of the list, or of the only list in the object; the same
    .txt                      a line that is not blank
    others, in a folder       a whole file, by its bytes (images, for example)

A folder's examples are those of its files: of the tables above, or of the other files, whichever are more bytes.

Values are compared by what they say, since a CSV file knows no types: 1, 1.0, "1" and true are equal, so are an empty
cell, NaN and NA. Numbers with fractions are compared with the precision of 32 bits, so that a table that was stored
with them is known again. Dates are compared as the text that they are shown as.

Columns that name the row (see ``windlass.runs.scores``) are no content. Where two tables do not have the same columns,
those that both have are compared, if they are at least half of the benchmark's and if at least half of the benchmark's
examples differ in them: what is left of a table is often its label alone, and all labels were trained on.

Near duplicates are not found: a changed word, a resized image, another unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from windlass.errors import DataError
from windlass.records.evaluation import Leakage
from windlass.runs.scores import ROW_COLUMNS
from windlass.runs.source import file_digest

if TYPE_CHECKING:
    import polars as pl

Hashes = npt.NDArray[np.uint64]

#: columns that name rows; also those that pandas writes
NAMES = (*ROW_COLUMNS, "index", "", "Unnamed: 0", "__index_level_0__")
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json", ".txt")
#: files that hold many examples in a way that is not read here
CONTAINERS = (
    *(".arrow", ".bin", ".bz2", ".db", ".feather", ".gz", ".h5", ".hdf5", ".lmdb", ".mat", ".npy", ".npz", ".pickle"),
    *(".pkl", ".pt", ".pth", ".rar", ".safetensors", ".sqlite", ".tar", ".tfrecord", ".tgz", ".xlsx", ".xz", ".zip"),
    ".zst",
)
ENOUGH = 0.5  #: of the benchmark's columns, and of its examples that differ in them
_LINE, _FILE = "(line)", "(file)"
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing


@dataclass(frozen=True, slots=True)
class Training:
    """What a checkpoint was trained on."""

    paths: tuple[Path, ...] = ()  #: files and folders
    unreadable: tuple[str, ...] = ()  #: what else it was trained on and cannot be looked at, in words
    silent: tuple[str, ...] = ()  #: who does not say what it was trained on, in words


@dataclass(frozen=True, slots=True)
class Examples:
    """n examples from one file, or the files of a folder that are an example each."""

    source: str
    content: pl.DataFrame  #: (n, columns), what they hold
    names: pl.Series | None  #: (n,) of their own, where they have any

    def __len__(self) -> int:
        return len(self.content)

    def name(self, position: int) -> str:
        return f"row {position + 1}" if self.names is None else repr(str(self.names[position]))


def overlap(training: Training, benchmark: Path) -> Leakage:
    """How many examples of a benchmark the training data have, too. Duplicates in the benchmark count each.

    As long as anything is unknown or cannot be compared, no overlap is None, and an overlap that was found is the least
    that there is.

    Raises DataError where the benchmark's own examples cannot be read.
    """
    parts = list(examples(benchmark))
    total = sum(map(len, parts))
    search = _Search(parts)
    gaps = list(training.unreadable)
    for path in training.paths:
        try:
            gaps += search.look_in(path)
        except DataError as error:
            gaps.append(error.message)
    silent = list(training.silent)
    if not (training.paths or training.unreadable or silent):
        silent = ["nobody says what was trained on"]
    count, open_ends = search.count(), "; ".join(gaps + silent)
    declared = bool(gaps) or not silent
    if open_ends and not count:
        return Leakage(overlap=None, examples=total, declared=declared, words=f"unknown: {open_ends}")
    words = f"{count or 'none'} of {total} examples {'are' if count > 1 else 'is'} in the training data"
    words += f", the first is {search.first()}" if count else ""
    words += f"; compared by {search.columns()}"
    words += f"; not compared: {open_ends}" if open_ends else ""
    return Leakage(overlap=count, examples=total, declared=declared, words=words)


def examples(path: Path) -> Iterator[Examples]:
    """The examples of a file or folder, file by file. Raises DataError on what cannot be read."""
    if path.is_dir():
        yield from _folder(path)
    elif not path.exists():
        raise DataError(f"there is no {path}")
    elif path.suffix.lower() in TABLES:
        yield _table(path, path.name)
    elif path.suffix.lower() in CONTAINERS or not path.suffix:
        raise DataError(f"{path.name}: examples of such a file are not read; known: {', '.join(TABLES)}")
    else:
        yield _files([path], path.parent)


class _Search:
    """The benchmark's examples, and which of them have been found."""

    def __init__(self, parts: Sequence[Examples]) -> None:
        self.parts = parts
        self.found = [np.zeros(len(part), dtype=bool) for part in parts]
        self._used: dict[tuple[str, ...], None] = {}
        self._hashes: dict[tuple[int, tuple[str, ...]], Hashes] = {}

    def look_in(self, path: Path) -> list[str]:
        """Compare with all files of ``path``. Why some of the benchmark could be compared with none of them, in words.

        Raises DataError where ``path`` cannot be read.
        """
        why: dict[int, str] = {}
        compared: set[int] = set()
        for other in examples(path):
            hashes: dict[tuple[str, ...], Hashes] = {}
            for i, part in enumerate(self.parts):
                columns = tuple(sorted(set(part.content.columns) & set(other.content.columns)))
                if words := self._not_telling(i, columns, other):
                    why.setdefault(i, words)
                    continue
                if columns not in hashes:
                    hashes[columns] = row_hashes(other.content, columns)
                self._used[columns] = None
                self.found[i] |= np.isin(self._hashed(i, columns), hashes[columns])
                compared.add(i)
        return list(dict.fromkeys(words for i, words in why.items() if i not in compared))

    def count(self) -> int:
        return sum(int(found.sum()) for found in self.found)

    def first(self) -> str:
        part, found = next((p, f) for p, f in zip(self.parts, self.found, strict=True) if f.any())
        name = part.name(int(found.argmax()))
        return name if len(self.parts) == 1 else f"{name} of {part.source}"

    def columns(self) -> str:
        if len(self._used) > 1:
            return "the columns that each file has in common with it"
        (columns,) = self._used
        if columns in ((_FILE,), (_LINE,)):
            return f"whole {columns[0].strip('()')}s"
        own = set(self.parts[0].content.columns)
        missing = sorted(own - set(columns))
        without = f", without {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}" if missing else ""
        return f"{len(columns)} column{'s' if len(columns) > 1 else ''}{without}"

    def _not_telling(self, i: int, columns: tuple[str, ...], other: Examples) -> str:
        """Why the columns that two tables share do not tell their examples apart, or an empty string."""
        part = self.parts[i]
        own = set(part.content.columns)
        if len(columns) < ENOUGH * len(own):
            return f"{other.source} has {len(columns)} of the {len(own)} columns of {part.source}"
        if own == set(other.content.columns):
            return ""
        different = len(np.unique(self._hashed(i, columns)))
        if different < ENOUGH * len(part):
            return (
                f"{', '.join(columns[:4])} is all that {other.source} has in common with {part.source}, with"
                f" {different} different values in {len(part)} examples"
            )
        return ""

    def _hashed(self, i: int, columns: tuple[str, ...]) -> Hashes:
        if (i, columns) not in self._hashes:
            self._hashes[i, columns] = row_hashes(self.parts[i].content, columns)
        return self._hashes[i, columns]


def row_hashes(table: pl.DataFrame, columns: Sequence[str]) -> Hashes:
    """(n,) one number a row, equal for equal content; only within one process.

    Of n and m rows, two that differ are taken for equal with a probability of about n * m / 2^64.
    """
    hashes = np.zeros(len(table), dtype=np.uint64)
    for name in columns:
        hashes = (hashes ^ _value_hashes(table[name])) * _STEP
    return hashes


def _value_hashes(values: pl.Series) -> Hashes:
    import polars as pl

    number, text, lower = pl.col("number"), pl.col("text"), pl.col("text").str.to_lowercase()
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        table = pl.DataFrame({"number": values.cast(pl.Float64)}).with_columns(pl.lit(None, pl.String).alias("text"))
    else:  # one step at a time: polars 2.1 repeats what a nested expression has in common
        table = pl.DataFrame({"text": _as_text(values).str.strip_chars()})
        for said, meant in ((_MISSING, None), (("true",), "1"), (("false",), "0")):
            table = table.with_columns(pl.when(lower.is_in(said)).then(pl.lit(meant)).otherwise(text).alias("text"))
        table = table.with_columns(text.cast(pl.Float64, strict=False).alias("number"))
    table = table.with_columns(number.fill_nan(None) + 0.0)  # one zero
    fraction = number != number.floor()
    table = table.with_columns(pl.when(fraction).then(number.cast(pl.Float32).cast(pl.Float64)).otherwise(number))
    hashed = pl.when(number.is_null()).then(text.hash(seed=2)).otherwise(number.hash(seed=1))
    return table.select(hashed).to_series().to_numpy()


def _as_text(values: pl.Series) -> pl.Series:
    import polars as pl

    if values.dtype == pl.Binary:
        return values.bin.encode("hex")
    if values.dtype.is_nested() or values.dtype == pl.Object:
        return pl.Series(values.name, [_json_text(value) for value in values.to_list()], dtype=pl.String)
    return values.cast(pl.String)


def _folder(folder: Path) -> Iterator[Examples]:
    """Hidden and empty files, and JSON that holds no examples beside tables that do, are passed over."""
    found = [p for p in sorted(folder.rglob("*")) if not any(x.startswith(".") for x in p.relative_to(folder).parts)]
    if linked := [p for p in found if p.is_symlink() and p.is_dir()]:
        raise DataError(f"{linked[0]} is a link to a folder, which is not followed")
    sizes = {path: path.stat().st_size for path in found if path.is_file()}
    tables = [path for path, size in sizes.items() if size and path.suffix.lower() in TABLES]
    others = [path for path, size in sizes.items() if size and path.suffix.lower() not in TABLES]
    if not tables + others:
        raise DataError(f"{folder} holds no file")
    if sum(map(sizes.__getitem__, others)) > sum(map(sizes.__getitem__, tables)):
        if unread := [path for path in others if path.suffix.lower() in CONTAINERS]:
            raise DataError(f"{unread[0].relative_to(folder)}: examples of such a file are not read")
        yield _files(others, folder)
        return
    some = False
    for path in tables:
        try:
            yield _table(path, str(path.relative_to(folder)))
            some = True
        except DataError:
            if path.suffix.lower() != ".json" or (path == tables[-1] and not some):
                raise


def _files(paths: Sequence[Path], folder: Path) -> Examples:
    import polars as pl

    try:
        with ThreadPoolExecutor() as pool:
            digests = list(pool.map(file_digest, paths))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    names = pl.Series([str(path.relative_to(folder)) for path in paths])
    return Examples(folder.name, pl.DataFrame({_FILE: digests}), names)


def _table(path: Path, source: str) -> Examples:
    import polars as pl

    try:
        table = _read(path)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{source} cannot be read: {(str(error).splitlines() or [''])[0]}") from error
    if len(table) == 0:
        raise DataError(f"{source} has no examples")
    named = [name for name in NAMES if name in table.columns]
    content = table.drop(named)
    if not content.columns:
        raise DataError(f"{source} has no column beside {', '.join(named)}")
    return Examples(source, content, table[named[0]] if named else None)


def _read(path: Path) -> pl.DataFrame:
    """Raises OSError, ValueError or PolarsError."""
    import orjson
    import polars as pl

    match path.suffix.lower():
        case ".csv" | ".tsv":
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            try:
                return pl.read_csv(path, separator=separator)
            except pl.exceptions.ComputeError:  # a column's type shows late; to look at all rows takes twice as long
                return pl.read_csv(path, separator=separator, infer_schema_length=None)
        case ".parquet":
            return pl.read_parquet(path)
        case ".txt":
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            return pl.DataFrame({_LINE: [line for line in lines if line.strip()]}, schema={_LINE: pl.String})
        case ".json":
            return _records(_only_list(orjson.loads(path.read_bytes())))
        case _:
            with path.open("rb") as file:
                return _records([orjson.loads(line) for line in file if line.strip()])


def _only_list(data: Any) -> list[Any]:
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        data = lists[0] if len(lists) == 1 else None
    if not isinstance(data, list):
        raise ValueError("it is neither a list of examples nor an object with one")
    return data


def _records(items: Sequence[Any]) -> pl.DataFrame:
    """Columns of text: JSON's own for whatever is no text."""
    import polars as pl

    if not all(isinstance(item, dict) for item in items):
        items = [{_LINE: item} for item in items]
    columns = dict.fromkeys(name for item in items for name in item)
    return pl.DataFrame(
        {name: pl.Series([_json_text(item.get(name)) for item in items], dtype=pl.String) for name in columns}
    )


def _json_text(value: Any) -> str | None:
    import orjson

    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
