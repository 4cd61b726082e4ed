"""What the lab knows about RLVR: checks, defaults and fingerprints, without a training library.

trainer: {workload: rlvr, options: {data: tasks.jsonl, model: models/base, verifier: {kind: exact}}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass.datasets.tasks import fingerprint, read_tasks
from windlass.records.task import Task
from windlass.training.door import Door
from windlass.training.rlvr.spec import Options, parameter_names, read_options


class Rlvr(Door):
    """The workload ``rlvr``; see :class:`windlass.workloads.Workload`."""

    name = "rlvr"
    rows = "tasks"
    function = "windlass.training.rlvr.program:train"
    preload = ("windlass.training.rlvr.grpo", "windlass.training.rlvr.program")
    code = ("windlass.training.state", "windlass.training.rlvr.program", "windlass.verifiers.protocol")

    def read_options(self, options: Mapping[str, Any]) -> Options:
        return read_options(options)

    def parameter_names(self) -> tuple[str, ...]:
        return parameter_names()

    def read_rows(self, path: Path) -> Sequence[Task]:
        return read_tasks(path)

    def fingerprint(self, rows: Sequence[Task]) -> str:
        return fingerprint(rows)

    def defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Learning rate, prompts a step, weight of the divergence. The learning rates reach beyond what converges."""
        return {
            "space": {
                "learning_rate": {"type": "float", "low": 1e-6, "high": 1e-2, "log": True},
                "batch": {"type": "categorical", "choices": [8, 16, 32, 64]},
                "kl": {"type": "categorical", "choices": [0.0, 0.001, 0.01, 0.1]},
            },
            "baseline": {"learning_rate": 1e-4, "batch": 32, "kl": 0.0},
            "objectives": [{"metric": "objective", "direction": "maximize", "scale": 0.02}],
        }

    def identity(self, options: Mapping[str, Any]) -> dict[str, str]:
        """What a result has to repeat."""
        return {"backend": read_options(options).backend}


WORKLOAD = Rlvr()
