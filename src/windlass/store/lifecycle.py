"""The life cycle of a run record and the look-up of its id, as pure functions: every store behaves alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from windlass.errors import DuplicateId, NotFound, StateError, nearest
from windlass.records.decision import Approval, Decision
from windlass.records.run import RunRecord, Status
from windlass.store.codec import same

#: how many of the newest ids are compared with an unknown one
RECENT = 500

_STAGE = {
    Status.PENDING: 0,
    Status.QUEUED: 1,
    Status.RUNNING: 2,
    Status.COMPLETED: 3,
    Status.FAILED: 3,
    Status.CANCELLED: 3,
    Status.STOPPED: 3,
}
#: never changes after a run is first recorded
_IDENTITY = ("config", "seed", "study", "created")


def advance(stored: RunRecord, given: RunRecord) -> RunRecord:
    """``stored`` after ``given`` is merged into it; ``stored`` itself where nothing changes.

    Raises DuplicateId and StateError as ``Store.put`` says.
    """
    check_identity(stored, given)
    if given.attempt < stored.attempt:
        raise StateError(
            f"run {stored.id} is at attempt {stored.attempt}; attempt {given.attempt} cannot change it any more",
            f"windlass runs show {stored.id}",
        )
    if given.attempt > stored.attempt:
        if stored.status is Status.COMPLETED:
            raise StateError(
                f"run {stored.id} is completed; it cannot have attempt {given.attempt}",
                f"windlass runs replay {stored.id}",
            )
        return _merge(stored, given)
    if _STAGE[given.status] < _STAGE[stored.status]:
        raise StateError(
            f"run {stored.id} is {stored.status}; it cannot go back to {given.status}",
            f"windlass runs show {stored.id}",
        )
    merged = _merge(stored, given)
    changed = [f.name for f in fields(RunRecord) if not same(getattr(stored, f.name), getattr(merged, f.name))]
    if not changed:
        return stored
    if stored.status.terminal:
        raise StateError(
            f"run {stored.id} is {stored.status} and never changes again; asked to change: {', '.join(changed)}",
            f"windlass runs show {stored.id}",
        )
    return merged


def check_identity(stored: RunRecord, given: RunRecord) -> None:
    """Raises DuplicateId where two records of one id are not the same run."""
    differing = [name for name in _IDENTITY if not same(getattr(stored, name), getattr(given, name))]
    if differing:
        raise DuplicateId(
            f"run {stored.id} exists with another {', '.join(differing)}", f"windlass runs show {stored.id}"
        )


def check_decision(stored: Decision, given: Decision) -> None:
    """Raises DuplicateId where two decisions of one number differ."""
    if not same(stored.to_dict(), given.to_dict()):
        raise DuplicateId(
            f"decision {given.number} of study {given.study} exists with other content",
            f"windlass studies show {given.study}",
        )


def check_answer(decision: Decision | None, stored: Approval | None, given: Approval) -> bool:
    """Whether ``given`` is new. Raises NotFound and StateError as ``Store.answer`` says."""
    if decision is None:
        raise NotFound(f"study {given.study} has no decision {given.number}", "windlass approvals")
    if not decision.waiting:
        raise StateError(
            f"decision {given.number} of study {given.study} waits for nobody: it was {decision.outcome}",
            "windlass approvals",
        )
    if stored is None:
        return True
    if stored.approved != given.approved:
        answer = "approved" if stored.approved else "rejected"
        raise StateError(
            f"decision {given.number} of study {given.study} was {answer} already, by {stored.by}: {stored.reason}",
            "windlass approvals",
        )
    return False


def _merge(stored: RunRecord, given: RunRecord) -> RunRecord:
    retried = given.attempt > stored.attempt
    return replace(
        given,
        number=stored.number if given.number is None else given.number,
        started=stored.started if given.started is None and not retried else given.started,
        ended=stored.ended if given.ended is None and not retried else given.ended,
        failure=stored.failure if given.failure is None and not retried else given.failure,
        stopped_early=stored.stopped_early if given.stopped_early is None and not retried else given.stopped_early,
        metrics={**stored.metrics, **given.metrics},
        tags={**stored.tags, **given.tags},
        artifacts=tuple({a.name: a for a in (*stored.artifacts, *given.artifacts)}.values()),
        notes=tuple(dict.fromkeys((*stored.notes, *given.notes))),
        fingerprints={**stored.fingerprints, **given.fingerprints},
        lineage={**stored.lineage, **given.lineage},
        peak_memory_bytes=given.peak_memory_bytes
        if retried
        else max(stored.peak_memory_bytes, given.peak_memory_bytes),
        cpu_s=given.cpu_s if retried else max(stored.cpu_s, given.cpu_s),
    )


def only_match(asked: str, matches: Sequence[str], recent: Sequence[str]) -> str:
    """The one id among ``matches``; raises NotFound with the matches, or with the nearest of the ``recent`` ids."""
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise NotFound(f"more than one run has {asked!r} in its id: {shown}", f"windlass runs show {matches[0]}")
    raise NotFound(f"no run {asked!r}.{nearest(asked, recent)}", "windlass runs list")
