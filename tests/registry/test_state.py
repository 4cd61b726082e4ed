"""The life cycle: what a checkpoint may become, what is refused and with which words, and what holds at all times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keptlines import POLICY, Line, generations
from windlass.errors import NotFound, StateError
from windlass.records.audit import Change, ChangeKind, Entry
from windlass.records.checkpoint import Checkpoint
from windlass.records.content import digest
from windlass.records.deployment import (
    FREEZE,
    MONITOR,
    ROLLBACK_STEPS,
    SMOKE,
    SWITCH,
    VERIFY,
    Deployment,
    Rollback,
    Stage,
    StepState,
    Tenure,
)
from windlass.records.evaluation import Evaluation
from windlass.records.verdict import Ruling, Verdict
from windlass.registry.log import fold
from windlass.registry.memory import MemoryRegistry
from windlass.registry.state import State

BOTH = ("shadow", "canary")
STARTED, DONE, FAILED = StepState.STARTED, StepState.DONE, StepState.FAILED


def seen(state: State) -> str:
    """Everything that a state says."""
    return repr(vars(state))


def candidate(line: Line, number: int) -> str:
    checkpoint = line.register(number)
    line.evaluate(checkpoint, mean=0.8 + number / 100)
    return checkpoint


def stage(line: Line, verdict: Verdict, to: str, share: float = 0.0) -> None:
    body = {"checkpoint": verdict.challenger, "stage": to, "share": share, "reason": "told so", "verdict": verdict.id}
    line.enter(ChangeKind.STAGED, verdict.deployment, **body)


def plan(line: Line, target: str) -> Rollback:
    source = line.state.deployments["reader"].champion
    assert source is not None
    rollback = Rollback(deployment="reader", source=source, target=target, reason="worse", at=line.later())
    line.enter(ChangeKind.PLANNED, "reader", rollback=rollback.to_dict())
    return rollback


def step(line: Line, rollback: Rollback, name: str, *states: StepState) -> None:
    for state in states:
        line.enter(ChangeKind.STEPPED, "reader", rollback=rollback.id, step=name, state=str(state), note="")


def reader(line: Line) -> Deployment:
    return line.state.deployments["reader"]


# The life cycle by example


def test_a_checkpoint_comes_to_serve_step_by_step() -> None:
    line = Line()
    one = candidate(line, 1)
    assert line.state.stages_of(one) == {}
    verdict = line.judge(one, stages=BOTH)
    assert (reader(line).stages[one], reader(line).champion, reader(line).challenger) == (Stage.EVALUATED, None, None)
    stage(line, verdict, "shadow")
    assert (reader(line).stages[one], reader(line).challenger, reader(line).share) == (Stage.SHADOW, one, 0.0)
    stage(line, verdict, "canary", 0.05)
    stage(line, verdict, "canary", 0.5)
    assert (reader(line).stages[one], reader(line).challenger, reader(line).share) == (Stage.CANARY, one, 0.5)
    line.serve(verdict)
    assert (reader(line).stages[one], reader(line).champion, reader(line).share) == (Stage.CHAMPION, one, 0.0)
    assert line.state.stages_of(one) == {"reader": Stage.CHAMPION}


def test_the_one_that_served_retires_and_its_time_is_told() -> None:
    line, (one, two) = generations(2)
    began, ended = (entry.at for entry in line.registry.entries() if entry.kind is ChangeKind.PROMOTED)
    assert [(tenure.checkpoint, tenure.since, tenure.until) for tenure in reader(line).tenures] == [
        (one, began, ended),
        (two, ended, None),
    ]
    assert reader(line).stages == {one: Stage.RETIRED, two: Stage.CHAMPION}
    assert [tenure.verdict for tenure in reader(line).tenures] == list(line.state.verdicts)


@pytest.mark.parametrize(
    ("ruling", "after"),
    [(Ruling.PROMOTE, Stage.EVALUATED), (Ruling.KEEP, Stage.REJECTED), (Ruling.INCONCLUSIVE, Stage.EVALUATED)],
)
def test_a_verdict_places_a_candidate(ruling: Ruling, after: Stage) -> None:
    line, _ = generations(1)
    two = candidate(line, 2)
    line.judge(two, ruling)
    assert reader(line).stages[two] is after


def test_a_rejected_one_gets_another_chance_by_new_evidence() -> None:
    line, _ = generations(1)
    two = candidate(line, 2)
    line.judge(two, Ruling.KEEP)
    line.evaluate(two, mean=0.99)
    line.serve(line.judge(two))
    assert reader(line).champion == two


def test_a_challenger_leaves_the_canary_and_another_one_can_come() -> None:
    line, _ = generations(1)
    first, second = (line.judge(candidate(line, number), stages=("canary",)) for number in (2, 3))
    stage(line, first, "canary", 0.2)
    stage(line, first, "rolled_back")
    assert (reader(line).challenger, reader(line).share) == (None, 0.0)
    stage(line, second, "canary", 0.1)
    assert (reader(line).challenger, reader(line).share) == (second.challenger, 0.1)


def test_rejecting_another_one_leaves_the_canary_its_share() -> None:
    line, _ = generations(1)
    first, second = (line.judge(candidate(line, number), stages=("canary",)) for number in (2, 3))
    stage(line, first, "canary", 0.2)
    stage(line, second, "rejected")
    assert (reader(line).challenger, reader(line).share) == (first.challenger, 0.2)


def test_a_promotion_sends_the_challenger_of_the_old_champion_back_to_the_gate() -> None:
    line, _ = generations(1)
    first, second = line.judge(candidate(line, 2), stages=("canary",)), line.judge(candidate(line, 3))
    stage(line, first, "canary", 0.2)
    line.serve(second)
    assert (reader(line).stages[first.challenger], reader(line).share) == (Stage.EVALUATED, 0.0)
    with refused(line, "was judged against .* another promotion came first", "windlass promote reader"):
        stage(line, first, "canary", 0.2)


def test_the_same_bytes_from_another_run_are_one_checkpoint() -> None:
    line = Line()
    one = line.register(1)
    again = line.run(1)
    line.enter(ChangeKind.REPRODUCED, one, run=again.id)
    line.enter(ChangeKind.REPRODUCED, one, run=again.id)
    assert line.state.runs[one] == [line.state.checkpoints[one].run, again.id]
    made = line.state.made_by(again.id)
    assert made is not None and made.id == one


def test_removed_bytes_can_be_registered_again() -> None:
    line = Line()
    one = candidate(line, 1)
    line.remove(one)
    assert one in line.state.removed and one in line.state.checkpoints
    line.register(1)
    assert one not in line.state.removed
    line.serve(line.judge(one))
    assert reader(line).champion == one


def test_deployments_do_not_know_each_other() -> None:
    line, (one, two) = generations(2)
    line.policy = POLICY.model_copy(update={"deployment": "writer"})
    line.serve(line.judge(one))
    assert {name: at.champion for name, at in line.state.deployments.items()} == {"reader": two, "writer": one}
    assert line.state.stages_of(one) == {"reader": Stage.RETIRED, "writer": Stage.CHAMPION}


# Rolled back, and forward


def test_a_rollback_freezes_switches_and_ends() -> None:
    line, (one, two) = generations(2)
    rollback = plan(line, one)
    assert reader(line).frozen == rollback.id, "nobody comes in between"
    step(line, rollback, FREEZE, STARTED, DONE)
    assert reader(line).frozen == rollback.id
    step(line, rollback, VERIFY, STARTED, DONE)
    step(line, rollback, SMOKE, STARTED, STARTED, DONE)  # begun again after a kill
    step(line, rollback, SWITCH, STARTED)
    body = {"checkpoint": one, "previous": two, "verdict": None, "rollback": rollback.id, "reason": "worse"}
    line.enter(ChangeKind.PROMOTED, "reader", **body)
    step(line, rollback, SWITCH, DONE)
    assert reader(line).frozen == rollback.id
    step(line, rollback, MONITOR, STARTED, DONE)
    assert reader(line).stages == {one: Stage.CHAMPION, two: Stage.ROLLED_BACK}
    assert (reader(line).frozen, line.state.open_rollback("reader")) == (None, None)
    assert reader(line).tenures[-1].rollback == rollback.id
    assert set(line.state.rollbacks[rollback.id].steps.values()) == {DONE}


@pytest.mark.parametrize("at", [FREEZE, VERIFY, SMOKE])
def test_a_rollback_that_fails_before_its_switch_leaves_everything_as_it_was(at: str) -> None:
    line, (one, _) = generations(2)
    challenger = line.judge(candidate(line, 3), stages=("canary",))
    stage(line, challenger, "canary", 0.2)
    before = reader(line)
    rollback = plan(line, one)
    for name in ROLLBACK_STEPS[: ROLLBACK_STEPS.index(at)]:
        step(line, rollback, name, STARTED, DONE)
    step(line, rollback, at, STARTED, FAILED)
    assert replace(reader(line), sequence=before.sequence) == before
    assert line.state.rollbacks[rollback.id].failed and not line.state.rollbacks[rollback.id].switched
    stage(line, challenger, "canary", 0.5)  # nothing is frozen


def test_one_that_was_rolled_back_does_not_serve_again_by_its_old_verdict() -> None:
    line, (one,) = generations(1)
    two = candidate(line, 2)
    verdict = line.judge(two)
    line.serve(verdict)
    line.roll_back(one)
    assert verdict.champion == reader(line).champion, "the verdict still names what serves"
    with refused(line, f"{two} is rolled_back of reader since that verdict", f"windlass evaluate {two} --again"):
        line.serve(verdict)


@pytest.mark.parametrize("left", [Stage.REJECTED, Stage.ROLLED_BACK])
@pytest.mark.parametrize("ruling", [Ruling.KEEP, Ruling.INCONCLUSIVE])
def test_a_later_verdict_that_does_not_promote_revives_no_earlier_one(left: Stage, ruling: Ruling) -> None:
    line, _ = generations(1)
    two = candidate(line, 2)
    good = line.judge(two)
    stage(line, good, left)
    line.evaluate(two, mean=0.5)
    bad = line.judge(two, ruling)
    with refused(line, f"verdict {good.id} on {two} was followed by {bad.id}: {ruling}", "windlass audit show"):
        line.serve(good)


@pytest.mark.parametrize(("ruling", "after"), [(Ruling.KEEP, Stage.REJECTED), (Ruling.INCONCLUSIVE, Stage.EVALUATED)])
def test_a_trial_ends_with_a_verdict_that_does_not_promote(ruling: Ruling, after: Stage) -> None:
    line, _ = generations(1)
    two = candidate(line, 2)
    good = line.judge(two, stages=("canary",))
    stage(line, good, "canary", 0.2)
    line.evaluate(two, mean=0.5)
    line.judge(two, ruling, stages=("canary",))
    assert (reader(line).stages[two], reader(line).challenger, reader(line).share) == (after, None, 0.0)
    for attempt in (lambda: line.serve(good), lambda: stage(line, good, "canary", 0.5)):
        with refused(line, f"was followed by .*: {ruling}", "windlass audit show"):
            attempt()


def test_a_trial_goes_on_under_the_same_policy_and_starts_anew_under_another() -> None:
    line, _ = generations(1)
    two, three = candidate(line, 2), candidate(line, 3)
    stage(line, line.judge(two, stages=("canary",)), "canary", 0.2)
    line.evaluate(two, mean=0.99)
    newer = line.judge(two, stages=("canary",))
    line.judge(three, Ruling.KEEP)
    assert (reader(line).challenger, reader(line).share) == (two, 0.2)
    stage(line, newer, "canary", 0.5)
    line.policy = POLICY.model_copy(update={"alpha": 0.01})
    other = line.judge(two)
    assert (reader(line).stages[two], reader(line).share) == (Stage.EVALUATED, 0.0)
    line.serve(other)


@pytest.mark.parametrize("ruling", [Ruling.KEEP, Ruling.INCONCLUSIVE])
def test_one_that_served_stays_a_way_back_though_it_is_no_better_now(ruling: Ruling) -> None:
    line, (one, _) = generations(2)
    line.evaluate(one, mean=0.5)
    line.judge(one, ruling)
    assert reader(line).stages[one] is Stage.RETIRED


def test_rolled_forward_again_the_way_back_is_still_there() -> None:
    line, (one, two) = generations(2)
    line.roll_back(one)
    line.roll_back(two, "it was not the checkpoint")
    assert reader(line).stages == {one: Stage.RETIRED, two: Stage.CHAMPION}
    assert [tenure.checkpoint for tenure in reader(line).tenures] == [one, two, one, two]


# Reading


def test_checkpoints_are_found_by_what_people_write() -> None:
    line = Line()
    one, two = line.register(1), line.register(2)
    whole = line.state.checkpoints[one]
    for reference in (one, whole.digest, one[:6], one[:6].upper(), whole.digest[:20], whole.run, whole.run[-10:]):
        assert line.state.checkpoint(reference) == whole, reference
    with pytest.raises(NotFound, match="is 2 checkpoints") as some:
        line.state.checkpoint("digits")
    assert one in some.value.message and two in some.value.message
    with pytest.raises(NotFound, match=f"Did you mean {one!r}") as none:
        line.state.checkpoint(one[:-2] + "zz")
    assert none.value.next_step == "windlass checkpoints list"
    for reference in ("", one + "0" * 52):
        with pytest.raises(NotFound):
            line.state.checkpoint(reference)
    with pytest.raises(NotFound, match=r"no deployment 'raeder'\. Did you mean 'reader'"):
        generations(1)[0].state.deployment("raeder")


def test_the_steps_of_a_rollback_stay_in_order_through_the_log() -> None:
    line, (one, _) = generations(2)
    plan(line, one)
    entry = line.registry.entries()[-1]
    assert tuple(Rollback.from_dict(Entry.from_text(entry.to_text()).body["rollback"]).steps) == ROLLBACK_STEPS


def test_a_state_stays_as_it_was_given() -> None:
    line, (one, _) = generations(2)
    given = line.state
    before = seen(given)
    line.enter(ChangeKind.REPRODUCED, one, run="another")
    line.roll_back(one)
    assert seen(given) == before
    assert seen(line.state) != before


# What is refused


class refused:
    """Something that is refused with these words and this next step, and changes nothing."""

    def __init__(self, line: Line, message: str, next_step: str) -> None:
        self.line, self.next_step = line, next_step
        self.raises = pytest.raises(StateError, match=message)

    def __enter__(self) -> None:
        self.before = seen(self.line.state), len(self.line.registry.entries())
        self.error = self.raises.__enter__()

    def __exit__(self, *what: Any) -> bool:
        passed = bool(self.raises.__exit__(*what))
        if passed:
            assert self.error.value.next_step.startswith(self.next_step) and bool(self.next_step), self.error.value
            assert (seen(self.line.state), len(self.line.registry.entries())) == self.before
        return passed


class World:
    """One of everything: ``a`` retired, ``b`` serves, ``c`` may go through shadow and canary, ``d`` is rejected, ``e``
    inconclusive, ``f`` just registered, ``g`` without its bytes, ``h`` may serve at once.
    """

    def __init__(self) -> None:
        self.line, (self.a, self.b) = generations(2, benchmarks=1)
        self.c, self.d, self.e, self.h = (candidate(self.line, number) for number in (3, 4, 5, 8))
        self.f, self.g = self.line.register(6), candidate(self.line, 7)
        self.by_c = self.line.judge(self.c, stages=BOTH)
        self.by_d, self.by_e = self.line.judge(self.d, Ruling.KEEP), self.line.judge(self.e, Ruling.INCONCLUSIVE)
        self.by_h = self.line.judge(self.h)
        self.line.remove(self.g)

    def judged(self, verdict: Verdict, **body: Any) -> tuple[ChangeKind, str, dict[str, Any]]:
        policy = self.line.policy.model_dump(mode="json")
        return ChangeKind.JUDGED, "reader", {"verdict": verdict.to_dict(), "policy": policy, "folder": "/", **body}

    def staged(self, checkpoint: str, stage: str, **body: Any) -> tuple[ChangeKind, str, dict[str, Any]]:
        given = {"checkpoint": checkpoint, "stage": stage, "share": 0.0, "reason": "", "verdict": None}
        return ChangeKind.STAGED, "reader", given | body

    def promoted(self, checkpoint: str, verdict: Verdict | None, **body: Any) -> tuple[ChangeKind, str, dict[str, Any]]:
        given = {"checkpoint": checkpoint, "previous": self.b, "verdict": verdict and verdict.id, "rollback": None}
        return ChangeKind.PROMOTED, "reader", given | body

    def planned(self, target: str, **fields: Any) -> tuple[ChangeKind, str, dict[str, Any]]:
        values = {"deployment": "reader", "source": self.b, "target": target, "reason": "worse", "at": 5.0}
        return ChangeKind.PLANNED, "reader", {"rollback": Rollback(**values | fields).to_dict()}

    def stepped(self, step: str, state: str, rollback: str = "") -> tuple[ChangeKind, str, dict[str, Any]]:
        under_way = self.line.state.open_rollback("reader")
        body = {"rollback": rollback or (under_way.id if under_way else ""), "step": step, "state": state, "note": ""}
        return ChangeKind.STEPPED, "reader", body

    def rolling_back(self, *steps: str) -> World:
        """Under way to ``a``; ``steps`` are done."""
        rollback = plan(self.line, self.a)
        for name in steps:
            step(self.line, rollback, name, STARTED, DONE)
        return self


def evaluation_of(w: World, checkpoint: str) -> tuple[ChangeKind, str, dict[str, Any]]:
    known = w.line.state.evaluations_of(w.a)[0]
    return ChangeKind.EVALUATED, checkpoint, {"evaluation": replace(known, checkpoint=checkpoint).to_dict()}


def known_evaluation(w: World) -> tuple[ChangeKind, str, dict[str, Any]]:
    return ChangeKind.EVALUATED, w.a, {"evaluation": w.line.state.evaluations_of(w.a)[0].to_dict()}


def a_verdict(w: World, challenger: str, **fields: Any) -> Verdict:
    own = tuple(one.id for one in w.line.state.evaluations_of(challenger))
    return replace(w.by_h, challenger=challenger, evaluations=own, **fields)


Given = Callable[[World], tuple[ChangeKind, str, Mapping[str, Any]]]
_frozen = "deployment reader is frozen: rollback .* is under way"
REFUSED: dict[str, tuple[Given, str, str]] = {
    # registered, reproduced, evaluated
    "registered twice": (
        lambda w: (ChangeKind.REGISTERED, w.f, {"checkpoint": w.line.state.checkpoints[w.f].to_dict()}),
        "checkpoint .* is registered",
        "windlass checkpoints show",
    ),
    "registered under another's name": (
        lambda w: (ChangeKind.REGISTERED, w.f, {"checkpoint": w.line.state.checkpoints[w.g].to_dict()}),
        "the registered entry is about .*, not",
        "windlass audit verify",
    ),
    "reproduced, unknown": (
        lambda w: (ChangeKind.REPRODUCED, "0" * 12, {"run": "one"}),
        "checkpoint 000000000000 is not registered",
        "windlass checkpoints list",
    ),
    "evaluated, unknown": (lambda w: evaluation_of(w, "0" * 12), "is not registered", "windlass checkpoints list"),
    "evaluated, removed": (lambda w: evaluation_of(w, w.g), "bytes .* were removed", "windlass audit show"),
    "evaluated twice": (known_evaluation, "evaluation .* is on record", "windlass checkpoints show"),
    # judged
    "judged, unknown": (
        lambda w: w.judged(a_verdict(w, "0" * 12)), "is not registered", "windlass checkpoints list",
    ),
    "judged, removed": (lambda w: w.judged(a_verdict(w, w.g)), "were removed", "windlass audit show --checkpoint"),
    "judged twice": (lambda w: w.judged(w.by_h), "verdict .* is on record", "windlass audit show --checkpoint"),
    "judged, serves": (
        lambda w: w.judged(a_verdict(w, w.b, champion=w.b)), "serves as reader already", "windlass deployments show",
    ),
    "judged against another": (
        lambda w: w.judged(a_verdict(w, w.f, champion=w.a)), "was judged against .*, and .* serves", "windlass promote",
    ),
    "judged against nothing": (
        lambda w: w.judged(a_verdict(w, w.h, champion=None)), "judged against nothing, and", "windlass promote",
    ),
    "judged by another policy": (
        lambda w: w.judged(a_verdict(w, w.c, policy="0" * 64)), "not given by the policy", "windlass audit verify",
    ),
    "judged for another deployment": (
        lambda w: w.judged(replace(w.by_h, deployment="writer")), "the judged entry is about writer", "windlass audit",
    ),
    "judged by nothing": (
        lambda w: w.judged(a_verdict(w, w.f)), "lets .* serve without an evaluation of it", "windlass evaluate",
    ),
    "judged by evidence that is not there": (
        lambda w: w.judged(replace(w.by_h, evaluations=("0" * 12,))), "that neither side of it has", "windlass audit",
    ),
    "judged by another's evidence": (
        lambda w: w.judged(replace(w.by_c, evaluations=w.by_h.evaluations)), "that neither side", "windlass audit",
    ),
    # staged
    "staged, no deployment": (
        lambda w: (ChangeKind.STAGED, "../writer", w.staged(w.c, "shadow")[2]),
        "nothing was judged for deployment '../writer'",
        "windlass promote",
    ),
    "staged, unknown": (lambda w: w.staged("0" * 12, "rejected"), "is not registered", "windlass checkpoints list"),
    "staged, champion": (
        lambda w: w.staged(w.b, "rejected"), "is champion of reader; it cannot become rejected", "windlass deployments",
    ),
    "staged to serve": (
        lambda w: w.staged(w.c, "champion"), "cannot become champion this way", "windlass deployments show",
    ),
    "staged to retire": (lambda w: w.staged(w.c, "retired"), "cannot become retired", "windlass deployments show"),
    "staged without a verdict": (
        lambda w: w.staged(w.c, "shadow"), "no verdict lets .* serve as reader", "windlass promote reader",
    ),
    "staged by another's verdict": (
        lambda w: w.staged(w.f, "shadow", verdict=w.by_c.id), "no verdict lets", "windlass promote reader",
    ),
    "staged, rejected": (
        lambda w: w.staged(w.d, "shadow", verdict=w.by_d.id), "the verdict on .* is keep", "windlass audit show",
    ),
    "staged, inconclusive": (
        lambda w: w.staged(w.e, "canary", verdict=w.by_e.id, share=0.1), "is inconclusive", "windlass audit show",
    ),
    "staged past the shadow": (
        lambda w: w.staged(w.c, "canary", verdict=w.by_c.id, share=0.1), "has to come through shadow", "windlass depl",
    ),
    "staged where no stage is": (
        lambda w: w.staged(w.h, "canary", verdict=w.by_h.id, share=0.1), "leads through no stage", "windlass promote",
    ),
    "shadow with keys": (
        lambda w: w.staged(w.c, "shadow", verdict=w.by_c.id, share=0.1), "share of 0.1 of keys", "windlass deployments",
    ),
    # promoted
    "promoted, no deployment": (
        lambda w: (ChangeKind.PROMOTED, "writer", w.promoted(w.h, w.by_h)[2]), "nothing was judged", "windlass promote",
    ),
    "promoted, removed": (lambda w: w.promoted(w.g, None), "were removed", "windlass audit show --checkpoint"),
    "promoted over another": (
        lambda w: w.promoted(w.h, w.by_h, previous=w.a), "another promotion came first", "windlass deployments show",
    ),
    "promoted over nothing": (
        lambda w: w.promoted(w.h, w.by_h, previous=None), "not nothing: another promotion", "windlass deployments show",
    ),
    "promoted, serves": (lambda w: w.promoted(w.b, None), "serves as reader already", "windlass deployments show"),
    "promoted without a verdict": (lambda w: w.promoted(w.h, None), "no verdict lets", "windlass promote reader"),
    "promoted, rejected": (lambda w: w.promoted(w.d, w.by_d), "is keep: it cannot serve", "windlass audit show"),
    "promoted, inconclusive": (lambda w: w.promoted(w.e, w.by_e), "is inconclusive: it", "windlass audit show"),
    "promoted past shadow and canary": (
        lambda w: w.promoted(w.c, w.by_c), "is evaluated of reader; it has to come through canary", "windlass deploym",
    ),
    "promoted by an unknown rollback": (
        lambda w: w.promoted(w.h, w.by_h, rollback="0" * 12), "no rollback 000000000000 .* under way", "windlass",
    ),
    "promoted before the switch": (
        lambda w: (w := w.rolling_back(FREEZE, VERIFY, SMOKE)).promoted(
            w.a, None, rollback=w.stepped("", "")[2]["rollback"]
        ),
        "has not come to its switch",
        "windlass rollback reader",
    ),
    "promoted by a rollback to another": (
        lambda w: (w := w.rolling_back()).promoted(w.h, w.by_h, rollback=w.stepped("", "")[2]["rollback"]),
        "no rollback .* is under way",
        "windlass deployments show",
    ),
    # while a rollback is under way
    "promoted, frozen": (lambda w: w.rolling_back().promoted(w.h, w.by_h), _frozen, "windlass rollback reader"),
    "staged, frozen": (
        lambda w: w.rolling_back().staged(w.c, "shadow", verdict=w.by_c.id), _frozen, "windlass rollback reader",
    ),
    "planned, frozen": (lambda w: w.rolling_back().planned(w.a), _frozen, "windlass rollback reader"),
    "removed, on the way back": (
        lambda w: (ChangeKind.REMOVED, w.rolling_back().a, {}), "a rollback of reader is under way", "windlass check",
    ),
    # planned
    "planned, no deployment": (
        lambda w: w.planned(w.a, deployment="writer"), "the planned entry is about writer", "windlass audit verify",
    ),
    "planned, unknown": (lambda w: w.planned("0" * 12), "is not registered", "windlass checkpoints list"),
    "planned, removed": (lambda w: w.planned(w.g), "were removed", "windlass audit show --checkpoint"),
    "planned, serves": (lambda w: w.planned(w.b), "leads from .* to .*, and", "windlass rollback reader --plan"),
    "planned from another": (lambda w: w.planned(w.h, source=w.a), "leads from", "windlass rollback reader --plan"),
    "planned, never served": (
        lambda w: w.planned(w.f), "never served as reader, and no verdict allows it", "windlass promote reader",
    ),
    "planned, rejected": (lambda w: w.planned(w.d), "never served as reader", "windlass promote reader"),
    "planned, inconclusive": (lambda w: w.planned(w.e), "never served as reader", "windlass promote reader"),
    "planned, under way": (
        lambda w: w.planned(w.a, steps=dict.fromkeys(ROLLBACK_STEPS, StepState.DONE)), "is no new plan", "windlass",
    ),
    # stepped
    "stepped, none under way": (
        lambda w: w.stepped(FREEZE, "started"), "no rollback .* is under way", "windlass deployments show",
    ),
    "stepped, no such step": (
        lambda w: w.rolling_back().stepped("dance", "started"), "a step 'dance' to take", "windlass deployments show",
    ),
    "stepped too far": (
        lambda w: w.rolling_back(FREEZE).stepped(SMOKE, "started"), "step smoke .* is waiting; it cannot be started",
        "windlass rollback reader",
    ),
    "done before it started": (
        lambda w: w.rolling_back().stepped(FREEZE, "done"), "is waiting; it cannot be done now", "windlass rollback",
    ),
    "started when done": (
        lambda w: w.rolling_back(FREEZE).stepped(FREEZE, "started"), "is done; it cannot be", "windlass rollback",
    ),
    "switched, though the target does not serve": (
        lambda w: started(w.rolling_back(FREEZE, VERIFY, SMOKE), SWITCH).stepped(SWITCH, "done"),
        "step switch .* is started; it cannot be done now",
        "windlass rollback reader",
    ),
    "failed, though the target serves": (
        lambda w: switched(started(w.rolling_back(FREEZE, VERIFY, SMOKE), SWITCH)).stepped(SWITCH, "failed"),
        "step switch .* is started; it cannot be failed now",
        "windlass rollback reader",
    ),
    # removed
    "removed, champion": (lambda w: (ChangeKind.REMOVED, w.b, {}), "it is champion of", "windlass checkpoints gc"),
    "removed, in shadow": (
        lambda w: (stage(w.line, w.by_c, "shadow"), (ChangeKind.REMOVED, w.c, {}))[1], "it is shadow", "windlass ch",
    ),
    "removed twice": (lambda w: (ChangeKind.REMOVED, w.g, {}), "were removed", "windlass audit show --checkpoint"),
    # no shape that Windlass writes
    "without a key": (lambda w: (ChangeKind.PROMOTED, "reader", {}), "not of the shape", "windlass audit verify"),
    "of another type": (
        lambda w: (ChangeKind.REGISTERED, w.f, {"checkpoint": {"metrics": []}}), "not of the shape", "windlass audit",
    ),
    "no such stage": (lambda w: w.staged(w.c, "king"), "not of the shape", "windlass audit verify"),
    "no such policy": (
        lambda w: w.judged(replace(w.by_h, evaluations=()), policy={}), "not of the shape", "windlass audit verify",
    ),
}  # fmt: skip


def started(w: World, name: str) -> World:
    rollback = w.line.state.open_rollback("reader")
    assert rollback is not None
    step(w.line, rollback, name, STARTED)
    return w


def switched(w: World) -> World:
    rollback = w.line.state.open_rollback("reader")
    assert rollback is not None
    kind, subject, body = w.promoted(rollback.target, None, rollback=rollback.id)
    w.line.enter(kind, subject, **body)
    return w


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_allowed_is_refused_in_words_and_changes_nothing(case: str) -> None:
    given, message, next_step = REFUSED[case]
    world = World()
    kind, subject, body = given(world)
    with refused(world.line, message, next_step):
        world.line.enter(kind, subject, **body)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.0, 7])
def test_a_canary_serves_a_part_of_the_keys(share: float) -> None:
    world = World()
    stage(world.line, world.by_c, "shadow")
    with refused(world.line, "cannot serve a share of", "windlass deployments show reader"):
        stage(world.line, world.by_c, "canary", share)


def test_one_challenger_at_a_time() -> None:
    world = World()
    stage(world.line, world.by_c, "shadow")
    world.line.evaluate(world.f)
    other = world.line.judge(world.f, stages=BOTH)
    with refused(world.line, f"{world.c} is shadow of reader; one challenger at a time", "windlass deployments show"):
        stage(world.line, other, "shadow")


def test_an_entry_has_to_follow_the_last_one() -> None:
    line, _ = generations(1)
    entries = line.registry.entries()
    state = fold(entries[:3])
    before = seen(state)
    for entry in (entries[0], entries[2], entries[4], replace(entries[3], previous="0" * 64)):
        with pytest.raises(StateError, match=f"entry {entry.sequence} does not follow entry 3"):
            state.apply(entry)
    with pytest.raises(StateError, match="entry 4 is not what its hash was made of"):
        fold([replace(entries[3], at=0.0)], state)
    assert seen(state) == before


# What holds at all times


class LifeCycle(RuleBasedStateMachine):
    """Legal and illegal changes in any order, on two deployments."""

    numbers = st.integers(0, 3)
    names = st.sampled_from(["reader", "reader", "reader", "writer"])
    rulings = st.sampled_from([Ruling.PROMOTE, Ruling.PROMOTE, Ruling.KEEP, Ruling.INCONCLUSIVE])
    ways = st.sampled_from([(), (), ("shadow",), ("canary",), BOTH])

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.registry = MemoryRegistry()
        self.clock = data.draw(st.lists(st.sampled_from([1.0, 0.0, -50.0]), min_size=1, max_size=3))  # it may jump back
        self.at = 1000.0
        for number in range(3):
            self.register(number)

    @property
    def state(self) -> State:
        return self.registry.state()

    def now(self) -> float:
        self.at += self.clock[self.state.sequence % len(self.clock)]
        return self.at

    def enter(self, kind: ChangeKind, subject: str, **body: Any) -> bool:
        """Whether it was allowed."""
        state, before = self.state, seen(self.state)
        try:
            self.registry.append(Change(kind=kind, subject=subject, body=body), actor="somebody", at=self.now())
        except StateError as error:
            assert error.message and error.next_step, error
            assert self.state is state and len(self.registry.entries()) == state.sequence
            return False
        finally:
            assert seen(state) == before, "a state that was given stays"
        for name, line in self.state.deployments.items():
            self.check_history(state.deployments[name].tenures if name in state.deployments else (), line.tenures)
        return True

    def check_history(self, before: tuple[Tenure, ...], after: tuple[Tenure, ...]) -> None:
        """It only grows; one that serves no more gets its end."""
        ended = after[len(before) - 1].until if before else None
        assert after == before or after[:-1] == (*before[:-1], *(replace(last, until=ended) for last in before[-1:]))
        assert all(tenure.until is not None for tenure in after[:-1])
        assert all(tenure.until is None for tenure in after[-1:])

    def checkpoint(self, number: int) -> str:
        """A checkpoint's id, whether it is registered or not."""
        return digest(["bytes", number])[:12]

    def verdict(self, number: int, name: str) -> Verdict | None:
        found = self.state.verdicts_of(name, self.checkpoint(number))
        return found[-1] if found else None

    # -- changes; most of them are refused most of the time

    @rule(number=numbers)
    def register(self, number: int) -> None:
        made = Checkpoint(digest=digest(["bytes", number]), bytes=1, files=1, created=self.at, run=f"run {number}")
        known = made.id in self.state.checkpoints and made.id not in self.state.removed
        assert self.enter(ChangeKind.REGISTERED, made.id, checkpoint=made.to_dict()) is not known

    @rule(number=numbers)
    def evaluate(self, number: int) -> None:
        at, one = self.state.sequence, self.checkpoint(number)
        made = Evaluation(
            checkpoint=one, benchmark="reading", data="d", evaluator="e", scores=digest(at), n=9, at=float(at)
        )
        kept = one in self.state.checkpoints and one not in self.state.removed
        assert self.enter(ChangeKind.EVALUATED, one, evaluation=made.to_dict()) is kept

    @rule(number=numbers, name=names, ruling=rulings, stages=ways, anew=st.sampled_from([True, True, False]))
    def judge(self, number: int, name: str, ruling: Ruling, stages: tuple[str, ...], anew: bool) -> None:
        if anew:
            self.evaluate(number)
        policy = POLICY.model_copy(update={"deployment": name})
        line = self.state.deployments.get(name)
        evidence = tuple(one.id for one in self.state.evaluations_of(self.checkpoint(number)))
        verdict = Verdict(
            deployment=name, challenger=self.checkpoint(number), champion=line.champion if line else None,
            ruling=ruling, reasons=("because",), evaluations=evidence, policy=policy.fingerprint, stages=stages,
            at=self.at,
        )  # fmt: skip
        body = {"verdict": verdict.to_dict(), "policy": policy.model_dump(mode="json"), "folder": "/"}
        self.enter(ChangeKind.JUDGED, name, **body)

    @rule(number=numbers, name=names, to=st.sampled_from(list(Stage)), share=st.sampled_from([0.0, 0.1, 0.5, 2.0]))
    def stage(self, number: int, name: str, to: Stage, share: float) -> None:
        verdict = self.verdict(number, name)
        body = {"checkpoint": self.checkpoint(number), "stage": str(to), "share": share, "reason": "", "verdict": None}
        self.enter(ChangeKind.STAGED, name, **{**body, "verdict": verdict and verdict.id})

    @rule(number=numbers, name=names, which=st.integers(0, 3), honest=st.booleans())
    def promote(self, number: int, name: str, which: int, honest: bool) -> None:
        """By any of its verdicts, over what serves or over something else."""
        verdicts = self.state.verdicts_of(name, self.checkpoint(number))
        verdict = verdicts[-1 - which % len(verdicts)].id if verdicts else None
        line = self.state.deployments.get(name)
        previous = line.champion if line and honest else self.checkpoint(which)
        body = {"checkpoint": self.checkpoint(number), "previous": previous, "verdict": verdict, "rollback": None}
        self.enter(ChangeKind.PROMOTED, name, **body)

    @rule(number=numbers, name=names, stages=ways)
    def succeed(self, number: int, name: str, stages: tuple[str, ...]) -> None:
        """A checkpoint comes all the way, unless something is in its way."""
        self.judge(number, name, Ruling.PROMOTE, stages, True)
        self.go_on(name, 4)

    @rule(name=names, steps=st.integers(1, 4))
    def go_on(self, name: str, steps: int) -> None:
        """The next steps towards serving of whoever may take some, so that deep states are reached."""
        for _ in range(steps):
            self.take_a_step(name)

    def take_a_step(self, name: str) -> None:
        line = self.state.deployments.get(name)
        if line is None or self.state.open_rollback(name) is not None:
            return
        for checkpoint, stage in line.stages.items():
            newest = self.state.verdicts_of(name, checkpoint)[-1:]
            if checkpoint in self.state.removed or not newest or newest[0].champion != line.champion:
                continue
            verdict = newest[0]
            way = [Stage.EVALUATED, *map(Stage, verdict.stages)]
            if verdict.ruling is not Ruling.PROMOTE or stage not in way or line.challenger not in (None, checkpoint):
                continue
            after = way[way.index(stage) + 1 :]
            body = {"checkpoint": checkpoint, "verdict": verdict.id, "reason": ""}
            if after:
                share = 0.1 if after[0] is Stage.CANARY else 0.0
                assert self.enter(ChangeKind.STAGED, name, stage=str(after[0]), share=share, **body)
            else:
                assert self.enter(ChangeKind.PROMOTED, name, previous=line.champion, rollback=None, **body)
            return

    @rule(number=numbers, name=names, served=st.booleans())
    def plan(self, number: int, name: str, served: bool) -> None:
        line = self.state.deployments.get(name)
        source = line.champion if line and line.champion else self.checkpoint(0)
        target = line.tenures[number % len(line.tenures)].checkpoint if line and line.tenures and served else ""
        at = float(self.state.sequence)
        made = Rollback(deployment=name, source=source, target=target or self.checkpoint(number), reason="", at=at)
        self.enter(ChangeKind.PLANNED, name, rollback=made.to_dict())

    @precondition(lambda self: any(rollback.open for rollback in self.state.rollbacks.values()))
    @rule(data=st.data(), step=st.sampled_from(ROLLBACK_STEPS), state=st.sampled_from(list(StepState)))
    def wrong_step(self, data: st.DataObject, step: str, state: StepState) -> None:
        rollback = data.draw(st.sampled_from(list(self.state.rollbacks.values())))
        self.enter(
            ChangeKind.STEPPED, rollback.deployment, rollback=rollback.id, step=step, state=str(state), note="why"
        )

    @precondition(lambda self: any(rollback.open for rollback in self.state.rollbacks.values()))
    @rule(steps=st.lists(st.sampled_from([True] * 8 + [False]), min_size=1, max_size=12))
    def right_steps(self, steps: list[bool]) -> None:
        """``steps`` say whether each goes well."""
        for good in steps:
            self.take_a_step_back(good)

    @precondition(lambda self: any(len(line.tenures) > 1 for line in self.state.deployments.values()))
    @rule(data=st.data(), number=numbers, steps=st.lists(st.sampled_from([True] * 20 + [False]), max_size=12))
    def go_back(self, data: st.DataObject, number: int, steps: list[bool]) -> None:
        """A rollback, or a part of one, to something that served."""
        names = [name for name, line in self.state.deployments.items() if len(line.tenures) > 1]
        self.plan(number, data.draw(st.sampled_from(names)), served=True)
        self.right_steps(steps)

    def take_a_step_back(self, good: bool) -> None:
        rollback = next((rollback for rollback in self.state.rollbacks.values() if rollback.open), None)
        if rollback is None:
            return
        step = next(one for one in ROLLBACK_STEPS if rollback.steps[one] is not DONE)
        body = {"rollback": rollback.id, "step": step, "note": ""}
        if rollback.steps[step] is StepState.WAITING:
            assert self.enter(ChangeKind.STEPPED, rollback.deployment, state="started", **body)
            return
        if step == SWITCH and self.state.deployments[rollback.deployment].champion != rollback.target:
            serving = {"checkpoint": rollback.target, "previous": rollback.source, "verdict": None, "reason": ""}
            assert self.enter(ChangeKind.PROMOTED, rollback.deployment, rollback=rollback.id, **serving)
            return
        good = good or step == SWITCH  # the target serves by now
        assert self.enter(ChangeKind.STEPPED, rollback.deployment, state="done" if good else "failed", **body)

    @rule(number=st.integers(0, 30))
    def remove(self, number: int) -> None:
        self.enter(ChangeKind.REMOVED, self.checkpoint(number), bytes=1, reason="room")

    # -- what holds

    @invariant()
    def one_champion_and_one_challenger_at_most(self) -> None:
        for line in self.state.deployments.values():
            stages = list(line.stages.values())
            champions = [one for one, stage in line.stages.items() if stage is Stage.CHAMPION]
            assert champions == ([line.champion] if line.champion else [])
            assert stages.count(Stage.SHADOW) + stages.count(Stage.CANARY) <= 1
            canary = line.challenger is not None and line.stages[line.challenger] is Stage.CANARY
            assert (0 < line.share < 1) if canary else line.share == 0

    @invariant()
    def a_challenger_answers_by_its_newest_verdict(self) -> None:
        for line in self.state.deployments.values():
            if line.challenger is not None:
                verdict = self.state.verdicts_of(line.name, line.challenger)[-1]
                assert (verdict.ruling, verdict.champion) == (Ruling.PROMOTE, line.champion)
                assert line.stages[line.challenger] in verdict.stages

    @invariant()
    def what_answers_has_its_bytes(self) -> None:
        for line in self.state.deployments.values():
            for one in (line.champion, line.challenger):
                assert one is None or (one in self.state.checkpoints and one not in self.state.removed)

    @invariant()
    def frozen_while_a_rollback_is_under_way(self) -> None:
        for line in self.state.deployments.values():
            rollback = self.state.open_rollback(line.name)
            assert line.frozen == (rollback.id if rollback is not None else None)
            assert sum(one.open for one in self.state.rollbacks.values() if one.deployment == line.name) <= 1

    @invariant()
    def what_a_rollback_says_of_its_switch_is_so(self) -> None:
        for rollback in self.state.rollbacks.values():
            tenures = self.state.deployments[rollback.deployment].tenures
            assert rollback.open or rollback.switched is any(tenure.rollback == rollback.id for tenure in tenures)

    def teardown(self) -> None:
        if not hasattr(self, "registry"):
            return
        read = [Entry.from_text(text) for _, text in self.registry.lines()]
        assert read == self.registry.entries()
        assert seen(fold(read)) == seen(self.state)
        check_serving(read)


