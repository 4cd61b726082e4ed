"""What a killed campaign goes on from: each generation's trials, whole or not there, in ``state/``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from windlass.errors import WindlassError
from windlass.runs.folder import flush
from windlass.workloads.alpha.campaign import Trial
from windlass.workloads.alpha.language.tree import Node
from windlass.workloads.alpha.search.search import Candidate

SERIES = ("base", "curve")


def save(folder: Path, generation: int, trials: Sequence[Trial]) -> None:
    """Write a generation aside, flush it, and give it its name."""
    folder.mkdir(exist_ok=True)
    beside, place = folder / f".generation-{generation}", _place(folder, generation)
    for old in (beside, place):  # the second is one that could not be read
        shutil.rmtree(old, ignore_errors=True)
    beside.mkdir()
    rows = [
        {
            "expression": one.candidate.text,
            "proposer": one.candidate.proposer,
            "parents": one.candidate.parents,
            "sign": one.sign,
            "metrics": dict(one.metrics),
        }
        for one in trials
    ]
    (beside / "trials.json").write_text(json.dumps(rows))
    for name in SERIES:
        np.save(beside / f"{name}.npy", np.stack([getattr(one, name) for one in trials]), allow_pickle=False)
    for path in (*beside.iterdir(), beside):
        flush(path)
    beside.rename(place)
    flush(folder)


def load(folder: Path, generation: int, read: Callable[[str], Node]) -> list[Trial] | None:
    """A generation's trials; None where it is not there or damaged. ``read`` makes a tree of an expression."""
    place = _place(folder, generation)
    try:
        rows = json.loads((place / "trials.json").read_text())
        base, curve = (np.load(place / f"{name}.npy", allow_pickle=False) for name in SERIES)
        return [
            Trial(
                Candidate.of(read(row["expression"]), row["proposer"], tuple(row["parents"])),
                int(row["sign"]),
                row["metrics"],
                base[number],
                curve[number],
            )
            for number, row in enumerate(rows)
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError, WindlassError):
        return None


def _place(folder: Path, generation: int) -> Path:
    return folder / f"generation-{generation:04d}"
