"""The way back: which checkpoint to return to, the plan, and its execution step by step.

A step is on record as started before it begins and as done after it ended. A rollback that was killed goes on with the
step it was in; one whose target turns out to be damaged or to fail its smoke evaluation is undone: what serves stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from windlass.errors import DataError, NotFound, StateError, WindlassError
from windlass.records.audit import Change, ChangeKind
from windlass.records.deployment import (
    FREEZE,
    ROLLBACK_STEPS,
    SMOKE,
    SWITCH,
    VERIFY,
    Deployment,
    Rollback,
    Stage,
    StepState,
)
from windlass.records.evaluation import Evaluation
from windlass.records.gate import Benchmark, GatePolicy
from windlass.registry.promotion import Derive
from windlass.registry.protocol import Registry
from windlass.registry.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint that a deployment may return to."""

    checkpoint: str
    improvement: float  #: over what serves, between -1 and 1, whatever the scale; mean over ``metrics``
    error: float  #: its standard error, at most
    metrics: tuple[str, ...]  #: ``benchmark.metric`` that both have on the same examples
    last_served: float | None  #: seconds since the epoch

    @property
    def better(self) -> bool:
        """By more than its noise."""
        return bool(self.metrics) and self.improvement > self.error


class Hands(Protocol):
    """What a rollback does outside of the log."""

    def step(self, deployment: str, step: str, state: StepState, note: str) -> None:
        """Tell that a step is on record."""

    def point(self, deployment: str) -> str:
        """Write the pointer anew from the state; returns what it says now, in words."""

    def verify(self, checkpoint: str) -> list[str]:
        """What is wrong with a checkpoint's bytes."""

    def smoke(self, deployment: str, checkpoint: str) -> tuple[bool, str]:
        """Evaluate a checkpoint on held-out data in a real job: whether it is fit to serve, and the numbers."""

    def outcomes(self, deployment: str) -> int:
        """Where in the outcome log the next answer will be, in bytes."""

    def watch(self, deployment: str, checkpoint: str) -> str:
        """See that it serves; returns what is watched from now on, in words."""


def eligible(state: State, line: Deployment) -> list[str]:
    """Checkpoints that served, latest first, then those that a verdict allows to; neither what was rolled back or
    rejected since, nor those without bytes.
    """
    served = [tenure.checkpoint for tenure in reversed(line.tenures)]
    judged = [verdict.challenger for verdict in reversed(state.verdicts_of(line.name))]
    fit = (Stage.RETIRED, Stage.EVALUATED)
    return [
        one
        for one in dict.fromkeys([*served, *judged])
        if one not in state.removed and line.stages.get(one) in fit and state.may_return(line, one)
    ]


def candidates(state: State, line: Deployment, policy: GatePolicy, derive: Derive) -> list[Candidate]:
    """Eligible checkpoints, best first: those that are better than what serves, then by how lately they served.

    The improvement is standardised per metric, so that scales do not matter: with d the paired differences of the n
    examples, turned so that more is better, mean(d) / sqrt(mean(d^2)). Near 0 that is mean(d) / sd(d) with standard
    error 1 / sqrt(n), beyond it the error is smaller; where all examples differ alike it is 1 or -1, not infinite. The
    error of the mean over metrics is at most the mean of their errors, however they hang together.
    """
    found = []
    for checkpoint in eligible(state, line):
        gains = {
            label: (_standardised(d), 1 / math.sqrt(len(d)))
            for label, d in _differences(state, line, policy, checkpoint, derive)
        }
        served = [tenure.until or tenure.since for tenure in line.tenures if tenure.checkpoint == checkpoint]
        found.append(
            Candidate(
                checkpoint=checkpoint,
                improvement=math.fsum(gain for gain, _ in gains.values()) / len(gains) if gains else 0.0,
                error=math.fsum(error for _, error in gains.values()) / len(gains) if gains else math.inf,
                metrics=tuple(gains),
                last_served=served[-1] if served else None,
            )
        )
    return sorted(found, key=lambda c: (not c.better, -c.improvement if c.better else 0.0))


def _standardised(d: np.ndarray) -> float:
    scale = float(np.abs(d).max())
    if scale == 0:
        return 0.0
    return float(np.mean(d / scale) / np.sqrt(np.mean((d / scale) ** 2)))


