"""Extraction: requests find their responses by id in any order, and no event is lost without a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.events import FIELDS
from windlass.datasets.extraction import Extraction, Reason, extract
from windlass.datasets.traces import read_traces, write_traces
from windlass.errors import DataError


def request(name: str | None = "r1", **more: Any) -> dict[str, Any]:
    event = {"type": "tool.request", "request_id": name, "tool_name": "search", "input": {"q": "cats"}, "timestamp": 10}
    return {key: value for key, value in {**event, **more}.items() if value is not None}


def response(name: str | None = "r1", **more: Any) -> dict[str, Any]:
    event = {"type": "tool.response", "request_id": name, "output": "12 cats", "timestamp": 10.25}
    return {key: value for key, value in {**event, **more}.items() if value is not None}


def extracted(path: Path, *events: Any, **fields: str) -> Extraction:
    log = path / "log.jsonl"
    log.write_text("".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events))
    found = extract(log, fields)
    assert found.events == 2 * found.pairs + found.spans + len(found.dropped)
    return found


def reasons(found: Extraction) -> list[tuple[int, Reason]]:
    return [(one.row, one.reason) for one in found.dropped]


def test_a_request_and_its_response_are_a_trace(tmp_path: Path) -> None:
    found = extracted(
        tmp_path,
        request(correlation_id="c", source="agent", metadata={"a": 1}),
        response(verified=True, reward=0.5, metadata={"b": 2}),
    )
    (trace,) = found.traces
    assert (trace.id, trace.request_id, trace.correlation_id, trace.tool_name) == ("r1", "r1", "c", "search")
    assert (trace.tool_input, trace.tool_output, trace.duration_ms) == ({"q": "cats"}, "12 cats", 250.0)
    assert (trace.reward, trace.verification_passed, trace.source) == (0.5, True, "agent")
    assert trace.labels.task_outcome == "success" and trace.labels.verification_alignment == "aligned"
    assert trace.metadata == {"a": 1, "b": 2} and not found.dropped


@pytest.mark.parametrize("shape", ["list", "events", "lines", "camel"])
def test_every_shape_of_log(tmp_path: Path, shape: str) -> None:
    events = [request(), response()]
    if shape == "camel":
        events = [
            {"eventType": "ToolRequest", "requestId": "r1", "toolName": "search", "toolInput": {"q": "cats"}, "ts": 10},
            {"eventType": "ToolResponse", "requestId": "r1", "toolOutput": "12 cats", "ts": 10.25},
        ]
    whole = {"list": events, "events": {"session": 7, "events": events}}.get(shape)
    path = tmp_path / "log"
    path.write_text(json.dumps(whole) if whole else "\n".join(map(json.dumps, events)))
    (trace,) = extract(path).traces
    assert trace.tool_output == "12 cats" and trace.duration_ms == 250.0


@given(st.permutations([0, 1, 2, 3, 4, 5]))
def test_the_order_in_the_log_does_not_matter(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    events = [event for i in range(3) for event in (request(f"r{i}"), response(f"r{i}", output=f"{i}"))]
    found = extracted(tmp_path_factory.mktemp("log"), *(events[i] for i in order))
    assert {trace.id: trace.tool_output for trace in found.traces} == {"r0": "0", "r1": "1", "r2": "2"}


EVENTS = st.lists(
    st.builds(
        lambda kind, rid, cid, tool, time: {
            **{"type": kind, "request_id": rid, "correlation_id": cid, "tool_name": tool, "timestamp": time},
            **({"input": "i"} if "call" in kind else {"output": "o"}),
        },
        st.sampled_from(["tool.call", "tool.result", "http.call", "http.result", "log"]),
        st.sampled_from([None, "r1", "r2"]),
        st.sampled_from([None, "c1", "c2"]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, 1, 2, 3]),
    )
    | st.just("text")
    | st.just(3)
    | st.dictionaries(st.sampled_from(["type", "output", "name", "labels"]), st.text() | st.integers(), max_size=3),
    min_size=1,
    max_size=12,
)


@given(EVENTS)
def test_nothing_is_lost_without_a_reason(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("log")
    found = extracted(folder, *map(json.dumps, events))
    assert found.events == len(events) and sum(found.counts.values()) == len(found.dropped)
    assert len({trace.id for trace in found.traces}) == len(found.traces)
    if found.traces:
        write_traces(folder / "traces.jsonl", found.traces)
        assert tuple(one for _, one in read_traces(folder / "traces.jsonl")) == found.traces


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=4,
).filter(lambda value: "Infinity" not in json.dumps(value))
NAMES = sorted({path.split(".")[0] for paths in FIELDS.values() for path in paths} | {"resourceSpans"})


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ANY, max_size=6), min_size=1, max_size=4))
def test_no_event_breaks_it(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> None:
    found = extracted(tmp_path_factory.mktemp("log"), *map(json.dumps, events))
    write_traces(tmp_path_factory.mktemp("log") / "traces.jsonl", found.traces)


def test_a_request_id_that_is_used_again(tmp_path: Path) -> None:
    again = [request(timestamp=20), response(timestamp=21, output="13 cats")]
    found = extracted(tmp_path, request(), response(), *again)
    assert [(t.id, t.tool_output, t.duration_ms) for t in found.traces] == [
        ("r1", "12 cats", 250.0),
        ("r1#2", "13 cats", 1000.0),
    ]


def test_one_request_id_in_two_correlations(tmp_path: Path) -> None:
    found = extracted(
        tmp_path,
        request(correlation_id="c1"),
        request(correlation_id="c2"),
        response(correlation_id="c2", output="two"),
        response(correlation_id="c1", output="one"),
    )
    assert {trace.correlation_id: trace.tool_output for trace in found.traces} == {"c1": "one", "c2": "two"}


def test_other_events_of_one_request_id_do_not_disturb(tmp_path: Path) -> None:
    found = extracted(
        tmp_path,
        {"type": "http.request", "request_id": "r1", "path": "/"},
        request(),
        {"type": "tool.request", "request_id": "r1", "tool_name": "calc", "input": "1+1"},
        response(tool_name="calc", output="2"),
        response(tool_name="search"),
        {"type": "http.response", "request_id": "r1", "status": 200},
    )
    assert {trace.tool_name: trace.tool_output for trace in found.traces} == {"calc": "2", "search": "12 cats"}
    assert reasons(found) == [(1, Reason.NO_TOOL), (6, Reason.NO_TOOL)]


def test_a_correlation_id_is_enough_where_one_request_is_open(tmp_path: Path) -> None:
    alone = {"correlation_id": "c"}
    found = extracted(tmp_path, request(None, **alone), response(None, **alone))
    assert [trace.id for trace in found.traces] == ["c"]
    found = extracted(tmp_path, request("a", **alone), request("b", **alone), response(None, **alone))
    assert reasons(found) == [(1, Reason.NO_RESPONSE), (2, Reason.NO_RESPONSE), (3, Reason.AMBIGUOUS)]
    model = {"type": "model.response", "output": "hello", **alone}
    found = extracted(tmp_path, request(None, **alone), model)
    assert reasons(found) == [(1, Reason.NO_RESPONSE), (2, Reason.NO_REQUEST)]


def test_a_response_is_not_earlier_than_its_request(tmp_path: Path) -> None:
    found = extracted(tmp_path, response(timestamp=5, output="of a lost one"), request(), response())
    assert [trace.tool_output for trace in found.traces] == ["12 cats"]
    assert reasons(found) == [(1, Reason.NO_REQUEST)]


DROPPED = [
    ([request()], [(1, Reason.NO_RESPONSE)]),
    ([response()], [(1, Reason.NO_REQUEST)]),
    ([request(), request(), response()], [(2, Reason.REPEATED)]),
    ([request(None), response(None)], [(1, Reason.NO_ID), (2, Reason.NO_ID)]),
    ([request(tool_name=None), response()], [(1, Reason.NO_TOOL), (2, Reason.NO_TOOL)]),
    ([{"level": "info", "message": "started"}], [(1, Reason.OTHER)]),
    (["no json", "[1]"], [(1, Reason.NO_JSON), (2, Reason.NO_JSON)]),
    ([request(timestamp="noon"), response()], [(1, Reason.VALUES), (2, Reason.NO_REQUEST)]),
    ([request(), response(reward=3)], [(1, Reason.VALUES), (2, Reason.VALUES)]),
    ([request(), response(status="perhaps")], [(1, Reason.VALUES), (2, Reason.VALUES)]),
    ([request(), response(labels={"task_outcome": "won"})], [(1, Reason.VALUES), (2, Reason.VALUES)]),
    ([request(), response(duration_ms=-1)], [(1, Reason.VALUES), (2, Reason.VALUES)]),
    ([request(request_id={"a": 1}), response()], [(1, Reason.VALUES), (2, Reason.NO_REQUEST)]),
]


@pytest.mark.parametrize(("events", "expected"), DROPPED)
def test_what_is_dropped_and_why(tmp_path: Path, events: list[Any], expected: list[tuple[int, Reason]]) -> None:
    assert reasons(extracted(tmp_path, *events)) == expected


OUTCOMES = [
    ({}, "success"),
    ({"status": "ok"}, "success"),
    ({"status": 200}, "success"),
    ({"success": True}, "success"),
    ({"error": None}, "success"),
    ({"error": ""}, "success"),
    ({"is_error": False}, "success"),
    ({"status": "Timed Out"}, "fail"),
    ({"status": 503}, "fail"),
    ({"success": False}, "fail"),
    ({"error": "boom"}, "fail"),
    ({"is_error": True}, "fail"),
    ({"type": "tool.error"}, "fail"),
    ({"status": "partial"}, "partial"),
    ({"labels": {"taskOutcome": "partial"}}, "partial"),
    ({"status": "STATUS_CODE_ERROR"}, "fail"),
]


@pytest.mark.parametrize(("says", "outcome"), OUTCOMES)
def test_what_a_response_says_of_the_outcome(tmp_path: Path, says: dict[str, Any], outcome: str) -> None:
    (trace,) = extracted(tmp_path, request(), response(**says)).traces
    assert trace.labels.task_outcome == outcome


def test_an_error_is_what_came_out_where_nothing_else_did(tmp_path: Path) -> None:
    (trace,) = extracted(tmp_path, request(), response(output=None, error={"code": 7})).traces
    assert trace.tool_output == {"code": 7}


def test_verification_against_outcome(tmp_path: Path) -> None:
    (trace,) = extracted(tmp_path, request(), response(verified=False)).traces
    assert trace.labels.verification_alignment == "conflict"
    given = {"verification_alignment": "unknown"}
    (trace,) = extracted(tmp_path, request(), response(verified=False, labels=given)).traces
    assert trace.labels.verification_alignment == "unknown"  # who labelled it knows better


TIMES = [
    ("2026-11-20T10:00:00Z", "2026-11-20T11:00:00.250+01:00", 250.0),
    ("2026-11-20 10:00:00", "2026-11-20T10:00:01.5", 1500.0),
    (1763632800, 1763632800.5, 500.0),
    (1763632800000, 1763632800020, 20.0),
    (1763632800000000, 1763632800020000, 20.0),
    ("1763632800000000000", "1763632800012000000", 12.0),
    ("1712011000000", "1712011000500", 500.0),  # not the year 1712
    ("1763632800.25", "1763632800.5", 250.0),
    ("20261120", "2026-11-21", 86_400_000.0),
]


@pytest.mark.parametrize(("start", "end", "expected"), TIMES)
def test_durations_from_every_kind_of_time(tmp_path: Path, start: Any, end: Any, expected: float) -> None:
    (trace,) = extracted(tmp_path, request(timestamp=start), response(timestamp=end)).traces
    assert trace.duration_ms == pytest.approx(expected, abs=0.001)


def test_a_duration_that_is_recorded_goes_first_and_an_unknown_one_stays_so(tmp_path: Path) -> None:
    assert extracted(tmp_path, request(), response(duration_ms=7)).traces[0].duration_ms == 7.0
    assert extracted(tmp_path, request(timestamp=None), response()).traces[0].duration_ms is None


def span(attributes: Any, **more: Any) -> dict[str, Any]:
    return {
        **{"traceId": "T", "spanId": "S", "name": "execute_tool calc", "kind": 1, "status": {"code": 1}},
        **{"startTimeUnixNano": "1763632800000000000", "endTimeUnixNano": "1763632800012000000"},
        **{"attributes": attributes, **more},
    }


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return [{"key": k.replace("__", "."), "value": {kinds[type(v)]: v}} for k, v in values.items()]


CALL = attributes(gen_ai__tool__name="calc", gen_ai__tool__call__arguments='{"a": 2}', gen_ai__tool__call__result="4")


def test_opentelemetry_json(tmp_path: Path) -> None:
    resource = {"attributes": attributes(service__name="agent")}
    other = span(attributes(http__method="GET"), name="GET /")
    exported = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span(CALL), other]}]}]}
    path = tmp_path / "spans.json"
    for content in (json.dumps(exported), json.dumps(exported, indent=1), f"{json.dumps(exported)}\n" * 2):
        path.write_text(content)
        found = extract(path)
        trace = found.traces[0]
        assert (trace.tool_name, trace.tool_input, trace.tool_output) == ("calc", {"a": 2}, "4")
        assert (trace.correlation_id, trace.request_id, trace.source) == ("T", "S", "agent")
        assert trace.duration_ms == pytest.approx(12.0, abs=0.001)
        assert found.events == found.spans + len(found.dropped)


def test_spans_as_the_python_sdk_prints_them(tmp_path: Path) -> None:
    values = {"gen_ai.tool.name": "calc", "gen_ai.tool.call.arguments": "{}", "gen_ai.tool.call.result": "4"}
    printed = {
        **{"name": "execute_tool calc", "context": {"trace_id": "0x1", "span_id": "0x2"}, "kind": "SpanKind.INTERNAL"},
        **{"start_time": "2026-11-20T10:00:00.000000Z", "end_time": "2026-11-20T10:00:00.012000Z"},
        **{"status": {"status_code": "ERROR"}, "attributes": values},
    }
    (trace,) = extracted(tmp_path, printed).traces
    assert (trace.request_id, trace.correlation_id, trace.duration_ms) == ("0x2", "0x1", 12.0)
    assert trace.labels.task_outcome == "fail"


def test_fields_of_any_other_log_are_named(tmp_path: Path) -> None:
    asked = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "calc", "arguments": {"a": 1}}}
    fields = {"kind": "method", "request_id": "id", "tool_name": "params.name", "input": "params.arguments"}
    found = extracted(tmp_path, asked, {"jsonrpc": "2.0", "id": 3, "result": {"n": 1}}, **fields)
    (trace,) = found.traces
    assert (trace.id, trace.tool_name, trace.tool_input, trace.tool_output) == ("3", "calc", {"a": 1}, {"n": 1})


def test_a_field_that_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'request_id'"):
        extracted(tmp_path, request(), requestid="id")
    with pytest.raises(DataError, match="'input' has no field"):
        extracted(tmp_path, request(), input="")


def test_the_log_is_read_alike_each_time(tmp_path: Path) -> None:
    events = [event for i in range(20) for event in (request(f"r{i % 7}"), response(f"r{i % 5}"))]
    assert extracted(tmp_path, *events) == extracted(tmp_path, *events)
