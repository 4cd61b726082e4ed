"""The trainer: preflight, audit of the verifier, training, held-out tasks, health gates, checkpoint.

    train(config, run)      the job's function

One seed gives one model, to the bit, on one machine with one number of threads; also where the job was killed or
preempted at any instant and went on from its last saved state.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from windlass import sandbox
from windlass.errors import PreflightError
from windlass.records.content import digest
from windlass.runs.folder import write_atomic
from windlass.training import environment, health
from windlass.training.preemption import Preemption
from windlass.training.rlvr import checkpoint, preflight
from windlass.training.rlvr.plan import Plan, Trained
from windlass.training.rlvr.preflight import Ready
from windlass.training.rlvr.scoring import Judge, mean_of
from windlass.training.rlvr.spec import Config, read_config
from windlass.verifiers import PerTask, audit, build, for_task

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

PROGRESS_S = 3.0  #: between two lines on stderr
PENALTY = 0.1  #: of a nat of divergence, in the objective
#: largest difference of a log-probability between sampler and trainer; that of 16 bits is a rule, not a measurement
DRIFT = {"float32": 0.01, "bfloat16": 0.2}
BEGUN = "begun"  #: in the state folder: killed before the first state is saved, the run can go on as well
SHARE = 0.1  #: of the steps, the last, whose mean reward is the final one


def train(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Final metrics. Of the held-out tasks, with greedy completions: ``score`` and ``score_before``, ``score_low`` and
    ``score_high`` (95 % interval); ``check`` where an independent verifier judges. Of the training: ``reward_final``
    (mean of the last tenth of the steps), ``kl_mean`` (divergence from the base at the checks, nats a token),
    ``objective`` = reward_final - 0.1 kl_mean, held to 0..1, ``invalid_share`` and ``tokens``.

    Raises StudyError for a wrong config, DataError for tasks that cannot be used, PreflightError for what cannot be
    trained here and for a verifier that its audit refuses, Preempted, Diverged, and Unhealthy where a health gate
    refuses the outcome. What a verifier raises ends the run.
    """
    settings = read_config(config)
    options = settings.workload
    with Preemption() as asked:
        environment.pin(hub=environment.is_hub(options.model))
        run.folder.state.mkdir(exist_ok=True)
        (run.folder.state / BEGUN).touch()
        scratch = run.path / "scratch"
        ready = preflight.prepare(settings, run, scratch)
        environment.write(run.artifacts_dir / "environment.json")
        run.artifact(run.artifacts_dir / "environment.json", name="environment", kind="manifest")
        run.identify(**ready.fingerprints, backend=options.backend)
        _note_sandbox([options.verifier, options.check, *(task.verifier for task in ready.plan.tasks)], run)
        with for_task(options.verifier, [*ready.plan.tasks, *ready.plan.held_out]) as verifier:
            _audit(ready.plan, verifier, run)
            judge = Judge(verifier)
            tell = _Teller(run, settings.steps)
            if options.check is None:
                trained = _backend(options.backend)(ready.plan, judge, judge, tell, asked)
            else:
                with build(options.check) as check:
                    trained = _backend(options.backend)(ready.plan, judge, Judge(check), tell, asked)
        metrics = _judge(settings, ready, trained, run)
    shutil.rmtree(scratch, ignore_errors=True)
    return metrics


def _note_sandbox(verifiers: Iterable[Mapping[str, Any] | None], run: Run) -> None:
    """Where a verifier runs what the model wrote, the sandbox's level is a tag of the run.

    Raises PreflightError ``sandbox.missing`` where there is none.
    """
    if any(spec and '"kind": "code"' in json.dumps(dict(spec)) for spec in verifiers):
        try:
            run.tag(sandbox=str(sandbox.available()))
        except sandbox.SandboxUnavailable as error:
            raise PreflightError("sandbox.missing", error.message, error.next_step) from None


def _backend(name: str) -> Any:
    if name == "trl":
        from windlass.training.rlvr import trl

        return trl.train
    from windlass.training.rlvr import grpo

    return grpo.train


def _audit(plan: Plan, verifier: PerTask, run: Run) -> None:
    """Try to fool the verifier, on the first attempt. Raises PreflightError ``verifier.audit``."""
    path = run.artifacts_dir / "audit.json"
    if not path.exists():
        report = audit(plan.tasks, verifier, on_check=_Progress("audit of the verifier: check {} of {}"))
        write_atomic(path, json.dumps(report.to_dict(), ensure_ascii=False, indent=1).encode(), durable=report.ok)
        print(report.words(), file=sys.stderr)
        if not report.ok:
            path.rename(path.with_name("audit_refused.json"))
            run.artifact(path.with_name("audit_refused.json"), name="audit", kind="report")
            raise PreflightError(
                "verifier.audit",
                f"the verifier cannot be trained on: {'; '.join(report.problems)}",
                "Correct the verifier or the tasks: windlass verifiers audit",
            )
    run.artifact(path, name="audit", kind="report")


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self, words: str) -> None:
        self._words, self._due = words, time.monotonic() + PROGRESS_S

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PROGRESS_S
            print(self._words.format(done, total), file=sys.stderr, flush=True)


