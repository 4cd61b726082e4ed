"""From evidence to a verdict on record, and from a verdict to serving, one recorded step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import DataError, GateRefused, StateError
from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Stage
from windlass.records.evaluation import Evaluation
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Ruling, Verdict, verdict_id
from windlass.registry.blobs import Blobs
from windlass.registry.evidence import CLOCKS_DIFFER_S
from windlass.registry.gate import Sheet, decisive, judge
from windlass.registry.protocol import Registry
from windlass.registry.scores import Scores
from windlass.registry.state import State

#: an evaluation's scores, read again and held against its record
Derive = Callable[[Evaluation], Scores]


def judged(
    registry: Registry, policy: GatePolicy, folder: Path, challenger: str, derive: Derive, *, actor: str, at: float
) -> Verdict:
    """The gate's verdict on a challenger, put on record. The same evidence again is the same verdict; of one that
    serves already, it is the verdict that let it. A refusal that only the clock gives is told, and not put on record:
    it would stand when the clock is right again.

    Raises NotFound for an unknown challenger, DataError where scores on disk are not what was recorded, StateError
    where another promotion came first.
    """
    state = registry.state()
    checkpoint = state.checkpoint(challenger)
    line = state.deployments.get(policy.deployment)
    champion = line.champion if line else None
    if checkpoint.id == champion:
        return next(v for v in reversed(state.verdicts_of(policy.deployment, champion)) if v.ruling is Ruling.PROMOTE)
    newest = newest_evaluations(state, policy, checkpoint.id)
    before = newest_evaluations(state, policy, champion, like=newest) if champion else {}
    used = [evaluation.id for evaluation in (*newest.values(), *before.values())]
    identity = verdict_id(policy.deployment, checkpoint.id, champion, policy.fingerprint, used)
    spent, look = looks(state, policy, newest.values(), without=identity)
    verdict = judge(
        policy,
        checkpoint.id,
        champion,
        evidence={name: Sheet(one, derive(one)) for name, one in newest.items()},
        baseline={name: Sheet(one, derive(one)) for name, one in before.items()},
        spent=spent,
        look=look,
        at=at,
    )
    known = state.verdicts.get(verdict.id)
    if not all(_timely(policy, side, at) for side in (newest, before)):
        return verdict
    if known is not None:
        return known
    body = {"verdict": verdict.to_dict(), "policy": policy.model_dump(mode="json"), "folder": str(folder)}
    try:
        registry.append(Change(kind=ChangeKind.JUDGED, subject=policy.deployment, body=body), actor=actor, at=at)
    except StateError:
        if verdict.id not in registry.state().verdicts:  # where it is, another process came to it at the same time
            raise
    return registry.state().verdicts[verdict.id]


def _timely(policy: GatePolicy, evaluations: Mapping[str, Evaluation], at: float) -> bool:
    """Whether evaluations by benchmark may be used ``at`` a time: neither too old, nor made later."""
    oldest = {one.name: -math.inf if one.max_age is None else at - one.max_age for one in policy.benchmarks}
    return all(oldest[name] <= one.at <= at + CLOCKS_DIFFER_S for name, one in evaluations.items())


def newest_evaluations(
    state: State, policy: GatePolicy, checkpoint: str, like: Mapping[str, Evaluation] | None = None
) -> dict[str, Evaluation]:
    """By benchmark, the newest evaluation; with ``like``, the newest on the same data by the same evaluator first."""
    found: dict[str, Evaluation] = {}
    for benchmark in policy.benchmarks:
        evaluations = state.evaluations_of(checkpoint, benchmark.name)
        other = (like or {}).get(benchmark.name)
        same = [e for e in evaluations if other and (e.data, e.evaluator) == (other.data, other.evaluator)]
        if evaluations:
            found[benchmark.name] = (same or evaluations)[-1]
    return found


def looks(
    state: State, policy: GatePolicy, evaluations: Iterable[Evaluation] = (), without: str = ""
) -> tuple[float, int]:
    """How much of the policy's alpha earlier looks used up, and the number of the next look.

    Looks at a benchmark of the same name count, and those at the same data under another name.
    """
    names = {benchmark.name for benchmark in policy.benchmarks if benchmark.require == "better"}
    data = {evaluation.data for evaluation in evaluations if evaluation.benchmark in names}
    earlier = []
    for verdict in state.verdicts_of(policy.deployment):
        tested = {comparison.benchmark for comparison in verdict.comparisons if comparison.role == "better"}
        scored = [state.evaluations[one] for one in verdict.evaluations]
        same = any(evaluation.benchmark in tested and evaluation.data in data for evaluation in scored)
        if verdict.id != without and (same or tested & names):
            earlier.append(verdict)
    return math.fsum(verdict.level for verdict in earlier), len(earlier) + 1


def missing(policy: GatePolicy, have: Iterable[str]) -> list[str]:
    """Benchmarks that a policy needs and that have no evaluation."""
    return [benchmark.name for benchmark in policy.benchmarks if benchmark.name not in set(have)]


def advance(registry: Registry, blobs: Blobs, verdict: Verdict, *, actor: str, outcomes: int = 0) -> Stage:
    """Move a challenger one step towards serving; what serves already stays.

    ``outcomes`` is where in the outcome log its answers will begin, in bytes. Returns where it stands now.

    Raises GateRefused on any verdict but promote, DataError where its bytes are damaged, StateError where another
    promotion came first.
    """
    state = registry.state()
    line = state.deployments.get(verdict.deployment)
    if line is not None and line.champion == verdict.challenger:
        return Stage.CHAMPION
    if verdict.ruling is not Ruling.PROMOTE:
        raise GateRefused(f"{verdict.challenger}: {verdict.ruling}. {' '.join(verdict.reasons)}", next_step(verdict))
    check_bytes(blobs, state.checkpoint(verdict.challenger))
    now = line.stages.get(verdict.challenger) if line else None
    if now in (Stage.SHADOW, Stage.CANARY):
        return now
    reason = verdict.reasons[0]
    try:
        if not verdict.stages:
            return serve(registry, verdict, actor=actor, reason=reason, outcomes=outcomes)
        stage = Stage(verdict.stages[0])
        canary = state.policies[verdict.policy][0].canary
        share = canary.shares[0] if canary is not None and stage is Stage.CANARY else 0.0
        return stage_challenger(registry, verdict, stage, actor=actor, reason=reason, share=share, outcomes=outcomes)
    except StateError:
        came = registry.state().deployment(verdict.deployment).stages.get(verdict.challenger)
        if came not in (Stage.SHADOW, Stage.CANARY, Stage.CHAMPION):
            raise
        return came  # another process took the same step


def stage_challenger(
    registry: Registry,
    verdict: Verdict,
    stage: Stage,
    *,
    actor: str,
    reason: str,
    share: float = 0.0,
    outcomes: int = 0,
    evidence: Mapping[str, Any] | None = None,
) -> Stage:
    """Put a challenger in shadow or canary, send it back, or change the canary's share."""
    body = {
        "checkpoint": verdict.challenger,
        "stage": str(stage),
        "share": share,
        "reason": reason,
        "verdict": verdict.id,
        "outcomes": outcomes,
        "evidence": dict(evidence or {}),
    }
    registry.append(Change(kind=ChangeKind.STAGED, subject=verdict.deployment, body=body), actor=actor)
    return stage


