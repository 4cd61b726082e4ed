"""Everything that can be known before an RLVR training spends anything: data, model, lengths, memory, verifiers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import __version__
from windlass.datasets.tasks import numbered_tasks, together
from windlass.errors import PreflightError
from windlass.records.content import digest
from windlass.records.task import Task
from windlass.training import environment, llama, models
from windlass.training.rlvr import policy
from windlass.training.rlvr.plan import Plan
from windlass.training.rlvr.spec import Config
from windlass.training.rlvr.workload import WORKLOAD
from windlass.training.rows import divided
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
    world_size = environment.one_process("RLVR")
    train, validation, fingerprints = divided(config.workload, run, WORKLOAD, numbered_tasks, together)
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
    environment.pin(environment.threads_for(parameters, os.cpu_count() or 1, 1), hub=environment.is_hub(options.model))
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
        precision=options.precision,
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
