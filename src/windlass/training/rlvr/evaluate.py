"""The evaluator: a model on tasks that it was not trained on. Runs inside the job.

    benchmarks:
      - name: heldout
        data: heldout.jsonl
        function: windlass.training.rlvr.evaluate:evaluate
        metric: score

A row a task, with the greedy completion's verdict: ``id``, ``score`` (in 0..1) and ``verified`` (1 where the score is
1, else 0). The columns that ``slices`` names come from the tasks' metadata.

Options: ``verifier`` (by default the one of the training, for tasks that have none of their own), ``max_new_tokens``
and ``template`` (by default those of the training).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from windlass.datasets.tasks import numbered_tasks
from windlass.errors import DataError, PreflightError, nearest
from windlass.records.task import Task
from windlass.runs.folder import write_atomic
from windlass.training import environment, llama, models
from windlass.training.rlvr import checkpoint, policy
from windlass.training.rlvr.examine import greedy
from windlass.training.rlvr.scoring import Judge
from windlass.training.rlvr.spec import PROMPT
from windlass.training.text import Tokens
from windlass.verifiers import for_task

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

OPTIONS = ("verifier", "max_new_tokens", "template")


def evaluate(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Publish per-task scores; their means are the metrics.

    Raises DataError for a checkpoint that is none of RLVR, or was altered, for tasks that cannot be used, and for
    verdicts without a score; what the verifier raises goes on.
    """
    import torch

    folder, path = Path(config["checkpoint"]), Path(config["data"])
    manifest = checkpoint.verify(folder)
    options = {name: getattr(manifest, name) for name in OPTIONS} | _options(config)
    environment.pin()
    numbered = numbered_tasks(path)
    tasks = [task for _, task in numbered]
    groups = {name: _group(path, tasks, name) for name in config.get("slices", ())}
    tokens = Tokens(folder)
    prompts = [tokens.encode(str(options["template"]).replace(PROMPT, task.prompt)) for task in tasks]
    most = int(options["max_new_tokens"])
    context = llama.read_config(folder).get("max_position_embeddings")
    try:
        lengths = [(row, len(prompt)) for (row, _), prompt in zip(numbered, prompts, strict=True)]
        models.check_lengths(lengths, int(context or most + max(length for _, length in lengths)), room=most)
    except PreflightError as error:
        raise DataError(f"{path}: {error.message.removesuffix(f' [{error.code}]')}", error.next_step) from None
    with for_task(options["verifier"], tasks) as verifier:
        model = policy.load(folder, "cuda" if torch.cuda.is_available() else "cpu")
        found = Judge(verifier)(greedy(model, tokens, prompts, most), tasks)
    scores = [score for score in found if score is not None]
    if len(scores) < len(found):
        missing = next(task.id for task, score in zip(tasks, found, strict=True) if score is None)
        raise DataError(
            f"{len(found) - len(scores)} of {len(found)} verdicts have no score, the first on task {missing!r}",
            "A benchmark scores every task: correct the verifier, or leave these tasks out.",
        )
    columns: dict[str, Sequence[Any]] = {
        "id": [task.id for task in tasks],
        "score": scores,
        "verified": [int(score == 1) for score in scores],
        **groups,
    }
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_atomic(run.artifacts_dir / "scores.csv", text.getvalue().encode())
    run.artifact(run.artifacts_dir / "scores.csv", name="scores", kind="scores")
    return {name: fmean(columns[name]) for name in ("score", "verified")}


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(config.get("options", {}))
    if unknown := [name for name in options if name not in OPTIONS]:
        raise DataError(
            f"this evaluator has no option {unknown[0]!r}.{nearest(unknown[0], OPTIONS)}",
            f"Options: {', '.join(OPTIONS)}",
        )
    return options


def _group(path: Path, tasks: Sequence[Task], name: str) -> list[str]:
    """What divides the tasks, as text; empty where a task has none."""
    known = {key for task in tasks for key in task.metadata}
    if name not in known:
        raise DataError(
            f"no task of {path} has {name!r} in its metadata (slice).{nearest(name, known)}",
            f"Metadata: {', '.join(sorted(known)) or 'none'}",
        )
    return [str(task.metadata.get(name, "")) for task in tasks]
