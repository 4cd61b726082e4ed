"""``windlass train``: a training as a study with a preset, from data and a model to a checkpoint before the gate.

There is no second orchestrator: this module writes a study file with its data split beside it, ``Lab.run`` drives it,
and what came of it is read off the store and the registry. The study's name is made of the content of everything that
goes in, so the same command finds what it did before, and goes on where it was interrupted.
"""

from __future__ import annotations

import importlib
import itertools
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from windlass import __version__
from windlass.errors import DataError, NotFound, PreflightError, StudyError
from windlass.jobs.collect import read_result
from windlass.lab.trainer import thread_share
from windlass.records.content import digest
from windlass.records.decision import StudyRecord
from windlass.records.document import dump_yaml
from windlass.records.fields import Bytes
from windlass.records.gate import Label
from windlass.records.ranking import noise_floor, standings
from windlass.records.run import FailureKind, RunRecord
from windlass.records.study import Study
from windlass.registry.rollback import candidates
from windlass.report.training import Split, TrainingReport
from windlass.runs.folder import RunFolder, read_json, write_atomic
from windlass.runs.source import file_digest, function_digest, installed_digest
from windlass.workloads import workload

if TYPE_CHECKING:
    from windlass.lab.lab import Lab
    from windlass.loop.driver import Event, Pause

SHARES = {"train": 0.7, "validation": 0.1, "heldout": 0.2}
#: what a training's outcome depends on, besides Windlass and Python
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "safetensors", "numpy")
SPARE_S = 30.0  #: over its budget of minutes, before a run is ended from outside
CHALLENGERS = 10  #: that the gate reckons with, at least: a profile is trained for again and again
BASELINE_RUNS = 3  #: before anything is tuned: two give a spread that says little
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Program:
    """What the pipeline has to know of a way of training."""

    rows: str  #: what a line of its data is
    dataset: str  #: the module with ``read_<rows>``, ``write_<rows>`` and ``fingerprint``
    evaluator: str  #: ``module:function``
    metric: str  #: the evaluator's column that decides


