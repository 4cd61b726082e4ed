"""From a study's trainer to the job template: what is the same for every run of the study."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from windlass import __version__
from windlass.errors import StudyError, WindlassError
from windlass.records.content import digest
from windlass.records.run import Limits, RunSpec
from windlass.records.study import Study
from windlass.registry.evaluating import training_fingerprint
from windlass.runs.source import absolute_command, command_digest, function_digest, installed_digest
from windlass.workloads import workload, workload_of

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@runtime_checkable
class Identified(Protocol):
    """A workload whose results have to say more than their run and fingerprints, for example the backend."""

    def identity(self, options: Mapping[str, Any]) -> dict[str, str]:
        """What every result has to repeat, for checked options; see ``RunSpec.identity``."""


def job_template(study: Study, folder: Path) -> RunSpec:
    """``folder`` holds the study file: data, scripts named in a command and modules of a function are found there.

    Numeric libraries get an equal share of the cores, unless ``trainer.env`` says otherwise.

    Raises StudyError for a workload's wrong options and for files or modules that are not there.
    """
    trainer, budget = study.trainer, study.budget
    config: dict[str, Any] = {}
    function, data, identity = trainer.function, _absolute_data(trainer.data, folder), dict(trainer.identity)
    if trainer.workload:
        chosen = workload(trainer.workload)
        config = {"workload": chosen.options(trainer.options, folder)}
        function, data = chosen.function, chosen.data(config["workload"])
        if isinstance(chosen, Identified):
            identity |= chosen.identity(config["workload"])
    command = absolute_command(trainer.command or (), folder)
    return RunSpec(
        id="",
        name=study.name,
        created=0.0,
        config=config,
        command=command,
        function=function,
        preload=trainer.preload,
        env={**thread_share(budget.concurrent), **trainer.env},
        python_path=(str(folder),),
        seed=study.seed,
        limits=Limits(time_s=budget.run_time, memory_bytes=budget.run_memory, tokens=budget.run_tokens),
        data=data,
        required_metrics=study.required_metrics,
        study=study.name,
        fingerprints={"study": study.fingerprint, **code_and_data(command, function, config, folder, data)},
        identity=identity,
        tags=study.tags,
    )


def thread_share(jobs: int) -> dict[str, str]:
    """The environment in which each of so many jobs at a time uses its share of the cores."""
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, (os.cpu_count() or 1) // jobs)))


def check_code(spec: RunSpec) -> None:
    """Raises WindlassError where the code of a run that is to start again is gone."""
    gone = [part for part in (*spec.command, *spec.python_path) if part.startswith("/") and not Path(part).exists()]
    if gone:
        raise WindlassError(
            f"run {spec.id} cannot be run again: {gone[0]} is gone",
            "Put the code back where it was, or start the study anew from where it is.",
        )


def code_and_data(
    command: Sequence[str], function: str | None, config: Mapping[str, Any], folder: Path, data: Sequence[str] = ()
) -> dict[str, str]:
    """Fingerprints, as of now, of the files that a command names, of a function's module, and of the data.

    Raises StudyError where the module is not there, DataError where the data cannot be read.
    """
    chosen = workload_of(function)
    if chosen is not None and "workload" in config:
        code = digest([__version__, *map(installed_digest, chosen.code)])
        return {"code": code, **chosen.fingerprints(config["workload"])}
    if function is None:
        code = command_digest(command, folder)
    else:
        code = function_digest(function, folder, "trainer.function")
    return {"code": code, **({"data": training_fingerprint(map(Path, data))} if data else {})}


def _absolute_data(data: Sequence[str], folder: Path) -> tuple[str, ...]:
    paths = [(folder / Path(part).expanduser()).resolve() for part in data]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise StudyError(f"trainer.data: there is no {', '.join(missing)}", f"Paths are relative to {folder}.")
    return tuple(map(str, paths))
