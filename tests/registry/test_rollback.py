"""The way back: which checkpoint is chosen, what is refused, and that every kill ends in the same place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keptlines import Line
from windlass.errors import DataError, NotFound, StateError, WindlassError
from windlass.records.audit import Change, ChangeKind, Entry
from windlass.records.deployment import ROLLBACK_STEPS, Deployment, Rollback, Stage, StepState
from windlass.records.evaluation import Evaluation
from windlass.records.gate import Benchmark
from windlass.records.verdict import Ruling
from windlass.registry import rollback
from windlass.registry.log import fold
from windlass.registry.memory import MemoryRegistry
from windlass.registry.rollback import Candidate
from windlass.registry.scores import Scores

Numbers = Sequence[float] | np.ndarray
RNG = np.random.default_rng(7)
NOISE = RNG.normal(size=100)
NOISE = (NOISE - NOISE.mean()) / NOISE.std()  # mean 0, standard deviation 1


class Serving(Line):
    """A line whose evaluations have scores."""

    a: str
    b: str  #: of the fixture

    def __init__(self) -> None:
        super().__init__()
        self.scores: dict[str, Scores] = {}
        self.lost: set[str] = set()  #: evaluations whose scores cannot be read

    def scored(self, checkpoint: str, benchmark: str = "reading", prefix: str = "example", **given: Any) -> Evaluation:
        """Columns of numbers, and fields of the evaluation."""
        columns = {k: np.asarray(v, float) for k, v in given.items() if k in ("accuracy", "toxicity", "hits")}
        n = len(next(iter(columns.values())))
        fields = {k: v for k, v in given.items() if k not in columns}
        made = self.evaluate(checkpoint, benchmark, scores=f"{len(self.scores):064}", n=n, **fields)
        ids = np.array([f"{prefix} {number:04}" for number in range(n)])
        self.scores[made.id] = Scores(ids=ids, columns=columns, groups={})
        return made

    def derive(self, evaluation: Evaluation) -> Scores:
        if evaluation.id in self.lost:
            raise DataError(f"scores of {evaluation.id} were altered")
        return self.scores[evaluation.id]

    def champion(self, number: int, accuracy: Numbers, **given: Any) -> str:
        """A checkpoint that is evaluated and comes to serve."""
        made = self.register(number)
        self.scored(made, accuracy=accuracy, **given)
        self.serve(self.judge(made))
        return made

    def judge(self, challenger: str, ruling: Ruling = Ruling.PROMOTE, delta: float = 0.021, **fields: Any) -> Any:
        return super().judge(challenger, ruling, delta, **{"comparisons": (), **fields})

    @property
    def reader(self) -> Deployment:
        return self.state.deployments["reader"]

    def candidates(self) -> list[Candidate]:
        return rollback.candidates(self.state, self.reader, self.policy, self.derive)

    def plan(self, hands: Hands | None = None, **given: Any) -> Rollback:
        values = {"reason": "worse", "at": self.later(), **given}
        return rollback.plan(self.registry, "reader", self.derive, hands or Hands(self.registry), **values)


class Died(BaseException):
    """The process ends here."""


class Hands:
    """Notes what it is asked to do; ``dies_at`` is the number of the call that never returns."""

    def __init__(self, registry: Any, dies_at: int | None = None) -> None:
        self.registry = registry
        self.calls: list[tuple[str, ...]] = []
        self.pointers: list[str | None] = []  #: what serves, as pointed at
        self.damaged: dict[str, list[str]] = {}
        self.smoke_finds: Callable[[], tuple[bool, str]] = lambda: (True, "accuracy 0.9 on 100 examples")
        self.dies_at = dies_at

    def _called(self, *call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self.dies_at:
            raise Died

    def step(self, deployment: str, step: str, state: StepState, note: str) -> None:
        *_, newest = self.registry.state().rollbacks.values()
        assert newest.deployment == deployment and newest.steps[step] is state, "told once it is on record"
        self._called("step", step, str(state))

    def point(self, deployment: str) -> str:
        champion = self.registry.state().deployments[deployment].champion
        if champion not in self.pointers[-1:]:
            self.pointers.append(champion)
        self._called("point")
        return f"the pointer says {champion}"

    def verify(self, checkpoint: str) -> list[str]:
        self._called("verify", checkpoint)
        return self.damaged.get(checkpoint, [])

    def smoke(self, deployment: str, checkpoint: str) -> tuple[bool, str]:
        self._called("smoke", deployment, checkpoint)
        return self.smoke_finds()

    def outcomes(self, deployment: str) -> int:
        self._called("outcomes", deployment)
        return 1234

    def watch(self, deployment: str, checkpoint: str) -> str:
        assert self.pointers[-1] == checkpoint, "it is pointed at before it is watched"
        self._called("watch", deployment, checkpoint)
        return "its answers are watched"


@pytest.fixture
def line() -> Serving:
    """``a`` served, then ``b``; ``b`` is worse than ``a`` by half a standard deviation."""
    made = Serving()
    made.a = made.champion(1, NOISE + 0.5)
    made.b = made.champion(2, NOISE * -1)
    return made


# Candidates


def test_the_best_one_comes_first_and_by_how_much_is_told() -> None:
    line = Serving()
    base = RNG.normal(size=100)
    one, two, three = (line.champion(n, base + gain + 0.5 * NOISE) for n, gain in ((1, 0.3), (2, 0.5), (3, 0.1)))
    line.champion(4, base)
    found = line.candidates()
    assert [candidate.checkpoint for candidate in found] == [two, one, three]
    for candidate, gain in zip(found, (0.5, 0.3, 0.1), strict=True):
        assert candidate.improvement == pytest.approx(gain / math.sqrt(gain**2 + 0.25))
        assert (candidate.error, candidate.metrics) == (pytest.approx(0.1), ("reading.accuracy",))
        assert candidate.better
    assert [line.reader.tenures[index].until for index in (1, 0, 2)] == [candidate.last_served for candidate in found]


@pytest.mark.parametrize(("gain", "better"), [(0.0, False), (0.05, False), (0.099, False), (0.11, True), (-0.5, False)])
def test_an_improvement_within_one_standard_error_does_not_count(gain: float, better: bool) -> None:
    """Of 100 examples it is 0.1 standard deviations."""
    line = Serving()
    line.champion(1, gain + NOISE)
    line.champion(2, np.zeros(100))
    (found,) = line.candidates()
    assert found.better is better


@given(scale=st.floats(1e-9, 1e9), shift=st.floats(-10, 10), metric=st.sampled_from(["accuracy", "toxicity"]))
def test_rescaling_one_metric_changes_nothing(scale: float, shift: float, metric: str) -> None:
    found = []
    for factor, move in ((1.0, 0.0), (scale, shift)):
        line = Serving()
        for number, (accuracy, toxicity) in enumerate([(0.4, 0.1), (0.2, -0.3), (0.0, 0.0)], start=1):
            scores = {"accuracy": accuracy + NOISE * (3 - number), "toxicity": toxicity + NOISE[::-1] * (3 - number)}
            scores[metric] = (scores[metric] + move) * factor
            line.champion(number, **scores)
        found.append(line.candidates())
    before, after = found
    assert [candidate.checkpoint for candidate in after] == [candidate.checkpoint for candidate in before]
    assert [one.improvement for one in after] == pytest.approx([one.improvement for one in before], abs=1e-6)
    assert [one.error for one in after] == [one.error for one in before]


def test_a_metric_of_large_numbers_does_not_outweigh_the_others() -> None:
    """The mean over raw differences would be ruled by it."""
    line = Serving()
    good = line.champion(1, 0.6 + NOISE, toxicity=1e6 * (0.1 + NOISE))  # a little more toxic, much more accurate
    bad = line.champion(2, -0.6 + NOISE, toxicity=1e6 * (-0.1 + NOISE))
    line.champion(3, np.zeros(100), toxicity=np.zeros(100))
    found = {candidate.checkpoint: candidate for candidate in line.candidates()}
    assert found[good].improvement == pytest.approx((0.6 / math.sqrt(1.36) - 0.1 / math.sqrt(1.01)) / 2)
    assert found[good].metrics == ("reading.accuracy", "reading.toxicity")
    assert found[good].better and not found[bad].better


def test_less_is_better_where_the_policy_says_so() -> None:
    line = Serving()
    line.champion(1, np.zeros(100), toxicity=NOISE - 0.5)
    line.champion(2, np.zeros(100), toxicity=np.zeros(100))
    (found,) = line.candidates()
    assert found.improvement == pytest.approx(0.5 / math.sqrt(1.25) / 2) and found.better


@pytest.mark.parametrize(("before", "after", "expected"), [(1, 0, 1.0), (0, 1, -1.0), (1, 1, 0.0)])
def test_where_all_examples_differ_alike_it_is_certain_not_infinite(
    before: float, after: float, expected: float
) -> None:
    """A champion that fails on everything is the plainest regression of all."""
    line = Serving()
    line.champion(1, np.full(100, before))
    line.champion(2, np.full(100, after))
    (found,) = line.candidates()
    assert (found.improvement, found.better) == (expected, expected > 0)


@given(
    rows=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=30),
    seed=st.integers(0, 10),
)
def test_it_is_bounded_and_turns_with_the_sides(rows: list[tuple[float, float]], seed: int) -> None:
    found = []
    shuffled = np.random.default_rng(seed).permutation(rows)
    for ours, theirs in (np.array(rows).T, np.array(rows).T[::-1], shuffled.T):
        line = Serving()
        line.champion(1, ours)
        line.champion(2, theirs)
        found.append(line.candidates()[0].improvement)
    assert -1 - 1e-12 <= found[0] <= 1 + 1e-12
    assert found[1] == pytest.approx(-found[0], abs=1e-12)
    assert found[2] == pytest.approx(found[0], abs=1e-9)


def test_what_cannot_be_compared_is_not_measured() -> None:
    line = Serving()
    names = {}
    for number, (name, fields) in enumerate(
        {
            "other examples": {"prefix": "another"},
            "other data": {"data": "d" * 64},
            "another evaluator": {"evaluator": "e" * 64},
            "scores lost": {},
            "measured": {},
        }.items(),
        start=1,
    ):
        names[line.champion(number, 5 + NOISE, **fields)] = name
        if name == "scores lost":
            line.lost |= {one.id for one in line.state.evaluations_of(line.reader.champion or "")}
    line.champion(9, NOISE)
    found = {names[candidate.checkpoint]: candidate for candidate in line.candidates()}
    assert {name: bool(candidate.metrics) for name, candidate in found.items()} == {
        **dict.fromkeys(names.values(), False),
        "measured": True,
    }
    assert found["scores lost"].error == math.inf and not found["scores lost"].better
    line.lost |= {one.id for one in line.state.evaluations_of(line.reader.champion or "")}
    assert not any(candidate.metrics for candidate in line.candidates())
    assert line.plan().evidence["standard_error"] is None


def test_evaluations_on_the_same_data_are_held_against_each_other_though_newer_ones_are_not() -> None:
    line = Serving()
    one = line.champion(1, 0.5 + NOISE)
    line.scored(one, accuracy=NOISE - 5, data="n" * 64)
    two = line.champion(2, np.zeros(100))
    (found,) = line.candidates()
    assert found.improvement == pytest.approx(0.5 / math.sqrt(1.25))
    line.scored(two, accuracy=np.zeros(100), data="m" * 64)
    assert line.candidates() == [found]


def test_without_one_that_is_better_the_last_that_served_comes_first_whatever_the_clock_said() -> None:
    line = Serving()
    made = []
    for number, (now, gain) in enumerate([(9000.0, 0.05), (5000.0, -0.9), (7000.0, -0.3)], start=1):
        line.now = now
        made.append(line.champion(number, NOISE + gain))
    line.now = 1000.0
    made.append(line.champion(4, np.zeros(100)))
    assert [candidate.checkpoint for candidate in line.candidates()] == made[-2::-1]


def test_only_what_served_or_passed_and_was_not_sent_back_since_is_eligible() -> None:
    line = Serving()
    one, two = line.champion(1, NOISE), line.champion(2, NOISE)
    gone = line.champion(3, NOISE)
    sent_back = line.champion(4, NOISE)
    champion = line.champion(5, NOISE)
    line.remove(gone)
    line.enter(ChangeKind.STAGED, "reader", checkpoint=sent_back, stage="rejected", share=0.0, reason="", verdict=None)
    others = {}
    for number, ruling in ((6, Ruling.PROMOTE), (7, Ruling.KEEP), (8, Ruling.INCONCLUSIVE)):
        others[ruling] = line.register(number)
        line.scored(others[ruling], accuracy=NOISE)
        line.judge(others[ruling], ruling)
    registered = line.register(9)
    line.scored(registered, accuracy=NOISE)
    assert rollback.eligible(line.state, line.reader) == [two, one, others[Ruling.PROMOTE]]
    line.scored(others[Ruling.PROMOTE], accuracy=NOISE - 9)
    line.judge(others[Ruling.PROMOTE], Ruling.INCONCLUSIVE)
    assert rollback.eligible(line.state, line.reader) == [two, one]
    line.roll_back(two)
    assert rollback.eligible(line.state, line.reader) == [one], f"{champion} was rolled back"


# Plans


def test_a_plan_names_the_best_one_and_records_nothing(line: Serving) -> None:
    entries = line.registry.entries()
    made = line.plan(reason="answers are rejected", evidence={"accepted": 0.8})
    assert (made.deployment, made.source, made.target) == ("reader", line.b, line.a)
    assert (made.reason, tuple(made.steps), made.open, made.failed) == (
        "answers are rejected", ROLLBACK_STEPS, True, False,
    )  # fmt: skip
    assert made.evidence["target"] == "measured better" and made.evidence["accepted"] == 0.8
    assert made.evidence["metrics"] == ["reading.accuracy"]
    assert made.evidence["improvement"] > made.evidence["standard_error"] == pytest.approx(0.1)
    assert line.registry.entries() == entries
    assert rollback.begin(line.registry, made, actor="me") == made
    assert line.state.open_rollback("reader") == made


def test_damaged_ones_are_passed_over_and_named() -> None:
    line = Serving()
    one, two, three = (line.champion(number, NOISE + gain) for number, gain in ((1, 0.1), (2, 0.3), (3, 0.5)))
    line.champion(4, np.zeros(100))
    hands = Hands(line.registry)
    hands.damaged = {three: ["model.bin was altered"], two: ["model.bin is missing", "more"]}
    made = line.plan(hands)
    assert (made.target, made.evidence["damaged"]) == (
        one, [f"{three}: model.bin was altered", f"{two}: model.bin is missing"],
    )  # fmt: skip
    hands.damaged[one] = ["files is gone"]
    with pytest.raises(
        NotFound, match=f"nothing to go back to.*{three}: model.bin was altered; {two}.*; {one}"
    ) as told:
        line.plan(hands)
    assert told.value.next_step == "windlass checkpoints list"


def test_a_person_may_choose_a_worse_one_and_one_that_was_rolled_back() -> None:
    line, one, two = two_of_them()
    line.roll_back(one)
    made = line.plan(target=two[:8])
    assert (made.source, made.target, made.evidence) == (one, two, {"target": "chosen by a person"})


def two_of_them() -> tuple[Serving, str, str]:
    line = Serving()
    return line, line.champion(1, NOISE), line.champion(2, NOISE)


def refusals() -> dict[str, tuple[Callable[[Serving, Hands], str | None], type[WindlassError], str, str]]:
    def damaged(line: Serving, hands: Hands) -> str:
        hands.damaged = {line.a: ["model.bin was altered"]}
        return line.a

    def unjudged(line: Serving, hands: Hands) -> str:
        return line.register(5)

    def rejected(line: Serving, hands: Hands) -> str:
        made = line.register(5)
        line.scored(made, accuracy=NOISE)
        line.judge(made, Ruling.KEEP)
        return made

    def removed(line: Serving, hands: Hands) -> str:
        line.remove(line.a)
        return line.a

    def nothing_left(line: Serving, hands: Hands) -> None:
        line.remove(line.a)

    return {
        "unknown": (lambda line, hands: "nothing like it", NotFound, "no checkpoint", "windlass checkpoints list"),
        "serves": (lambda line, hands: line.b, StateError, "serves as reader already", "windlass deployments show"),
        "damaged": (damaged, StateError, "is damaged: model.bin was altered", "windlass rollback reader"),
        "unjudged": (unjudged, StateError, "never served as reader, and no verdict", "windlass promote reader"),
        "rejected": (rejected, StateError, "never served as reader", "windlass promote reader"),
        "removed": (removed, StateError, "bytes of checkpoint .* were removed", "windlass rollback reader"),
        "nothing left": (nothing_left, NotFound, "has nothing to go back to", "windlass checkpoints list"),
    }


@pytest.mark.parametrize("case", refusals())
def test_what_no_way_leads_to_is_refused_in_words(line: Serving, case: str) -> None:
    target, error, message, next_step = refusals()[case]
    hands = Hands(line.registry)
    chosen = target(line, hands)
    with pytest.raises(error, match=message) as told:
        line.plan(hands, target=chosen)
    assert told.value.next_step.startswith(next_step)
    assert line.state.open_rollback("reader") is None


def test_without_a_champion_or_a_deployment_there_is_no_way_back() -> None:
    line = Serving()
    with pytest.raises(NotFound, match="no deployment 'reader'"):
        line.plan()
    made = line.register(1)
    line.scored(made, accuracy=NOISE)
    line.judge(made)
    with pytest.raises(NotFound, match="nothing serves as reader: there is nothing to roll back"):
        line.plan()


def test_the_first_champion_has_nothing_to_go_back_to() -> None:
    line = Serving()
    line.champion(1, NOISE)
    with pytest.raises(NotFound, match="has nothing to go back to: no other checkpoint served or passed the gate"):
        line.plan()


def test_a_plan_that_was_overtaken_is_not_begun(line: Serving) -> None:
    made = line.plan()
    again = line.plan()
    line.champion(3, NOISE)
    with pytest.raises(StateError, match="the rollback leads from"):
        rollback.begin(line.registry, made, actor="me")
    made = rollback.begin(line.registry, line.plan(), actor="me")
    with pytest.raises(StateError, match=f"rollback {made.id} .* is under way"):
        rollback.begin(line.registry, replace(again, source=made.source), actor="me")


# Execution


def begun(line: Serving, **given: Any) -> Rollback:
    return rollback.begin(line.registry, line.plan(**given), actor="me")


def test_the_steps_are_taken_in_order_each_on_record_before_and_after(line: Serving) -> None:
    made, hands, before = begun(line), Hands(line.registry), line.state.sequence
    ended = rollback.execute(line.registry, made, hands, actor="me")
    a, b = line.a, line.b
    assert set(ended.steps.values()) == {StepState.DONE} and not ended.open
    assert [
        (entry.body["step"], entry.body["state"]) if entry.kind is ChangeKind.STEPPED else str(entry.kind)
        for entry in line.registry.entries(before)
    ] == [
        ("freeze", "started"), ("freeze", "done"), ("verify", "started"), ("verify", "done"), ("smoke", "started"),
        ("smoke", "done"), ("switch", "started"), "promoted", ("switch", "done"), ("monitor", "started"),
        ("monitor", "done"),
    ]  # fmt: skip
    assert [call for call in hands.calls if call[0] not in ("step", "point", "outcomes")] == [
        ("verify", a), ("smoke", "reader", a), ("watch", "reader", a),
    ]  # fmt: skip
    assert hands.pointers == [b, a]
    assert ended.notes == (
        "freeze: promotions wait, and no challenger answers",
        "verify: every byte is as it was registered",
        "smoke: accuracy 0.9 on 100 examples",
        f"switch: {a} serves",
        "monitor: its answers are watched",
    )
    assert line.reader.stages == {a: Stage.CHAMPION, b: Stage.ROLLED_BACK}
    assert (line.reader.tenures[-1].outcomes_from, line.reader.frozen) == (1234, None)
    assert {entry.actor for entry in line.registry.entries(before)} == {"me"}


def failing() -> dict[str, Callable[[Serving, Hands], None]]:
    def damage(line: Serving, hands: Hands) -> None:
        hands.damaged = {line.a: ["model.bin was altered", "b", "c", "d"]}

    def unfit(line: Serving, hands: Hands) -> None:
        hands.smoke_finds = lambda: (False, "accuracy 0.1 on 100 examples")

    def no_job(line: Serving, hands: Hands) -> None:
        def fails() -> tuple[bool, str]:
            raise DataError("the evaluator crashed")

        hands.smoke_finds = fails

    return {"model.bin was altered; b; c": damage, "accuracy 0.1": unfit, "the evaluator crashed": no_job}


@pytest.mark.parametrize("note", failing())
def test_a_target_that_is_not_fit_is_not_switched_to(line: Serving, note: str) -> None:
    before, hands = line.reader, Hands(line.registry)
    made = begun(line)
    failing()[note](line, hands)
    ended = rollback.execute(line.registry, made, hands, actor="me")
    assert ended.failed and not ended.open and not ended.switched
    assert note in ended.notes[-1]
    assert replace(line.reader, sequence=before.sequence) == before, "nothing is frozen, and what served serves"
    assert hands.pointers == [before.champion]
    assert line.plan().target == made.target, "another try is possible"


def test_a_watch_that_fails_does_not_take_the_switch_back(line: Serving) -> None:
    hands = Hands(line.registry)

    def fails(deployment: str, checkpoint: str) -> str:
        raise StateError("the pointer says another")

    hands.watch = fails  # type: ignore[method-assign]
    ended = rollback.execute(line.registry, begun(line), hands, actor="me")
    assert ended.failed and ended.switched
    assert (line.reader.champion, line.reader.frozen) == (ended.target, None)


# Killed, anywhere


class Mortal:
    """A registry whose process dies before or after its append number ``dies_at``."""

    def __init__(self, registry: MemoryRegistry, dies_at: int, after: bool) -> None:
        self.registry, self.dies_at, self.after, self.appends = registry, dies_at, after, 0
        self.state = registry.state

    def append(self, *changes: Change, actor: str, at: float | None = None) -> list[Entry]:
        self.appends += 1
        if self.appends == self.dies_at and not self.after:
            raise Died
        made = self.registry.append(*changes, actor=actor, at=at)
        if self.appends == self.dies_at:
            raise Died
        return made


def outcome(line: Serving, hands: Hands) -> tuple[Any, ...]:
    """What counts in the end; how often a step was begun does not."""
    deployment = line.reader
    (ended,) = line.state.rollbacks.values()
    tenures = [(tenure.checkpoint, tenure.verdict, tenure.rollback) for tenure in deployment.tenures]
    return deployment.stages, deployment.frozen, tenures, dict(ended.steps), ended.open, hands.pointers[-1]


def check_order(entries: list[Entry]) -> None:
    """Every step is begun after the ones before are done, and ended once."""
    done: list[str] = []
    for entry in entries:
        if entry.kind is not ChangeKind.STEPPED:
            continue
        assert entry.body["step"] == ROLLBACK_STEPS[len(done)]
        if entry.body["state"] == "done":
            done.append(entry.body["step"])


def ends(fit: bool) -> Callable[[], tuple[Serving, Rollback, Callable[[int | None], Hands]]]:
    def make() -> tuple[Serving, Rollback, Callable[[int | None], Hands]]:
        line = Serving()
        line.champion(1, NOISE + 0.5)
        line.champion(2, NOISE)
        made = begun(line)

        def hands(dies_at: int | None = None) -> Hands:
            given = Hands(line.registry, dies_at)
            given.smoke_finds = lambda: (fit, "as it is")
            return given

        return line, made, hands

    return make


@pytest.mark.parametrize("fit", [True, False])
def test_killed_at_any_call_it_ends_as_if_nothing_had_been(fit: bool) -> None:
    line, made, hands = ends(fit)()
    whole = hands(None)
    rollback.execute(line.registry, made, whole, actor="me")
    expected = outcome(line, whole)
    assert len(whole.calls) > 10
    for call in range(1, len(whole.calls) + 1):
        line, made, hands = ends(fit)()
        with pytest.raises(Died):
            rollback.execute(line.registry, made, hands(call), actor="me")
        second = hands(None)
        rollback.execute(line.registry, made, second, actor="the next start")
        assert outcome(line, second) == expected, f"killed at {whole.calls[call - 1]}"
        check_order(line.registry.entries())
        assert repr(vars(fold(line.registry.entries()))) == repr(vars(line.state))


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_killed_around_any_entry_it_ends_as_if_nothing_had_been(fit: bool, after: bool) -> None:
    line, made, hands = ends(fit)()
    whole, counting = hands(None), Mortal(line.registry, 0, after)
    rollback.execute(counting, made, whole, actor="me")  # type: ignore[arg-type]
    expected = outcome(line, whole)
    for number in range(1, counting.appends + 1):
        line, made, hands = ends(fit)()
        with pytest.raises(Died):
            rollback.execute(Mortal(line.registry, number, after), made, hands(None), actor="me")  # type: ignore[arg-type]
        second = hands(None)
        rollback.execute(line.registry, made, second, actor="the next start")
        assert outcome(line, second) == expected, f"killed around append {number}"
        check_order(line.registry.entries())


def test_killed_again_and_again_it_ends_all_the_same() -> None:
    line, made, hands = ends(True)()
    whole = hands(None)
    rollback.execute(line.registry, made, whole, actor="me")
    expected = outcome(line, whole)
    line, made, hands = ends(True)()
    for call in range(1, 60):
        dying = hands(1 + call % 7)
        try:
            rollback.execute(line.registry, made, dying, actor=f"start {call}")
            break
        except Died:
            check_order(line.registry.entries())
    else:
        pytest.fail("it never came to an end")
    assert outcome(line, dying) == expected


def test_executing_again_what_has_ended_only_points(line: Serving) -> None:
    for fit in (True, False):
        line, made, hands = ends(fit)()
        rollback.execute(line.registry, made, hands(None), actor="me")
        entries, again = line.registry.entries(), hands(None)
        rollback.execute(line.registry, made, again, actor="me")
        assert (again.calls, line.registry.entries()) == ([("point",)], entries)


def test_of_two_that_execute_it_at_once_one_is_told(line: Serving) -> None:
    made, hands, other = begun(line), Hands(line.registry), Hands(line.registry)

    def meanwhile() -> tuple[bool, str]:
        rollback.execute(line.registry, made, other, actor="the other")
        return True, "fit"

    hands.smoke_finds = meanwhile
    with pytest.raises(StateError, match=r"no rollback .* is under way|step smoke .* is done"):
        rollback.execute(line.registry, made, hands, actor="me")
    assert line.reader.champion == made.target
    assert [tenure.rollback for tenure in line.reader.tenures].count(made.id) == 1


# Forward again, and given up


def test_a_rollback_can_be_rolled_forward(line: Serving) -> None:
    a, b = line.a, line.b
    back = rollback.execute(line.registry, begun(line), Hands(line.registry), actor="me")
    assert line.reader.stages[b] is Stage.ROLLED_BACK
    hands = Hands(line.registry)
    forward = rollback.execute(line.registry, begun(line, target=b), hands, actor="me")
    assert (forward.source, forward.target) == (back.target, back.source)
    assert line.reader.stages == {a: Stage.RETIRED, b: Stage.CHAMPION}
    assert hands.pointers == [a, b]
    assert line.plan().target == a, "and back again, by itself"


def test_a_rollback_that_cannot_go_on_is_given_up(line: Serving) -> None:
    """A fault in the program, not in the target: it stays open, and frozen, until it is finished or undone."""
    before, hands, made = line.reader, Hands(line.registry), begun(line)

    def fault() -> tuple[bool, str]:
        raise ZeroDivisionError

    hands.smoke_finds = fault
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            rollback.execute(line.registry, made, hands, actor="me")
        assert line.reader.frozen == made.id
    ended = rollback.abandon(line.registry, made, hands, reason="the evaluator is broken", actor="me")
    assert (ended.failed, ended.open, ended.notes[-1]) == (True, False, "smoke: the evaluator is broken")
    assert replace(line.reader, sequence=before.sequence) == before
    assert hands.pointers == [before.champion]


@pytest.mark.parametrize("done", range(len(ROLLBACK_STEPS)))
def test_it_can_be_given_up_until_it_has_switched(line: Serving, done: int) -> None:
    before, made = line.reader, begun(line)
    while sum(state is StepState.DONE for state in line.state.rollbacks[made.id].steps.values()) < done:
        with pytest.raises(Died):
            appends = 2  # a step: begun, and done
            rollback.execute(Mortal(line.registry, appends, True), made, Hands(line.registry), actor="me")  # type: ignore[arg-type]
    if done < 4:
        assert rollback.abandon(line.registry, made, Hands(line.registry), reason="no", actor="me").failed
        assert replace(line.reader, sequence=before.sequence) == before
    else:
        with pytest.raises(StateError, match=f"has switched: {made.target} serves as reader") as told:
            rollback.abandon(line.registry, made, Hands(line.registry), reason="no", actor="me")
        assert told.value.next_step == "windlass rollback reader --forward"
    with pytest.raises(StateError):
        rollback.abandon(line.registry, made, Hands(line.registry), reason="again", actor="me")


# Fit to serve


def benchmark(**fields: Any) -> Benchmark:
    values = {"name": "reading", "data": "d", "function": "a:b", "metric": "accuracy", "direction": "maximize"}
    return Benchmark.model_validate({**values, **fields})


@pytest.mark.parametrize(
    ("before", "now", "fields", "fit", "words"),
    [
        (NOISE, NOISE, {}, True, "as before"),
        (NOISE, NOISE - 0.001, {}, False, "worse than the"),
        (NOISE, NOISE + 0.001, {}, True, "before"),
        (NOISE, -NOISE, {}, True, "before"),
        (NOISE, NOISE[::-1] - 0.2, {}, True, "-0.2 on 100 examples"),
        (NOISE, NOISE[::-1] - 0.9, {}, False, "worse than the"),
        (NOISE, NOISE + 0.001, {"direction": "minimize"}, False, "worse than the"),
        (NOISE, NOISE - 9, {"direction": "minimize"}, True, "before"),
        (NOISE, NOISE, {"least": 0.1}, False, "where 0.1 is the least that may serve"),
        (NOISE + 1, NOISE + 1, {"least": 0.9}, True, "as before"),
        (NOISE, NOISE, {"least": -0.1, "direction": "minimize"}, False, "is the least"),
    ],
)  # fmt: skip
def test_a_smoke_evaluation_has_to_find_what_was_found_before(
    before: Numbers, now: Numbers, fields: dict[str, Any], fit: bool, words: str
) -> None:
    line = Serving()
    one = line.register(1)
    earlier, smoke = line.scored(one, accuracy=before), line.scored(one, accuracy=now)
    good, told = rollback.fit(benchmark(**fields), smoke, [earlier], line.derive)
    assert (good, words in told) == (fit, True), told


def test_a_smoke_evaluation_is_held_against_the_last_that_compares() -> None:
    line = Serving()
    one = line.register(1)
    known = line.scored(one, accuracy=NOISE)
    others = [
        line.scored(one, accuracy=NOISE - 9, data="d" * 64),
        line.scored(one, accuracy=NOISE - 9, evaluator="e" * 64),
        line.scored(one, accuracy=NOISE - 9, prefix="another"),
        line.scored(one, toxicity=NOISE),
        line.scored(one, accuracy=NOISE - 9),
    ]
    line.lost = {others[-1].id}
    smoke = line.scored(one, accuracy=NOISE - 1)
    good, told = rollback.fit(benchmark(), smoke, [known, *others, smoke], line.derive)
    assert (good, "worse than the" in told) == (False, True), "it was recorded before a kill: it is no witness"
    assert rollback.fit(benchmark(), smoke, [*others, smoke], line.derive) == (
        True,
        "accuracy -1 on 100 examples of reading; there is no earlier evaluation on the same examples",
    )
