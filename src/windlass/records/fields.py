"""The types of a study file's values: numbers, names, durations and sizes as people write them; errors in words."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from windlass.records.content import Path


class Problem(NamedTuple):
    """Something wrong with a study, and where."""

    path: Path
    message: str


def refuse(problems: Iterable[Problem]) -> None:
    """Let pydantic report each problem at its own place."""
    errors = [
        InitErrorDetails(type=PydanticCustomError("problem", "{text}", {"text": text}), loc=path, input=None)
        for path, text in problems
    ]
    if errors:
        raise ValidationError.from_exception_data("Study", errors)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_DURATION = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {value!r}")
    if not abs(value) < 1e300:
        raise ValueError(f"must be a finite number, not {value!r}")
    return float(value)


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == math.inf:
        raise ValueError(f"must be a whole number, not {value!r}")
    if value != int(value):
        raise ValueError(f"must be a whole number, not {value!r}")
    return int(value)


def _scalar(value: Any) -> bool | int | float | str:
    if isinstance(value, (bool, str)):
        return value
    if not isinstance(value, (int, float)):
        raise ValueError(f"must be text, a number, true or false, not {value!r}")
    _number(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        hint = f"; quote it: '{value}'" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        raise ValueError(f"must be text, not {value!r}{hint}")
    return value


def matching(pattern: str, words: str) -> Any:
    """Field metadata: a text that matches all of ``pattern``; ``words`` say so to people."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} does not fit; write {words}")
        return value

    return Field(json_schema_extra={"pattern": f"^{pattern}$"}), AfterValidator(check)


def _argv(value: Any) -> Any:
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def parse_duration(value: Any) -> float:
    """``90``, ``"90s"``, ``"10m"``, ``"1h30m"`` -> seconds."""
    if not isinstance(value, str):
        return _number(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value.lower())
    if not parts or "".join(n + u for n, u in parts) != re.sub(r"\s", "", value.lower()):
        raise ValueError(f"{value!r} is no duration; write seconds, or for example 90s, 10m, 1h30m")
    return _number(sum(float(number) * _DURATION[unit] for number, unit in parts))


def parse_bytes(value: Any) -> int:
    """``1000``, ``"512MiB"``, ``"2 GB"`` -> bytes."""
    if not isinstance(value, str):
        return whole(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B)", value.strip().upper())
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{value!r} is no size; write bytes, or for example 512MiB, 2GB")
    return int(_number(float(match[1]) * _BYTES[match[2]]))


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(whole)]
Text = Annotated[str, BeforeValidator(_text)]
Argv = Annotated[tuple[Text, ...], BeforeValidator(_argv, json_schema_input_type=str | tuple[str, ...])]
FunctionName = Annotated[Text, *matching(r"[\w.]+:[\w.]+", "module:function")]
Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(whole)]
_DurationText = Annotated[str, Field(pattern=r"^\s*(\d+(\.\d+)?\s*[smhdSMHD]\s*)+$")]
_SizeText = Annotated[str, Field(pattern=r"^\s*\d+(\.\d+)?\s*([KMGkmg][Ii]?)?[Bb]\s*$")]
Seconds = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[float, Field(gt=0)] | _DurationText),
]
Bytes = Annotated[
    int, Field(gt=0), BeforeValidator(parse_bytes, json_schema_input_type=Annotated[int, Field(gt=0)] | _SizeText)
]
Name = Annotated[
    Text,
    *matching(
        r"[A-Za-z_][A-Za-z0-9_\-]*(\.[A-Za-z_][A-Za-z0-9_\-]*)*",
        "letters, digits, '_' and '-', with dots between groups, as in optimizer.lr",
    ),
]
