"""The trainer: preflight, held-out pairs before, training, held-out pairs after, health gates, checkpoint.

    train(config, run)      the job's function

One seed gives one adapter, to the bit, on one machine with one number of threads; also where the job was killed or
preempted at any instant and went on from its last saved state. Both budgets hold over all attempts: tokens are counted
before the start, and minutes end the training after a step, with its state saved and the run failed with kind budget.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from windlass.records.run import FailureKind
from windlass.runs.failure import describe_failure
from windlass.runs.folder import write_atomic
from windlass.training import environment, health, tensors
from windlass.training.orpo import adapter, preflight, unsloth
from windlass.training.orpo.loss import Score, loss_of
from windlass.training.orpo.plan import ADAPTER, BudgetSpent, Trained
from windlass.training.orpo.preflight import Ready
from windlass.training.orpo.spec import Config, read_config
from windlass.training.preemption import Preemption

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

PROGRESS_S = 5.0  #: between two lines on stderr


def train(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Final metrics, of the held-out pairs: ``accuracy`` and ``accuracy_before`` (the share of pairs whose chosen
    completion is the more likely one), ``margin`` and ``margin_before`` (of rewards), ``loss``; and ``tokens``.

    With backend dry-run everything is checked and nothing is trained: ``dry_run`` is 1, and there is no checkpoint.

    Raises StudyError for a wrong config, DataError for pairs that cannot be used, PreflightError for what cannot be
    trained here, Preempted, BudgetSpent, Diverged, and Unhealthy where a health gate refuses the outcome.
    """
    settings = read_config(config)
    options = settings.workload
    environment.pin(hub=environment.is_hub(options.model))
    scratch = run.path / "scratch"
    ready = preflight.prepare(settings, run, scratch)
    environment.write(run.artifacts_dir / "environment.json")
    run.artifact(run.artifacts_dir / "environment.json", name="environment", kind="manifest")
    run.identify(**ready.fingerprints, backend=options.backend, profile=options.profile, family=options.family)
    for note in ready.notes:
        run.note(note)
    if options.backend == "dry-run":
        run.note("dry run: everything was checked, nothing was trained, there is no checkpoint")
        metrics = _dry_run(ready)
    else:
        try:
            trained = _trained(settings, ready, run)
        except BudgetSpent as error:
            run.finish(failure=replace(describe_failure(error), kind=FailureKind.BUDGET))
            raise
        for note in trained.notes:
            run.note(note)
        metrics = _judge(settings, ready, trained, run)
    shutil.rmtree(scratch, ignore_errors=True)
    return metrics


def _dry_run(ready: Ready) -> dict[str, float]:
    plan = ready.plan
    return {
        "dry_run": 1.0,
        "planned_steps": float(plan.steps),
        "planned_tokens": float(ready.tokens),
        "planned_memory_bytes": float(ready.memory),
        "training_pairs": float(len(plan.train)),
        "held_out_pairs": float(len(plan.held_out)),
    }


def _trained(settings: Config, ready: Ready, run: Run) -> Trained:
    run.folder.state.mkdir(exist_ok=True)  # from here on a new attempt makes sense, if only from the beginning
    tell = _Teller(run, ready.plan.steps)
    if settings.workload.backend == "unsloth-orpo":
        assert settings.workload.unsloth_python is not None
        return unsloth.train(settings.workload.unsloth_python, ready.plan, tell)
    from windlass.training.orpo import trl

    with Preemption() as asked:
        return trl.train(ready.plan, tell, asked)


class _Teller:
    """Logs what a step measured; every few seconds also for people, on stderr."""

    def __init__(self, run: Run, steps: int) -> None:
        self._run, self._steps, self._due = run, steps, time.monotonic()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(metrics, step=step)
        if time.monotonic() >= self._due or step == self._steps:
            self._due = time.monotonic() + PROGRESS_S
            loss, accuracy = metrics["train_loss"], metrics["train_accuracy"]
            print(
                f"step {step} of {self._steps}: loss {loss:.4f}, accuracy {accuracy:.2f} of the training pairs,"
                f" {metrics['tokens']:,} tokens",
                file=sys.stderr,
            )


def _judge(settings: Config, ready: Ready, trained: Trained, run: Run) -> dict[str, float]:
    """Metrics, scores and health of what was trained; its checkpoint, where every gate lets it pass."""
    before, after = ([Score(*row) for row in rows] for rows in (trained.before, trained.after))  # type: ignore[arg-type]
    _publish_scores(settings, ready, before, after, run)
    metrics = {
        "accuracy": fmean(score.preferred for score in after),
        "accuracy_before": fmean(score.preferred for score in before),
        "margin": fmean(score.margin(settings.beta) for score in after),
        "margin_before": fmean(score.margin(settings.beta) for score in before),
        "loss": loss_of(after, settings.beta),
        "tokens": float(trained.tokens),
    }
    made = ready.plan.adapter
    checks = [
        health.finite_weights(tensors.load(made / ADAPTER)),
        health.weights_changed(trained.digest_before, trained.digest_after),
        health.steps_done(trained.steps, settings.steps),
        health.loss_finite([loss for _, loss, _ in trained.curve] + [metrics["loss"]]),
        health.held_out([float(score.preferred) for score in before], [float(score.preferred) for score in after]),
        health.independent(
            [(step, accuracy) for step, _, accuracy in trained.curve],
            [(0, metrics["accuracy_before"]), (trained.steps, metrics["accuracy"])],
            len(after),
        ),
    ]
    report = run.artifacts_dir / "health.json"
    health.write(checks, report)
    run.artifact(report, name="health", kind="report")
    health.require(checks)
    adapter.publish(
        made,
        run.checkpoint_dir,
        base=ready.plan.identity["base"],
        data=ready.fingerprints,
        config=settings.hyper.fingerprint,
        backend=settings.workload.backend,
        profile=settings.workload.profile,
        family=settings.workload.family,
        seed=run.seed,
        steps=trained.steps,
        max_length=ready.plan.max_length,
        beta=settings.beta,
        dtype=ready.plan.dtype,
    )
    run.artifact(run.checkpoint_dir, name="adapter", kind="checkpoint")
    return metrics


def _publish_scores(settings: Config, ready: Ready, before: Sequence[Score], after: Sequence[Score], run: Run) -> None:
    """``scores.csv``: a row a held-out pair."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "preferred", "margin", "preferred_before", "margin_before"])
    for pair, then, now in zip(ready.held_out, before, after, strict=True):
        margins = now.margin(settings.beta), then.margin(settings.beta)
        writer.writerow([pair.id, int(now.preferred), margins[0], int(then.preferred), margins[1]])
    path: Path = run.artifacts_dir / "scores.csv"
    write_atomic(path, text.getvalue().encode())
    run.artifact(path, name="scores", kind="scores")
