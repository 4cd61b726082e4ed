"""RLVR trainings for tests: sums of digits, a base model that is built in a moment, jobs of them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from jobspecs import drain
from windlass.jobs.collect import collect
from windlass.jobs.inprocess import InProcessExecutor
from windlass.jobs.local import LocalExecutor
from windlass.records.run import RunRecord, RunSpec, make_run_id
from windlass.records.task import Task
from windlass.runs.folder import RunFolder, read_json
from windlass.training import small
from windlass.training.rlvr.plan import Plan
from windlass.training.rlvr.spec import Hyper
from windlass.training.rlvr.workload import WORKLOAD

CHARACTERS = "0123456789+="
#: as small as shows anything
HYPER = {"steps": 8, "batch": 8, "generations": 4, "learning_rate": 3e-4}
OPTIONS = {"verifier": {"kind": "exact"}, "max_new_tokens": 3, "check_every": 4, "check_tasks": 16, "save_every": 3}
_numbers = itertools.count()


def sums(below: int = 10) -> list[dict[str, Any]]:
    """A task for each pair of numbers."""
    pairs = itertools.product(range(below), repeat=2)
    return [{"id": f"{a}+{b}", "prompt": f"{a}+{b}=", "expected": str(a + b)} for a, b in pairs]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build_base(folder: Path, *, steps: int = 120, seed: int = 0, **sizes: Any) -> Path:
    """A Llama of 14 thousand parameters that knows some sums."""
    chosen = {"hidden": 32, "layers": 1, "heads": 2, "inner": 64, "context": 16, **sizes}
    small.build(folder, characters=CHARACTERS, seed=seed, **chosen)
    if steps:
        small.warm_up(folder, [(row["prompt"], row["expected"]) for row in sums()], steps, batch=32, seed=seed)
    return folder


def job(
    data: Path,
    base: Path,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 7,
    python_path: Sequence[str] = (),
    **changed: Any,
) -> RunSpec:
    """A run of the workload; ``changed`` are hyper-parameters, or fields of the spec."""
    given = {"data": str(data), "model": str(base), **OPTIONS, **(options or {})}
    checked = WORKLOAD.options(given, data.parent)
    fields = {name: changed.pop(name) for name in ("preload", "limits", "fingerprints") if name in changed}
    now = time.time()
    return RunSpec(
        id=make_run_id(now, "rlvr", {"number": next(_numbers), "at": now}),
        name="rlvr",
        created=now,
        config={"workload": checked, **HYPER, **changed},
        function=WORKLOAD.function,
        env={"OMP_NUM_THREADS": "1"},
        python_path=tuple(python_path),
        seed=seed,
        data=WORKLOAD.data(checked),
        **{"fingerprints": WORKLOAD.fingerprints(checked), **fields},
        identity=WORKLOAD.identity(checked),
    ).identified()


def plan(folder: Path, base: Path, rows: Sequence[Mapping[str, Any]] | None = None, **changed: Any) -> Plan:
    """For a trainer by itself; its state and scratch are in ``folder``. ``changed`` are hyper-parameters or fields."""
    tasks = [Task(**row) for row in rows or sums()]
    fields = {name: changed.pop(name) for name in [f.name for f in dataclasses.fields(Plan)] if name in changed}
    chosen: dict[str, Any] = {
        "model": base,
        "tasks": tasks[::2],
        "held_out": tasks[1::2],
        "template": "{prompt}",
        "hyper": Hyper(**{**HYPER, **changed}),
        **{name: OPTIONS[name] for name in ("max_new_tokens", "check_every", "check_tasks", "save_every")},
        "seed": 7,
        "device": "cpu",
        "precision": "float32",
        "state": folder / "state",
        "identity": {"data": "d", "config": "c", "base": "b", "code": "0", "world_size": "1"},
        "scratch": folder / "scratch",
    }
    return Plan(**{**chosen, **fields})


class AskedAfter:
    """Asks to end once ``steps`` steps were told."""

    def __init__(self, steps: int, told: Sequence[tuple[int, Any]]) -> None:
        self._steps, self._told = steps, told

    @property
    def now(self) -> bool:
        return any(step >= self._steps for step, _ in self._told)


def run(spec: RunSpec, root: Path) -> RunRecord:
    """In this process."""
    executor = InProcessExecutor(root / "runs")
    executor.submit([spec])
    drain(executor)
    return collect(root / "runs" / spec.id)


def run_through(executor: LocalExecutor, spec: RunSpec, ends: Iterable[tuple[int, int]] = ()) -> list[RunRecord]:
    """In real processes, one an attempt. Attempt i gets signal ``ends[i][1]`` once ``ends[i][0]`` steps are logged
    (counting those that are done again), and is resumed; the last runs to its end. The record after each attempt."""
    folder, records = RunFolder(executor.runs_root / spec.id), list[RunRecord]()
    executor.submit([spec])
    for after, number in ends:
        _signal_after(executor, folder, after, number)
        records.append(collect(folder))
        executor.resume(spec.id)
    drain(executor, 300)
    return [*records, collect(folder)]


def _signal_after(executor: LocalExecutor, folder: RunFolder, after: int, number: int) -> None:
    sent = False
    while executor.active():
        executor.wait(0.005)
        journal = folder.journal_file.read_text() if folder.journal_file.exists() else ""
        lease = read_json(folder.lease_file)
        if sent or lease is None or not folder.state.is_dir() or journal.count('"reward"') < after:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(lease["pid"]).children():
                process.send_signal(number)
                sent = True
