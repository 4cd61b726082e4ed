"""The result of a job: one JSON object, on stdout or as ``result.json``. Read fail-closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from windlass.errors import nearest
from windlass.records.run import Artifact, Failure, FailureKind

#: in ``info.metrics`` of a result that the SDK made of what was logged: a result on stdout goes over it
LOGGED = "logged"
#: JSON has no NaN or infinity; these strings stand for them, in results and in the journal
NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class ResultStatus(StrEnum):
    COMPLETED = "completed"
    PREEMPTED = "preempted"  #: was asked to end, and has left in ``state/`` what a new attempt goes on from


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``metrics`` are the final values; ``failure`` is set by a job that knows why it failed."""

    status: ResultStatus = ResultStatus.COMPLETED
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    info: Mapping[str, Any] = field(default_factory=dict)  #: free-form, kept, never interpreted
    identity: Mapping[str, Any] = field(default_factory=dict)  #: what it is the result of; the spec's ``identity``
    nonce: str = ""  #: of the start that it is the result of; needed in result.json, not on stdout

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["metrics"] = {name: encode_number(value) for name, value in self.metrics.items()}
        return data


def encode_number(value: float) -> float | str:
    """A JSON value for any float."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def decode_number(value: Any) -> float:
    """The float of a JSON value; raises ValueError on anything that is no number."""
    if isinstance(value, str) and value in NON_FINITE:
        return NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(str(error)) from None


def parse_result(data: Any) -> Result:
    """Raises ValueError that says what is wrong with the values."""
    if not isinstance(data, Mapping):
        raise ValueError(f"a result is a JSON object, not {type(data).__name__}")
    known = tuple(one.name for one in fields(Result))
    for key in data:
        if key not in known:
            raise ValueError(f"unknown key {key!r} in the result.{nearest(str(key), known)} Known: {', '.join(known)}")
    metrics: dict[str, float] = {}
    given = data.get("metrics", {})
    if not isinstance(given, Mapping):
        raise ValueError(f"'metrics' is an object of name -> number, not {given!r}")
    for name, value in given.items():
        try:
            metrics[str(name)] = decode_number(value)
        except ValueError as error:
            raise ValueError(f"metric {name!r}: {error}") from None
    try:
        artifacts = tuple(parse_artifact(item) for item in data.get("artifacts", ()))
        failure = data.get("failure")
        return Result(
            metrics=metrics,
            artifacts=artifacts,
            notes=tuple(str(note) for note in data.get("notes", ())),
            failure=_parse_failure(failure) if failure else None,
            info=dict(data.get("info", {})),
            status=_parse_status(data.get("status", ResultStatus.COMPLETED)),
            identity=_parse_identity(data.get("identity", {})),
            nonce=str(data.get("nonce", "")),
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"malformed result: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A field in which a result is not of its spec."""

    field: str
    expected: str
    actual: Any  #: a JSON value; None where the result does not say
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected!r}, is {self.actual!r} ({self.reason})"


def mismatches(expected: Mapping[str, str], result: Result) -> list[Mismatch]:
    """Every field of a spec's ``identity`` that a result does not repeat, in the spec's order."""
    found = []
    for name, wanted in expected.items():
        actual = result.identity.get(name)
        if name not in result.identity:
            reason = "the result does not say"
        elif not isinstance(actual, str):
            reason = f"{type(actual).__name__}, not a text"
        elif actual != wanted:
            reason = "the result is of another " + name.replace("_", " ")
        else:
            continue
        found.append(Mismatch(field=name, expected=wanted, actual=actual, reason=reason))
    return found


def parse_artifact(data: Mapping[str, Any]) -> Artifact:
    """Raises ValueError or TypeError on wrong types and on a path that leads out of the run folder."""
    artifact = Artifact(**data)
    texts = (artifact.name, artifact.path, artifact.kind, artifact.sha256)
    if not all(isinstance(text, str) for text in texts) or type(artifact.bytes) is not int:
        raise TypeError(f"artifact {dict(data)!r}")
    path = PurePosixPath(artifact.path)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"artifact path {artifact.path!r} leads out of the run folder")
    return artifact


def _parse_status(value: Any) -> ResultStatus:
    try:
        return ResultStatus(value)
    except ValueError:
        raise ValueError(f"'status' is one of {', '.join(ResultStatus)}, not {value!r}") from None


def _parse_identity(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"'identity' is an object of field -> text, not {value!r}")
    return {str(name): inner for name, inner in value.items()}


def _parse_failure(data: Mapping[str, Any]) -> Failure:
    return Failure(
        kind=FailureKind(data["kind"]),
        message=str(data.get("message", "")),
        traceback=str(data.get("traceback", "")),
        next_step=str(data.get("next_step", "")),
    )