class _Teller:
    """Logs what a step measured; every few seconds also for people, on stderr."""

    def __init__(self, run: Run, steps: int) -> None:
        self._run, self._steps, self._due = run, steps, time.monotonic()
        self._check = ""

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(metrics, step=step)
        if "check" in metrics:
            self._check = f", held out {metrics['check']:.3f} at step {step}"
            if step == 0:
                print(f"before training{self._check}", file=sys.stderr, flush=True)
        if "reward" in metrics and (time.monotonic() >= self._due or step == self._steps):
            self._due = time.monotonic() + PROGRESS_S
            print(
                f"step {step} of {self._steps}: reward {metrics['reward']:.3f}{self._check},"
                f" {metrics['tokens']:,.0f} tokens, {metrics['tokens_per_second']:,.0f} a second",
                file=sys.stderr,
                flush=True,
            )


def _judge(settings: Config, ready: Ready, trained: Trained, run: Run) -> dict[str, float]:
    """Metrics, scores and health of what was trained; its checkpoint, where every gate lets it pass."""
    options, plan, course = settings.workload, ready.plan, trained.course
    _publish_scores(plan, trained, run)
    metrics = _metrics(settings, trained)
    both = [pair for pair in zip(trained.before.checked, trained.after.checked, strict=True) if None not in pair]
    judged = [*trained.before.verified, *trained.after.verified]
    checks = [
        health.finite_weights(trained.weights),
        health.weights_changed(trained.digest_before, trained.digest_after),
        health.steps_done(course.step, settings.steps),
        health.loss_finite(course.losses),
        health.reward_varied(course.without_variance),
        health.verdicts_valid(course.invalid + sum(score is None for score in judged), course.verdicts + len(judged)),
        health.logprobs_agree(course.drift, DRIFT[options.precision]),
        health.held_out([float(before or 0) for before, _ in both], [float(after or 0) for _, after in both]),
        health.independent(course.rewards, course.checks, min(options.check_tasks, len(plan.held_out))),
    ]
    report = run.artifacts_dir / "health.json"
    health.write(checks, report)
    run.artifact(report, name="health", kind="report")
    health.require(checks)
    checkpoint.publish(
        trained.folder,
        run.checkpoint_dir,
        tensors=trained.digest_after,
        base=plan.identity["base"],
        data=ready.fingerprints,
        config=digest(settings.learned),
        backend=options.backend,
        seed=run.seed,
        steps=settings.steps,
        template=options.template,
        max_new_tokens=options.max_new_tokens,
        verifier=options.verifier,
    )
    run.artifact(run.checkpoint_dir, name="model", kind="checkpoint")
    return metrics


def _metrics(settings: Config, trained: Trained) -> dict[str, float]:
    course = trained.course
    valid = [score for score in trained.after.verified if score is not None]
    score, low, high = health.score_interval(valid) if valid else (0.0, 0.0, 1.0)
    last = max(1, round(SHARE * settings.steps))
    reward = fmean(value for _, value in course.rewards[-last:])
    distance = fmean(course.divergences[1:] or [0.0])
    metrics = {
        "score": score,
        "score_before": mean_of(trained.before.verified),
        "score_low": low,
        "score_high": high,
        "reward_final": reward,
        "kl_mean": distance,
        "objective": min(1.0, max(0.0, reward - PENALTY * distance)),
        "tokens": float(course.tokens),
        "invalid_share": course.invalid / course.verdicts,
    }
    if settings.workload.check is not None:
        metrics |= {"check": mean_of(trained.after.checked), "check_before": mean_of(trained.before.checked)}
    return metrics


def _publish_scores(plan: Plan, trained: Trained, run: Run) -> None:
    """``scores.csv``: a row a held-out task; a verdict without a score is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "score", "score_before", "check", "check_before"])
    columns = (trained.after.verified, trained.before.verified, trained.after.checked, trained.before.checked)
    writer.writerows(zip([task.id for task in plan.held_out], *columns, strict=True))
    path: Path = run.artifacts_dir / "scores.csv"
    write_atomic(path, text.getvalue().encode())
    run.artifact(path, name="scores", kind="scores")
