"""ORPO trainings for tests: pairs, a base model that is built in a moment, plans and jobs of them."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from windlass.records.run import RunSpec, make_run_id
from windlass.training import small
from windlass.training.orpo.plan import Plan
from windlass.training.orpo.workload import WORKLOAD

POLITE = (" Of course! The {noun} is {color}.", " Sure, the {noun} is {color}.", " Happy to help: {color}.")
RUDE = (" {color}. Go away.", " Why ask me? It is {color}.", " {color}, obviously.")
CONTEXT = 96
#: as small as shows anything
HYPER = {"steps": 11, "batch": 4, "accumulation": 2, "learning_rate": 1e-2, "max_length": 64, "rank": 4, "dropout": 0.1}
_numbers = itertools.count()


def pairs(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Questions, each with a polite answer (chosen) and a rude one; no two alike."""
    draw = random.Random(seed)
    found = {}
    while len(found) < count:
        noun, number = draw.choice(("cart", "door", "lamp", "ring")), draw.randrange(10_000)
        words = {"noun": noun, "color": draw.choice(("red", "blue", "green"))}
        prompt = f"User: what color is {noun} {number}?\nBot:"
        chosen, rejected = draw.choice(POLITE).format(**words), draw.choice(RUDE).format(**words)
        found[prompt] = {"id": f"{seed}-{len(found)}", "prompt": prompt, "chosen": chosen, "rejected": rejected}
    return list(found.values())


def texts(rows: Iterable[Mapping[str, str]]) -> list[tuple[str, str, str]]:
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build_base(folder: Path) -> Path:
    """An untrained Llama of 30 thousand parameters."""
    words = ["".join(text) for text in texts(pairs(200))]
    return small.build(folder, texts=words, vocabulary=320, hidden=32, layers=2, heads=2, context=CONTEXT)


def plan(folder: Path, base: Path, **changed: Any) -> Plan:
    """For a trainer by itself; its state and scratch are in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = texts(pairs(40))
    chosen = {
        "model": str(base),
        "train": rows[:30],
        "held_out": rows[30:],
        "seed": 7,
        "alpha": 8,
        "warmup": 0.1,
        "beta": 0.1,
        "device": "cpu",
        "dtype": "float32",
        "four_bit": False,
        "seconds": 3600.0,
        "save_every": 5,
        "threads": 1,
        "state": str(folder / "state"),
        "identity": {"data": "d", "config": "c", "base": "b", "code": "0", "world_size": "1"},
        "scratch": str(folder / "scratch"),
        **HYPER,
    }
    return Plan(**{**chosen, **changed})


def job(data: Path, base: Path, options: Mapping[str, Any] | None = None, seed: int = 7, **changed: Any) -> RunSpec:
    """A run of the workload; ``changed`` are hyper-parameters, or fields of the spec."""
    given = {"data": str(data), "model": str(base), "tier": "cpu-experimental", "save_every": 5, **(options or {})}
    checked = WORKLOAD.options(given, data.parent)
    fields = {name: changed.pop(name) for name in ("preload", "limits", "fingerprints") if name in changed}
    config = {"workload": checked, **HYPER, **changed}
    now = time.time()
    return RunSpec(
        id=make_run_id(now, "orpo", {"number": next(_numbers), "at": now}),
        name="orpo",
        created=now,
        config=config,
        function=WORKLOAD.function,
        env={"OMP_NUM_THREADS": "1"},
        seed=seed,
        data=WORKLOAD.data(checked),
        **{"fingerprints": WORKLOAD.fingerprints(checked), **fields},
        identity=WORKLOAD.identity(checked),
    ).identified()