PROGRAMS = {
    "orpo": Program("pairs", "windlass.datasets.preferences", "windlass.training.orpo.evaluate:evaluate", "preferred"),
    "rlvr": Program("tasks", "windlass.datasets.tasks", "windlass.training.rlvr.evaluate:evaluate", "score"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """What is to be trained. Paths are absolute or relative to the working directory."""

    program: str  #: orpo, rlvr
    data: Path  #: a file, or an exported folder with train.jsonl, validation.jsonl and heldout.jsonl
    model: str  #: a folder, or the name of a model on a hub
    profile: str  #: the deployment's name that the result competes for
    options: Mapping[str, Any] = field(default_factory=dict)  #: the workload's, besides data, validation and model
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: hyper-parameters; those left out keep their defaults
    evaluation: Mapping[str, Any] = field(default_factory=dict)  #: the evaluator's options
    trials: int = 0  #: configurations to try besides the one that was asked for
    baseline_runs: int | None = None  #: of the one that was asked for; 3 where anything is tuned, else 1
    validation: Path | None = None  #: a file of its own, instead of a share of ``data``
    heldout: Path | None = None
    concurrent: int = 1
    minutes: float | None = None  #: of one run
    tokens: int | None = None  #: of one run
    memory: str | None = None  #: of one run, for example 8GiB
    seed: int = 0

    @property
    def repeats(self) -> int:
        return self.baseline_runs or (BASELINE_RUNS if self.trials else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training that is ready to run: its study file and its data are on disk."""

    id: str  #: the study's name, ``<program>-<hash10>``
    order: TrainingOrder
    study_file: Path
    splits: Sequence[Split]
    identity: Mapping[str, Any]  #: what ``id`` is the hash of


def train(
    lab: Lab, order: TrainingOrder, on_event: Callable[[Event], None] | None = None, pause: Pause | None = None
) -> TrainingReport:
    """Tune, train, evaluate, judge; write TRAINING.md and training.json into the study's folder. Safe to repeat.

    Raises DataError for data that cannot be used, StudyError for wrong options and hyper-parameters, PreflightError for
    a model that is not there.
    """
    job = prepare(lab, order)
    record = lab.run(job.study_file, on_event=on_event, pause=pause)
    report = told(lab, job, record)
    folder = lab.study_folder(job.id)
    write_atomic(folder / "training.json", (json.dumps(report.to_dict(), indent=1) + "\n").encode())
    write_atomic(folder / "TRAINING.md", report.markdown().encode())
    return report


def prepare(lab: Lab, order: TrainingOrder) -> Job:
    """Check what was asked for, split the data by content, and write both into the folder of the study."""
    program = PROGRAMS[order.program]
    _check(order)
    splits = _splits(order, program)
    judges = _check_verifiers(order, splits) if program.rows == "tasks" else {}
    door = workload(order.program)
    identity: dict[str, Any] = {
        "program": order.program,
        "model": model_identity(order.model),
        "data": {name: _fingerprint(program, rows) for name, rows in splits.items()},
        "options": dict(order.options),
        "parameters": dict(order.parameters),
        "evaluation": dict(order.evaluation),
        "profile": order.profile,
        "trials": order.trials,
        "baseline_runs": order.repeats,
        "concurrent": order.concurrent,
        "budget": [order.minutes, order.tokens, order.memory],
        "seed": order.seed,
        "code": digest([__version__, *map(installed_digest, door.code)]),
        **({"judges": judges} if judges else {}),
        "environment": _environment(order.concurrent),
    }
    name = _untried(lab, f"{order.program}-{digest(identity)[:10]}")
    folder = lab.study_folder(name)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        _call(program, f"write_{program.rows}", folder / "data" / f"{split}.jsonl", rows)
    for function in judges:
        file = Path.cwd() / _file_of(function)
        if file.is_file():  # jobs find it there, and a later change is another job
            write_atomic(folder / file.relative_to(Path.cwd()), file.read_bytes())
    write_atomic(folder / "job.json", (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode())
    study = _study(name, order, program)
    write_atomic(folder / "study.yaml", dump_yaml(study).encode())
    counted = [Split(name=n, rows=len(rows), fingerprint=identity["data"][n]) for n, rows in splits.items()]
    return Job(id=name, order=order, study_file=folder / "study.yaml", splits=counted, identity=identity)


def option_names(program: str) -> frozenset[str]:
    """The workload's options; every other name is a hyper-parameter."""
    return frozenset(importlib.import_module(f"windlass.training.{program}.spec").Options.model_fields)


def parameter_names(program: str) -> tuple[str, ...]:
    """The hyper-parameters that the workload reads."""
    return tuple(importlib.import_module(f"windlass.training.{program}.spec").parameter_names())


def _untried(lab: Lab, name: str) -> str:
    """``name``, or ``name-2`` and so on where all that came of it is that a preflight refused it: nothing was trained,
    and what was missing (a device, memory, a download) may be there by now."""
    for number in itertools.count(1):
        tried = name if number == 1 else f"{name}-{number}"
        failures = [run.failure for run in lab.store.history(tried)]
        if not failures or any(one is None or one.kind is not FailureKind.PREFLIGHT for one in failures):
            return tried
    raise AssertionError


def _check(order: TrainingOrder) -> None:
    """Raises StudyError for a hyper-parameter, an option or a limit that no run could be given."""
    spec = importlib.import_module(f"windlass.training.{order.program}.spec")
    help_ = f"windlass train {order.program} --help"
    try:
        spec.read_config({**order.parameters, "workload": _options(order)})
    except StudyError as error:
        lines = [re.sub(r"^config\.(workload(\.|: ))?", "", line) for line in error.message.splitlines()]
        raise StudyError("\n".join(lines), error.next_step or help_) from None
    limits: list[tuple[str, Any, Any]] = [("--profile", Label, order.profile)]
    limits += [("--memory", Bytes, order.memory)] if order.memory is not None else []
    for name, kind, value in limits:
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise StudyError(f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}", help_) from None


def _options(order: TrainingOrder) -> dict[str, Any]:
    return {**order.options, "data": str(order.data), "model": order.model}


def _check_verifiers(order: TrainingOrder, splits: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The digest of the code of every function that judges, by ``module:function``.

    Raises DataError for a task that nothing judges, and for a verifier that cannot be made.
    """
    from windlass.verifiers import build, for_task

    tasks = [task for rows in splits.values() for task in rows]
    given = [spec for name in ("verifier", "check") if (spec := order.options.get(name)) is not None]
    functions = sorted({*_functions(given), *_functions([task.verifier for task in tasks])})
    digests = {name: function_digest(name, Path.cwd(), "verifier") for name in functions}
    known = [task for task in tasks if not any(_functions(task.verifier))]
    if not any(_functions(order.options.get("verifier"))):
        for_task(order.options.get("verifier"), known).close()
    if order.options.get("check") is not None and not any(_functions(order.options["check"])):
        build(order.options["check"]).close()
    return digests


def _functions(spec: Any) -> Iterator[str]:
    """The functions of a verifier, and of those that are parts of it."""
    if isinstance(spec, Mapping):
        if spec.get("kind") == "function" and isinstance(spec.get("function"), str):
            yield spec["function"]
        for part in spec.values():
            yield from _functions(part)
    elif isinstance(spec, (list, tuple)):
        for part in spec:
            yield from _functions(part)


def _file_of(function: str) -> str:
    return function.partition(":")[0].replace(".", "/") + ".py"


def _widened(order: TrainingOrder) -> dict[str, Any]:
    """The preset's space, where what was asked for lies outside of it: the ranges are what is tuned by default."""
    space = workload(order.program).defaults(_options(order))["space"]
    wide = {}
    for name in order.parameters.keys() & space.keys():
        domain, value = space[name], order.parameters[name]
        if "choices" in domain and value not in domain["choices"]:
            wide[name] = {**domain, "choices": sorted([*domain["choices"], value])}
        elif "low" in domain and not domain["low"] <= value <= domain["high"]:
            wide[name] = {**domain, "low": min(domain["low"], value), "high": max(domain["high"], value)}
    return {**space, **wide} if wide else {}


def _study(name: str, order: TrainingOrder, program: Program) -> dict[str, Any]:
    """The preset: a study file's data."""
    model = str(Path(order.model).resolve()) if Path(order.model).exists() else order.model
    runs, known = order.repeats + order.trials, option_names(order.program)
    told = {"profile": order.profile, "minutes": order.minutes, "tokens": order.tokens}
    budget = {
        "runs": runs,
        "concurrent": order.concurrent,
        **({"run_time": order.minutes * 60 + SPARE_S} if order.minutes else {}),
        **({"run_tokens": order.tokens} if order.tokens else {}),
        **({"run_memory": order.memory} if order.memory else {}),
    }
    return {
        "name": name,
        "description": f"{order.program.upper()} of {Path(order.model).name} on {order.data.name}",
        "trainer": {
            "workload": order.program,
            "options": {
                **{key: value for key, value in told.items() if key in known and value is not None},
                **order.options,
                "data": "data/train.jsonl",
                "validation": "data/validation.jsonl",
                "model": model,
            },
            "preload": list(workload(order.program).preload),
        },
        **({"space": space} if (space := _widened(order)) else {}),
        **({"baseline": dict(order.parameters)} if order.parameters else {}),
        "budget": budget,
        "baseline_runs": order.repeats,
        "repeats": max(3, order.repeats),
        "gate": {
            "deployment": order.profile,
            "challengers": max(CHALLENGERS, runs),
            "benchmarks": [
                {
                    "name": "heldout",
                    "data": "data/heldout.jsonl",
                    "function": program.evaluator,
                    "metric": program.metric,
                    "direction": "maximize",
                    **({"options": dict(order.evaluation)} if order.evaluation else {}),
                }
            ],
        },
        "seed": order.seed,
    }


def _splits(order: TrainingOrder, program: Program) -> dict[str, list[Any]]:
    """Rows by split, in an order that their content alone decides. What no file is given for is divided by content.

    Raises DataError where a split is empty, or one row is in two of them.
    """
    from windlass.datasets.splits import split

    files = {"validation": order.validation, "heldout": order.heldout}
    main = order.data
    if order.data.is_dir():
        main = order.data / "train.jsonl"
        _check_export(order.data)
        files = {name: given or order.data / f"{name}.jsonl" for name, given in files.items()}
    rows: dict[str, list[Any]] = {name: _read(program, file) for name, file in files.items() if file is not None}
    rest = _read(program, main)
    left = {name: share for name, share in SHARES.items() if name not in rows}
    missing = {name: share / sum(left.values()) for name, share in left.items()}
    assigned = split([_call(program, "together", row) for row in rest], missing, within="job")
    for name in missing:
        rows[name] = [row for row, where in zip(rest, assigned, strict=True) if where == name]
    if empty := [name for name in SHARES if not rows[name]]:
        raise DataError(
            f"{main} has {len(rest)} {program.rows}: too few for a {' and a '.join(empty)} split of its own",
            f"Give more {program.rows}, or files of their own: --validation FILE --heldout FILE",
        )
    seen: dict[str, tuple[str, str]] = {}
    for name in SHARES:
        for row in rows[name]:
            other = seen.setdefault(_call(program, "together", row), (name, row.id))
            if other[0] != name:
                raise DataError(
                    f"{row.id!r} in the {name} split asks what {other[1]!r} in the {other[0]} split does: what is"
                    " evaluated on must not be trained on",
                    f"Remove it from one of the files, or give one file and let {program.rows} be divided.",
                )
    return {name: sorted(rows[name], key=lambda row: str(row.content)) for name in SHARES}


def _check_export(folder: Path) -> None:
    """An exported folder of pairs is as its manifest says. Raises DataError."""
    from windlass.datasets.export import MANIFEST_FILE
    from windlass.datasets.verify import verify

    if (folder / MANIFEST_FILE).is_file() and not (found := verify(folder)).sound:
        raise DataError(
            f"{folder} is not as it was exported: {next(f for f in found.findings if not f.note)}",
            f"windlass preferences verify {folder}",
        )


def _read(program: Program, file: Path) -> list[Any]:
    if not file.is_file():
        raise NotFound(f"there is no file {file}", f"ls {file.parent}")
    return list(_call(program, f"read_{program.rows}", file))


def _fingerprint(program: Program, rows: Sequence[Any]) -> str:
    return str(_call(program, "fingerprint", rows))


def _call(program: Program, function: str, *arguments: Any) -> Any:
    return getattr(importlib.import_module(program.dataset), function)(*arguments)


def model_identity(model: str) -> str:
    """SHA-256 of the content of a model's folder; ``hub:NAME`` where it is to be downloaded."""
    folder = Path(model)
    if not folder.exists():
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise PreflightError("model.missing", f"there is no model folder {model}", f"ls {folder.parent}")
        return f"hub:{model}"
    files = sorted({file for pattern in MODEL_FILES for file in folder.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no folder"
        raise PreflightError("model.missing", f"{model} holds no .safetensors file ({found})", "Save the model there.")
    return digest([[file.name, file_digest(file)] for file in files])


def _environment(concurrent: int) -> dict[str, str]:
    """What the same command depends on, as far as it can be told without loading it."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "machine": platform.machine(), **versions, **thread_share(concurrent)}


def told(lab: Lab, job: Job, record: StudyRecord) -> TrainingReport:
    """What came of a job so far, read off the store and the registry."""
    study = Study.model_validate(record.definition)
    runs = sorted(lab.store.history(job.id), key=lambda run: (run.number or 0, run.id))
    placed, floor = standings(study, runs), noise_floor(study, runs)
    state = lab.keeping.state
    verdicts = [v for v in state.verdicts_of(job.order.profile) if _study_of(lab, v.challenger) == job.id]
    line = state.deployments.get(job.order.profile)
    better = []
    if line is not None and line.champion is not None and study.gate is not None:
        better = [c for c in candidates(state, line, study.gate, lab.keeping.vault.derive) if c.better]
    chosen = placed[0] if placed else None
    if floor is not None and chosen is not None and not floor.won(chosen):
        chosen = next((one for one in placed if one.run.id == floor.runs[0].id), chosen)
    left = lab.runs_root / chosen.run.id / "artifacts" if chosen else None
    return TrainingReport(
        job=job.id,
        program=job.order.program,
        study=study,
        status=record.status,
        because=record.stopped_because,
        model=job.order.model,
        splits=tuple(job.splits),
        identity=job.identity,
        runs=tuple(runs),
        chosen=chosen,
        metrics=_final(lab, chosen.run) if chosen else {},
        best=placed[0] if placed else None,
        floor=floor,
        health=tuple((read_json(left / "health.json") or {}).get("checks", ())) if left else (),
        environment=read_json(left / "environment.json") or {} if left else {},
        checkpoint=state.made_by(chosen.run.id) if chosen else None,
        verdicts=tuple(verdicts),
        evaluations=tuple(e for e in state.evaluations.values() if _study_of(lab, e.checkpoint) == job.id),
        serves=line.champion if line else None,
        rollback=better[0].checkpoint if better else None,
        runs_root=lab.runs_root,
    )


def _final(lab: Lab, run: RunRecord) -> dict[str, float]:
    """What the training itself reported at its end; neither the last step's values nor those of the machine."""
    result, _ = read_result(RunFolder(lab.runs_root / run.id))
    return dict(sorted((result.metrics if result else run.values).items()))


def _study_of(lab: Lab, checkpoint: str) -> str | None:
    found = lab.keeping.state.checkpoints.get(checkpoint)
    return found.study if found else None
