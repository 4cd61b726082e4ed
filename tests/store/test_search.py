"""Random searches over random runs: SQL and plain Python give the same answer; any text is read or refused."""

from __future__ import annotations

import math
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import SearchError
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.store import query
from windlass.store.expression import And, Compare, Field, Kind, Not, Or, OrderKey, Value
from windlass.store.memory import MemoryStore
from windlass.store.search import ATTRIBUTES, parse, parse_order
from windlass.store.sql import SqlStore

NAMES = ("a", "b.c", "odd name")
NUMBERS = (-1.0, 0.0, 0.5, 1.0, 2.0, 1e300, math.inf, -math.inf, math.nan)
TEXTS = ("", "a", "A", "ab", "b", "1", "é", "a%b", "a_b", "[a]*?", "x'y")

numbers = st.sampled_from(NUMBERS)
texts = st.sampled_from(TEXTS)
scalars = st.none() | st.booleans() | numbers | st.sampled_from((0, 1, 2, 10**400)) | texts
summaries = st.builds(MetricSummary, last=numbers, min=numbers, max=numbers, step=st.sampled_from((0, 1, 2)))
failures = st.none() | st.builds(Failure, kind=st.sampled_from(FailureKind), message=st.just("m"))


@st.composite
def runs(draw: st.DrawFn) -> list[RunRecord]:
    count = draw(st.integers(0, 9))
    return [
        RunRecord(
            id=f"run-{draw(st.integers(0, 9))}-{i}",
            name=draw(texts),
            status=draw(st.sampled_from(Status)),
            created=draw(st.sampled_from((0.0, 1.0, 2.5))),
            started=draw(st.sampled_from((None, 0.0, 1.0))),
            ended=draw(st.sampled_from((None, 1.0, 3.0))),
            study=draw(st.none() | texts),
            number=draw(st.sampled_from((None, 1, 2, 3))),
            seed=draw(st.sampled_from((0, 1, 2**70))),
            failure=draw(failures),
            config=draw(st.dictionaries(st.sampled_from(NAMES), scalars | st.lists(scalars, max_size=3), max_size=3)),
            metrics=draw(st.dictionaries(st.sampled_from(NAMES), summaries, max_size=3)),
            tags=draw(st.dictionaries(st.sampled_from(NAMES), texts, max_size=3)),
        )
        for i in range(count)
    ]


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def number(value: float) -> str:
    return {math.inf: "1e999", -math.inf: "-1e999"}.get(value, repr(value))


number_literals = numbers.filter(lambda value: value == value).map(number)
text_literals = texts.map(quote)
any_literals = number_literals | text_literals | st.sampled_from(("true", "false"))
names = st.sampled_from(("a", "b.c", "`odd name`", "nowhere"))
metric_fields = st.builds("metrics.{}{}".format, names, st.sampled_from(("", ".last", ".min", ".max", ".step")))
param_fields = names.map("params.{}".format)
tag_fields = names.map("tags.{}".format)
number_fields = metric_fields | st.sampled_from(
    ("number", "seed", "attempt", "duration", "created", "started", "ended")
)
text_fields = tag_fields | st.sampled_from(("name", "study", "id"))
fields = number_fields | text_fields | param_fields | st.sampled_from(("status", "failure"))
signs = st.sampled_from(("=", "!=", "<", "<=", ">", ">="))
negation = st.sampled_from(("", "not "))
patterns = st.text("aAb%_[*1é", max_size=4).map(quote)