def _differences(
    state: State, line: Deployment, policy: GatePolicy, checkpoint: str, derive: Derive
) -> Iterable[tuple[str, np.ndarray]]:
    """Per declared metric, how much better each example is under ``checkpoint`` than under what serves: (n,) floats.

    Scores that cannot be read any more count as not measured: a way back is needed all the same.
    """
    for benchmark in policy.benchmarks:
        theirs = {(one.data, one.evaluator): one for one in state.evaluations_of(checkpoint, benchmark.name)}
        known = reversed(state.evaluations_of(line.champion or "", benchmark.name))
        ours = next((one for one in known if (one.data, one.evaluator) in theirs), None)
        if ours is None:
            continue
        try:
            before, after = derive(ours), derive(theirs[ours.data, ours.evaluator])
        except (DataError, NotFound):
            continue
        if not np.array_equal(before.ids, after.ids):
            continue
        declared = {benchmark.metric: benchmark.direction} | {g.metric: g.direction for g in benchmark.guards}
        for metric, direction in declared.items():
            if metric in before.columns and metric in after.columns:
                d = after.columns[metric] - before.columns[metric]
                yield f"{benchmark.name}.{metric}", d if direction == "maximize" else -d


def plan(
    registry: Registry,
    deployment: str,
    derive: Derive,
    hands: Hands,
    *,
    target: str | None = None,
    reason: str,
    at: float,
    evidence: dict[str, Any] | None = None,
) -> Rollback:
    """A way back from what serves; nothing is recorded yet.

    Without ``target``, the best candidate whose bytes are intact. Raises NotFound for an unknown target and where there
    is nothing to go back to, StateError for a target that cannot serve.
    """
    state = registry.state()
    line = state.deployment(deployment)
    if line.champion is None:
        raise NotFound(f"nothing serves as {line.name}: there is nothing to roll back", "windlass deployments list")
    if target is not None:
        chosen = state.checkpoint(target).id
        _check_target(state, line, chosen)
        if damages := hands.verify(chosen):
            raise StateError(f"checkpoint {chosen} is damaged: {damages[0]}", f"windlass rollback {line.name}")
        why: dict[str, Any] = {"target": "chosen by a person"}
    else:
        chosen, why = _best_intact(state, line, derive, hands)
    return Rollback(
        deployment=line.name,
        source=line.champion,
        target=chosen,
        reason=reason,
        at=at,
        evidence={**(evidence or {}), **why},
    )


def _check_target(state: State, line: Deployment, target: str) -> None:
    if target == line.champion:
        raise StateError(f"{target} serves as {line.name} already", f"windlass deployments show {line.name}")
    if not state.may_return(line, target):
        raise StateError(
            f"{target} never served as {line.name}, and no verdict allows it to",
            f"windlass promote {line.name} {target}",
        )
    if target in state.removed:
        raise StateError(f"the bytes of checkpoint {target} were removed", f"windlass rollback {line.name}")


def _best_intact(state: State, line: Deployment, derive: Derive, hands: Hands) -> tuple[str, dict[str, Any]]:
    policy, _ = state.policy_of(line.name)
    damaged: list[str] = []
    for candidate in candidates(state, line, policy, derive):
        if damages := hands.verify(candidate.checkpoint):
            damaged.append(f"{candidate.checkpoint}: {damages[0]}")
            continue
        return candidate.checkpoint, {
            "target": "measured better"
            if candidate.better
            else "served last; none is measured better by more than noise",
            "improvement": candidate.improvement,
            "standard_error": candidate.error if math.isfinite(candidate.error) else None,
            "metrics": list(candidate.metrics),
            "damaged": damaged,
        }
    lost = f" Damaged: {'; '.join(damaged)}." if damaged else ""
    raise NotFound(
        f"deployment {line.name} has nothing to go back to: no other checkpoint served or passed the gate.{lost}",
        "windlass checkpoints list",
    )


def begin(registry: Registry, rollback: Rollback, *, actor: str) -> Rollback:
    """Put a plan on record. Raises StateError where the deployment changed, or another rollback is under way."""
    change = Change(kind=ChangeKind.PLANNED, subject=rollback.deployment, body={"rollback": rollback.to_dict()})
    registry.append(change, actor=actor)
    return registry.state().rollbacks[rollback.id]


def execute(registry: Registry, rollback: Rollback, hands: Hands, *, actor: str) -> Rollback:
    """Take the steps that are left; each is safe to repeat. Returns the rollback as it ended."""
    hands.point(rollback.deployment)  # a kill may have come between an entry and the pointer
    while (now := registry.state().rollbacks[rollback.id]).open:
        step = next(one for one in ROLLBACK_STEPS if now.steps[one] is not StepState.DONE)
        _enter(registry, now, step, StepState.STARTED, "", actor)
        hands.step(now.deployment, step, StepState.STARTED, "")
        if step == SWITCH:
            _switch(registry, now, hands.outcomes(now.deployment), actor)
            hands.step(now.deployment, step, StepState.DONE, hands.point(now.deployment))
            continue
        try:
            good, note = _take(step, now, hands)
        except WindlassError as error:
            good, note = False, error.message
        ended = StepState.DONE if good else StepState.FAILED
        _enter(registry, now, step, ended, note, actor)
        hands.point(now.deployment)
        hands.step(now.deployment, step, ended, note)
    return now


