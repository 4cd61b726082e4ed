"""``stop.json``: that a run is to end early, and why. Numbers that JSON lacks are the strings of ``records.result``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from windlass.records.result import decode_number, encode_number
from windlass.records.run import EarlyStop
from windlass.runs.folder import RunFolder, read_json, write_atomic


def write_stop(folder: RunFolder, why: EarlyStop) -> None:
    """Raises OSError where the folder is gone or cannot be written."""
    write_atomic(folder.stop_file, json.dumps(_strict(asdict(why)), ensure_ascii=False).encode())


def read_stop(folder: RunFolder) -> EarlyStop | None:
    """None where there is no stop.json, or none that Windlass wrote."""
    data = read_json(folder.stop_file)
    try:
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return EarlyStop(
            metric=str(data["metric"]),
            step=decode_number(data["step"]),
            value=decode_number(data["value"]),
            rule=str(data["rule"]),
            reason=str(data["reason"]),
            evidence=dict(data["evidence"]),
        )
    except (TypeError, ValueError, KeyError):
        return None


def _strict(value: Any) -> Any:
    """A value without NaN or infinity."""
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return encode_number(value) if isinstance(value, float) else value
