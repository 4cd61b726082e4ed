"""From a study's trainer to the job template: what is the same for every run of the study."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass import __version__
from windlass.errors import StudyError
from windlass.records.content import digest
from windlass.records.run import Limits, RunSpec
from windlass.records.study import Study
from windlass.workloads import workload

WORKLOADS = "windlass.workloads."
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def job_template(study: Study, folder: Path) -> RunSpec:
    """``folder`` holds the study file: scripts named in a command and modules of a function are found there.

    Numeric libraries get an equal share of the cores, unless ``trainer.env`` says otherwise.

    Raises StudyError for a workload's wrong options and for files or modules that are not there.
    """
    trainer = study.trainer
    config: dict[str, Any] = {}
    command, function = trainer.command or (), trainer.function
    if trainer.workload:
        chosen = workload(trainer.workload)
        config = {"workload": chosen.options(trainer.options, folder)}
        function = chosen.function
    command = tuple(_absolute(part, folder) for part in command)
    fingerprints = {"study": study.fingerprint, **code_and_data(command, function, config, folder)}
    share = str(max(1, (os.cpu_count() or 1) // study.budget.concurrent))
    return RunSpec(
        id="",
        name=study.name,
        created=0.0,
        config=config,
        command=command,
        function=function,
        preload=trainer.preload,
        env={**dict.fromkeys(THREAD_VARIABLES, share), **trainer.env},
        python_path=(str(folder),),
        seed=study.seed,
        limits=Limits(time_s=study.budget.run_time, memory_bytes=study.budget.run_memory),
        required_metrics=study.required_metrics,
        study=study.name,
        fingerprints=fingerprints,
        tags=study.tags,
    )


def code_and_data(
    command: Sequence[str], function: str | None, config: Mapping[str, Any], folder: Path
) -> dict[str, str]:
    """Fingerprints, as of now, of the files that a command names, of a function's module, of a workload's data.

    Raises StudyError where the module is not there, DataError where the data cannot be read.
    """
    if function is None:
        return {"code": digest([_file_digest(Path(part)) for part in command if Path(part).is_file()])}
    if function.startswith(WORKLOADS):
        chosen = workload(function.removeprefix(WORKLOADS).partition(".")[0])
        return {"code": digest([__version__, _source_digest(function)]), **chosen.fingerprints(config["workload"])}
    return {"code": _function_digest(function, folder)}


def _absolute(part: str, folder: Path) -> str:
    """A part of a command that names a file beside the study file becomes absolute: jobs run in their own folder."""
    path = folder / part
    return str(path.resolve()) if path.is_file() else part


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _function_digest(function: str, folder: Path) -> str:
    """Of the module's source beside the study file, or wherever it is installed."""
    module = function.partition(":")[0]
    beside = folder / (module.replace(".", "/") + ".py")
    if beside.is_file():
        return _file_digest(beside)
    try:
        return _source_digest(function)
    except (ImportError, AttributeError, ValueError) as error:
        raise StudyError(
            f"trainer.function: no module {module!r} in {folder} or installed ({error})",
            f"Create {beside}, or install the package that has it.",
        ) from error


def _source_digest(function: str) -> str:
    """Of all Python files in the folder of the function's module."""
    module = function.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"no module named {module!r}")
    origin = Path(spec.origin)
    files = sorted(origin.parent.glob("*.py")) if "." in module else [origin]
    return digest([[file.name, _file_digest(file)] for file in files])
