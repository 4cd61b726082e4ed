"""Rows of a file: JSON Lines or JSON in, numbered; everything wrong with them in one error; JSON Lines out.

A row's number is its line in JSON Lines, and its position from 1 in a JSON list.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from windlass.errors import DataError, nearest

MOST_TOLD = 20  #: problems that an error lists
_TOLD = 1 << 20  #: bytes between two words on how far reading is
DEEPEST = 100  #: levels of a row: more cannot be handled safely everywhere

OnBytes = Callable[[int], object]  #: called with how many more bytes were read
_Model = TypeVar("_Model", bound=BaseModel)


class Problems:
    """What is wrong with the rows of a file: all are counted, the first are told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return iter(self._found)

    def add(self, row: int, words: str) -> None:
        self._found.append((row, words))

    def refuse(self, next_step: str = "") -> None:
        """Raises DataError where there is any problem."""
        if not self._found:
            return
        found = sorted(self._found)
        lines = [f"{self.path}: {len(found):,} problem{'' if len(found) == 1 else 's'}"]
        lines += [f"  row {row}: {words}" for row, words in found[:MOST_TOLD]]
        lines += [f"  and {len(found) - MOST_TOLD:,} more"] if len(found) > MOST_TOLD else []
        raise DataError("\n".join(lines), next_step)


class Content(NamedTuple):
    """What a file holds."""

    header: Mapping[str, Any] | None  #: what stands beside the list of rows, where they are in a JSON object
    rows: Iterable[tuple[int, Any]]  #: number and value; lines are read as they are asked for


def read_rows(path: Path, problems: Problems, within: str, on_bytes: OnBytes | None = None) -> Content:
    """The rows of JSON Lines, of a JSON list, or of a JSON object that has them under ``within``, itself bare or under
    ``dataset``. Any other JSON object is one row.

    A line that is no JSON is added to ``problems`` and passed over. Raises DataError where the file cannot be read, is
    empty, or is neither JSON nor JSON Lines.
    """
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")
            more = any(line.strip() for line in file)
        if not first:
            raise DataError(f"{path} is empty")
        if more and (_is_json(first) or not _opens(first)):
            return Content(None, _lines(path, problems, on_bytes))
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if on_bytes:
        on_bytes(len(raw))
    try:
        return _content(path, parse(raw), within)
    except ValueError as error:
        raise DataError(f"{path} is neither JSON nor JSON Lines: {error}") from None


def _opens(line: bytes) -> bool:
    """Whether a line that is no JSON may begin a JSON text of many lines."""
    return line.strip().removeprefix(b"\xef\xbb\xbf")[-1:] in (b"[", b"{", b",", b":")


def _is_json(line: bytes) -> bool:
    try:
        parse(line)
    except ValueError:
        return False
    return True


def _lines(path: Path, problems: Problems, on_bytes: OnBytes | None) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        read = 0
        for number, line in enumerate(file, 1):
            read += len(line)
            if on_bytes and read >= _TOLD:
                on_bytes(read)
                read = 0
            if line.strip():
                try:
                    value = parse(line)
                except ValueError as error:
                    problems.add(number, str(error))
                    continue
                yield number, value
        if on_bytes and read:
            on_bytes(read)


def _content(path: Path, value: Any, within: str) -> Content:
    if isinstance(value, dict) and isinstance(value.get("dataset"), dict):
        if beside := sorted(value.keys() - {"dataset"}):
            raise DataError(f"{path}: there is an unknown key {beside[0]!r} beside 'dataset'")
        value = value["dataset"]
        if within not in value:
            raise DataError(f"{path}: 'dataset' has no list {within!r}.{nearest(within, value)}")
    if isinstance(value, dict) and within in value:
        listed = value[within]
        if not isinstance(listed, list):
            raise DataError(f"{path}: {within!r} is a list, not {shown(listed)}")
        return Content({key: other for key, other in value.items() if key != within}, enumerate(listed, 1))
    return Content(None, enumerate(value if isinstance(value, list) else [value], 1))


def parse(raw: bytes) -> Any:
    """JSON as it is meant for exchange (RFC 8259): UTF-8, no NaN, no key twice, no half of a surrogate pair.

    Raises ValueError in words.
    """
    try:
        value = _DECODER.decode(raw.decode("utf-8-sig"))
        if b"\\ud" in raw or b"\\uD" in raw:
            json.dumps(value, ensure_ascii=False).encode()
        if raw.count(b"[") + raw.count(b"{") > DEEPEST and _depth(value) > DEEPEST:
            raise RecursionError
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text: byte {error.start + 1} is 0x{raw[error.start]:02x}") from None
    except UnicodeEncodeError:
        raise ValueError("a text has half of a surrogate pair (\\ud800 to \\udfff)") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"no JSON: {error.msg} ({line}character {error.colno})") from None
    except RecursionError:
        raise ValueError(f"JSON that is nested more than {DEEPEST} levels deep") from None
    return value


def _depth(value: Any) -> int:
    """Levels of lists and objects."""
    level, deep = [value], 0
    while level := [one for one in level if isinstance(one, (list, dict))]:
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        deep += 1
    return deep


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for i, n in enumerate(names) if n in names[:i])!r} is there twice")
    return made


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """``scenarioId`` -> ``scenario_id``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def fit(model: type[_Model], row: Any) -> _Model:
    """A row as a record; the names of its fields are snake_case or camelCase.

    Raises ValueError that says everything that is wrong, with the nearest name for an unknown key.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is a JSON object, not {shown(row)}")
    wrong: list[str] = []
    data = _renamed(model, row, "", wrong)
    try:
        made = model.model_validate(data)
    except ValidationError as error:
        wrong += [_words(problem) for problem in error.errors(include_url=False)]
    if wrong:
        raise ValueError("; ".join(wrong))
    return made


def _renamed(model: type[BaseModel], row: Mapping[str, Any], place: str, wrong: list[str]) -> dict[str, Any]:
    """Known keys, as the model spells them, of a row and of the models in it."""
    known, data = model.model_fields, {}
    for key, value in row.items():
        name = key if key in known else snake(key)
        if name not in known:
            wrong.append(f"unknown key {place + key!r}.{nearest(name, known)}")
        elif name in data:
            wrong.append(f"{place + name!r} is there in two spellings")
        else:
            inner: Any = known[name].annotation
            nested = isinstance(value, Mapping) and isinstance(inner, type) and issubclass(inner, BaseModel)
            data[name] = _renamed(inner, value, f"{place}{name}.", wrong) if nested else value
    return data


def _words(problem: Any) -> str:
    """What pydantic found, for a person."""
    place = ".".join(map(str, problem["loc"]))
    match problem["type"]:
        case "missing":
            return f"no {place!r}"
        case "string_too_short" | "too_short":
            return f"{place!r} is empty"
        case "extra_forbidden":
            return f"unknown key {place!r}"
        case "value_error" | "problem":
            message = problem["msg"].removeprefix("Value error, ")
            return f"{place!r} {message}" if place else message
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{place!r}: {message}, not {shown(problem['input'])}"


def shown(value: Any, most: int = 60) -> str:
    """A value as it stands in a message: cut, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    flat = " ".join(text[: 4 * most].split())
    flat = flat if len(flat) <= most and len(text) <= 4 * most else flat[:most] + "…"
    return repr(flat) if isinstance(value, str) else flat


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """JSON Lines; the file is whole or not there. How many rows. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    count = 0
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return count
