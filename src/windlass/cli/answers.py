"""Answers and what became of them, as a person or a stream gives them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from io import BufferedReader
from typing import Any, TypeVar

from windlass.errors import DataError, WindlassError, nearest
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Deployment, Role, Served, ServedOutcome, Stage

FIELDS = ("checkpoint", "outcome", "role", "key", "at")
EXAMPLE = '{"checkpoint": "ID", "outcome": "accepted", "role": "canary", "key": "request-17"}'
_Word = TypeVar("_Word", bound=StrEnum)


def batches(stream: BufferedReader) -> Iterator[list[tuple[int, Any]]]:
    """What a stream has by now, as numbered JSON lines, again and again until it ends.

    Raises DataError with the number of a line that is no JSON.
    """
    number, rest = 0, b""
    while True:
        chunk = stream.read1(1 << 20)
        *whole, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
        batch = []
        for line in whole:
            number += 1
            if line.strip():
                batch.append((number, _parsed(number, line)))
        if batch:
            yield batch
        if not chunk:
            return


def _parsed(number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"line {number} is no JSON: {error}", f"An answer: {EXAMPLE}") from error


def answer(find: Callable[[str], Checkpoint], line: Deployment, number: int, given: Any) -> Served:
    """Raises DataError that names the line and what is wrong with it."""
    where = f"line {number}: " if number else ""
    example = f"An answer: {EXAMPLE}"
    if not isinstance(given, dict):
        raise DataError(f"{where}an answer is a JSON object, not {given!r}", example)
    if unknown := sorted(given.keys() - set(FIELDS)):
        raise DataError(f"{where}an answer has no {unknown[0]!r}.{nearest(unknown[0], FIELDS)}", example)
    if missing := [field for field in ("checkpoint", "outcome") if not given.get(field)]:
        raise DataError(f"{where}an answer without {' and '.join(missing)}", example)
    try:
        checkpoint = find(str(given["checkpoint"])).id
        return Served(
            checkpoint=checkpoint,
            role=_word(given.get("role") or _standing_role(line, checkpoint), Role, "role"),
            outcome=_word(given["outcome"], ServedOutcome, "outcome"),
            key=str(given.get("key") or ""),
            at=float(given.get("at") or time.time()),
        )
    except WindlassError as error:
        raise DataError(f"{where}{error.message}", error.next_step) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}{error}", example) from error


def _standing_role(line: Deployment, checkpoint: str) -> str:
    """In what part a checkpoint answers now. Raises DataError where it does not."""
    stage = line.stages.get(checkpoint)
    if stage not in (Stage.CHAMPION, Stage.SHADOW, Stage.CANARY):
        raise DataError(
            f"{checkpoint} does not answer for {line.name}: it is {stage or 'not on its line'}",
            "Name the role that it had: --role champion, shadow or canary",
        )
    return str(stage)


def _word(given: Any, known: type[_Word], what: str) -> _Word:
    if given not in list(known):
        message = f"there is no {what} {given!r}.{nearest(str(given), map(str, known))}"
        raise DataError(message, f"{what.capitalize()}s: {', '.join(known)}")
    return known(given)
