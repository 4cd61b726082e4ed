"""Records as JSON text, both ways. NaN, infinity, big integers and any unicode come back as they were."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from windlass.errors import StoreError
from windlass.records.decision import Approval, Decision, StudyRecord, StudyStatus
from windlass.records.run import Artifact, EarlyStop, Failure, FailureKind, MetricSummary, RunRecord, Status


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, MetricSummary | Artifact | Failure | EarlyStop):
        return asdict(value)
    raise TypeError(f"{value!r} ({type(value).__name__}) is no JSON value")


_text = json.JSONEncoder(separators=(",", ":"), default=_plain).encode
_sorted_text = json.JSONEncoder(separators=(",", ":"), default=_plain, sort_keys=True).encode


#: orjson reads integers beyond 64 bits as floats; a space in front of the text says that json has to read it
_LONG_INTEGER = re.compile(r"\d{19}")


def _write(data: Any) -> str:
    text = _text(data)
    return f" {text}" if _LONG_INTEGER.search(text) else text


def _read(text: str) -> Any:
    if text.startswith(" "):
        return json.loads(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # NaN, infinity, lone surrogates
        return json.loads(text)


def same(left: Any, right: Any) -> bool:
    """Equal content: the order of keys does not count, NaN equals NaN, 1 is not 1.0."""
    return left is right or _sorted_text(left) == _sorted_text(right)


def run_to_text(run: RunRecord) -> str:
    """Raises StoreError on a config that is not JSON."""
    failure, artifacts = run.failure, run.artifacts
    data = {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "created": run.created,
        "attempt": run.attempt,
        "study": run.study,
        "number": run.number,
        "started": run.started,
        "ended": run.ended,
        "failure": failure and [failure.kind, failure.message, failure.traceback, failure.next_step],
        "stopped_early": run.stopped_early and asdict(run.stopped_early),
        "config": run.config,
        "seed": run.seed,
        "metrics": {name: [m.last, m.min, m.max, m.step, m.count] for name, m in run.metrics.items()},
        "tags": run.tags,
        "artifacts": [[a.name, a.path, a.kind, a.bytes, a.sha256] for a in artifacts],
        "notes": run.notes,
        "fingerprints": run.fingerprints,
        "lineage": run.lineage,
        "peak_memory_bytes": run.peak_memory_bytes,
        "cpu_s": run.cpu_s,
    }
    try:
        return _write(data)
    except (TypeError, ValueError) as error:
        raise StoreError(f"run {run.id} cannot be stored: {error}", "Use JSON values in configs and tags.") from error


def run_from_text(text: str) -> RunRecord:
    """The inverse of :func:`run_to_text`; raises StoreError on anything else."""
    try:
        data = _read(text)
        data["status"] = Status(data["status"])
        if data["failure"]:
            kind, message, trace, next_step = data["failure"]
            data["failure"] = Failure(kind=FailureKind(kind), message=message, traceback=trace, next_step=next_step)
        if stop := data.get("stopped_early"):
            data["stopped_early"] = EarlyStop(**stop)
        data["metrics"] = {
            name: MetricSummary(last=last, min=low, max=high, step=step, count=count)
            for name, (last, low, high, step, count) in data["metrics"].items()
        }
        data["artifacts"] = tuple(
            Artifact(name=name, path=path, kind=kind, bytes=size, sha256=sha256)
            for name, path, kind, size, sha256 in data["artifacts"]
        )
        data["notes"] = tuple(data["notes"])
        return RunRecord(**data)
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged("run", error) from error


def decision_to_text(decision: Decision) -> str:
    try:
        return _write(decision.to_dict())
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"decision {decision.number} of study {decision.study} cannot be stored: {error}", "Use JSON values."
        ) from error


def decision_from_text(text: str) -> Decision:
    try:
        return Decision.from_dict(_read(text))
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged("decision", error) from error


def approval_to_text(approval: Approval) -> str:
    return _write(approval.to_dict())


def approval_from_text(text: str) -> Approval:
    try:
        return Approval(**_read(text))
    except (ValueError, TypeError) as error:
        raise _damaged("approval", error) from error


def study_to_text(study: StudyRecord) -> str:
    try:
        return _write(asdict(study))
    except (TypeError, ValueError) as error:
        raise StoreError(f"study {study.name} cannot be stored: {error}", "Use JSON values.") from error


def study_from_text(text: str) -> StudyRecord:
    try:
        data = _read(text)
        return StudyRecord(**{**data, "status": StudyStatus(data["status"])})
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged("study", error) from error


def _damaged(kind: str, error: Exception) -> StoreError:
    return StoreError(f"a stored {kind} cannot be read ({error}): the database is damaged", "windlass reindex")
