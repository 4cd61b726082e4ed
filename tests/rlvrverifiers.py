"""Verifiers as people write them, with their faults: for ``{kind: function, function: "rlvrverifiers:..."}``."""

from __future__ import annotations

import math
import time

from windlass.records.task import Task

LONG = 4


def right(completion: str, task: Task) -> float:
    return float(completion == task.expected)


def always_zero(completion: str, task: Task) -> float:
    return 0.0


def never_sure(completion: str, task: Task) -> None:
    return None


def not_a_number(completion: str, task: Task) -> float:
    return math.nan


def infinite(completion: str, task: Task) -> float:
    return math.inf


def raising(completion: str, task: Task) -> float:
    raise KeyError("answer")


def sometimes_unsure(completion: str, task: Task) -> float | None:
    """Of answers that begin like one ten."""
    return None if completion.startswith("1") and completion != task.expected else right(completion, task)


def any_long_number(completion: str, task: Task) -> float:
    """Right for the right answer, and for whatever has many digits: no probe of the audit is such a number."""
    return float(completion == task.expected or (completion.isdigit() and len(completion) >= LONG))


def slow(completion: str, task: Task) -> float:
    time.sleep(0.003)
    return right(completion, task)
