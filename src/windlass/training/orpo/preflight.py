"""Everything that can be known before an ORPO training spends anything: data, model, machine, budgets.

What cannot be done is refused here, with numbers; what is done otherwise than one might think is a note.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windlass import __version__
from windlass.datasets.preferences import numbered_pairs, together
from windlass.errors import PreflightError
from windlass.records.content import digest
from windlass.records.task import Pair
from windlass.training import environment, models
from windlass.training.orpo import tiers, unsloth
from windlass.training.orpo.loss import Encoded, encode
from windlass.training.orpo.plan import Plan, Text, cumulative_tokens
from windlass.training.orpo.spec import Config
from windlass.training.orpo.workload import WORKLOAD
from windlass.training.rows import divided

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

Numbered = Sequence[tuple[int, Pair]]  #: row number and pair
SAMPLES = 32  #: texts on which tokenizers are compared
SHOWN = 10  #: rows that a message lists


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A training that may begin."""

    plan: Plan
    fingerprints: Mapping[str, str]  #: of the data that were read
    held_out: Sequence[Pair]
    tokens: int  #: that the steps will read
    memory: int  #: bytes that it needs, an estimate
    notes: Sequence[str]


def prepare(config: Config, run: Run, scratch: Path) -> Ready:
    """Check everything. ``scratch`` is a folder, to be made, for what nobody keeps.

    Raises DataError for pairs that cannot be used, PreflightError with a code for everything else.
    """
    options = config.workload
    scratch.mkdir(parents=True, exist_ok=True)
    train, validation, fingerprints = divided(config.workload, run, WORKLOAD, numbered_pairs, together)
    folder = models.locate(options.model)
    models.check_tokenizer(folder, [text for _, pair in train[:SAMPLES] for text in (pair.prompt, pair.chosen)])
    size = tiers.size_of(folder, config.rank)
    tiers.check_size(options.tier, size)
    limit = min(config.max_length, size.context)
    notes = []
    if limit < config.max_length:
        notes.append(f"the model attends to {size.context} tokens: max_length {config.max_length} is taken as that")
    encoded, more = _rows(train, validation, folder, limit)
    notes += more
    tokens = _tokens(config, encoded, run.seed)
    longest = max(len(row.ids) for pair in encoded for row in (pair.chosen, pair.rejected))
    machine, dtype, memory = _machine(config, size, folder, scratch, longest, run.spec.limits.memory_bytes)
    threads = environment.pin(
        environment.threads_for(size.parameters, os.cpu_count() or 1, 1), hub=environment.is_hub(options.model)
    )
    plan = Plan(
        model=str(folder),
        train=_texts(train),
        held_out=_texts(validation),
        seed=run.seed,
        **{**config.hyper.model_dump(), "max_length": limit},
        device=machine.device,
        dtype=dtype,
        four_bit=_four_bit(config),
        seconds=options.minutes * 60,
        save_every=options.save_every,
        threads=threads,
        state=str(run.folder.state),
        identity={
            **fingerprints,
            "config": digest({**config.learned, "seed": run.seed}),
            "base": models.base_digest(folder),
            "code": __version__,
            "world_size": environment.one_process("ORPO"),
        },
        scratch=str(scratch),
    )
    return Ready(
        plan=plan,
        fingerprints=fingerprints,
        held_out=[pair for _, pair in validation],
        tokens=tokens,
        memory=memory,
        notes=notes,
    )


