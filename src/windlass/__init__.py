"""Windlass: an autonomous lab for model training.

``import windlass as wl``. Names load what they need when they are first used, so that a training script pays only for
its side and the lab only for its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windlass.errors import Diverged as Diverged
    from windlass.errors import WindlassError as WindlassError
    from windlass.lab import Lab as Lab
    from windlass.lab import load_study as load_study
    from windlass.records.study import Study as Study
    from windlass.runs.sdk import Run as Run
    from windlass.runs.sdk import start_run as start_run

__version__ = "0.1.0"

_HOMES = {
    "Diverged": "windlass.errors",
    "Lab": "windlass.lab",
    "Run": "windlass.runs.sdk",
    "Study": "windlass.records.study",
    "WindlassError": "windlass.errors",
    "load_study": "windlass.lab",
    "start_run": "windlass.runs.sdk",
}
__all__ = ["Diverged", "Lab", "Run", "Study", "WindlassError", "__version__", "load_study", "start_run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'windlass' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
