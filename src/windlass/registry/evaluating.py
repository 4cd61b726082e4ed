"""Evaluations: jobs like any other, whose per-example scores are kept, and whose numbers come from those scores alone.

    spec = evaluation_spec(benchmark, checkpoint, files, data, folder=folder)      run it, by any executor
    training = training_of(checkpoint, state, store.run, runs_root)
    evaluation = evaluation_of(run, run_folder, benchmark, checkpoint, blobs, data=data, policy_folder=folder,
                               training=training)
    scores = derive(evaluation, blobs)                                             read again at every use

An evaluator gets, as its config: ``checkpoint`` (a folder with its files), ``data``, ``benchmark`` (its name),
``metric``, ``slices``, ``options``, and ``trained_with``, the config that the checkpoint was trained with. It publishes
one artifact of kind ``scores``: see ``windlass.registry.scores``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from windlass.errors import DataError, NotFound
from windlass.records.checkpoint import ID_LENGTH, Checkpoint
from windlass.records.content import digest
from windlass.records.evaluation import Evaluation, Leakage
from windlass.records.gate import Benchmark
from windlass.records.run import Artifact, Limits, RunRecord, RunSpec, Status, make_run_id
from windlass.registry.blobs import Blobs
from windlass.registry.importing import read_import
from windlass.registry.leakage import Training, overlap
from windlass.registry.scores import Scores, read
from windlass.registry.state import State
from windlass.runs.folder import RunFolder
from windlass.runs.source import absolute_command, command_content, file_digest, function_digest, joint_digest

#: in an evaluation run's lineage: the checkpoint's id
EVALUATES = "evaluates"
SCORES, DATASET = "scores", "dataset"  #: kinds of artifacts
ROUNDING = 1e-9  #: relative; what an evaluator's own mean may differ by


def data_fingerprint(path: Path) -> str:
    """Of the content: SHA-256 of a file as ``sha256sum`` prints it; of a folder, over the names and contents in it.

    Raises DataError for what cannot be read, and for a folder with links to folders, whose content it would not see.
    """
    try:
        if not path.is_dir():
            return file_digest(path)
        files = sorted(_files_in(path))
        with ThreadPoolExecutor() as pool:
            contents = pool.map(file_digest, files)
            return digest([[file.relative_to(path).as_posix(), sha] for file, sha in zip(files, contents, strict=True)])
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def data_path(benchmark: Benchmark, folder: Path) -> Path:
    """Where a benchmark's data are; ``folder`` holds the policy's file."""
    return (folder / Path(benchmark.data).expanduser()).resolve()


def _files_in(folder: Path) -> Iterable[Path]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path
        elif path.is_symlink() or not path.is_dir():
            raise DataError(f"{path} is no file, or a link to a folder", "Name the folder that it leads to by itself.")


def training_fingerprint(paths: Iterable[Path]) -> str:
    """Of the content of files and folders: of one its own, of several over theirs in their order. Raises DataError."""
    return joint_digest([data_fingerprint(path) for path in paths])


def evaluator_fingerprint(benchmark: Benchmark, folder: Path) -> str:
    """Of the evaluator's code and of what it is told; ``folder`` holds the policy's file. Paths are not part of it.

    Raises StudyError where the module of a function is not there, DataError for a script that cannot be read.
    """
    try:
        if benchmark.function is not None:
            code = [benchmark.function, function_digest(benchmark.function, folder, f"benchmark {benchmark.name!r}")]
        else:
            code = command_content(benchmark.command or (), folder)
    except OSError as error:
        raise DataError(f"benchmark {benchmark.name!r}: {error.filename} cannot be read: {error.strerror}") from error
    return digest([code, _told(benchmark)])


def _told(benchmark: Benchmark) -> dict[str, Any]:
    """What every evaluator is told, whatever the checkpoint."""
    return {"metric": benchmark.metric, "slices": list(benchmark.slices), "options": dict(benchmark.options)}


def evaluation_spec(
    benchmark: Benchmark,
    checkpoint: Checkpoint,
    files: Path,
    data: Path,
    *,
    folder: Path,
    salt: str = "",
    env: Mapping[str, str] | None = None,
    preload: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> RunSpec:
    """The job that evaluates a checkpoint, whose files are in ``files``, on the benchmark's ``data``.

    ``folder`` holds the policy's file: scripts and modules are found there. What is asked for twice is the same run,
    and an executor attaches to it; another ``salt`` asks for a new one, for example because the last is too old.

    Raises DataError for data that cannot be read, StudyError where the evaluator's module is not there.
    """
    config = {
        "checkpoint": str(files.resolve()),
        "data": str(data.resolve()),
        "benchmark": benchmark.name,
        **_told(benchmark),
        "trained_with": dict(checkpoint.config),
    }
    fingerprints = {**_fingerprints(benchmark, folder, data), "checkpoint": checkpoint.digest}
    name = f"evaluate-{benchmark.name}".replace("_", "-")
    return RunSpec(
        id=make_run_id(checkpoint.created, name, {"config": config, "fingerprints": fingerprints, "salt": salt}),
        name=name,
        created=checkpoint.created,
        config=config,
        command=absolute_command(benchmark.command or (), folder),
        function=benchmark.function,
        preload=tuple(preload) if benchmark.function else (),
        env=dict(env or {}),
        python_path=(str(folder.resolve()),),
        limits=Limits(time_s=benchmark.run_time),
        fingerprints=fingerprints,
        lineage={EVALUATES: checkpoint.id, "benchmark": benchmark.name},
        tags=dict(tags or {}),
    )


def _fingerprints(benchmark: Benchmark, folder: Path, data: Path) -> dict[str, str]:
    return {"data": data_fingerprint(data), "evaluator": evaluator_fingerprint(benchmark, folder)}


def training_of(checkpoint: Checkpoint, state: State, find: Callable[[str], RunRecord], runs_root: Path) -> Training:
    """What the run that made a checkpoint was trained on, and the runs of those that its training began from.

    ``find`` gives a run's record, or raises NotFound. What is gone or has changed meanwhile is ``unreadable``.
    """
    paths: dict[Path, None] = {}
    unreadable: list[str] = []
    silent: list[str] = []
    for one in _line(checkpoint, state, silent):
        try:
            found = _trained_on(find(one.run), RunFolder(runs_root / one.run))
        except DataError as error:
            unreadable.append(error.message)
            continue
        except NotFound as error:
            (unreadable if "data" in one.fingerprints else silent).append(error.message)
            continue
        if not found:
            silent.append(f"run {one.run} does not say what it was trained on (trainer.data)")
        paths |= dict.fromkeys(found)
    return Training(tuple(paths), tuple(unreadable), tuple(silent))


def _line(checkpoint: Checkpoint, state: State, silent: list[str]) -> list[Checkpoint]:
    """A checkpoint and all that its training began from, one after the other."""
    line = [checkpoint]
    while (named := line[-1].parent) is not None:
        parent = state.checkpoints.get(named[:ID_LENGTH])
        if parent is None:
            silent.append(f"training began from {named}, which is not registered")
        if parent is None or parent in line:
            break
        line.append(parent)
    return line


def _trained_on(run: RunRecord, folder: RunFolder) -> list[Path]:
    """Raises NotFound or DataError that says what is gone or has changed."""
    spec = folder.spec()
    named = [Path(path) for path in spec.data]
    asked = spec.fingerprints.get("data")
    if named and asked not in (None, training_fingerprint(named)):
        raise DataError(f"{', '.join(spec.data)} changed after run {run.id} was trained on it")
    return named + [_inside(folder, artifact) for artifact in run.artifacts if artifact.kind == DATASET]


def _inside(folder: RunFolder, artifact: Artifact) -> Path:
    path = (folder.path / artifact.path).resolve()
    if not path.is_relative_to(folder.path.resolve()):
        raise DataError(f"{artifact.path} lies outside of the run folder {folder.path}")
    if not path.exists():
        raise DataError(f"{path} is gone")
    return path


def evaluation_of(
    run: RunRecord,
    folder: RunFolder,
    benchmark: Benchmark,
    checkpoint: Checkpoint,
    blobs: Blobs,
    *,
    data: Path,
    policy_folder: Path,
    training: Training,
) -> Evaluation:
    """What a completed evaluation run found, with its scores kept in ``blobs``; hold ``blobs.adding()`` until it is on
    record. ``data`` and ``policy_folder`` are where the benchmark's data and its evaluator are.

    Numbers come from the scores. What the evaluator's result says otherwise is a note.

    Raises DataError for a run that failed, is about something else, or did not leave one file of scores with the
    columns that the benchmark needs; and where data or evaluator changed after the run was asked for.
    """
    spec = folder.spec()
    if run.status is not Status.COMPLETED:
        why = f": {run.failure.message}" if run.failure else ""
        raise DataError(
            f"{checkpoint.id} was not evaluated on {benchmark.name}: run {run.id} is {run.status}{why}",
            f"windlass runs show {run.id}",
        )
    if run.lineage.get(EVALUATES) != checkpoint.id or run.lineage.get("benchmark") != benchmark.name:
        raise DataError(f"run {run.id} is no evaluation of {checkpoint.id} on {benchmark.name}")
    now = _fingerprints(benchmark, policy_folder, data)
    if changed := [what for what, value in now.items() if spec.fingerprints.get(what) != value]:
        raise DataError(
            f"the {' and the '.join(changed)} of benchmark {benchmark.name!r} changed after run {run.id} was asked for",
            "Evaluate again.",
        )
    published = _scores_file(run, folder)
    scores = read(published)
    _check_columns(scores, benchmark, run.id)
    means = scores.means()
    return Evaluation(
        checkpoint=checkpoint.id,
        benchmark=benchmark.name,
        data=now["data"],
        evaluator=now["evaluator"],
        scores=_keep(published, scores, blobs, folder.path),
        n=len(scores),
        means=means,
        at=run.ended if run.ended is not None else run.created,
        run=run.id,
        leakage=overlap(training, data),
        notes=tuple(
            f"{name}: the evaluator says {value:g}, the mean of its scores is {means[name]:g}"
            for name, value in sorted(run.values.items())
            if name in means and not math.isclose(value, means[name], rel_tol=ROUNDING, abs_tol=ROUNDING)
        ),
    )


def _scores_file(run: RunRecord, folder: RunFolder) -> Path:
    found = [artifact for artifact in run.artifacts if artifact.kind == SCORES]
    if len(found) != 1:
        there = ", ".join(f"{artifact.path} ({artifact.kind})" for artifact in run.artifacts) or "none"
        raise DataError(
            f"an evaluation has one artifact of kind 'scores', run {run.id} has {len(found)}; its artifacts: {there}",
            "In the evaluator: run.artifact(path, kind='scores')",
        )
    path = folder.path / found[0].path
    try:
        sha256 = file_digest(path)
    except OSError as error:
        raise DataError(f"the scores of run {run.id} cannot be read: {path}: {error.strerror}") from error
    if found[0].sha256 not in ("", sha256):
        raise DataError(f"the scores of run {run.id} changed after it published them: {path}")
    return path


def _keep(path: Path, scores: Scores, blobs: Blobs, within: Path) -> str:
    """The digest under which a scores file, just read, is kept. Raises DataError where it is another one by now."""
    manifest = blobs.add(path, within=within)
    if read(blobs.files(manifest.digest) / path.name).means() != scores.means():
        raise DataError(f"{path} changed while it was read")
    return manifest.digest


def _check_columns(scores: Scores, benchmark: Benchmark, run: str) -> None:
    """Raises DataError where the gate would miss a column."""
    try:
        for metric in (benchmark.metric, *(guard.metric for guard in benchmark.guards)):
            scores.column(metric)
        for name in benchmark.slices:
            scores.group(name)
    except DataError as error:
        raise DataError(f"run {run}, benchmark {benchmark.name!r}: {error.message}", error.next_step) from None


def derive(evaluation: Evaluation, blobs: Blobs) -> Scores:
    """The scores of an evaluation, read again. Raises DataError where they are not what was recorded."""
    where = f"evaluation {evaluation.id} of {evaluation.checkpoint} on {evaluation.benchmark}"
    if wrong := blobs.verify(evaluation.scores):
        raise DataError(f"the scores of {where} were altered: {'; '.join(wrong)}", "windlass audit verify")
    files = blobs.manifest(evaluation.scores).files
    if len(files) != 1:
        raise DataError(f"the scores of {where} are {len(files)} files, not one", "windlass audit verify")
    scores = read(blobs.files(evaluation.scores) / files[0].path)
    if (len(scores), scores.means()) != (evaluation.n, dict(evaluation.means)):
        raise DataError(
            f"the record of {where} says n = {evaluation.n}, {_shown(evaluation.means)}; its scores say"
            f" n = {len(scores)}, {_shown(scores.means())}",
            "windlass audit verify",
        )
    return scores


def import_evaluation(
    given: Mapping[str, Any] | Path,
    state: State,
    blobs: Blobs,
    *,
    at: float | None = None,
    data: Path | None = None,
    training: Training | None = None,
) -> Evaluation:
    """What somebody else measured, as ``given`` (or the JSON file there) describes it, with its scores kept in
    ``blobs``; hold ``blobs.adding()`` until it is on record. See ``windlass.registry.importing`` for the shape.

    ``at`` is now, in seconds since the epoch. With the benchmark's own ``data`` at hand, if they are those that were
    scored, and what the checkpoint was trained on, leakage is counted as always.

    Raises DataError that names the key which is missing, unknown or wrong; NotFound for an unknown checkpoint.
    """
    with read_import(given, time.time() if at is None else at) as imported:
        scores = imported.scores
        checkpoint = state.checkpoint(imported.checkpoint)
        leakage = Leakage(overlap=None, examples=len(scores), words="unknown: the benchmark's data were not looked at")
        if data is not None and training is not None:
            if data_fingerprint(data) == imported.data_sha256:
                leakage = overlap(training, data)
            else:
                leakage = replace(leakage, words=f"unknown: {data.name} here is not what was scored there")
        return Evaluation(
            checkpoint=checkpoint.id,
            benchmark=imported.benchmark,
            data=imported.data_sha256,
            evaluator=imported.evaluator,
            scores=_keep(imported.file, scores, blobs, imported.file.parent),
            n=len(scores),
            means=scores.means(),
            at=imported.made_at,
            imported=imported.source,
            leakage=leakage,
        )


def _shown(means: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in means.items())
