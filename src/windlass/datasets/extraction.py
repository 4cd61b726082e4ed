"""Event logs to learning traces: each request of a tool and what came back, paired by their ids.

A log is JSON Lines, a JSON list, or an object with ``events``; what an event may look like is in
``windlass.datasets.events``. A response belongs to the open request of its request id, and of its correlation id where
both have one; where one of them has no request id, to the only open request of the correlation id. Neither the order in
the log matters, nor other tools or other kinds of event under the same id; a response is not earlier than its request.
Where more than one could be meant, none is taken.

Every event is in a trace or is dropped for a reason: ``events == 2 * pairs + spans + len(dropped)``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from windlass.datasets.events import Event, Kind, Reader, duration, outcome, spans
from windlass.datasets.rows import OnBytes, Problems, fit, parse, read_rows, shown, snake
from windlass.datasets.traces import Trace, alignment


class Reason(StrEnum):
    NO_JSON = "no JSON object"
    OTHER = "neither a request nor a response"
    NO_ID = "without a request id or correlation id"
    NO_TOOL = "without the name of a tool"
    REPEATED = "a request that is there twice"
    AMBIGUOUS = "more than one that it could belong to"
    NO_RESPONSE = "a request without a response"
    NO_REQUEST = "a response without a request"
    VALUES = "a value that no trace can have"


class Dropped(NamedTuple):
    row: int
    reason: Reason
    words: str  #: what exactly, where the reason does not say it


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a log held."""

    traces: tuple[Trace, ...]
    events: int
    pairs: int  #: traces of a request and its response
    spans: int  #: traces of one event
    dropped: tuple[Dropped, ...]  #: events, by row

    @property
    def counts(self) -> dict[str, int]:
        """Events dropped by reason, the most frequent first."""
        return dict(Counter(str(one.reason) for one in self.dropped).most_common())


def extract(path: Path, fields: Mapping[str, str] | None = None, on_bytes: OnBytes | None = None) -> Extraction:
    """The traces of a log, in the order in which they were complete.

    ``fields`` names where events have what :data:`windlass.datasets.events.FIELDS` lists, instead of what stands there.
    Raises DataError on a file that cannot be read or is empty, and on an unknown name in ``fields``.
    """
    reader = Reader(fields)
    problems = Problems(path)
    rows = read_rows(path, problems, "events", on_bytes).rows
    pairing = _Pairing()
    pairing.take(reader, ((row, span) for row, value in rows for span in spans(value)))
    for row, words in problems:
        pairing.events += 1
        pairing.drop(Reason.NO_JSON, words, row)
    return pairing.finish()


class _Open:
    """Events that wait for their counterpart."""

    def __init__(self) -> None:
        self._by_request: defaultdict[str, dict[int, Event]] = defaultdict(dict)
        self._by_correlation: defaultdict[str, dict[int, Event]] = defaultdict(dict)
        self._nameless: defaultdict[str, dict[int, Event]] = defaultdict(dict)  #: without a request id, by correlation

    def add(self, event: Event) -> None:
        for index, key in self._places(event):
            index[key][id(event)] = event

    def remove(self, event: Event) -> None:
        for index, key in self._places(event):
            del index[key][id(event)]
            if not index[key]:
                del index[key]

    def _places(self, event: Event) -> Iterator[tuple[defaultdict[str, dict[int, Event]], str]]:
        if event.request_id:
            yield self._by_request, event.request_id
        if event.correlation_id:
            yield self._by_correlation, event.correlation_id
            if not event.request_id:
                yield self._nameless, event.correlation_id

    def named(self, event: Event) -> list[Event]:
        """Those of the same request id."""
        return list(self._by_request.get(event.request_id or "", {}).values())

    def correlated(self, event: Event) -> list[Event]:
        """Those of the same correlation id, if one of the two has no request id."""
        index = self._nameless if event.request_id else self._by_correlation
        return list(index.get(event.correlation_id or "", {}).values())

    def __iter__(self) -> Iterator[Event]:
        yield from (event for waiting in self._by_request.values() for event in waiting.values())
        yield from (event for waiting in self._nameless.values() for event in waiting.values())