def abandon(registry: Registry, rollback: Rollback, hands: Hands, *, reason: str, actor: str) -> Rollback:
    """Undo a rollback that cannot go on: what serves stays, promotions go on. Raises StateError after its switch."""
    now = registry.state().rollbacks[rollback.id]
    if now.switched:
        raise StateError(
            f"rollback {now.id} has switched: {now.target} serves as {now.deployment}",
            f"windlass rollback {now.deployment} --forward",
        )
    step = next(one for one in ROLLBACK_STEPS if now.steps[one] is not StepState.DONE)
    started, failed = (
        _stepped(now, step, state, note) for state, note in ((StepState.STARTED, ""), (StepState.FAILED, reason))
    )
    registry.append(started, failed, actor=actor)
    hands.point(now.deployment)
    hands.step(now.deployment, step, StepState.FAILED, reason)
    return registry.state().rollbacks[now.id]


def _take(step: str, rollback: Rollback, hands: Hands) -> tuple[bool, str]:
    if step == FREEZE:
        return True, "promotions wait, and no challenger answers"
    if step == VERIFY:
        damages = hands.verify(rollback.target)
        return not damages, "; ".join(damages[:3]) or "every byte is as it was registered"
    if step == SMOKE:
        return hands.smoke(rollback.deployment, rollback.target)
    return True, hands.watch(rollback.deployment, rollback.target)


def _switch(registry: Registry, rollback: Rollback, outcomes: int, actor: str) -> None:
    """The new champion and the end of the step, in one transaction."""
    promoted = Change(
        kind=ChangeKind.PROMOTED,
        subject=rollback.deployment,
        body={
            "checkpoint": rollback.target,
            "previous": rollback.source,
            "verdict": None,
            "rollback": rollback.id,
            "reason": rollback.reason,
            "outcomes": outcomes,
        },
    )
    registry.append(promoted, _stepped(rollback, SWITCH, StepState.DONE, f"{rollback.target} serves"), actor=actor)


def _enter(registry: Registry, rollback: Rollback, step: str, state: StepState, note: str, actor: str) -> None:
    registry.append(_stepped(rollback, step, state, note), actor=actor)


def _stepped(rollback: Rollback, step: str, state: StepState, note: str) -> Change:
    body = {"rollback": rollback.id, "step": step, "state": str(state), "note": note}
    return Change(kind=ChangeKind.STEPPED, subject=rollback.deployment, body=body)


def fit(benchmark: Benchmark, smoke: Evaluation, before: Sequence[Evaluation], derive: Derive) -> tuple[bool, str]:
    """Whether a smoke evaluation finds a checkpoint fit to serve, and the numbers.

    It is, where its mean is no worse than the benchmark's ``least``, and no worse than it was in its last evaluation on
    the same data by the same evaluator by more than three standard errors of the paired differences.
    """
    scores = derive(smoke)
    values = scores.column(benchmark.metric)
    sign = 1.0 if benchmark.direction == "maximize" else -1.0
    mean = float(values.mean())
    words = f"{benchmark.metric} {mean:.6g} on {len(values)} examples of {benchmark.name}"
    if benchmark.least is not None and sign * (mean - benchmark.least) < 0:
        return False, f"{words}, where {benchmark.least:g} is the least that may serve"
    for earlier in reversed(before):
        if earlier.id == smoke.id or (earlier.data, earlier.evaluator) != (smoke.data, smoke.evaluator):
            continue
        try:
            known = derive(earlier)
            d = known.column(benchmark.metric)
        except (DataError, NotFound):  # it cannot be read any more
            continue
        if not np.array_equal(known.ids, scores.ids):
            continue
        d = sign * (values - d)
        error = float(d.std(ddof=1)) / math.sqrt(len(d)) if len(d) > 1 else 0.0
        change = float(d.mean())
        if change < -3 * error - 1e-12 * max(1.0, abs(mean)):
            return False, f"{words}, worse than the {mean - sign * change:.6g} that it had there before"
        return True, f"{words}, {'as before' if not change else f'{mean - sign * change:.6g} before'}"
    return True, f"{words}; there is no earlier evaluation on the same examples"
