"""What the lab knows about ORPO: checks, defaults and fingerprints, without a training library.

trainer: {workload: orpo, options: {data: pairs.jsonl, model: models/reader, profile: reader, tier: small-gpu}}
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass.datasets.preferences import fingerprint, read_pairs
from windlass.records.task import Pair
from windlass.training.door import Door
from windlass.training.orpo.spec import Options, parameter_names, read_options


class Orpo(Door):
    """The workload ``orpo``; see :class:`windlass.workloads.Workload`."""

    name = "orpo"
    rows = "pairs"
    function = "windlass.training.orpo.program:train"
    preload = ("windlass.training.orpo.preloaded",)
    code = ("windlass.training.state", "windlass.training.orpo.program")

    def read_options(self, options: Mapping[str, Any]) -> Options:
        return read_options(options)

    def parameter_names(self) -> tuple[str, ...]:
        return parameter_names()

    def read_rows(self, path: Path) -> Sequence[Pair]:
        return read_pairs(path)

    def fingerprint(self, rows: Sequence[Pair]) -> str:
        return fingerprint(rows)

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """``unsloth_python`` is a path, too."""
        options = super().options(given, folder)
        if "unsloth_python" in options:  # a link: what it leads to knows nothing of the environment
            options["unsloth_python"] = os.path.abspath(folder / Path(options["unsloth_python"]).expanduser())
        return options

    def defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Learning rate, weight of the odds ratio, rank. The learning rates reach beyond what converges."""
        objective: dict[str, Any] = {"metric": "accuracy", "direction": "maximize", "scale": 0.02}
        if read_options(options).backend == "dry-run":  # has no accuracy
            objective = {"metric": "planned_tokens", "direction": "minimize"}
        return {
            "space": {
                "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
                "beta": {"type": "float", "low": 0.03, "high": 1.0, "log": True},
                "rank": {"type": "categorical", "choices": [4, 8, 16, 32]},
            },
            "baseline": {"learning_rate": 3e-4, "beta": 0.1, "rank": 16},
            "objectives": [objective],
        }

    def identity(self, options: Mapping[str, Any]) -> dict[str, str]:
        """What a result has to repeat."""
        read = read_options(options)
        return {"backend": read.backend, "profile": read.profile, "family": read.family}


WORKLOAD = Orpo()
