"""Events of logs: which fields say what, and whether an event is a request, its response, or both at once (a span).

Fields are found by :data:`FIELDS` or by what a user names instead. OpenTelemetry's spans are read in its JSON encoding
(``resourceSpans``, attributes as lists) and as the SDKs print them.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from windlass.datasets.rows import shown, snake
from windlass.datasets.traces import TaskOutcome
from windlass.errors import DataError, nearest

#: what is read -> where an event may have it; the first that is there. A dot leads into an object, where the event has
#: no field with the dot in its name. Names may be camelCase.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "kind": ("type", "event_type", "event", "kind", "attributes.gen_ai.operation.name"),
    "request_id": (
        *("request_id", "tool_call_id", "tool_use_id", "call_id", "attributes.gen_ai.tool.call.id"),
        *("span_id", "context.span_id"),
    ),
    "correlation_id": (
        *("correlation_id", "attributes.gen_ai.conversation.id", "trace_id", "context.trace_id"),
        *("session_id", "conversation_id"),
    ),
    "tool_name": (
        *("tool_name", "tool.name", "tool", "function.name", "attributes.gen_ai.tool.name", "attributes.tool.name"),
        "name",
    ),
    "time": ("timestamp", "time", "ts", "@timestamp", "created_at", "start_time_unix_nano", "start_time"),
    "end": ("end_time_unix_nano", "end_time"),
    "duration_ms": ("duration_ms", "latency_ms", "elapsed_ms"),
    "input": (
        *("tool_input", "input", "arguments", "args", "params"),
        *("attributes.gen_ai.tool.call.arguments", "attributes.input.value", "request"),
    ),
    "output": (
        *("tool_output", "output", "result", "attributes.gen_ai.tool.call.result", "attributes.output.value"),
        *("response", "content"),
    ),
    "error": ("error", "exception", "is_error", "attributes.error.type"),
    "status": ("status.status_code", "status.code", "status", "outcome", "success"),
    "verified": ("verification_passed", "verified"),
    "reward": ("reward",),
    "labels": ("labels",),
    "source": ("source", "service", "attributes.service.name"),
    "metadata": ("metadata",),
}

_REQUEST = {"request", "requested", "call", "called", "invoke", "invoked", "start", "started", "begin", "use", "input"}
_FAILED = {"error", "failed", "failure", "fail", "exception", "timeout"}
_RESPONSE = _FAILED | {
    *("response", "responded", "result", "reply", "return", "returned", "output", "end", "ended", "finish"),
    *("finished", "complete", "completed", "done", "success", "succeeded"),
}
_STATUS = {
    TaskOutcome.SUCCESS: {
        "ok",
        "success",
        "successful",
        "succeeded",
        "complete",
        "completed",
        "passed",
        "done",
        "true",
    },
    TaskOutcome.PARTIAL: {"partial", "incomplete", "truncated"},
    TaskOutcome.FAIL: _FAILED | {"timed_out", "cancelled", "canceled", "aborted", "denied", "rejected", "false"},
}


class Kind(Enum):
    REQUEST = auto()
    RESPONSE = auto()
    SPAN = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    row: int
    kind: Kind
    stem: str  #: of its kind: ``tool`` of ``tool.request``
    request_id: str | None
    correlation_id: str | None
    tool_name: str | None
    time: float | None  #: milliseconds since the epoch
    failed: bool  #: by its kind
    found: Mapping[str, Any]  #: the values of FIELDS that are there


class Reader:
    """Reads events by the fields that may have what is looked for."""

    def __init__(self, instead: Mapping[str, str] | None = None) -> None:
        """``instead``: a name of FIELDS -> the one path to look at. Raises DataError on a name that FIELDS has not."""
        fields = dict(FIELDS)
        for name, path in (instead or {}).items():
            if name not in FIELDS:
                raise DataError(f"nothing named {name!r} is read.{nearest(name, FIELDS)}", f"Read: {', '.join(FIELDS)}")
            if not path:
                raise DataError(f"{name!r} has no field", f"For example: {name}={FIELDS[name][0]}")
            fields[name] = (path,)
        self._fields = fields

    def read(self, row: int, raw: Mapping[str, Any]) -> Event:
        """Raises ValueError or OverflowError on an id, a name or a time that is none."""
        event = {snake(key): value for key, value in raw.items()}
        if isinstance(event.get("attributes"), list):
            event["attributes"] = _attributes(event["attributes"])
        found = {}
        for name, paths in self._fields.items():
            value = next((v for path in paths if (v := _at(event, path)) is not None), None)
            if value is not None:
                found[name] = value
        words = re.findall(r"[a-z]+", snake(str(found.get("kind", ""))))
        last = words[-1] if words else ""
        kind = _kind(last, found)
        return Event(
            row=row,
            kind=kind,
            stem=" ".join(words[:-1] if last in _REQUEST | _RESPONSE else words),
            request_id=_name(found, "request_id"),
            correlation_id=_name(found, "correlation_id"),
            tool_name=_name(found, "tool_name"),
            time=_milliseconds(found["time"]) if "time" in found else None,
            failed=last in _FAILED,
            found=found,
        )


def _kind(last: str, found: Mapping[str, Any]) -> Kind:
    asks, answers = "input" in found, "output" in found or "error" in found
    if last in _RESPONSE:
        return Kind.RESPONSE
    if (asks and answers) or ("end" in found and ("tool_name" in found or asks)):
        return Kind.SPAN
    if last in _REQUEST or asks:
        return Kind.REQUEST
    return Kind.RESPONSE if answers else Kind.OTHER


def spans(value: Any) -> Iterator[Any]:
    """The spans of OpenTelemetry's JSON, each with its resource's attributes; anything else as it is."""
    resources = value.get("resourceSpans", value.get("resource_spans")) if isinstance(value, Mapping) else None
    if not isinstance(resources, list):
        yield value
        return
    for resource in resources:
        about = _attributes(_inside(resource, "resource", "attributes"))
        for scope in _inside(resource, "scopeSpans") or _inside(resource, "scope_spans") or ():
            for span in _inside(scope, "spans") or ():
                if isinstance(span, Mapping):
                    yield {**span, "attributes": about | _attributes(span.get("attributes"))}
                else:
                    yield span


def outcome(event: Event) -> TaskOutcome:
    """What a response says of itself; without a word and without an error, success. Raises ValueError."""
    error = event.found.get("error")
    if event.failed or (error not in (None, False, "", [], {}) and str(error).lower() not in ("false", "none")):
        return TaskOutcome.FAIL
    status = event.found.get("status")
    if isinstance(status, bool):
        return TaskOutcome.SUCCESS if status else TaskOutcome.FAIL
    if isinstance(status, int):
        if status in (0, 1, 2):  # OpenTelemetry's: unset, ok, error
            return TaskOutcome.FAIL if status == 2 else TaskOutcome.SUCCESS
        if 100 <= status < 600:  # HTTP's
            return TaskOutcome.FAIL if status >= 400 else TaskOutcome.SUCCESS
    if isinstance(status, Mapping) or status in (None, ""):
        return TaskOutcome.SUCCESS
    word = snake(str(status)).removeprefix("status_code_").replace(" ", "_").replace("-", "_")
    if word == "unset":
        return TaskOutcome.SUCCESS
    for meant, words in _STATUS.items():
        if word in words:
            return meant
    raise ValueError(f"the status {shown(status)} is neither success, partial nor fail")


def duration(first: Event, last: Event) -> float | None:
    """Milliseconds, as recorded or between the two; None where neither is known. Raises ValueError."""
    for event in (last, first):
        if (value := event.found.get("duration_ms")) is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"the duration {shown(value)} is no number")
            return float(value)
    end = _milliseconds(last.found["end"]) if "end" in last.found else last.time if last is not first else None
    if first.time is None or end is None:
        return None
    return round(end - first.time, 3)


def _at(event: Mapping[str, Any], path: str) -> Any:
    if path in event or "." not in path:
        return event.get(path)
    place = path.find(".")
    while place > 0:
        inner = event.get(path[:place])
        if isinstance(inner, Mapping) and (value := _at(inner, path[place + 1 :])) is not None:
            return value
        place = path.find(".", place + 1)
    return None


def _inside(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _attributes(listed: Any) -> dict[str, Any]:
    """``[{"key": k, "value": {"stringValue": v}}]`` -> ``{k: v}``; an object stays as it is."""
    if isinstance(listed, Mapping):
        return dict(listed)
    pairs = [one for one in listed or () if isinstance(one, Mapping) and isinstance(one.get("key"), str)]
    return {one["key"]: _any_value(one.get("value")) for one in pairs} if isinstance(listed, list) else {}


def _any_value(value: Any) -> Any:
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    match kind:
        case "intValue":
            return int(inner) if isinstance(inner, str) and re.fullmatch(r"-?\d{1,19}", inner) else inner
        case "arrayValue":
            return [_any_value(one) for one in _inside(inner, "values") or ()]
        case "kvlistValue":
            return _attributes(_inside(inner, "values"))
        case "stringValue" | "boolValue" | "doubleValue" | "bytesValue":
            return inner
    return value


def _name(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"{name} is {shown(value)}, which is no name")
    return str(value)


def _milliseconds(value: Any) -> float:
    """ISO 8601, or a number since the epoch whose size tells its unit: s, ms, us or ns. Raises ValueError."""
    if isinstance(value, str):
        if re.fullmatch(r"\d{9,20}(?:\.\d{1,9})?", value):
            value = float(value) if "." in value else int(value)
        else:
            try:
                moment = datetime.datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{shown(value)} is no time") from None
            return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp() * 1e3
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{shown(value)} is no time")
    for limit, factor in ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3)):
        if abs(value) < limit:
            return value * factor
    return value * 1e-6
