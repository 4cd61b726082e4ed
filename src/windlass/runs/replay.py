"""The verdict of a replay: did the same config, seed, code and data give the same numbers?

A verdict fails closed: a metric that one side lacks, another ending, or nothing to
compare is drift. What a machine measures about itself is left out: ``system/…`` metrics and durations in seconds.

The replay of a run that was stopped early goes on to its end: what the original would have come to. There the curves
are compared, at the last step that the original reached.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from windlass.records.result import encode_number
from windlass.records.run import RunRecord, Status
from windlass.runs.compare import changes_table
from windlass.runs.differences import Change, changes, environment_changes
from windlass.runs.folder import RunFolder
from windlass.runs.text import code, document, escape, number, signed, table


class Reproduction(StrEnum):
    """How close a replay came; from best to worst."""

    BIT_EQUAL = "bit-equal"
    WITHIN_TOLERANCE = "within tolerance"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricVerdict:
    metric: str
    original: float | None  #: last value; None where that run lacks the metric
    replayed: float | None
    verdict: Reproduction

    def to_dict(self) -> dict[str, Any]:
        values = {"original": self.original, "replayed": self.replayed}
        encoded = {name: None if value is None else encode_number(value) for name, value in values.items()}
        return {"metric": self.metric, **encoded, "verdict": self.verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayVerdict:
    original: RunRecord
    replayed: RunRecord
    tolerance: float
    overall: Reproduction  #: the worst of all
    reasons: tuple[str, ...]  #: what beside the metrics makes it drift
    metrics: tuple[MetricVerdict, ...]  #: worst first
    environment: tuple[Change, ...]  #: what may explain a drift: environment and fingerprints

    @property
    def reproduced(self) -> bool:
        return self.overall is not Reproduction.DRIFT

    def to_dict(self) -> dict[str, Any]:
        return {
            "original": self.original.id,
            "replayed": self.replayed.id,
            "tolerance": self.tolerance,
            "verdict": self.overall,
            "reasons": list(self.reasons),
            "metrics": [metric.to_dict() for metric in self.metrics],
            "environment": [change.to_dict() for change in self.environment],
        }

    def markdown(self) -> str:
        rows = [
            (
                code(m.metric),
                number(m.original) if m.original is None else repr(m.original),
                number(m.replayed) if m.replayed is None else repr(m.replayed),
                signed(m.replayed - m.original) if m.original is not None and m.replayed is not None else "–",
                str(m.verdict),
            )
            for m in self.metrics
        ]
        stop = self.original.stopped_early
        return document(
            f"# Replay: {self.overall}",
            f"Run {code(self.replayed.id)} repeats {code(self.original.id)}"
            f" (config, seed {self.original.seed}; tolerance {self.tolerance:g}, relative or absolute).",
            f"The original was stopped early, at step {stop.step:g}: the curves are compared there." if stop else "",
            "\n".join(f"- {escape(reason)}" for reason in self.reasons),
            table(("metric", "original", "replay", "difference", "verdict"), rows, right=(1, 2, 3)) if rows else "",
            "## What changed around it",
            changes_table(self.environment, "what")
            or "No difference on record in code, packages, Python, host or data.",
        )


def replay_verdict(
    original: RunRecord,
    replayed: RunRecord,
    original_folder: RunFolder,
    replay_folder: RunFolder,
    tolerance: float = 0.0,
) -> ReplayVerdict:
    """Compare the last value of every metric; ``tolerance`` (>= 0) is relative to the larger value, or absolute."""
    if original.status is Status.STOPPED:
        values_a, values_b = _at_the_stop(original, original_folder, replay_folder)
    else:
        values_a, values_b = original.values, replayed.values
    names = sorted({name for name in (*values_a, *values_b) if not _measures_machine(name)})
    metrics = [
        MetricVerdict(
            metric=name,
            original=values_a.get(name),
            replayed=values_b.get(name),
            verdict=_judge(values_a.get(name), values_b.get(name), tolerance),
        )
        for name in names
    ]
    order = list(Reproduction)
    metrics.sort(key=lambda metric: (-order.index(metric.verdict), metric.metric))
    reasons = _reasons(original, replayed)
    if not metrics and not original.failure:
        reasons.append("neither run has a metric to compare")
    worst = max((order.index(metric.verdict) for metric in metrics), default=0)
    return ReplayVerdict(
        original=original,
        replayed=replayed,
        tolerance=tolerance,
        overall=Reproduction.DRIFT if reasons else order[worst],
        reasons=tuple(reasons),
        metrics=tuple(metrics),
        environment=(
            *changes(original.fingerprints, replayed.fingerprints),
            *environment_changes(original_folder, replay_folder),
        ),
    )


def _at_the_stop(
    original: RunRecord, original_folder: RunFolder, replay_folder: RunFolder
) -> tuple[dict[str, float], dict[str, float]]:
    """The last point of every curve of the original, and the replay's values at those steps, where it has them."""
    from windlass.runs.reader import read_metric

    last, there = dict[str, float](), dict[str, float]()
    for name in original.metrics:
        steps, _, values = read_metric(original_folder, name)
        if len(steps):
            last[name] = float(values[-1])
            again, _, others = read_metric(replay_folder, name)
            at_stop = others[again == steps[-1]]
            there |= {name: float(at_stop[-1])} if len(at_stop) else {}
    return last, there


def _reasons(original: RunRecord, replayed: RunRecord) -> list[str]:
    reasons = []
    goes_on = original.status is Status.STOPPED and replayed.status is Status.COMPLETED
    if _ending(original) != _ending(replayed) and not goes_on:
        reasons.append(f"the original {_ending(original)}, the replay {_ending(replayed)}")
        if replayed.failure:
            reasons.append(f"the replay says: {replayed.failure.message}")
    if original.seed != replayed.seed:
        reasons.append(f"seeds differ: {original.seed} and {replayed.seed}")
    if differing := changes(original.params, replayed.params):
        reasons.append(f"configs differ in {', '.join(change.name for change in differing)}")
    return reasons


def _ending(run: RunRecord) -> str:
    return f"failed ({run.failure.kind})" if run.failure else f"is {run.status}"


def _judge(original: float | None, replayed: float | None, tolerance: float) -> Reproduction:
    if original is None or replayed is None:
        return Reproduction.DRIFT
    if struct.pack("<d", original) == struct.pack("<d", replayed) or (math.isnan(original) and math.isnan(replayed)):
        return Reproduction.BIT_EQUAL
    close = math.isclose(original, replayed, rel_tol=tolerance, abs_tol=tolerance)
    return Reproduction.WITHIN_TOLERANCE if close else Reproduction.DRIFT


def _measures_machine(metric: str) -> bool:
    return metric.startswith("system/") or metric.endswith("_seconds")
