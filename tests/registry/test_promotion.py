"""From evidence to a verdict on record, and one recorded step after another towards serving."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from windlass.errors import DataError, GateRefused, NotFound, StateError
from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint
from windlass.records.content import digest
from windlass.records.deployment import Stage
from windlass.records.evaluation import Evaluation, Leakage
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Ruling, Verdict
from windlass.registry import promotion
from windlass.registry.blobs import Blobs
from windlass.registry.memory import MemoryRegistry
from windlass.registry.promotion import advance, judged, looks
from windlass.registry.scores import Scores

RNG = np.random.default_rng(3)
BASE = RNG.normal(size=300)
NOISE = RNG.normal(size=300)


def policy(**fields: Any) -> GatePolicy:
    benchmark = {"name": "reading", "data": "d", "function": "a:b", "metric": "score", "direction": "maximize"}
    values = {"deployment": "reader", "benchmarks": [{**benchmark, **fields.pop("benchmark", {})}], **fields}
    return GatePolicy.model_validate(values)


class Bench:
    """A registry with real bytes, and scores by evaluation."""

    one: str  #: serves, in the fixture

    def __init__(self, folder: Path) -> None:
        self.registry, self.blobs = MemoryRegistry(), Blobs(folder / "blobs")
        self.folder, self.scores, self.now = folder, dict[str, Scores](), 1000.0

    def enter(self, kind: ChangeKind, subject: str, **body: Any) -> None:
        self.registry.append(Change(kind=kind, subject=subject, body=body), actor="test", at=self.now)

    def checkpoint(self, name: str) -> str:
        source = self.folder / name
        source.write_text(name * 100)
        manifest = self.blobs.add(source)
        made = Checkpoint(digest=manifest.digest, bytes=manifest.bytes, files=1, created=self.now, run=name)
        self.enter(ChangeKind.REGISTERED, made.id, checkpoint=made.to_dict())
        return made.id

    def evaluate(self, checkpoint: str, gain: float, benchmark: str = "reading", data: str = "data") -> Evaluation:
        self.now += 1
        made = Evaluation(
            checkpoint=checkpoint, benchmark=benchmark, data=digest(data), evaluator="e", n=len(BASE),
            scores=digest([checkpoint, gain, benchmark, data]), at=self.now, leakage=Leakage(overlap=0, examples=300),
        )  # fmt: skip
        values = BASE + gain + 0.1 * NOISE * (gain != 0)
        ids = np.array([f"{number:04}" for number in range(len(BASE))])
        self.scores[made.id] = Scores(ids=ids, columns={"score": values}, groups={})
        self.enter(ChangeKind.EVALUATED, checkpoint, evaluation=made.to_dict())
        return made

    def candidate(self, name: str, gain: float) -> str:
        made = self.checkpoint(name)
        self.evaluate(made, gain)
        return made

    def judge(self, checkpoint: str, by: GatePolicy | None = None) -> Verdict:
        self.now += 1
        return judged(
            self.registry, by or policy(), self.folder, checkpoint, lambda one: self.scores[one.id], actor="me",
            at=self.now,
        )  # fmt: skip

    def advance(self, verdict: Verdict) -> Stage:
        return advance(self.registry, self.blobs, verdict, actor="me")

    @property
    def stages(self) -> dict[str, Stage]:
        return dict(self.registry.state().deployments["reader"].stages)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.one = made.candidate("one", 0.0)
    assert made.advance(made.judge(made.one)) is Stage.CHAMPION
    return made


def test_a_better_one_is_promoted_and_a_worse_one_is_told_why_not(bench: Bench) -> None:
    worse, better = bench.candidate("worse", -0.5), bench.candidate("better", 0.5)
    verdict = bench.judge(worse)
    assert verdict.ruling is Ruling.KEEP
    with pytest.raises(GateRefused, match=f"{worse}: keep") as told:
        bench.advance(verdict)
    assert told.value.next_step.startswith("windlass")
    verdict = bench.judge(better)
    assert verdict.ruling is Ruling.PROMOTE
    assert bench.advance(verdict) is Stage.CHAMPION
    assert bench.stages == {bench.one: Stage.RETIRED, worse: Stage.REJECTED, better: Stage.CHAMPION}


def test_judging_and_advancing_again_changes_nothing(bench: Bench) -> None:
    two = bench.candidate("two", 0.5)
    verdict = bench.judge(two)
    assert bench.judge(two) == verdict
    assert bench.advance(verdict) is Stage.CHAMPION
    entries = bench.registry.entries()
    for _ in range(2):
        assert bench.judge(two) == verdict, "the verdict by which it serves"
        assert bench.advance(verdict) is Stage.CHAMPION
    assert bench.registry.entries() == entries


def test_what_is_on_record_is_what_was_judged(bench: Bench) -> None:
    verdict = bench.judge(bench.candidate("two", 0.5))
    entry = bench.registry.entries()[-1]
    assert (entry.kind, entry.subject, entry.actor) == (ChangeKind.JUDGED, "reader", "me")
    assert Verdict.from_dict(json.loads(entry.to_text())["body"]["verdict"]) == verdict
    assert bench.registry.state().policy_of("reader") == (policy(), bench.folder)


def test_shadow_comes_first_where_the_policy_has_it(bench: Bench) -> None:
    two = bench.candidate("two", 0.5)
    way = policy(shadow={}, canary={})
    verdict = bench.judge(two, way)
    assert [bench.advance(verdict) for _ in range(3)] == [Stage.SHADOW] * 3
    assert bench.registry.state().deployments["reader"].champion == bench.one
    three = bench.candidate("three", 0.4)
    canary = policy(canary={"shares": [0.1, 0.3]})
    with pytest.raises(StateError, match=f"{two} is shadow of reader; one challenger at a time"):
        bench.advance(bench.judge(three, canary))


def test_a_canary_begins_with_the_first_share(bench: Bench) -> None:
    verdict = bench.judge(bench.candidate("two", 0.5), policy(canary={"shares": [0.1, 0.3]}))
    assert bench.advance(verdict) is Stage.CANARY
    assert bench.registry.state().deployments["reader"].share == 0.1


def test_of_two_judged_against_the_same_champion_the_second_is_told(bench: Bench) -> None:
    first, second = (bench.judge(bench.candidate(name, gain)) for name, gain in (("two", 0.5), ("three", 0.6)))
    bench.advance(first)
    with pytest.raises(StateError, match="another promotion came first"):
        bench.advance(second)


def test_one_that_was_rolled_back_needs_new_evidence(bench: Bench) -> None:
    two = bench.candidate("two", 0.5)
    way = policy(canary={})
    verdict = bench.judge(two, way)
    bench.advance(verdict)
    promotion.stage_challenger(bench.registry, verdict, Stage.ROLLED_BACK, actor="canary", reason="worse")
    assert bench.judge(two, way) == verdict
    with pytest.raises(StateError, match=f"{two} is rolled_back of reader since that verdict") as told:
        bench.advance(verdict)
    assert told.value.next_step == f"windlass evaluate {two} --again"
    bench.evaluate(two, 0.6)
    assert bench.advance(bench.judge(two, way)) is Stage.CANARY


def test_damaged_bytes_do_not_serve(bench: Bench) -> None:
    two = bench.candidate("two", 0.5)
    verdict = bench.judge(two)
    (file,) = bench.blobs.files(bench.registry.state().checkpoints[two].digest).iterdir()
    file.chmod(0o644)
    file.write_text("something else")
    with pytest.raises(DataError, match=f"checkpoint {two} is damaged: .*two") as told:
        bench.advance(verdict)
    assert told.value.next_step == f"windlass checkpoints verify {two}"
    assert bench.registry.state().deployments["reader"].champion == bench.one


def test_an_unknown_challenger_and_one_without_evidence(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no checkpoint 'nobody'"):
        bench.judge("nobody")
    verdict = bench.judge(bench.checkpoint("bare"))
    (champions,) = bench.registry.state().evaluations_of(bench.one)
    assert (verdict.ruling, verdict.evaluations) == (Ruling.INCONCLUSIVE, (champions.id,))


def test_a_promotion_while_it_is_judged_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    two, three = bench.candidate("two", 0.5), bench.candidate("three", 0.6)
    interrupt(monkeypatch, lambda: bench.advance(bench.judge(three)))
    with pytest.raises(StateError, match=f"{two} was judged against .*, and {three} serves as reader"):
        bench.judge(two)
    assert bench.judge(two).champion == three


def test_two_that_come_to_the_same_verdict_at_once_both_have_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    two, theirs = bench.candidate("two", 0.5), []
    interrupt(monkeypatch, lambda: theirs.append(bench.judge(two)))
    assert [bench.judge(two)] == theirs
    assert [entry.kind for entry in bench.registry.entries()].count(ChangeKind.JUDGED) == 2  # the champion's, and this


def interrupt(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any]) -> None:
    """Something that another process does while the gate thinks."""
    judge = promotion.judge

    def thinking(*args: Any, **kwargs: Any) -> Verdict:
        monkeypatch.setattr(promotion, "judge", judge)
        meanwhile()
        return judge(*args, **kwargs)

    monkeypatch.setattr(promotion, "judge", thinking)


def test_a_verdict_whose_evidence_is_too_old_by_now_is_not_used(bench: Bench) -> None:
    by = policy(benchmark={"max_age": "1h"})
    two = bench.candidate("two", 0.5)
    assert bench.judge(two, by).ruling is Ruling.PROMOTE
    bench.now += 7200
    late = bench.judge(two, by)
    assert late.ruling is Ruling.INCONCLUSIVE
    with pytest.raises(GateRefused):
        bench.advance(late)


# Looks at the same data


def test_every_look_is_counted_and_takes_its_share(bench: Bench) -> None:
    for number in range(1, 4):
        state = bench.registry.state()
        spent, look = looks(state, policy())
        verdict = bench.judge(bench.candidate(f"c{number}", 0.001 * number))
        assert (verdict.look, look) == (number, number)
        assert verdict.level == pytest.approx((0.05 - spent) / (20 - number + 1)) == pytest.approx(0.05 / 20)
    assert looks(bench.registry.state(), policy()) == (pytest.approx(3 * 0.05 / 20), 4)


def test_the_same_evidence_again_is_no_further_look(bench: Bench) -> None:
    two = bench.candidate("two", 0.001)
    assert [bench.judge(two).look for _ in range(3)] == [1, 1, 1]
    assert looks(bench.registry.state(), policy())[1] == 2


def test_another_name_for_the_same_data_does_not_start_the_count_anew(bench: Bench) -> None:
    two = bench.candidate("two", 0.001)
    bench.judge(two)
    renamed = policy(benchmark={"name": "fresh"})
    for checkpoint in (two, bench.one):
        bench.evaluate(checkpoint, 0.0 if checkpoint != two else 0.001, benchmark="fresh")
    assert bench.judge(two, renamed).look == 2
    new = policy(benchmark={"name": "new"})
    for checkpoint in (two, bench.one):
        bench.evaluate(checkpoint, 0.0 if checkpoint != two else 0.001, benchmark="new", data="new data")
    assert bench.judge(two, new).look == 1
