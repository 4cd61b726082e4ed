"""The result of a job: one JSON object, on stdout or as ``result.json``. Read fail-closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from windlass.errors import nearest
from windlass.records.run import Artifact, Failure, FailureKind

#: in ``info.metrics`` of a result that the SDK made of what was logged: a result on stdout goes over it
LOGGED = "logged"
#: JSON has no NaN or infinity; these strings stand for them, in results and in the journal
NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``metrics`` are the final values; ``failure`` is set by a job that knows why it failed."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    info: Mapping[str, Any] = field(default_factory=dict)  #: free-form, kept, never interpreted

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
    known = ("metrics", "artifacts", "notes", "failure", "info")
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
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"malformed result: {error}") from None


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


def _parse_failure(data: Mapping[str, Any]) -> Failure:
    return Failure(
        kind=FailureKind(data["kind"]),
        message=str(data.get("message", "")),
        traceback=str(data.get("traceback", "")),
    )
