"""Which runs can go on, and how they are reopened for their next attempt."""

from __future__ import annotations

import math
import time

from windlass.errors import JobError, StateError
from windlass.jobs import processes
from windlass.jobs.collect import collect
from windlass.records.run import RunRecord, RunSpec, Status
from windlass.runs import attempts, index
from windlass.runs.attempts import Attempt
from windlass.runs.folder import RunFolder
from windlass.runs.lease import read_lease
from windlass.runs.text import one_line

RESUMABLE = "only runs that were preempted, killed, lost or cancelled can go on"


def obstacle(run: RunRecord, folder: RunFolder, spec: RunSpec) -> StateError | None:
    """Why a run has no next attempt; None where it can have one."""
    show, replay = f"windlass runs show {run.id}", f"windlass runs replay {run.id}"
    if not run.status.terminal:
        return StateError(f"run {run.id} is {'still ' * (run.status is Status.RUNNING)}{run.status}", show)
    if run.status is Status.COMPLETED:
        return StateError(f"run {run.id} is completed: there is nothing to go on with", replay)
    if run.status is Status.STOPPED:
        return StateError(f"run {run.id} was stopped early, for good; {RESUMABLE}", replay)
    if run.failure is not None and not run.failure.kind.resumable:
        return StateError(f"run {run.id} failed by itself ({run.failure.kind}); {RESUMABLE}", show)
    if not (spec.command or spec.function):
        again = f"Start the script again, with windlass.start_run(resume={run.id!r})"
        return StateError(f"run {run.id} is of a script of its own, which Windlass cannot start again", again)
    if not attempts.left_state(folder):
        return StateError(f"run {run.id} left nothing in {folder.state} to go on from", replay)
    return None


def reopen(folder: RunFolder) -> int:
    """Let an ended run wait for its next attempt, whose number is returned; one that waits is left as it is.

    Raises as ``Executor.resume`` says.
    """
    spec = folder.spec()
    try:
        with attempts.locked(folder):
            attempt = attempts.due(folder)
            if attempt is not None and attempts.waits(folder):
                attempts.finish(folder)
            else:
                run = collect(folder)
                if (problem := obstacle(run, folder, spec)) is not None:
                    raise problem
                attempt = _next_attempt(folder, run)
                attempts.reopen(folder, attempt)
        index.append(folder.path.parent, [folder.id], "resumed")
        return attempt.number
    except OSError as error:
        raise JobError(f"run {folder.id} cannot be reopened: {error}", "Free space, then resume it again.") from error


def _next_attempt(folder: RunFolder, run: RunRecord) -> Attempt:
    from windlass.runs.reader import last_attempt

    lease, exit, before = read_lease(folder), folder.exit(), attempts.due(folder)
    if exit is None and lease is not None:  # its supervisor vanished: what that left goes first
        processes.sweep(folder.job_environment, lease.pid, lease.start_ticks)
    _, step = last_attempt(folder)
    took = exit.wall_s if exit is not None else run.duration_s or 0.0
    ended = one_line(f"{run.failure.kind}: {run.failure.message}", 200) if run.failure is not None else str(run.status)
    return Attempt(
        number=run.attempt + 1,
        step=step if step is not None and math.isfinite(step) else None,
        spent_s=took + (before.spent_s if before is not None else 0.0),
        after=f"was {ended}",
        at=time.time(),
    )
