"""How a study is getting on: best, improvement, stagnation, failures. Pure functions over run records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windlass.records.ranking import counted_score, ranked
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.records.study import Study

RECENT = 6  #: settled runs that "recent" looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A study's results, summed up. Scores are ``Study.score``: sums of gains in units of scale, more is better."""

    settled: int  #: terminal runs, cancelled ones left out
    active: int  #: runs not terminal yet
    completed: int
    failures: Mapping[FailureKind, int]
    ranked: tuple[RunRecord, ...]  #: completed, scored, guards kept; best first, ties by number
    best_score: float | None
    since_improvement: int  #: settled runs after the last one that improved the best by the wanted margin
    recent_failure_share: float  #: 0 to 1, of the last ``RECENT`` settled runs

    @property
    def best(self) -> RunRecord | None:
        return self.ranked[0] if self.ranked else None

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


def review(study: Study, history: Sequence[RunRecord]) -> Progress:
    """Sum up ``history``, in the order of decision numbers."""
    settled = [run for run in history if run.status in (Status.COMPLETED, Status.FAILED)]
    margin = study.stop.stagnation.min_improvement if study.stop.stagnation else 0.0
    best: float | None = None
    reference: float | None = None  # the best at the last improvement by the margin
    since = 0
    for run in settled:
        since += 1
        score = counted_score(study, run)
        if score is None:
            continue
        best = score if best is None else max(best, score)
        if reference is None or score > reference + margin:
            reference, since = score, 0
    recent = settled[-RECENT:]
    return Progress(
        settled=len(settled),
        active=sum(not run.status.terminal for run in history),
        completed=sum(run.status is Status.COMPLETED for run in settled),
        failures=dict(Counter(run.failure.kind for run in settled if run.failure is not None)),
        ranked=tuple(ranked(study, settled)),
        best_score=best,
        since_improvement=since,
        recent_failure_share=sum(run.status is Status.FAILED for run in recent) / len(recent) if recent else 0.0,
    )


def stop_reason(study: Study, progress: Progress) -> str | None:
    """Why the results say to stop: target reached or stagnation; None to go on."""
    for run in progress.ranked:
        if study.reached_target(run.values):
            wanted = ", ".join(f"{metric} {value:g}" for metric, value in study.stop.target.items())
            return f"target reached: run {run.id} has {wanted}"
    rule = study.stop.stagnation
    if rule and progress.settled > rule.runs and progress.since_improvement >= rule.runs:
        return (
            f"stagnation: {progress.since_improvement} settled runs without an improvement"
            f" above {rule.min_improvement:g}"
        )
    return None
