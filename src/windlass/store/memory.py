"""The store's twin in memory: same behaviour, nothing on disk. For dry runs and tests."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from threading import RLock
from typing import Any

from windlass.errors import StoreError
from windlass.records.decision import Approval, Decision, StudyRecord
from windlass.records.run import RunRecord
from windlass.store import codec
from windlass.store.expression import (
    SORTABLE,
    And,
    Compare,
    Contains,
    Field,
    In,
    IsNan,
    IsNull,
    Kind,
    Leaf,
    Like,
    Node,
    Not,
    Or,
    OrderKey,
    Value,
    typed,
)
from windlass.store.lifecycle import RECENT, advance, check_answer, check_decision, check_identity, only_match
from windlass.store.search import parse, parse_order


class MemoryStore:
    """Implements ``Store``; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._studies: dict[str, StudyRecord] = {}
        self._decisions: dict[tuple[str, int], Decision] = {}
        self._approvals: dict[tuple[str, int], Approval] = {}
        self._runs: dict[str, RunRecord] = {}
        self._closed = False

    def save_study(self, study: StudyRecord) -> None:
        with self._opened():
            self._studies[study.name] = codec.study_from_text(codec.study_to_text(study))

    def studies(self) -> list[StudyRecord]:
        with self._opened():
            return sorted(self._studies.values(), key=lambda study: (study.created, study.name))

    def record(self, decisions: Sequence[Decision], runs: Sequence[RunRecord] = ()) -> None:
        with self._opened():
            new_decisions: dict[tuple[str, int], Decision] = {}
            new_runs: dict[str, RunRecord] = {}
            for decision in decisions:
                key = (decision.study, decision.number)
                stored = new_decisions.get(key) or self._decisions.get(key)
                if stored is None:
                    new_decisions[key] = codec.decision_from_text(codec.decision_to_text(decision))
                else:
                    check_decision(stored, decision)
            for run in runs:
                if known := new_runs.get(run.id) or self._runs.get(run.id):
                    check_identity(known, run)
                else:
                    new_runs[run.id] = codec.run_from_text(codec.run_to_text(run))
            self._decisions.update(new_decisions)
            self._runs.update(new_runs)

    def decisions(self, study: str, after: int = 0) -> list[Decision]:
        with self._opened():
            found = [d for d in self._decisions.values() if d.study == study and d.number > after]
        return sorted(found, key=lambda decision: decision.number)

    def answer(self, approval: Approval) -> None:
        key = (approval.study, approval.number)
        with self._opened():
            if check_answer(self._decisions.get(key), self._approvals.get(key), approval):
                self._approvals[key] = approval

    def approvals(self, study: str) -> list[Approval]:
        with self._opened():
            return sorted((a for a in self._approvals.values() if a.study == study), key=lambda one: one.number)

    def put(self, runs: Iterable[RunRecord]) -> None:
        given = list(runs)
        with self._opened():
            changed: dict[str, RunRecord] = {}
            for run in given:
                copy = codec.run_from_text(codec.run_to_text(run))
                stored = changed.get(run.id) or self._runs.get(run.id)
                changed[run.id] = advance(stored, copy) if stored else copy
            self._runs.update(changed)

    def run(self, run_id: str) -> RunRecord:
        with self._opened():
            if run_id in self._runs:
                return self._runs[run_id]
            matches = sorted(known for known in self._runs if run_id in known) if run_id else []
            recent = sorted(self._runs, key=lambda known: -self._runs[known].created)[:RECENT]
            return self._runs[only_match(run_id, matches, recent)]

    def history(self, study: str) -> list[RunRecord]:
        with self._opened():
            found = [run for run in self._runs.values() if run.study == study]
        return sorted(found, key=lambda run: (run.number is None, run.number or 0, run.created, run.id))

    def search(
        self, expression: str = "", *, order_by: str = "created desc", limit: int | None = None, offset: int = 0
    ) -> list[RunRecord]:
        node, keys = parse(expression), parse_order(order_by)
        with self._opened():
            found = [run for run in self._runs.values() if matches(node, run)]
        return ordered(found, keys)[offset : None if limit is None else offset + limit]

    def close(self) -> None:
        self._closed = True

    def _opened(self) -> RLock:
        if self._closed:
            raise StoreError("this store is closed", "Open the lab again.")
        return self._lock


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(node: Node, run: RunRecord) -> bool:
    """Whether a run meets an expression."""
    match node:
        case And(nodes):
            return all(matches(one, run) for one in nodes)
        case Or(nodes):
            return any(matches(one, run) for one in nodes)
        case Not(inner):
            return not matches(inner, run)
        case leaf:
            return _holds(leaf, run)


def ordered(runs: Iterable[RunRecord], keys: Sequence[OrderKey]) -> list[RunRecord]:
    """Sorted by all keys; the missing last in either direction, ties by id."""
    result = sorted(runs, key=lambda run: run.id)
    for key in reversed(keys):
        values = {run.id: value_of(run, key.field) for run in result}
        present = [run for run in result if values[run.id].kind in SORTABLE]
        absent = [run for run in result if values[run.id].kind not in SORTABLE]
        present.sort(key=lambda run: (values[run.id].kind, values[run.id].data), reverse=key.descending)
        result = present + absent
    return result


def value_of(run: RunRecord, field: Field) -> Value:
    """What a field is for a run; NULL where the run lacks it."""
    match field.group:
        case "metrics":
            summary = run.metrics.get(field.name)
            return typed(None if summary is None else getattr(summary, field.aspect))
        case "params":
            return typed(run.params.get(field.name))
        case "tags":
            return typed(run.tags.get(field.name))
        case "run":
            if field.name == "failure":
                return typed(run.failure and str(run.failure.kind))
            return typed(getattr(run, "duration_s" if field.name == "duration" else field.name))


def _holds(leaf: Leaf, run: RunRecord) -> bool:
    value = value_of(run, leaf.field)
    match leaf:
        case Compare(_, sign, asked):
            return value.kind == asked.kind and _COMPARE[sign](value.data, asked.data)
        case In(_, values):
            return value in values
        case Like(_, sign, pattern):
            wild = "".join({"%": ".*", "_": "."}.get(letter) or re.escape(letter) for letter in pattern)
            flags = re.DOTALL | (re.IGNORECASE | re.ASCII if sign == "ILIKE" else 0)
            return isinstance(value.data, str) and re.fullmatch(wild, value.data, flags) is not None
        case Contains(field, asked):
            return value.kind is Kind.LIST and any(typed(item) == asked for item in run.params[field.name])
        case IsNull():
            return value.kind is Kind.NULL
        case IsNan():
            return value.kind is Kind.NAN
