"""What the lab knows about RLVR: checks, defaults and fingerprints, without a training library.

trainer: {workload: rlvr, options: {data: tasks.jsonl, model: models/base, verifier: {kind: exact}}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass.datasets.tasks import fingerprint, read_tasks
from windlass.errors import StudyError, nearest
from windlass.records.task import Task
from windlass.runs.source import file_digest, joint_digest
from windlass.training.rlvr.spec import parameter_names, read_options


class Rlvr:
    """The workload ``rlvr``; see :class:`windlass.workloads.Workload`."""

    name = "rlvr"
    function = "windlass.training.rlvr.program:train"
    preload = ("windlass.training.rlvr.grpo", "windlass.training.rlvr.program")
    code = ("windlass.training.state", "windlass.training.rlvr.program", "windlass.verifiers.protocol")

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """``model`` stays as it is where it names no folder: it may be on a hub."""
        options = read_options(given).model_dump(mode="json", exclude_none=True)
        for name in {"data", "validation", "model"} & options.keys():
            path = (folder / Path(options[name]).expanduser()).resolve()
            if name != "model" or path.is_dir():
                options[name] = str(path)
        return options

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
                    f"workload 'rlvr' reads no parameter {name!r}.{nearest(name, known)}",
                    f"Parameters: {', '.join(known)}",
                )

    def data(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        read = read_options(options)
        return tuple(path for path in (read.data, read.validation) if path is not None)

    def fingerprints(self, options: Mapping[str, Any]) -> dict[str, str]:
        return fingerprints_of([(Path(path), read_tasks(Path(path))) for path in self.data(options)])

    def identity(self, options: Mapping[str, Any]) -> dict[str, str]:
        """What a result has to repeat."""
        return {"backend": read_options(options).backend}


WORKLOAD = Rlvr()


def fingerprints_of(files: Sequence[tuple[Path, Sequence[Task]]]) -> dict[str, str]:
    """Of a file to learn from, and of one to judge by where there is one, with their tasks.

    ``data`` is of the bytes of all files, for the order of the rows is part of a training; ``tasks`` and
    ``validation_tasks`` are of what the tasks say.
    """
    data = joint_digest([file_digest(path) for path, _ in files])
    of_tasks = zip(("tasks", "validation_tasks"), files, strict=False)
    return {"data": data, **{name: fingerprint(tasks) for name, (_, tasks) in of_tasks}}