class _Pairing:
    def __init__(self) -> None:
        self.events = 0
        self._traces: list[Trace] = []
        self._pairs = 0
        self._dropped: list[Dropped] = []
        self._requests = _Open()
        self._responses = _Open()
        self._ids: Counter[str] = Counter()

    def drop(self, reason: Reason, words: str, *rows: int) -> None:
        self._dropped += [Dropped(row, reason, words) for row in rows]

    def take(self, reader: Reader, rows: Iterable[tuple[int, Any]]) -> None:
        for row, raw in rows:
            self.events += 1
            if not isinstance(raw, Mapping):
                self.drop(Reason.NO_JSON, shown(raw), row)
                continue
            try:
                event = reader.read(row, raw)
            except (ValueError, OverflowError) as error:
                self.drop(Reason.VALUES, str(error), row)
                continue
            match event.kind:
                case Kind.OTHER:
                    self.drop(Reason.OTHER, shown(event.found.get("kind", "")), row)
                case Kind.SPAN:
                    self._make(event, event)
                case _ if not (event.request_id or event.correlation_id):
                    self.drop(Reason.NO_ID, "", row)
                case Kind.REQUEST:
                    self._request(event)
                case Kind.RESPONSE:
                    self._response(event)

    def _request(self, event: Event) -> None:
        if any(other.found == event.found for other in self._requests.named(event)):
            self.drop(Reason.REPEATED, event.request_id or "", event.row)
            return
        found = _counterparts(event, self._responses)
        if len(found) == 1:
            self._responses.remove(found[0])
            self._make(event, found[0])
        else:
            self._requests.add(event)

    def _response(self, event: Event) -> None:
        found = _counterparts(event, self._requests)
        if len(found) == 1:
            self._requests.remove(found[0])
            self._make(found[0], event)
        elif found:
            self.drop(Reason.AMBIGUOUS, f"rows {', '.join(str(other.row) for other in found[:5])}", event.row)
        else:
            self._responses.add(event)

    def _make(self, request: Event, response: Event) -> None:
        rows = [request.row] if request is response else [request.row, response.row]
        try:
            if not (tool := request.tool_name or response.tool_name):
                self.drop(Reason.NO_TOOL, "", *rows)
                return
            self._traces.append(self._trace(tool, request, response))
        except (ValueError, OverflowError) as error:
            self.drop(Reason.VALUES, str(error), *rows)
            return
        self._pairs += request is not response

    def _trace(self, tool: str, request: Event, response: Event) -> Trace:
        """Raises ValueError."""
        both = {**request.found, **response.found}
        result, verified = outcome(response), both.get("verified")
        labels = {"task_outcome": result, **_object(request, "labels"), **_object(response, "labels")}
        if isinstance(verified, bool) and labels["task_outcome"] == result:
            labels.setdefault("verification_alignment", alignment(result, verified))
        output, error = response.found.get("output"), response.found.get("error")
        request_id = request.request_id or response.request_id
        correlation_id = request.correlation_id or response.correlation_id
        trace = fit(
            Trace,
            {
                "id": "new",
                "request_id": request_id,
                "correlation_id": correlation_id,
                "tool_name": tool,
                "source": both.get("source"),
                "tool_input": _asked(request.found.get("input")),
                "tool_output": error if output is None and not isinstance(error, bool) else output,
                "duration_ms": duration(request, response),
                "reward": both.get("reward"),
                "verification_passed": verified,
                "labels": labels,
                "metadata": {**_object(request, "metadata"), **_object(response, "metadata")},
            },
        )
        name = request_id or correlation_id or f"row-{request.row}"
        self._ids[name] += 1
        return trace.model_copy(update={"id": name if self._ids[name] == 1 else f"{name}#{self._ids[name]}"})

    def finish(self) -> Extraction:
        for event in self._requests:
            self.drop(Reason.NO_RESPONSE, event.request_id or "", event.row)
        for event in self._responses:
            self.drop(Reason.NO_REQUEST, event.request_id or "", event.row)
        return Extraction(
            traces=tuple(self._traces),
            events=self.events,
            pairs=self._pairs,
            spans=len(self._traces) - self._pairs,
            dropped=tuple(sorted(self._dropped)),
        )


def _counterparts(event: Event, waiting: _Open) -> list[Event]:
    """What an event may belong to; those of its kind's stem before all others."""
    found = [other for other in waiting.named(event) if _fits(event, other)]
    if not found:
        return [one for one in waiting.correlated(event) if _fits(event, one) and one.stem == event.stem]
    return [other for other in found if other.stem == event.stem] or found


def _fits(event: Event, other: Event) -> bool:
    request, response = (event, other) if event.kind is Kind.REQUEST else (other, event)
    in_time = request.time is None or response.time is None or request.time <= response.time
    same_correlation = _same(event.correlation_id, other.correlation_id)
    return in_time and same_correlation and _same(event.tool_name, other.tool_name)


def _same(a: str | None, b: str | None) -> bool:
    return a is None or b is None or a == b


def _object(event: Event, name: str) -> dict[str, Any]:
    value = event.found.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is an object, not {shown(value)}")
    return {snake(key) if name == "labels" else key: inner for key, inner in value.items()}


def _asked(value: Any) -> Any:
    """A tool's arguments: a text that is a JSON object is that object."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            parsed = parse(value.encode())
        except ValueError:
            return value
        return parsed if isinstance(parsed, dict) else value
    return value
