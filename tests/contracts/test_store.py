"""The store's contract, on every implementation: a new store is one fixture parameter."""

from __future__ import annotations

import math
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from windlass.errors import DuplicateId, NotFound, SearchError, StateError, StoreError
from windlass.records.decision import Approval, Decision, Mode, Outcome, Proposal, StudyRecord, StudyStatus
from windlass.records.run import Artifact, EarlyStop, Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.store.memory import MemoryStore
from windlass.store.protocol import Store
from windlass.store.sql import SqlStore

NAN, INF = math.nan, math.inf


#: postgresql+psycopg://user@host/database, where the contract is to be held there too
POSTGRESQL = os.environ.get("WINDLASS_TEST_POSTGRESQL", "")


@pytest.fixture(params=["sqlite", "memory", *(["postgresql"] if POSTGRESQL else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "postgresql":
        yield from on_postgresql()
        return
    made: Store = SqlStore(tmp_path / "windlass.db") if request.param == "sqlite" else MemoryStore()
    yield made
    made.close()


def on_postgresql() -> Iterator[Store]:
    """A store in a schema of its own."""
    engine, name = create_engine(POSTGRESQL), f"test_{secrets.token_hex(8)}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    made = SqlStore(f"{POSTGRESQL}{'&' if '?' in POSTGRESQL else '?'}options=-csearch_path%3D{name}")
    yield made
    made.close()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    engine.dispose()


def a_run(number: int = 1, /, **changes: Any) -> RunRecord:
    values = {
        "id": f"20261120T0000{number:02}Z_digits_{number:010x}",
        "name": "digits",
        "status": Status.PENDING,
        "created": 1000.0 + number,
        "study": "digits",
        "number": number,
    }
    return RunRecord(**{**values, **changes})


def a_decision(number: int = 1, **changes: Any) -> Decision:
    values = {
        "study": "digits",
        "number": number,
        "cycle": 1,
        "at": 5.5,
        "mode": Mode.EXPLORE,
        "strategy": "nothing is known yet",
        "proposal": Proposal(values={"lr": 0.1}, proposer="sobol", reason="covers the space"),
        "config": {"lr": 0.1},
        "outcome": Outcome.APPROVED,
        "verdict": "no rule broken",
        "seen": 0,
        "run_id": f"run-{number}",
    }
    return Decision(**{**values, **changes})


FULL = a_run(
    1,
    status=Status.FAILED,
    attempt=2,
    started=10.5,
    ended=20.25,
    failure=Failure(
        kind=FailureKind.TIMEOUT, message="ran past 10 s", traceback="Traceback ...\n", next_step="raise time_s"
    ),
    config={"optimizer": {"lr": 1e-5, "nesterov": True}, "layers": [1, 2.0, "drei", None], "note": None, "empty": {}},
    seed=2**63 + 1,
    metrics={"val/loss": MetricSummary(last=NAN, min=-INF, max=INF, step=3, count=9), "auc": MetricSummary.of(0.5)},
    tags={"owner": "Ünïcødé 🚀", "": "empty name"},
    artifacts=(Artifact(name="model", path="artifacts/model.skops", kind="model", bytes=10, sha256="ab"),),
    notes=("first", "second"),
    fingerprints={"config": "c" * 64},
    lineage={"replay_of": "other"},
    peak_memory_bytes=2**40,
    cpu_s=1.5,
)


def ids(runs: list[RunRecord]) -> list[int]:
    return [int(run.id[-10:], 16) for run in runs]


# Runs


def test_a_run_comes_back_as_it_was_put(store: Store) -> None:
    store.put([FULL])
    assert repr(store.run(FULL.id)) == repr(FULL)
    assert [repr(run) for run in store.search()] == [repr(run) for run in store.history("digits")] == [repr(FULL)]


_texts = st.text(st.characters(), max_size=12)
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | _texts
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
)
_summaries = st.builds(
    MetricSummary, last=st.floats(), min=st.floats(), max=st.floats(), step=st.integers(0, 9), count=st.integers(1, 9)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.dictionaries(_texts, _values, max_size=5),
    metrics=st.dictionaries(_texts, _summaries, max_size=3),
    tags=st.dictionaries(_texts, _texts, max_size=3),
    seed=st.integers(),
    number=st.integers(1, 10**6),
)
def test_any_run_comes_back_as_it_was_put(
    store: Store,
    config: dict[str, Any],
    metrics: dict[str, MetricSummary],
    tags: dict[str, str],
    seed: int,
    number: int,
) -> None:
    run = a_run(1, id=f"{abs(hash(repr((config, metrics, tags, seed, number))))}", config=config, metrics=metrics)
    run = replace(run, tags=tags, seed=seed, number=number)
    store.put([run])
    back = store.run(run.id)
    assert repr(back) == repr(run)
    assert repr(back.params) == repr(run.params)


def test_a_stored_run_does_not_change_with_the_callers_objects(store: Store) -> None:
    config = {"lr": 0.1, "inner": {"a": 1}}
    store.put([a_run(1, config=config)])
    config["inner"]["a"] = 2  # type: ignore[index]
    assert store.run(a_run(1).id).config == {"lr": 0.1, "inner": {"a": 1}}


def test_a_config_that_is_no_json_is_refused_whole(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be stored"):
        store.put([a_run(1), a_run(2, config={"model": object()})])
    assert store.search() == []


def test_runs_move_along_their_life_cycle(store: Store) -> None:
    run = a_run(1, config={"lr": 0.1})
    for status in (Status.PENDING, Status.QUEUED, Status.RUNNING, Status.COMPLETED):
        store.put([replace(run, status=status)])
        assert store.run(run.id).status is status
    assert store.search("status = 'completed'") == [replace(run, status=Status.COMPLETED)]
    assert store.search("status != 'completed'") == []


def test_stages_may_be_skipped_but_never_go_back(store: Store) -> None:
    store.put([a_run(1), a_run(2)])
    store.put([a_run(1, status=Status.FAILED), a_run(2, status=Status.RUNNING)])
    for number, status in ((1, Status.RUNNING), (1, Status.PENDING), (2, Status.QUEUED)):
        with pytest.raises(StateError, match="cannot go back"):
            store.put([a_run(number, status=status)])


STOP = EarlyStop(
    metric="val/loss",
    step=7.5,
    value=NAN,
    rule="halving",
    reason="place 4 of 5",
    evidence={"curves": 5, "at": {"x": INF}},
)


def test_a_run_that_was_stopped_early(store: Store) -> None:
    running = a_run(1, status=Status.RUNNING)
    stopped = replace(running, status=Status.STOPPED, stopped_early=STOP, ended=9.0)
    store.put([running, a_run(2, status=Status.COMPLETED)])
    store.put([stopped])
    store.put([stopped, replace(stopped, stopped_early=None)])
    assert repr(store.run(stopped.id)) == repr(stopped)
    assert ids(store.search("status = 'stopped'")) == [1]
    assert ids(store.search("status NOT IN ('stopped', 'failed')")) == [2]
    with pytest.raises(StateError, match="is stopped and never changes again; asked to change: stopped_early"):
        store.put([replace(stopped, stopped_early=replace(STOP, step=8))])
    with pytest.raises(StateError, match="is stopped and never changes again; asked to change: status"):
        store.put([replace(stopped, status=Status.COMPLETED)])
    with pytest.raises(StateError, match="cannot go back to running"):
        store.put([running])


def test_a_terminal_run_never_changes_again(store: Store) -> None:
    done = a_run(1, status=Status.COMPLETED, metrics={"auc": MetricSummary.of(0.5)}, tags={"a": "b"})
    store.put([done])
    store.put([done, replace(done, tags={})])
    for change in (
        {"status": Status.FAILED},
        {"metrics": {"auc": MetricSummary.of(0.6)}},
        {"metrics": {"loss": MetricSummary.of(0.6)}},
        {"tags": {"a": "c"}},
        {"notes": ("late",)},
        {"ended": 9.0},
    ):
        with pytest.raises(StateError, match="never changes again"):
            store.put([replace(done, **change)])  # type: ignore[arg-type]
    assert store.run(done.id) == done


@pytest.mark.parametrize(
    "change", [{"config": {"lr": 0.2}}, {"config": {"lr": 1}}, {"seed": 1}, {"study": "other"}, {"created": 1.0}]
)
def test_another_run_of_the_same_id_is_refused(store: Store, change: dict[str, Any]) -> None:
    run = a_run(1, config={"lr": 1.0})
    store.put([run])
    for action in (store.put, lambda runs: store.record([], runs)):
        with pytest.raises(DuplicateId, match=next(iter(change))):
            action([replace(run, **change)])
    assert store.run(run.id) == run


def test_what_is_measured_merges_and_the_new_value_wins(store: Store) -> None:
    one, two, three = (MetricSummary.of(value) for value in (1.0, 2.0, NAN))
    model, figure = (Artifact(name=name, path=f"artifacts/{name}") for name in ("model", "figure"))
    store.put([a_run(1, metrics={"a": one, "b": one}, tags={"x": "1"}, artifacts=(model,), notes=("n",), cpu_s=2.0)])
    running = a_run(1, status=Status.RUNNING, started=3.0, metrics={"b": two, "c": three}, tags={"y": "2"})
    store.put([replace(running, artifacts=(figure, replace(model, bytes=5)), notes=("n", "m"), cpu_s=1.0)])
    back = store.run(running.id)
    assert repr(back.metrics) == repr({"a": one, "b": two, "c": three})
    assert back.tags == {"x": "1", "y": "2"}
    assert back.artifacts == (replace(model, bytes=5), figure)
    assert (back.notes, back.started, back.cpu_s) == (("n", "m"), 3.0, 2.0)
    assert ids(store.search("metrics.b = 2 and metrics.a = 1 and tags.x = '1' and tags.y = '2'")) == [1]
    assert store.search("metrics.b = 1") == []


def test_a_new_attempt_replaces_the_outcome_and_keeps_the_curves(store: Store) -> None:
    failure = Failure(kind=FailureKind.LOST, message="its supervisor vanished")
    lost = a_run(1, status=Status.FAILED, failure=failure, started=1.0, ended=2.0, metrics={"a": MetricSummary.of(1.0)})
    store.put([lost])
    again = a_run(1, status=Status.RUNNING, attempt=2, started=5.0)
    store.put([again])
    back = store.run(lost.id)
    assert (back.status, back.attempt, back.failure, back.started, back.ended) == (Status.RUNNING, 2, None, 5.0, None)
    assert back.values == {"a": 1.0}
    assert store.search("failure is null and attempt = 2") == [back]
    with pytest.raises(StateError, match="attempt 1"):
        store.put([lost])
    store.put([replace(again, status=Status.COMPLETED, ended=6.0)])
    with pytest.raises(StateError, match="completed"):
        store.put([replace(again, attempt=3)])


def test_put_happens_whole_or_not_at_all(store: Store) -> None:
    store.put([a_run(1, status=Status.COMPLETED)])
    with pytest.raises(StateError):
        store.put([a_run(2), a_run(1, status=Status.RUNNING), a_run(3)])
    assert ids(store.search()) == [1]


def test_one_put_may_name_a_run_twice(store: Store) -> None:
    store.put([a_run(1), a_run(1, status=Status.RUNNING), a_run(1, status=Status.COMPLETED)])
    assert store.run(a_run(1).id).status is Status.COMPLETED
    store.put([])


def test_runs_are_found_by_a_part_of_their_id(store: Store) -> None:
    store.put([a_run(1), a_run(2), a_run(26)])
    assert store.run("000000001a").number == 26
    assert store.run(a_run(2).id).number == 2
    with pytest.raises(NotFound, match="more than one"):
        store.run("digits")
    for part in ("DIGITS", "digits%", "20261120T0000_1Z", "nothing", ""):
        with pytest.raises(NotFound, match="no run"):
            store.run(part)
    with pytest.raises(NotFound, match=f"Did you mean '{a_run(1).id}'"):
        store.run(a_run(1).id.replace("digits", "digit"))


def test_history_is_by_number_and_runs_without_one_come_last(store: Store) -> None:
    loose = [a_run(7, number=None, created=2.0), a_run(8, number=None, created=1.0)]
    store.put([a_run(3, number=30), a_run(4, number=4), *loose, a_run(5, study="other"), a_run(6, study=None)])
    assert ids(store.history("digits")) == [4, 3, 8, 7]
    assert store.history("unheard of") == []


# Studies and decisions


def test_studies_are_kept_and_replaced_by_name(store: Store) -> None:
    newer = StudyRecord(name="a", definition={"space": {"x": [1, 2.5, None]}}, created=2.0)
    older = StudyRecord(name="b", definition={}, created=1.0, status=StudyStatus.PAUSED, cycles_goal=3)
    store.save_study(newer)
    store.save_study(older)
    assert store.studies() == [older, newer]
    finished = replace(newer, status=StudyStatus.FINISHED, cycles=4, stopped_because="target", active_s=1.5)
    store.save_study(finished)
    assert store.studies() == [older, finished]


def test_decisions_come_back_by_number_with_their_runs(store: Store) -> None:
    rejected = a_decision(3, outcome=Outcome.REJECTED, config={}, run_id=None, verdict="forbidden: too wide")
    store.record([a_decision(2), a_decision(1)], [a_run(1), a_run(2)])
    store.record([rejected])
    store.record([a_decision(1, study="other")])
    assert store.decisions("digits") == [a_decision(1), a_decision(2), rejected]
    assert store.decisions("digits", after=2) == [rejected]
    assert store.decisions("unheard of") == []
    assert ids(store.history("digits")) == [1, 2]


def test_recording_twice_is_harmless_also_when_the_run_went_on(store: Store) -> None:
    store.record([a_decision(1)], [a_run(1)])
    store.put([a_run(1, status=Status.COMPLETED)])
    store.record([a_decision(1)], [a_run(1)])
    assert store.run(a_run(1).id).status is Status.COMPLETED
    assert len(store.decisions("digits")) == 1


def test_another_decision_of_the_same_number_is_refused_whole(store: Store) -> None:
    store.record([a_decision(1)])
    with pytest.raises(DuplicateId, match="decision 1"):
        store.record([a_decision(2), a_decision(1, verdict="changed")], [a_run(2)])
    with pytest.raises(DuplicateId, match="config"):
        store.record([a_decision(2)], [a_run(2), a_run(2, config={"x": 1})])
    assert store.decisions("digits") == [a_decision(1)] and store.search() == []


def an_answer(number: int = 1, approved: bool = True, **changes: Any) -> Approval:
    given = {"study": "digits", "number": number, "approved": approved, "reason": "fine", "by": "ada", "at": 5.0}
    return Approval(**{**given, **changes})


def test_a_waiting_decision_is_answered_once(store: Store) -> None:
    store.record([a_decision(1), a_decision(2, outcome=Outcome.WAITING), a_decision(3, outcome=Outcome.WAITING)])
    assert store.approvals("digits") == []
    store.answer(an_answer(3, approved=False))
    store.answer(an_answer(2))
    store.answer(an_answer(2, reason="again", at=6.0))
    assert store.approvals("digits") == [an_answer(2), an_answer(3, approved=False)]
    assert store.approvals("other") == []
    with pytest.raises(StateError, match=r"was rejected already, by ada: fine"):
        store.answer(an_answer(3))
    with pytest.raises(StateError, match="waits for nobody: it was approved"):
        store.answer(an_answer(1))
    with pytest.raises(NotFound, match="no decision 9"):
        store.answer(an_answer(9))


def test_decisions_with_nan_and_long_integers_are_recorded_twice_alike(store: Store) -> None:
    odd = a_decision(1, config={"x": NAN, "y": 10**30, "z": [INF, {"k": "\ud800"}]})
    store.record([odd])
    store.record([odd])
    assert repr(store.decisions("digits")) == repr([odd])


# Search


@pytest.fixture
def filled(store: Store) -> Store:
    m = MetricSummary
    store.put(
        [
            a_run(
                1,
                status=Status.COMPLETED,
                started=1000.0,
                ended=1010.0,
                config={"model": "svm", "optimizer": {"lr": 0.1}, "augment": ["flip", "crop", 3], "on": True},
                metrics={"auc": m(last=0.9, min=0.1, max=0.95, step=7), "loss": m.of(NAN), "val loss": m.of(1.0)},
                tags={"team": "vision", "note": "100% _done_ [x]"},
            ),
            a_run(
                2,
                status=Status.FAILED,
                failure=Failure(kind=FailureKind.DIVERGED, message="nan"),
                started=1000.0,
                ended=1005.0,
                config={"model": "mlp", "optimizer": {"lr": 1}, "augment": [], "on": False, "none": None},
                metrics={"auc": m.of(0.4), "loss": m.of(INF)},
                tags={"team": "Text"},
            ),
            a_run(
                3,
                status=Status.RUNNING,
                started=1001.0,
                config={"model": "svm", "optimizer": {"lr": "auto"}, "augment": "flip", "on": 1, "x": NAN, "deep": {}},
                metrics={"auc": m.of(NAN), "loss": m.of(-INF)},
            ),
            a_run(4, study="wine's", name="wine's", config={"optimizer": {"lr": True}}, tags={"team": ""}, seed=4),
            a_run(5, number=None, study=None, created=86400.0),
        ]
    )
    return store


EXPRESSIONS = [
    ("", {1, 2, 3, 4, 5}),
    ("metrics.auc > 0.5", {1}),
    ("metrics.auc >= 0.4 and metrics.auc <= 0.9", {1, 2}),
    ("metrics.auc.max = 0.95", {1}),
    ("metrics.auc.min < 0.2 AND metrics.auc.step = 7", {1}),
    ("metrics.auc.last = .9", {1}),
    ("metrics.`val loss` = 1", {1}),
    ('metrics."val loss".max = 1.0', {1}),
    ("metrics.auc != 0.9", {2, 3, 4, 5}),
    ("not metrics.auc = 0.9", {2, 3, 4, 5}),
    ("not metrics.auc < 0.9", {1, 3, 4, 5}),
    ("metrics.auc is null", {4, 5}),
    ("metrics.auc is not null", {1, 2, 3}),
    ("metrics.auc is nan", {3}),
    ("metrics.loss is not nan", {2, 3, 4, 5}),
    ("metrics.loss = 1e999", {2}),
    ("metrics.loss < 0", {3}),
    ("metrics.loss in (-1e999, 1e999)", {2, 3}),
    ("metrics.nowhere > 0", set()),
    ("metrics.nowhere != 0", {1, 2, 3, 4, 5}),
    ("metrics.nowhere is null", {1, 2, 3, 4, 5}),
    ("params.model = 'svm'", {1, 3}),
    ("params.model != 'svm'", {2, 4, 5}),
    ("params.model in ('mlp', 'svm')", {1, 2, 3}),
    ("params.model not in ('mlp')", {1, 3, 4, 5}),
    ("params.model > 'n'", {1, 3}),
    ("params.optimizer.lr = 1", {2}),
    ("params.optimizer.lr = true", {4}),
    ("params.optimizer.lr = 'auto'", {3}),
    ("params.optimizer.lr in (0.1, 'auto', true)", {1, 3, 4}),
    ("params.optimizer.lr > 0", {1, 2}),
    ("params.`optimizer.lr` < 0.5", {1}),
    ("params.on = true", {1}),
    ("params.on = false", {2}),
    ("params.on != true", {2, 3, 4, 5}),
    ("params.on = 1", {3}),
    ("params.none is null", {1, 2, 3, 4, 5}),
    ("params.x is nan", {3}),
    ("params.x is null", {1, 2, 4, 5}),
    ("params.x = 1", set()),
    ("params.deep is not null", {3}),
    ("params.augment contains 'flip'", {1}),
    ("params.augment contains 3", {1}),
    ("params.augment not contains 'crop'", {2, 3, 4, 5}),
    ("params.augment = 'flip'", {3}),
    ("params.augment is null", {4, 5}),
    ("tags.team = 'vision'", {1}),
    ("tags.team != 'vision'", {2, 3, 4, 5}),
    ("tags.team = ''", {4}),
    ("tags.team is null", {3, 5}),
    ("tags.team like '%i%'", {1}),
    ("tags.team ilike 't__t'", {2}),
    ("tags.team like 't__t'", set()),
    ("tags.team not like 'v%'", {2, 3, 4, 5}),
    ("tags.note like '100% [[]x%'", set()),
    ("tags.note like '%[x]'", {1}),
    ("tags.note ilike '100%_DONE\\_ [X]'", set()),
    ("tags.note ilike '100%_DONE_ [X]'", {1}),
    ("params.model like 's%'", {1, 3}),
    ("status = 'failed' or status = 'running'", {2, 3}),
    ("status in ('failed', 'running') and not failure is null", {2}),
    ("failure = 'diverged'", {2}),
    ("failure != 'diverged'", {1, 3, 4, 5}),
    ("study = 'wine''s'", {4}),
    ("study != 'digits'", {4, 5}),
    ("study is null", {5}),
    ("name like 'wine%'", {4}),
    ("id like '20261120T000003Z%'", {3}),
    ("number > 2", {3, 4}),
    ("number != 2", {1, 3, 4, 5}),
    ("seed = 4 and attempt = 1", {4}),
    ("duration >= 10", {1}),
    ("duration < 10", {2}),
    ("not duration >= 10", {2, 3, 4, 5}),
    ("started > 1000 or ended = 1005", {2, 3}),
    ("created < '1970-01-01T00:16:43Z'", {1, 2}),
    ("created >= '1970-01-02'", {5}),
    ("created < '1970-01-01T01:16:43+01:00'", {1, 2}),
    ("created < '-1d'", {1, 2, 3, 4, 5}),
    ("created > '-2h'", set()),
    ("status = 'pending' or metrics.auc > 0.5 and params.model = 'mlp'", {4, 5}),
    ("(status = 'pending' or metrics.auc > 0.3) and params.model = 'mlp'", {2}),
    ("NOT (params.model = 'svm' OR tags.team = '') AND number = 2", {2}),
    ("not not params.on = true", {1}),
    (" or ".join(["not (metrics.auc < 0 or number in (" + ",".join(["3"] * 10) + "))"] * 100), {1, 2, 4, 5}),
    ("number in (" + ",".join(["3"] * 1999) + ", 2)", {2, 3}),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_search_finds(filled: Store, expression: str, expected: set[int]) -> None:
    assert set(ids(filled.search(expression))) == expected
    assert set(ids(filled.search(expression, order_by="metrics.auc desc", limit=10))) == expected
    assert set(ids(filled.search(expression, order_by="params.model, started", limit=10))) == expected


ORDERS = [
    ("", [1, 2, 3, 4, 5]),
    ("created desc", [5, 4, 3, 2, 1]),
    ("metrics.auc", [2, 1, 3, 4, 5]),
    ("metrics.auc desc", [1, 2, 3, 4, 5]),
    ("metrics.loss", [3, 2, 1, 4, 5]),
    ("metrics.loss desc, created desc", [2, 3, 5, 4, 1]),
    ("params.model desc, created desc", [3, 1, 2, 5, 4]),
    ("params.optimizer.lr", [4, 1, 2, 3, 5]),
    ("params.optimizer.lr desc", [3, 2, 1, 4, 5]),
    ("params.x", [1, 2, 3, 4, 5]),
    ("params.augment desc", [3, 1, 2, 4, 5]),
    ("params.on, number desc", [2, 1, 3, 4, 5]),
    ("tags.team", [4, 2, 1, 3, 5]),
    ("tags.nowhere desc, number desc", [4, 3, 2, 1, 5]),
    ("study desc, metrics.auc", [4, 2, 1, 3, 5]),
    ("duration", [2, 1, 3, 4, 5]),
    ("failure, id DESC", [2, 5, 4, 3, 1]),
    ("started desc, metrics.auc.max desc", [3, 1, 2, 4, 5]),
]


@pytest.mark.parametrize(("order_by", "expected"), ORDERS)
def test_search_orders_with_the_missing_last(filled: Store, order_by: str, expected: list[int]) -> None:
    assert ids(filled.search(order_by=order_by)) == expected
    for offset in range(7):
        for limit in range(7):
            found = ids(filled.search(order_by=order_by, limit=limit, offset=offset))
            assert found == expected[offset : offset + limit]
    assert ids(filled.search(order_by=order_by, offset=2)) == expected[2:]


MISTAKES = [
    ("statsu = 'failed'", 0, "Did you mean 'status'"),
    ("metric.auc > 1", 0, "Did you mean 'metrics'"),
    ("number > 1 and model = 'svm'", 15, "params.model"),
    ("metrics.auc >", 13, "expected a value, not the end"),
    ("metrics.auc > 'high'", 14, "is a number"),
    ("metrics.auc > svm", 14, "single quotes: 'svm'"),
    ("metrics.auc like 'x'", 12, "is a number"),
    ("metrics.auc contains 1", 12, "only params"),
    ("tags.team = 3", 12, "is text: '3'"),
    ("tags.team is nan", 13, "NaN"),
    ("status = 'complete'", 9, "Did you mean 'completed'"),
    ("status in ('failed', 'lost')", 21, "no status is 'lost'"),
    ("params.on < true", 12, "has no order"),
    ("created > 'yesterday'", 10, "is no time"),
    ("(number = 1", 11, "expected )"),
    ("number = 1)", 10, "expected AND, OR or the end"),
    ("number = 1 number = 2", 11, "expected AND, OR or the end"),
    ("number in ()", 11, "expected a value"),
    ("number = 1 and", 14, "expected a field"),
    ("params.a = 'open", 11, "never closed"),
    ("params.`a = 1", 6, "cannot read '.'"),
    ("number ; drop table runs", 7, "cannot read ';'"),
    ("number", 6, "expected an operator"),
    ("number not = 1", 11, "expected an operator"),
    ("= 1", 0, "expected a field"),
    ("name like 5", 10, "pattern"),
    ("not " * 60 + "number = 1", 200, "nested deeper"),
    (" or ".join(["number = 1"] * 201), 2800, "more than 200"),
    ("number in (" + ",".join(["1"] * 2001) + ")", 4011, "more than 2000"),
]


@pytest.mark.parametrize(("expression", "position", "message"), MISTAKES)
def test_a_mistake_in_a_search_points_at_its_token(store: Store, expression: str, position: int, message: str) -> None:
    with pytest.raises(SearchError) as caught:
        store.search(expression)
    assert message in str(caught.value)
    assert caught.value.position == position


@pytest.mark.parametrize(
    ("order_by", "position"), [("metrics.auc down", 12), ("auc", 0), ("created desc,", 13), ("created asc desc", 12)]
)
def test_a_mistake_in_an_order_points_at_its_token(store: Store, order_by: str, position: int) -> None:
    with pytest.raises(SearchError) as caught:
        store.search(order_by=order_by)
    assert caught.value.position == position


def test_values_are_never_read_as_sql(store: Store) -> None:
    evil = "'; DROP TABLE runs; --"
    store.put([a_run(1, tags={evil: evil}, config={evil: evil})])
    quoted = evil.replace("'", "''")
    assert len(store.search(f"tags.`{evil}` = '{quoted}' and params.\"{evil}\" like '{quoted}'")) == 1
    assert len(store.search(order_by=f"tags.`{evil}` desc")) == 1


# Sharing


def test_threads_share_a_store(store: Store) -> None:
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 10):
                store.put([a_run(number)])
                store.put([a_run(number, status=Status.RUNNING, metrics={f"m{number}": MetricSummary.of(1.0)})])
                assert store.run(a_run(number).id).status is Status.RUNNING
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (10, 20, 30, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(ids(store.search("status = 'running'"))) == list(range(10, 50))