def _rows(train: Numbered, validation: Numbered, folder: Path, limit: int) -> tuple[list[Encoded], list[str]]:
    """The training pairs as token ids, and what a reader of the result has to know of the rows.

    Raises PreflightError, with row numbers, ``data.too_long`` for prompts that leave no room for a completion and
    ``data.boundary`` for prompts that TRL cannot tell from their completions; ``tokenizer.no_end`` where nothing can
    end a completion.
    """
    tokenizer = models.load_tokenizer(folder)
    if tokenizer.eos_token_id is None:
        raise PreflightError(
            "tokenizer.no_end",
            f"the tokenizer of {folder} has no token that ends a text, so no completion would learn to end",
            "Set eos_token in tokenizer_config.json.",
        )
    encoded, notes = {}, []
    for name, rows in (("training", train), ("validation", validation)):
        numbers = [row for row, _ in rows]
        pairs = encoded[name] = encode(tokenizer, _texts(rows), limit)
        try:
            models.check_lengths(((row, pair.prompt) for row, pair in zip(numbers, pairs, strict=True)), limit)
        except PreflightError as error:
            message = error.message.removesuffix(f" [{error.code}]")
            raise PreflightError(error.code, f"of {len(rows)} {name} pairs, {message}", error.next_step) from None
        if torn := _listed(numbers, [pair.torn for pair in pairs]):
            raise PreflightError(
                "data.boundary",
                f"in {torn} of the {name} pairs prompt and completion cannot be told apart as tokens",
                "End prompts where a token ends, for example with a line break, and begin completions with a space.",
            )
        for hits, words in (
            ([pair.cut for pair in pairs], f"a completion that is cut at {limit} tokens"),
            ([pair.merged for pair in pairs], "a prompt whose last token merges with the completion"),
        ):
            if listed := _listed(numbers, hits):
                notes.append(f"{sum(hits)} of {len(rows)} {name} pairs have {words}: {listed}")
    return encoded["training"], notes


def _listed(numbers: Sequence[int], hits: Sequence[bool]) -> str:
    """Row numbers in words, or nothing."""
    found = [str(number) for number, hit in zip(numbers, hits, strict=True) if hit]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"row{'s' * (len(found) > 1)} {', '.join(found[:SHOWN])}{more}" if found else ""


def _tokens(config: Config, encoded: Sequence[Encoded], seed: int) -> int:
    """Tokens that the steps will read. Raises PreflightError ``budget.tokens`` where they are more than allowed."""
    budget = config.workload.tokens
    running = cumulative_tokens([pair.tokens for pair in encoded], seed, config.batch, config.accumulation)
    needed = list(itertools.islice(running, config.steps))
    if needed[-1] > budget:
        fit = sum(1 for total in needed if total <= budget)
        raise PreflightError(
            "budget.tokens",
            f"{config.steps} steps read {needed[-1]:,} tokens, the budget is {budget:,}: {fit} steps fit",
            f"Ask for {fit} steps, or for a budget of {needed[-1]} tokens." if fit else "Raise the budget of tokens.",
        )
    return needed[-1]


def _machine(
    config: Config, size: tiers.Size, folder: Path, scratch: Path, longest: int, limit: int | None
) -> tuple[tiers.Machine, str, int]:
    """What it trains on, the dtype of the base, and the bytes that it needs."""
    options, sequences = config.workload, 2 * config.batch
    if options.backend == "unsloth-orpo":
        assert options.unsloth_python is not None
        machine = unsloth.probe(options.unsloth_python, folder, scratch)
        dtype = tiers.check_machine(options.tier, machine)
        needed = unsloth.vram_needed(size, four_bit=_four_bit(config), sequences=sequences, tokens=longest)
        unsloth.check_memory(machine, needed)
        return machine, dtype, needed
    found = tiers.this_machine(options.tier, limit)
    dtype = tiers.check_machine(options.tier, found)
    assert found is not None
    needed = models.memory_needed(
        size.parameters, size.trainable, sequences, longest, dtype, size.layers, size.hidden, size.vocabulary
    )
    tiers.check_memory(options.tier, found, needed)
    return found, dtype, needed


def _four_bit(config: Config) -> bool:
    """unsloth loads the base of a small GPU in 4 bits; TRL's backend has no such base."""
    return config.workload.backend == "unsloth-orpo" and config.workload.tier == "small-gpu"


def _texts(rows: Numbered) -> list[Text]:
    return [(pair.prompt, pair.chosen, pair.rejected) for _, pair in rows]
