"""What the lab knows about ORPO: checks, defaults and fingerprints, without a training library.

trainer: {workload: orpo, options: {data: pairs.jsonl, model: models/reader, profile: reader, tier: small-gpu}}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass.datasets.preferences import fingerprint, read_pairs
from windlass.errors import StudyError, nearest
from windlass.records.task import Pair
from windlass.runs.source import file_digest, joint_digest
from windlass.training.orpo.spec import parameter_names, read_options


class Orpo:
    """The workload ``orpo``; see :class:`windlass.workloads.Workload`."""

    name = "orpo"
    function = "windlass.training.orpo.program:train"
    preload = ("windlass.training.orpo.preloaded",)
    code = ("windlass.training.state", "windlass.training.orpo.program")

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """``model`` stays as it is where it names no folder: it may be on a hub. ``unsloth_python`` is a path."""
        options = read_options(given).model_dump(mode="json", exclude_none=True)
        for name in {"data", "validation", "model"} & options.keys():
            path = (folder / Path(options[name]).expanduser()).resolve()
            if name != "model" or path.is_dir():
                options[name] = str(path)
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

    def check(self, parameters: Iterable[str]) -> None:
        known = parameter_names()
        for name in parameters:
            if name.startswith("workload."):
                raise StudyError(
                    f"{name!r} is an option of the training, the same for all runs, and no parameter",
                    f"Set it in trainer.options: {name.removeprefix('workload.')}",
                )
            if name not in known:
                raise StudyError(
                    f"workload 'orpo' reads no parameter {name!r}.{nearest(name, known)}",
                    f"Parameters: {', '.join(known)}",
                )

    def data(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        read = read_options(options)
        return tuple(path for path in (read.data, read.validation) if path is not None)

    def fingerprints(self, options: Mapping[str, Any]) -> dict[str, str]:
        return fingerprints_of([(Path(path), read_pairs(Path(path))) for path in self.data(options)])

    def identity(self, options: Mapping[str, Any]) -> dict[str, str]:
        """What a result has to repeat."""
        read = read_options(options)
        return {"backend": read.backend, "profile": read.profile, "family": read.family}


WORKLOAD = Orpo()


def fingerprints_of(files: Sequence[tuple[Path, Sequence[Pair]]]) -> dict[str, str]:
    """Of a file to learn from, and of one to judge by where there is one, with their pairs.

    ``data`` is of the bytes of all files, for the order of the rows is part of a training; ``pairs`` and
    ``validation_pairs`` are of what the pairs say, as the manifest of an export has it.
    """
    data = joint_digest([file_digest(path) for path, _ in files])
    of_pairs = zip(("pairs", "validation_pairs"), files, strict=False)
    return {"data": data, **{name: fingerprint(pairs) for name, (_, pairs) in of_pairs}}
