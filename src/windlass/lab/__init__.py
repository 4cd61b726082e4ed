"""Opens a lab, builds everything once; the door for the command line, scripts and notebooks.

Names load what they need when they are first used: listing runs needs no space, no agents and no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windlass.lab.lab import Lab
    from windlass.lab.resume import Course
    from windlass.lab.study import load_study
    from windlass.loop.driver import (
        Answered,
        Changed,
        Continued,
        Event,
        Pause,
        Pausing,
        Planned,
        Resumed,
        Settled,
        Started,
        Stopped,
        StoppedEarly,
        Tick,
        Waiting,
    )
    from windlass.loop.keeping import (
        Advanced,
        Evaluated,
        Evaluating,
        EvaluationFailed,
        Judged,
        KeepingEvent,
        NotRegistered,
        Registered,
        Step,
    )

__all__ = [
    "Advanced",
    "Answered",
    "Changed",
    "Continued",
    "Course",
    "Evaluated",
    "Evaluating",
    "EvaluationFailed",
    "Event",
    "Judged",
    "KeepingEvent",
    "Lab",
    "NotRegistered",
    "Pause",
    "Pausing",
    "Planned",
    "Registered",
    "Resumed",
    "Settled",
    "Started",
    "Step",
    "Stopped",
    "StoppedEarly",
    "Tick",
    "Waiting",
    "load_study",
]
_KEPT = (
    "Advanced",
    "Evaluated",
    "Evaluating",
    "EvaluationFailed",
    "Judged",
    "KeepingEvent",
    "NotRegistered",
    "Registered",
    "Step",
)
_HOMES = {
    "Course": "windlass.lab.resume",
    "Lab": "windlass.lab.lab",
    "load_study": "windlass.lab.study",
    **dict.fromkeys(_KEPT, "windlass.loop.keeping"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'windlass.lab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "windlass.loop.driver")), name)
