"""An exception as a failure that arrives whole: kind, message, traceback, next step. Standard library only."""

from __future__ import annotations

import re
import traceback

from windlass.errors import Diverged, Preempted, PreflightError, Unhealthy, WindlassError
from windlass.records.run import Failure, FailureKind

KINDS: tuple[tuple[type[BaseException], FailureKind], ...] = (
    (Diverged, FailureKind.DIVERGED),
    (PreflightError, FailureKind.PREFLIGHT),
    (Preempted, FailureKind.PREEMPTED),
    (Unhealthy, FailureKind.UNHEALTHY),
    (MemoryError, FailureKind.OUT_OF_MEMORY),  # numpy's is one, too
)
#: an exception's name and message, as a traceback ends with them; torch has no class of its own for the memory of a CPU
OUT_OF_MEMORY = re.compile(
    r"[\w.]*(?:MemoryError\b|Error: .*(?:DefaultCPUAllocator: can't allocate memory|CUDA (?:error: )?out of memory))"
)


def describe_failure(error: BaseException) -> Failure:
    """An exception as a failure, with its kind, message, traceback and next step."""
    told = error if isinstance(error, WindlassError) else None
    message = told.message if told else f"{type(error).__name__}: {error}"
    kind = next((kind for family, kind in KINDS if isinstance(error, family)), FailureKind.ERROR)
    if isinstance(error, RuntimeError) and OUT_OF_MEMORY.match(message):
        kind = FailureKind.OUT_OF_MEMORY
    return Failure(
        kind=kind,
        message=message,
        traceback="".join(traceback.format_exception(error)),
        next_step=told.next_step if told else "",
    )


def exit_code(failure: Failure | None) -> int:
    """That of a process that ends with this failure: 3 after PreflightError, 143 after Preempted, else 1."""
    if failure is None:
        return 0
    family = next((family for family, kind in KINDS if kind is failure.kind), None)
    return family.exit_code if family is not None and issubclass(family, WindlassError) else 1