def check_serving(entries: list[Entry]) -> None:
    """Whoever serves was let by its newest verdict, against what served then, or by a rollback that came to its switch.

    Reads the log alone, so that the state's own rules are not their own witness.
    """
    serving: dict[str, str] = {}
    judged: dict[tuple[str, str], tuple[int, Verdict]] = {}
    served: set[tuple[str, str]] = set()
    sent_back: dict[tuple[str, str], int] = {}
    stages: dict[tuple[str, str], tuple[int, str]] = {}
    plans: dict[str, Rollback] = {}
    steps: dict[str, list[tuple[str, str]]] = {}
    for entry in entries:
        body, name = entry.body, entry.subject
        if entry.kind is ChangeKind.JUDGED:
            verdict = Verdict.from_dict(body["verdict"])
            judged[name, verdict.challenger] = (entry.sequence, verdict)
        elif entry.kind is ChangeKind.STAGED:
            stages[name, body["checkpoint"]] = (entry.sequence, body["stage"])
            if body["stage"] in ("rejected", "rolled_back"):
                sent_back[name, body["checkpoint"]] = entry.sequence
        elif entry.kind is ChangeKind.PLANNED:
            plan = Rollback.from_dict(body["rollback"])
            plans[plan.id] = plan
        elif entry.kind is ChangeKind.STEPPED:
            steps.setdefault(body["rollback"], []).append((body["step"], body["state"]))
        elif entry.kind is ChangeKind.PROMOTED:
            one = body["checkpoint"]
            at, newest = judged[name, one]
            if body["rollback"] is None:
                assert newest.ruling is Ruling.PROMOTE and newest.id == body["verdict"]
                assert newest.champion == serving.get(name) and sent_back.get((name, one), 0) < at
                if newest.stages:
                    assert stages[name, one][1] == newest.stages[-1]
            else:
                taken = steps[body["rollback"]]
                assert plans[body["rollback"]].target == one and taken[-1] == (SWITCH, "started")
                assert {(FREEZE, "done"), (VERIFY, "done"), (SMOKE, "done")} <= set(taken)
                assert (name, one) in served or newest.ruling is Ruling.PROMOTE
            if name in serving:
                sent_back[name, serving[name]] = entry.sequence
            serving[name] = one
            served.add((name, one))


TestLifeCycle = LifeCycle.TestCase
TestLifeCycle.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
