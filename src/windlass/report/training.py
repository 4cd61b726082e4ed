"""The report of a training job: what was trained on what, every trial, whether the gain is more than noise, what the
health gates and the held-out examples say, and what to do next. TRAINING.md for people, training.json for programs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from windlass.records.checkpoint import Checkpoint
from windlass.records.content import digest
from windlass.records.decision import StudyStatus
from windlass.records.evaluation import Evaluation
from windlass.records.ranking import SIGMAS, NoiseFloor, Standing
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.records.verdict import Verdict
from windlass.report.blocks import Block, Bullets, Code, Mono, Paragraph, RunId, Section, Table
from windlass.report.figures import sparkline
from windlass.report.markdown import render
from windlass.report.words import outcome_words
from windlass.runs.folder import RunFolder
from windlass.runs.reader import metric_names, read_metric
from windlass.runs.text import duration, number, one_line, show

#: metrics whose course tells how a training went, most telling first
CURVES = ("reward", "check", "train_accuracy", "train_loss", "loss")
BEFORE = "_before"  #: ends the name of a metric of the base model
NAME = max(map(len, CURVES))  #: columns of a curve's name
SHOWN_CURVES = 8  #: runs whose curves are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    name: str  #: train, validation, heldout
    rows: int
    fingerprint: str  #: of the rows' content


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Everything a training job came to, as of now."""

    job: str  #: its id, of the content of all that went in
    program: str
    study: Study
    status: StudyStatus
    because: str  #: why it stopped
    model: str
    splits: Sequence[Split]
    identity: Mapping[str, Any]  #: what the id is the hash of
    runs: Sequence[RunRecord]  #: by number
    best: Standing | None  #: by its score alone
    chosen: Standing | None  #: the best one, or the baseline where the best one's gain is noise
    floor: NoiseFloor | None
    metrics: Mapping[str, float] = field(default_factory=dict)  #: what the chosen run reported at its end
    health: Sequence[Mapping[str, Any]] = ()  #: the chosen run's gates
    environment: Mapping[str, Any] = field(default_factory=dict)  #: of the chosen run, as it wrote it down
    checkpoint: Checkpoint | None = None  #: the chosen run's
    verdicts: Sequence[Verdict] = ()
    evaluations: Sequence[Evaluation] = ()
    serves: str | None = None  #: the checkpoint that serves under the profile
    rollback: str | None = None  #: a checkpoint that is better than what serves, by more than its noise
    runs_root: Path

    @property
    def deployment(self) -> str:
        return self.study.gate.deployment if self.study.gate else ""

    @property
    def won(self) -> bool | None:
        """Whether the best configuration's gain exceeds the noise; None where nothing tells the noise."""
        return None if self.floor is None or self.best is None else self.floor.won(self.best)

    @property
    def failures(self) -> str:
        """Why runs failed, in words; empty where none did."""
        failed = [(run.number, run.failure) for run in self.runs if run.failure is not None]
        if not failed:
            return ""
        number, first = failed[0]
        more = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"#{number} {first.kind}: {one_line(first.message, 400)}{more}"

    @property
    def next_step(self) -> str:
        """What the first failure says to do."""
        return next((one_line(run.failure.next_step, 400) for run in self.runs if run.failure is not None), "")

    def to_dict(self) -> dict[str, Any]:
        """Numbers and names alone: no clock and no path, so that the same job gives the same text."""
        return {
            "job": self.job,
            "program": self.program,
            "status": str(self.status),
            "because": self.because,
            "data": [asdict(split) for split in self.splits],
            "parameters": self._parameters(self.chosen.run) if self.chosen else None,
            "metrics": dict(self.metrics) if self.chosen else None,
            "noise": None
            if self.floor is None
            else {"runs": len(self.floor.runs), "mean": self.floor.mean, "sd": self.floor.sd},
            "sigmas": self._sigmas(self.best.mean) if self.best else None,
            "won": self.won,
            "trials": [
                {
                    "number": run.number,
                    "status": str(run.status),
                    "failure": str(run.failure.kind) if run.failure else None,
                    "parameters": self._parameters(run),
                    "metrics": {name: run.values.get(name) for name in self.study.required_metrics},
                }
                for run in self.runs
            ],
            "health": list(self.health),
            "environment": dict(self.environment),
            "checkpoint": self.checkpoint.id if self.checkpoint else None,
            "weights": self.checkpoint.digest if self.checkpoint else None,
            "evaluations": [
                {"checkpoint": e.checkpoint, "benchmark": e.benchmark, "n": e.n, "means": dict(e.means)}
                for e in self.evaluations
            ],
            "verdicts": [{"checkpoint": v.challenger, "ruling": str(v.ruling)} for v in self.verdicts],
            "deployment": self.deployment,
            "serves": self.serves,
            "rollback": self.rollback,
        }

    def line(self) -> dict[str, Any]:
        """The one JSON object that the command prints."""
        whole = self.to_dict()
        names = ("job", "program", "status", "because", "parameters", "metrics", "won", "checkpoint", "weights")
        last = self.verdicts[-1].ruling if self.verdicts else None
        return {
            **{name: whole[name] for name in names},
            "runs": len(self.runs),
            "failed": sum(run.status is Status.FAILED for run in self.runs),
            "verdict": str(last) if last else None,
            "deployment": self.deployment,
            "serves": self.serves,
            "rollback": self.rollback,
        }

    def _sigmas(self, score: float) -> float | None:
        """None where nothing tells the noise, and where the baseline's runs were all equal: JSON has no infinity."""
        sigmas = math.nan if self.floor is None else self.floor.sigmas(score)
        return sigmas if math.isfinite(sigmas) else None

    def _parameters(self, run: RunRecord) -> dict[str, Any]:
        """Of the job's own config: what the workload's options say is the same for all."""
        return {name: value for name, value in run.params.items() if not name.startswith("workload.")}

    def markdown(self) -> str:
        sections = [
            Section("Outcome", list(self._outcome())),
            Section("What went in", list(self._inputs())),
            Section("Trials", list(self._trials())),
            Section("Training curves", list(self._curves())),
            Section("Health gates", list(self._health())),
            Section("Held-out evaluation and verdicts", list(self._evaluations())),
            Section("What it ran on", list(self._environment())),
            Section("Next", list(self._next())),
        ]
        return render(f"{self.program.upper()} training {self.job}", [one for one in sections if one.blocks])

    def _outcome(self) -> Iterator[Block]:
        if self.chosen is None:
            failed = [run for run in self.runs if run.failure is not None]
            kinds = ", ".join(sorted({str(run.failure.kind) for run in failed if run.failure}))
            yield Paragraph(f"Nothing was trained: {len(failed)} of {len(self.runs)} runs failed ({kinds or 'none'}).")
            if self.next_step:
                yield Paragraph(f"To do: {self.next_step}")
            return
        if self.metrics.get("dry_run"):
            yield Paragraph("A dry run: everything was checked, nothing was trained, and there is no checkpoint.")
        yield Paragraph(f"Chosen: run #{self.chosen.run.number} with {outcome_words(self.study, self.chosen.run)}.")
        changed = [
            f"{name} {number(self.metrics[before])} before, {number(self.metrics[name])} after"
            for name in self.metrics
            if (before := f"{name}{BEFORE}") in self.metrics
        ]
        if changed:
            yield Paragraph(f"On the validation split: {'; '.join(changed)}.")
        if self.floor is not None and self.best is not None:
            floor, sigmas = self.floor, self.floor.sigmas(self.best.mean)
            unit = self.study.objectives[0].scale if len(self.study.objectives) == 1 else 1.0
            of = self.study.objectives[0].metric if len(self.study.objectives) == 1 else "score"
            mean = abs(floor.mean * unit)
            base = f"{len(floor.runs)} runs of the baseline: {of} {number(mean)} ± {number(floor.sd * unit)}"
            gained = f"better by {number((self.best.mean - floor.mean) * unit)}"
            how = f"{sigmas:.1f} standard deviations" if abs(sigmas) < 1000 else "beyond any noise seen"
            ends = "a win" if self.won else f"no win (it takes more than {SIGMAS:g}): the baseline stays"
            yield Paragraph(f"Noise floor, {base}. Best configuration: {gained}, {how}: {ends}.")
        if self.verdicts:
            verdict = self.verdicts[-1]
            yield Paragraph(
                f"Gate of {self.deployment}: {verdict.ruling} for checkpoint {verdict.challenger}. "
                + one_line("; ".join(verdict.reasons), 400)
            )
        yield Paragraph(f"{self.serves or 'Nothing'} serves as {self.deployment}.")
        if self.rollback:
            yield Paragraph(
                f"Recommended: roll back to {self.rollback}, which is better on held-out data by more than its noise."
            )
        else:
            yield Paragraph("No rollback is recommended: no kept checkpoint is shown to be better than what serves.")

    def _inputs(self) -> Iterator[Block]:
        rows = [(split.name, f"{split.rows:,}", Mono(split.fingerprint[:16])) for split in self.splits]
        yield Paragraph(f"Base model: {Path(self.model).name}, {self.identity['model'][:16]}.")
        yield Table(("split", "rows", "fingerprint of the content"), rows, right=(1,))
        options = self.study.trainer.options
        told = [(Mono(name), one_line(show(value), 80)) for name, value in options.items() if name != "model"]
        yield Table(("option", "value"), told)

    def _trials(self) -> Iterator[Block]:
        names = [n for n in self.study.space if any(n in run.params for run in self.runs)]
        header = ("run", "#", *names, *(o.metric for o in self.study.objectives), "sigmas", "outcome", "time")
        rows = []
        for run in self.runs:
            score = self.study.score(run.values) if run.status is Status.COMPLETED else None
            distance = None if score is None else self._sigmas(score)
            sigmas = "–" if distance is None else f"{distance:+.1f}"
            mark = " (chosen)" if self.chosen is not None and run.id == self.chosen.run.id else ""
            ended = str(run.failure.kind) if run.failure else str(run.status)
            rows.append(
                (
                    RunId(run.id),
                    str(run.number),
                    *(show(run.params[n]) if n in run.params else "–" for n in names),
                    *(number(run.values.get(o.metric)) for o in self.study.objectives),
                    sigmas,
                    ended + mark,
                    duration(run.duration_s),
                )
            )
        yield Table(header, rows)
        refused = [run for run in self.runs if run.failure is not None]
        if refused:
            yield Bullets(
                [f"#{r.number} {r.failure.kind}: {one_line(r.failure.message)}" for r in refused if r.failure]
            )

    def _curves(self) -> Iterator[Block]:
        lines = []
        for run in self.runs[:SHOWN_CURVES]:
            folder = RunFolder(self.runs_root / run.id)
            there = set(metric_names(folder)) if folder.path.is_dir() else set()
            for name in [name for name in CURVES if name in there][:2]:
                steps, _, values = read_metric(folder, name)
                if len(values) > 1:
                    ends = f"{number(float(values[0]))} -> {number(float(values[-1]))}"
                    lines.append(f"#{run.number:<3} {name:<{NAME}} {sparkline(values)}  {ends} in {steps[-1]:g} steps")
        if lines:
            yield Code("\n".join(lines))
            yield Paragraph("All curves with their axes: windlass studies report writes report.html beside this file.")

    def _health(self) -> Iterator[Block]:
        if self.health:
            rows = [
                (
                    str(gate["name"]),
                    "passed" if gate["passed"] else "refused",
                    *(show(gate[key]) for key in ("value", "limit", "words")),
                )
                for gate in self.health
            ]
            yield Table(("gate", "outcome", "value", "limit", "in words"), rows)

    def _evaluations(self) -> Iterator[Block]:
        if self.evaluations:
            rows = [
                (Mono(e.checkpoint), e.benchmark, str(e.n), ", ".join(f"{n} {number(v)}" for n, v in e.means.items()))
                for e in self.evaluations
            ]
            yield Table(("checkpoint", "benchmark", "examples", "means"), rows, right=(2,))
        if self.verdicts:
            rows = [
                (Mono(v.challenger), Mono(v.champion or "–"), str(v.ruling), one_line("; ".join(v.reasons), 160))
                for v in self.verdicts
            ]
            yield Table(("challenger", "champion", "verdict", "why"), rows)

    def _environment(self) -> Iterator[Block]:
        told = self.environment or self.identity.get("environment", {})
        yield Table(("what", "value"), [(Mono(str(name)), one_line(show(value), 80)) for name, value in told.items()])
        yield Paragraph(
            f"Fingerprint {digest(dict(told))[:16]}. Weights are equal to the bit on machines that agree in all of"
            " this, and statistically alike elsewhere."
        )

    def _next(self) -> Iterator[Block]:
        commands = [f"windlass studies report {self.job}"]
        if self.chosen is not None:
            commands.append(f"windlass why {self.job}#{self.chosen.run.number}")
        elif self.runs:
            commands.append(f"windlass runs show {self.runs[0].id}")
        if self.checkpoint is not None:
            commands += [
                f"windlass checkpoints lineage {self.checkpoint.id}",
                f"windlass deployments show {self.deployment}",
            ]
        if self.rollback:
            commands.append(f"windlass rollback {self.deployment} --to {self.rollback} --plan")
        yield Code("\n".join(commands), "sh")
