"""Compare two runs: what was asked, what came out, in which surroundings; with a paired test where rows match.

Every difference is B minus A. Numbers come from the runs' records and score files alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from windlass.records.result import encode_number
from windlass.records.run import RunRecord
from windlass.runs.differences import Change, changes, environment_changes
from windlass.runs.folder import RunFolder
from windlass.runs.paired import PairedTest, paired_tests
from windlass.runs.text import code, document, duration, escape, number, percent, show, signed, table, when

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDelta:
    """One metric's last values. ``relative`` is the difference over ``|a|``; None where that says nothing."""

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    relative: float | None
    verdict: Literal["better", "worse", "equal", "changed", "only in A", "only in B"]  #: of B; better needs a direction

    def to_dict(self) -> dict[str, Any]:
        """JSON values; NaN and infinity as strings, as everywhere in Windlass."""
        return encoded(asdict(self))


def metric_delta(metric: str, a: float | None, b: float | None, direction: Direction | None = None) -> MetricDelta:
    """A value that is not finite is worse than any finite one, whatever the direction."""
    if a is None or b is None:
        verdict: Any = "only in B" if a is None else "only in A"
        return MetricDelta(metric=metric, a=a, b=b, difference=None, relative=None, verdict=verdict)
    if a == b or (math.isnan(a) and math.isnan(b)):
        return MetricDelta(metric=metric, a=a, b=b, difference=0.0, relative=0.0, verdict="equal")
    difference = b - a if math.isfinite(a) and math.isfinite(b) else None
    relative = difference / abs(a) if difference is not None and a != 0 else None
    verdict = "changed"
    if direction:
        gain_a, gain_b = (value if direction == "maximize" else -value for value in (a, b))
        gain_a, gain_b = (gain if math.isfinite(gain) else -math.inf for gain in (gain_a, gain_b))
        verdict = "equal" if gain_a == gain_b else "better" if gain_b > gain_a else "worse"
    return MetricDelta(metric=metric, a=a, b=b, difference=difference, relative=relative, verdict=verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    a: RunRecord
    b: RunRecord
    config: tuple[Change, ...]  #: flat parameters that differ
    equal_parameters: int
    metrics: tuple[MetricDelta, ...]  #: those with a direction first
    paired: tuple[PairedTest, ...]
    notes: tuple[str, ...]  #: why there is no paired test, or what it leaves out
    fingerprints: tuple[Change, ...]
    environment: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; NaN and infinity as strings, as everywhere in Windlass."""
        return {
            "a": _run(self.a),
            "b": _run(self.b),
            "config": [change.to_dict() for change in self.config],
            "equal_parameters": self.equal_parameters,
            "metrics": [delta.to_dict() for delta in self.metrics],
            "paired": [encoded(asdict(test)) for test in self.paired],
            "notes": list(self.notes),
            "fingerprints": [change.to_dict() for change in self.fingerprints],
            "environment": [change.to_dict() for change in self.environment],
        }

    def markdown(self) -> str:
        return document(
            f"# {code(self.a.id)} against {code(self.b.id)}",
            "A is the first run, B the second; every difference is B minus A.",
            _facts(self.a, self.b),
            "## Config",
            changes_table(self.config, "parameter") or "The same config.",
            f"{self.equal_parameters} parameters are equal." if self.config and self.equal_parameters else "",
            "## Metrics",
            _metrics_table(self.metrics) if self.metrics else "Neither run has a metric.",
            "## Paired tests" if self.paired or self.notes else "",
            _paired_table(self.paired) if self.paired else "",
            "\n".join(f"- {escape(note)}" for note in self.notes),
            "## Fingerprints and environment",
            changes_table((*self.fingerprints, *self.environment), "what") or "No difference on record.",
        )


def compare(
    a: RunRecord,
    b: RunRecord,
    folder_a: RunFolder,
    folder_b: RunFolder,
    directions: Mapping[str, Direction] | None = None,
) -> Comparison:
    """Compare run ``b`` with run ``a``; ``directions`` (metric -> direction) allows to say better and worse."""
    directions = directions or {}
    names = sorted({*a.metrics, *b.metrics}, key=lambda name: (name not in directions, name))
    params_a, params_b = a.params, b.params
    config = changes(params_a, params_b)
    tests, notes = paired_tests(a.artifacts, b.artifacts, folder_a, folder_b)
    values_a, values_b = a.values, b.values
    return Comparison(
        a=a,
        b=b,
        config=config,
        equal_parameters=len({*params_a, *params_b}) - len(config),
        metrics=tuple(metric_delta(n, values_a.get(n), values_b.get(n), directions.get(n)) for n in names),
        paired=tests,
        notes=notes,
        fingerprints=changes(_beside_config(a.fingerprints), _beside_config(b.fingerprints)),
        environment=environment_changes(folder_a, folder_b),
    )


def changes_table(found: Sequence[Change], what: str) -> str:
    """A Markdown table, or an empty string where nothing changed."""
    if not found:
        return ""
    rows = [
        (
            code(change.name),
            "*absent*" if change.kind == "added" else code(show(change.a)),
            "*absent*" if change.kind == "removed" else code(show(change.b)),
        )
        for change in found
    ]
    return table((what, "A", "B"), rows)


def _facts(a: RunRecord, b: RunRecord) -> str:
    def ended(run: RunRecord) -> str:
        if run.stopped_early:
            return f"stopped early at step {run.stopped_early.step:g}"
        return f"failed: {run.failure.kind}" if run.failure else str(run.status)

    rows = [("status", ended(a), ended(b)), ("study", a.study or "–", b.study or "–")]
    rows += [("started", when(a.started), when(b.started))]
    rows += [("duration", duration(a.duration_s), duration(b.duration_s)), ("seed", str(a.seed), str(b.seed))]
    return table(("", "A", "B"), [(name, escape(x), escape(y)) for name, x, y in rows])


def _metrics_table(deltas: Sequence[MetricDelta]) -> str:
    return table(
        ("metric", "A", "B", "B − A", "relative", "B is"),
        [
            (code(d.metric), number(d.a), number(d.b), signed(d.difference), percent(d.relative), d.verdict)
            for d in deltas
        ],
        right=(1, 2, 3, 4),
    )


def _paired_table(tests: Sequence[PairedTest]) -> str:
    rows = [
        (
            code(t.column),
            str(t.n),
            number(t.mean_a),
            number(t.mean_b),
            signed(t.difference),
            f"{signed(t.low)} … {signed(t.high)}",
            f"{t.b_higher} / {t.ties} / {t.a_higher}",
            f"{t.test}: p = {t.p_value:.3g}",
        )
        for t in tests
    ]
    header = ("per example", "pairs", "mean A", "mean B", "B − A", "95 % interval", "B > A / tied / A > B", "test")
    return table(header, rows, right=(1, 2, 3, 4))


def _beside_config(fingerprints: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in fingerprints.items() if name != "config"}


def _run(run: RunRecord) -> dict[str, Any]:
    return {
        "id": run.id,
        "study": run.study,
        "status": run.status,
        "failure": run.failure.kind if run.failure else None,
        "seed": run.seed,
        "started": run.started,
        "duration_s": run.duration_s,
    }


def encoded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: encode_number(value) if isinstance(value, float) else value for key, value in values.items()}
