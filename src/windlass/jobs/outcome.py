"""How a run came out, from how its process ended and what it left. Pure: values in, verdict out."""

from __future__ import annotations

import math
import re
import signal

from windlass.errors import nearest
from windlass.records.result import Result, ResultStatus
from windlass.records.run import Exit, Failure, FailureKind, RunSpec, Status
from windlass.runs.failure import OUT_OF_MEMORY

#: last lines of stderr that tell more than the exit code does
TELLING = (
    (OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY),
    (re.compile(r"[\w.]*\bDiverged\b"), FailureKind.DIVERGED),
    (re.compile(r"[\w.]*\bUnhealthy\b"), FailureKind.UNHEALTHY),
)
#: exit codes that a trainer's own end can have -> what they say
EXIT_CODES = {3: FailureKind.PREFLIGHT, 128 + signal.SIGTERM: FailureKind.PREEMPTED}
#: why Windlass ends a job that has gone too far -> what that is
TOO_FAR = {
    "timeout": FailureKind.TIMEOUT,
    "memory": FailureKind.OUT_OF_MEMORY,
    "budget": FailureKind.BUDGET,
    "output": FailureKind.INVALID_RESULT,
}
#: why Windlass ends a job that has not failed -> the run's status
ENDED_BY_WINDLASS = {"cancel": Status.CANCELLED, "stop": Status.STOPPED}


def outcome(
    spec: RunSpec, exit: Exit | None, result: Result | None, problem: str = "", stderr: str = ""
) -> tuple[Status, Failure | None]:
    """The terminal status of a run.

    ``exit`` is None where nobody saw the end; ``result`` is None where there is no valid one, and ``problem`` says
    why; ``stderr`` is its tail. The cause that Windlass knows (it sent the signal) goes before what the job says,
    and that before what the exit code lets guess.
    """
    cause = _cause(spec, exit, result, problem, stderr)
    if cause is not None:
        return Status.FAILED, cause
    return ENDED_BY_WINDLASS.get(exit.reason if exit is not None else "", Status.COMPLETED), None


def _cause(spec: RunSpec, exit: Exit | None, result: Result | None, problem: str, stderr: str) -> Failure | None:
    if exit is None:
        return Failure(kind=FailureKind.LOST, message="its supervisor vanished: nobody saw how it ended")
    if exit.reason in ENDED_BY_WINDLASS:
        return None
    if exit.reason in TOO_FAR:
        return Failure(kind=TOO_FAR[exit.reason], message=exit.message, traceback=stderr)
    if exit.reason == "not_started":
        return Failure(kind=FailureKind.ERROR, message=exit.message)
    if result is not None and result.failure is not None:
        return result.failure
    if exit.signal is not None:
        return Failure(kind=FailureKind.KILLED, message=f"ended by {_signal_name(exit.signal)}", traceback=stderr)
    if exit.code != 0:
        return _error(exit, stderr)
    if result is None:
        return Failure(kind=FailureKind.INVALID_RESULT, message=f"exit code 0, but {problem}", traceback=stderr)
    if result.status is ResultStatus.PREEMPTED:
        return Failure(kind=FailureKind.PREEMPTED, message="its result says that it was asked to end")
    return _judge_metrics(spec, result)


def _error(exit: Exit, stderr: str) -> Failure:
    first, last = _last_words(stderr)
    ended = "ended in an unknown way" if exit.code is None else f"exit code {exit.code}"
    if exit.code in EXIT_CODES:
        return Failure(kind=EXIT_CODES[exit.code], message=last or f"{ended}, nothing on stderr", traceback=stderr)
    said = (kind for line in (last, first) for pattern, kind in TELLING if pattern.match(line))
    kind = next(said, FailureKind.ERROR)
    return Failure(kind=kind, message=f"{ended}: {last}" if last else f"{ended}, nothing on stderr", traceback=stderr)


def _last_words(stderr: str) -> tuple[str, str]:
    """The first and the last line of what ends a traceback: the exception, whose message may have several lines."""
    lines = stderr.rstrip().splitlines() or [""]
    indented = [number for number, line in enumerate(lines) if line[:1].isspace()]
    return lines[min(indented[-1] + 1 if indented else 0, len(lines) - 1)], lines[-1].strip()


def _judge_metrics(spec: RunSpec, result: Result) -> Failure | None:
    for name in spec.required_metrics:
        if name not in result.metrics:
            given = ", ".join(sorted(result.metrics)) or "none"
            message = f"the result has no metric {name!r}.{nearest(name, result.metrics)} It has: {given}"
            return Failure(kind=FailureKind.INVALID_RESULT, message=message)
    for name in spec.required_metrics:
        if not math.isfinite(result.metrics[name]):
            message = f"metric {name!r} is {result.metrics[name]}"
            return Failure(kind=FailureKind.DIVERGED, message=message)
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
