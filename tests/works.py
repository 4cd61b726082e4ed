"""What the processes of ``killing`` do: each a command that a person or a server would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keepinglab
import windlass.loop.driver  # everything is imported before the processes part
import windlass.registry.leakage
import windlass.runs.scores
from windlass.lab import Lab, keeping, reindex  # noqa: F401


def promote(lab: Path, run: str) -> dict[str, Any]:
    """From a run to serving."""
    with Lab(lab) as opened:
        made = opened.keeping.register(run)
        opened.keeping.promote(keepinglab.NAME, made.id, keepinglab.gate_of(lab))
    return keepinglab.story(lab)


def roll_back(lab: Path) -> dict[str, Any]:
    with Lab(lab) as opened:
        opened.keeping.rollback(keepinglab.NAME)
    return keepinglab.story(lab)


def drive(lab: Path) -> dict[str, Any]:
    """A study with a gate, to its end."""
    with Lab(lab) as opened:
        opened.run(lab.parent / "study.yaml")
    return keepinglab.story(lab)
