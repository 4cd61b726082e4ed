"""Values that a person gives on the command line: NAME=VALUE, and JSON, as it is or in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from windlass.errors import WindlassError, nearest

VERIFIER_EXAMPLE = """For example: --verifier '{"kind": "exact"}'"""


def named_values(given: Sequence[str]) -> dict[str, Any]:
    """``["steps=200"]`` -> ``{"steps": 200}``; a value that is no JSON is text. Raises WindlassError."""
    values: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise WindlassError(f"--set takes NAME=VALUE, not {text!r}", "For example: --set seed=3")
        try:
            values[name.strip()] = json.loads(value)
        except ValueError:
            values[name.strip()] = value
    return values


def known_names(values: Iterable[str], known: Iterable[str], who: str) -> None:
    """Raises WindlassError for a name that ``who`` does not know, with the nearest one that it does."""
    names = sorted(set(known))
    for name in values:
        if name not in names:
            raise WindlassError(f"--set: {who} knows no {name!r}.{nearest(name, names)}", f"Known: {', '.join(names)}")


def json_object(option: str, given: str, example: str) -> dict[str, Any]:
    """A JSON object, given as it is or as the name of a file. Raises WindlassError that names the option."""
    text, source = given, option
    if not given.lstrip().startswith(("{", "[")):
        try:
            text, source = Path(given).expanduser().read_text(encoding="utf-8"), given
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise WindlassError(f"{option}: {given!r} is no JSON object and no file: {why}", example) from None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise WindlassError(f"{source}: no JSON: {error}", example) from None
    if not isinstance(found, dict):
        raise WindlassError(f"{source}: a JSON object is needed, not {text[:60]!r}", example)
    return found
