"""Everything that can be known before an RLVR training spends anything: data, model, lengths, memory, verifiers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import __version__
from windlass.datasets.splits import held_out
from windlass.datasets.tasks import numbered_tasks, together
from windlass.errors import DataError, PreflightError
from windlass.records.content import digest
from windlass.records.task import Task
from windlass.training import environment, llama, models
from windlass.training.rlvr import policy
from windlass.training.rlvr.plan import Plan
from windlass.training.rlvr.spec import Config
from windlass.training.rlvr.workload import fingerprints_of
from windlass.training.text import Tokens

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

Numbered = Sequence[tuple[int, Task]]  #: row number and task
SAMPLES = 32  #: prompts on which tokenizers are compared
SHOWN = 10  #: rows that a message lists


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A training that may begin."""

    plan: Plan
    fingerprints: Mapping[str, str]  #: of the data that were read
    memory: int  #: bytes that it needs, an estimate


def prepare(config: Config, run: Run, scratch: Path) -> Ready:
    """Check all but the verifiers.

    Raises DataError for tasks that cannot be used, PreflightError with a code for everything else.
    """
    options, hyper = config.workload, config.hyper
    world_size = _world_size()
    train, validation, fingerprints = _data(config, run)
    if len(train) < hyper.batch:
        raise PreflightError(
            "data.too_few",
            f"a step draws {hyper.batch} different tasks, there are {len(train)} to train on",
            f"Give more tasks, or a batch of at most {len(train)}.",
        )
    folder = models.locate(options.model)
    own = policy.own(folder)
    if options.backend == "trl" or not own:
        models.check_tokenizer(folder, [task.prompt for _, task in train[:SAMPLES]])
    longest = _longest(config, folder, train, validation)
    parameters, memory = _memory(config, folder, longest)
    device, available = _machine(run.spec.limits.memory_bytes)
    models.check_memory(memory, available)
    environment.pin(environment.threads_for(parameters, os.cpu_count() or 1, 1), hub=is_hub(options.model))
    plan = Plan(
        model=folder,
        tasks=[task for _, task in train],
        held_out=[task for _, task in validation],
        template=options.template,
        hyper=hyper,
        max_new_tokens=options.max_new_tokens,
        check_every=options.check_every,
        check_tasks=options.check_tasks,
        save_every=options.save_every,
        seed=run.seed,
        device=device,
        state=run.folder.state,
        identity={
            **fingerprints,
            "config": digest({**config.learned, "seed": run.seed}),
            "base": models.base_digest(folder),
            "code": __version__,
            "world_size": world_size,
        },
        scratch=scratch,
    )
    return Ready(plan=plan, fingerprints=fingerprints, memory=memory)


def is_hub(model: str) -> bool:
    """Whether a model is named, and no folder."""
    return not Path(model).exists()


def _data(config: Config, run: Run) -> tuple[Numbered, Numbered, dict[str, str]]:
    """Tasks to learn from, tasks to judge by, and the fingerprints of the files."""
    options = config.workload
    files = [Path(path) for path in (options.data, options.validation) if path is not None]
    read = [(path, numbered_tasks(path)) for path in files]
    found = fingerprints_of([(path, [task for _, task in rows]) for path, rows in read])
    for name, now in found.items():
        asked = run.spec.fingerprints.get(name)
        if asked not in (None, now):
            raise PreflightError(
                "data.changed",
                f"{' and '.join(map(str, files))}: not what this run was made for, fingerprint {name!r} is {now[:12]},"
                f" not {asked[:12]}",
                "Restore the files, or start a new run.",
            )
    (_, rows), *more = read
    if not more:
        aside = held_out([together(task) for _, task in rows], options.validation_share, within="training")
        train = [row for row, out in zip(rows, aside, strict=True) if not out]
        validation = [row for row, out in zip(rows, aside, strict=True) if out]
        for part, words in ((train, "to train on"), (validation, "to judge by")):
            if not part:
                raise DataError(
                    f"{options.data} has {len(rows)} tasks: a held-out share of {options.validation_share:g} leaves"
                    f" none {words}; tasks with one prompt stay together",
                    "Give more tasks, another validation_share, or a file of their own: validation",
                )
        return train, validation, found
    ((_, validation),) = more
    _refuse_leaks(rows, validation, options.data)
    return rows, validation, found


def _refuse_leaks(train: Numbered, validation: Numbered, data: str) -> None:
    where = {task.prompt: row for row, task in train}
    leaks = [(row, where[task.prompt]) for row, task in validation if task.prompt in where]
    if leaks:
        listed = ", ".join(f"row {row} (row {there} of the training tasks)" for row, there in leaks[:SHOWN])
        more = f" and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
        raise DataError(
            f"{len(leaks)} of {len(validation)} validation tasks have a prompt that is also trained on: {listed}{more}",
            f"Remove them from one of the files, for example from {data}.",
        )


def _longest(config: Config, folder: Path, train: Numbered, validation: Numbered) -> int:
    """Tokens of the longest prompt. Raises PreflightError ``data.too_long`` with row numbers."""
    options, tokens = config.workload, Tokens(folder)
    context = int(llama.read_config(folder).get("max_position_embeddings") or 0)
    longest = 0
    for name, rows in (("training", train), ("validation", validation)):
        lengths = [(row, len(tokens.encode(options.template.replace("{prompt}", task.prompt)))) for row, task in rows]
        longest = max(longest, *(length for _, length in lengths))
        if not context:
            continue
        try:
            models.check_lengths(lengths, context, room=options.max_new_tokens)
        except PreflightError as error:
            message = error.message.removesuffix(f" [{error.code}]")
            raise PreflightError(error.code, f"of the {name} tasks, {message}", error.next_step) from None
    return longest


def _memory(config: Config, folder: Path, longest: int) -> tuple[int, int]:
    """Parameters of the model, and bytes that a step needs."""
    from safetensors import safe_open

    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            parameters += sum(_count(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    shape = llama.read_config(folder)
    width = longest + config.workload.max_new_tokens
    rows = config.batch * config.generations
    if config.workload.backend == "own":
        from windlass.training.rlvr.grpo import CHUNK

        rows = min(rows, max(1, CHUNK // width))
    needed = models.memory_needed(
        parameters,
        parameters,
        rows,
        width,
        "float32",
        int(shape.get("num_hidden_layers") or 1),
        int(shape.get("hidden_size") or 1),
        int(shape.get("vocab_size") or 0),
    )
    return parameters, needed + 4 * parameters  # the base stays beside it


def _count(shape: Sequence[int]) -> int:
    numbers = 1
    for size in shape:
        numbers *= size
    return numbers


def _machine(limit: int | None) -> tuple[str, int]:
    """The device, and the bytes that are free there."""
    import torch

    if torch.cuda.is_available():
        return "cuda", int(torch.cuda.mem_get_info()[0])
    import psutil

    free = int(psutil.virtual_memory().available)
    return "cpu", free if limit is None else min(free, limit)


def _world_size() -> str:
    """Raises PreflightError ``world_size`` under a launcher of several processes: each would train by itself."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1":
        raise PreflightError(
            "world_size",
            f"RLVR trains in one process, not in {size}",
            "Start it without torchrun or accelerate launch.",
        )
    return size