def serve(
    registry: Registry,
    verdict: Verdict,
    *,
    actor: str,
    reason: str,
    outcomes: int = 0,
    evidence: Mapping[str, Any] | None = None,
) -> Stage:
    """Let a challenger serve. The pointer is derived from this entry, afterwards."""
    body = {
        "checkpoint": verdict.challenger,
        "previous": verdict.champion,
        "verdict": verdict.id,
        "rollback": None,
        "reason": reason,
        "outcomes": outcomes,
        "evidence": dict(evidence or {}),
    }
    registry.append(Change(kind=ChangeKind.PROMOTED, subject=verdict.deployment, body=body), actor=actor)
    return Stage.CHAMPION


def check_bytes(blobs: Blobs, checkpoint: Checkpoint) -> None:
    """Raises DataError where a checkpoint is not what was registered."""
    if damages := blobs.verify(checkpoint.digest):
        raise DataError(
            f"checkpoint {checkpoint.id} is damaged: {'; '.join(damages[:3])}",
            f"windlass checkpoints verify {checkpoint.id}",
        )


def next_step(verdict: Verdict) -> str:
    """What would bring a challenger further, as a command."""
    if verdict.ruling is Ruling.INCONCLUSIVE and verdict.more:
        open_one = decisive(verdict.comparisons)
        where = f"of {open_one.group} " if open_one is not None and open_one.group else ""
        benchmark = f"'{open_one.benchmark}'" if open_one is not None else "the benchmark"
        return f"Add {verdict.more} examples {where}to {benchmark}, then: windlass evaluate {verdict.challenger}"
    return f"windlass audit show --checkpoint {verdict.challenger}"
