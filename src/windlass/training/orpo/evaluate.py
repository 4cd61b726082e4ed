"""The evaluator: an adapter on pairs that it was not trained on. Runs inside the job.

    benchmarks:
      - name: heldout
        data: heldout.jsonl
        function: windlass.training.orpo.evaluate:evaluate
        metric: preferred

A row a pair: ``id``, ``preferred`` (1 where the chosen completion is the more likely one, else 0) and ``margin`` (of
rewards, beta * (log P(chosen) - log P(rejected))). The columns that ``slices`` names come from the pairs' metadata.

Option: ``model``, the folder of the base model, where it is no longer where it was in training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from windlass.datasets.preferences import numbered_pairs
from windlass.errors import DataError, PreflightError, nearest
from windlass.records.task import Pair
from windlass.runs.folder import read_json, write_atomic
from windlass.training import environment, models
from windlass.training.orpo import adapter
from windlass.training.orpo.loss import encode, score
from windlass.training.orpo.plan import ADAPTER_CONFIG

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

OPTIONS = ("model",)
BATCH = 8  #: pairs


def evaluate(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Publish per-pair scores; their means are the metrics.

    Raises DataError for a checkpoint that is no adapter, or was altered, and for pairs that cannot be scored;
    PreflightError for another base model than it was trained on.
    """
    checkpoint, path = Path(config["checkpoint"]), Path(config["data"])
    manifest = adapter.verify(checkpoint)
    base = _base(config, checkpoint)
    environment.pin(hub=not Path(base).exists())
    numbered = numbered_pairs(path)
    pairs = [pair for _, pair in numbered]
    groups = {name: _group(path, pairs, name) for name in config.get("slices", ())}
    tokenizer = models.load_tokenizer(base)
    encoded = encode(tokenizer, [(p.prompt, p.chosen, p.rejected) for p in pairs], manifest.max_length)
    rows = ((row, pair.prompt) for (row, _), pair in zip(numbered, encoded, strict=True))
    try:
        models.check_lengths(rows, manifest.max_length)
    except PreflightError as error:
        raise DataError(f"{path}: {error.message.removesuffix(f' [{error.code}]')}", error.next_step) from None
    model = adapter.load(checkpoint, base, manifest)
    if manifest.dtype != "float32":
        import torch

        model.to("cuda" if torch.cuda.is_available() else "cpu")
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    scores = score(model, encoded, pad, BATCH)
    columns: dict[str, Sequence[Any]] = {
        "id": [pair.id for pair in pairs],
        "preferred": [int(found.preferred) for found in scores],
        "margin": [found.margin(manifest.beta) for found in scores],
        **groups,
    }
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomic(run.artifacts_dir / "scores.csv", text.getvalue().encode())
    run.artifact(run.artifacts_dir / "scores.csv", name="scores", kind="scores")
    return {name: fmean(columns[name]) for name in ("preferred", "margin")}


def _base(config: Mapping[str, Any], checkpoint: Path) -> str:
    """The base model: as the benchmark says, or where training found it."""
    options = config.get("options", {})
    if unknown := [name for name in options if name not in OPTIONS]:
        raise DataError(
            f"this evaluator has no option {unknown[0]!r}.{nearest(unknown[0], OPTIONS)}",
            f"Options: {', '.join(OPTIONS)}",
        )
    trained_with = config.get("trained_with", {}).get("workload", {}).get("model")
    there = read_json(checkpoint / ADAPTER_CONFIG) or {}
    return str(options.get("model") or trained_with or there["base_model_name_or_path"])


def _group(path: Path, pairs: Sequence[Pair], name: str) -> list[str]:
    """What divides the pairs, as text; empty where a pair has none."""
    known = {key for pair in pairs for key in pair.metadata}
    if name not in known:
        raise DataError(
            f"no pair of {path} has {name!r} in its metadata (slice).{nearest(name, known)}",
            f"Metadata: {', '.join(sorted(known)) or 'none'}",
        )
    return [str(pair.metadata.get(name, "")) for pair in pairs]