def listed(literals: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(literals, min_size=1, max_size=3).map(", ".join)


conditions = st.one_of(
    st.builds("{} {} {}".format, number_fields, signs, number_literals),
    st.builds("{} {} {}".format, text_fields, signs, text_literals),
    st.builds("{} {} {}".format, param_fields, signs, number_literals | text_literals),
    st.builds("{} {} {}".format, param_fields, st.sampled_from(("=", "!=")), st.sampled_from(("true", "false"))),
    st.builds("{} {}in ({})".format, param_fields, negation, listed(any_literals)),
    st.builds("{} {}in ({})".format, number_fields, negation, listed(number_literals)),
    st.builds("{} {}contains {}".format, param_fields, negation, any_literals),
    st.builds("{} {}like {}".format, text_fields | param_fields, negation, patterns),
    st.builds("{} {}ilike {}".format, text_fields | param_fields, negation, patterns),
    st.builds("{} is {}null".format, fields, negation),
    st.builds("{} is {}nan".format, metric_fields | param_fields, negation),
    st.builds("status {} '{}'".format, st.sampled_from(("=", "!=")), st.sampled_from(Status)),
    st.builds("failure {} '{}'".format, st.sampled_from(("=", "!=")), st.sampled_from(FailureKind)),
)
expressions = st.just("") | st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not {}".format, inner),
    ),
    max_leaves=5,
)
orders = st.lists(st.builds("{} {}".format, fields, st.sampled_from(("", "asc", "desc"))), max_size=3).map(", ".join)


@pytest.mark.parametrize("breaks_off_at_once", [False, True])
def test_sql_and_python_agree(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, breaks_off_at_once: bool
) -> None:
    folder = tmp_path_factory.mktemp("agree")
    fresh = iter(range(10**6))
    if breaks_off_at_once:
        monkeypatch.setattr(query, "_WALK_STEPS", 1)

    @settings(max_examples=120, deadline=None)
    @given(
        given_runs=runs(),
        asked=st.lists(
            st.tuples(expressions, orders, st.none() | st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=8
        ),
    )
    def agree(given_runs: list[RunRecord], asked: list[tuple[str, str, int | None, int]]) -> None:
        sql, memory = SqlStore(folder / f"{next(fresh)}.db"), MemoryStore()
        try:
            sql.put(given_runs)
            memory.put(given_runs)
            for expression, order_by, limit, offset in asked:
                found = [s.search(expression, order_by=order_by, limit=limit, offset=offset) for s in (sql, memory)]
                assert [run.id for run in found[0]] == [run.id for run in found[1]], (expression, order_by)
        finally:
            sql.close()

    agree()


@settings(max_examples=300, deadline=None)
@given(
    st.text(string.printable + "é`'\"", max_size=40) | st.lists(conditions | signs | names, max_size=5).map(" ".join)
)
def test_any_text_is_read_or_refused_at_a_place_inside_it(text: str) -> None:
    for read in (parse, parse_order):
        try:
            read(text)
        except SearchError as error:
            assert 0 <= error.position <= len(text)


def test_the_tree_of_an_expression() -> None:
    auc = Compare(Field("metrics", "auc"), ">", Value(Kind.NUMBER, 0.5))
    svm = Compare(Field("params", "m"), "=", Value(Kind.TEXT, "svm"))
    late = Compare(Field("run", "created"), ">=", Value(Kind.NUMBER, 3400.0))
    assert parse("metrics.auc>.5 AnD not(params.m='svm' or created>='-10m')", now=4000.0) == And(
        (auc, Not(Or((svm, late))))
    )
    assert parse_order("metrics.`a b`.min DESC,id") == (
        OrderKey(Field("metrics", "a b", "min"), descending=True),
        OrderKey(Field("run", "id")),
    )


def test_a_quoted_name_is_whole_and_only_a_bare_ending_is_an_aspect() -> None:
    def metric(text: str) -> Field:
        return parse_order(text)[0].field

    assert metric("metrics.loss.max") == Field("metrics", "loss", "max")
    assert metric("metrics.`loss.max`") == Field("metrics", "loss.max")
    assert metric("metrics.`loss.max`.max") == Field("metrics", "loss.max", "max")
    assert metric("metrics.max") == Field("metrics", "max")
    assert metric("metrics.val/loss-2.0") == Field("metrics", "val/loss-2.0")
    assert metric("params.a.max") == Field("params", "a.max")


def test_every_attribute_can_be_asked_for() -> None:
    for name in ATTRIBUTES:
        assert parse_order(name) == (OrderKey(Field("run", name)),)
