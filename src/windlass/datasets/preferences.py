"""Preference pairs of a file: read strictly, written, fingerprinted by content.

A file holds JSON Lines, a JSON list (also under ``pairs`` in an object), CSV, TSV or Parquet. A row has ``prompt``,
``chosen`` and ``rejected``, and may have ``id`` (without one, the first 16 digits of its content's digest) and
``metadata``; keys are snake_case or camelCase. The three may be lists of messages: see :mod:`.conversations`.

A row's number is its line in JSON Lines, its position from 1 in a list, and without the header in a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from windlass.datasets.clashes import WORDS, clashes, leveled
from windlass.datasets.conversations import as_texts
from windlass.datasets.rows import OnBytes, Problems, parse, read_rows, shown, snake, write_lines
from windlass.errors import DataError, nearest
from windlass.records.content import canonical, digest
from windlass.records.task import Pair

FIELDS = tuple(Pair.model_fields)
TEXTS = ("prompt", "chosen", "rejected")
OTHER_NAMES = {"pair_id": "id", "chosen_response": "chosen", "rejected_response": "rejected"}
HEADER = ("id", "label", "created_at", "metadata")  #: may stand beside a list of pairs in an object; kept nowhere
TABLES = (".csv", ".tsv", ".parquet")
NEXT = "Correct the file; a further key is kept in a pair's metadata with: windlass preferences import --metadata KEY"


def read_pairs(path: Path, *, keep: Collection[str] = (), on_bytes: OnBytes | None = None) -> list[Pair]:
    """The pairs of a file, in its order. Keys in ``keep`` go into the metadata of their pair.

    Raises DataError that lists rows (at most 20, and how many more) that are malformed, have unknown keys or empty
    texts, choose what they reject, are there twice, have another row's id, or contradict another row; and on a file
    without pairs. No text of a pair is in the message.
    """
    return [pair for _, pair in numbered_pairs(path, keep=keep, on_bytes=on_bytes)]


def numbered_pairs(
    path: Path, *, keep: Collection[str] = (), on_bytes: OnBytes | None = None
) -> list[tuple[int, Pair]]:
    """As :func:`read_pairs`, each with the number of its row."""
    if own := sorted(set(keep) & set(FIELDS)):
        raise DataError(f"{own[0]!r} is a part of every pair; it cannot be a key of its metadata")
    problems = Problems(path)
    found = []
    for row, value in _rows(path, problems, keep, on_bytes):
        try:
            found.append((row, _pair(value, keep)))
        except ValueError as error:
            problems.add(row, str(error))
    for kind, first, second in clashes([pair for _, pair in found]):
        problems.add(found[second][0], WORDS[kind].format(f"row {found[first][0]}"))
    problems.refuse(NEXT)
    if not found:
        raise DataError(f"{path} holds no pairs")
    return found


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """JSON Lines that :func:`read_pairs` reads; the file is whole or not there. How many. Raises OSError."""
    return write_lines(path, map(as_row, pairs))


def as_row(pair: Pair) -> dict[str, Any]:
    """A line of ``pairs.jsonl``."""
    row = {"id": pair.id, "prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {**row, "metadata": dict(pair.metadata)} if pair.metadata else row


def fingerprint(pairs: Iterable[Pair]) -> str:
    """SHA-256 of what the pairs say; not of their ids and metadata, nor of their order."""
    return fingerprint_of(pair.content for pair in pairs)


def fingerprint_of(contents: Iterable[str]) -> str:
    """The same of pairs whose contents are known."""
    return digest(sorted(contents))


def together(pair: Pair) -> str:
    """What a split keeps on one side: the prompt, whatever its white space and case."""
    return leveled(pair.prompt)


# Rows ----------------------------------------------------------------------------------------------------------------


def _rows(path: Path, problems: Problems, keep: Collection[str], on_bytes: OnBytes | None) -> Iterable[tuple[int, Any]]:
    if path.is_dir():
        files = ", ".join(sorted(file.name for file in path.glob("*.jsonl")))
        raise DataError(f"{path} is a folder", f"Name one of its files: {files}" if files else "")
    if path.suffix.lower() in TABLES:
        return _table_rows(path, keep, on_bytes)
    content = read_rows(path, problems, "pairs", on_bytes)
    for key in content.header or ():
        if snake(key) not in HEADER:
            raise DataError(f"{path}: unknown key {shown(key)} beside 'pairs'.{nearest(key, HEADER)}")
    return content.rows


def _table_rows(path: Path, keep: Collection[str], on_bytes: OnBytes | None) -> Iterator[tuple[int, Any]]:
    import polars as pl

    try:
        if path.suffix.lower() == ".parquet":
            table = pl.read_parquet(path)
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            table = pl.read_csv(path, separator=separator, infer_schema=False)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read: {(str(error).splitlines() or [''])[0]}") from error
    unknown = [name for name in table.columns if name not in keep and _field(name) not in FIELDS]
    if unknown:
        raise DataError(f"{path}: unknown column {shown(unknown[0])}.{nearest(snake(unknown[0]), FIELDS)}", NEXT)
    if on_bytes:
        on_bytes(path.stat().st_size)
    fields = {name: _field(name) for name in table.columns if name not in keep}
    for number, row in enumerate(table.iter_rows(named=True), 1):
        values = {name: value for name, value in row.items() if value is not None}
        for name in values.keys() & fields.keys():
            if fields[name] == "metadata" and isinstance(values[name], str):
                try:
                    values[name] = parse(values[name].encode())
                except ValueError:
                    continue  # told as metadata that is no object
        yield number, values


def _field(key: str) -> str:
    name = snake(key)
    return OTHER_NAMES.get(name, name)


def _pair(row: Any, keep: Collection[str]) -> Pair:
    """Raises ValueError that says everything that is wrong, without the row's texts."""
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is a JSON object, not {_kind(row)}")
    wrong: list[str] = []
    data: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for key, value in row.items():
        field = _field(key)
        if key in keep:
            kept[key] = value
        elif field not in FIELDS:
            wrong.append(f"unknown key {shown(key)}.{nearest(snake(key), FIELDS)}")
        elif field in data:
            wrong.append(f"{field!r} is there in two spellings")
        else:
            data[field] = value
    if any(isinstance(data.get(name), list) for name in TEXTS):
        try:
            texts = as_texts(*map(data.get, TEXTS))
        except ValueError as error:
            raise ValueError("; ".join([*wrong, str(error)])) from None
        data |= zip(TEXTS, texts, strict=True)
    wrong += [problem for name in TEXTS if (problem := _text_problem(name, data))]
    if not wrong and data["chosen"] == data["rejected"]:
        wrong.append("'chosen' and 'rejected' are the same")
    metadata, problem = _metadata(data.get("metadata"), kept)
    given = data.get("id")
    identity = str(given) if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if given is not None and not identity.strip():
        wrong.append(f"'id' is text or a whole number, not {_kind(given)}")
    if wrong or problem:
        raise ValueError("; ".join([*wrong, *([problem] if problem else [])]))
    prompt, chosen, rejected = (data[name] for name in TEXTS)
    identity = identity or digest([prompt, chosen, rejected])[:16]
    return Pair(id=identity, prompt=prompt, chosen=chosen, rejected=rejected, metadata=metadata)


def _text_problem(name: str, data: Mapping[str, Any]) -> str:
    if name not in data:
        return f"no {name!r}"
    value = data[name]
    if not isinstance(value, str):
        return f"{name!r} is text, not {_kind(value)}"
    return "" if value.strip() else f"{name!r} is empty"


def _metadata(value: Any, kept: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The metadata, and what is wrong with it."""
    if value is not None and not isinstance(value, Mapping):
        return {}, f"'metadata' is an object, not {_kind(value)}"
    metadata = {**(value or {})}
    for key, held in kept.items():
        if key in metadata and metadata[key] != held:
            return {}, f"{key!r} is there, and in 'metadata' with another value"
        metadata[key] = held
    if not all(value is None or isinstance(value, (str, int)) for value in metadata.values()):
        try:
            canonical(metadata)
        except (TypeError, ValueError):
            return {}, "'metadata' has a value that JSON cannot hold"
    return metadata, ""


def _kind(value: Any) -> str:
    """What a value is, without showing it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text" if value.strip() else "an empty text"
        case Mapping():
            return "an object"
        case list():
            return "a list"
    return f"a {type(value).__name__}"
