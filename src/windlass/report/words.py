"""How regions, configs, evidence and forecasts are written for people, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from windlass.records.content import flatten
from windlass.records.forecast import Prediction
from windlass.records.parameters import Parameter
from windlass.records.region import Condition, Contains, Interval, Region
from windlass.records.run import RUN_ID, RunRecord, Status
from windlass.records.study import Study
from windlass.report.blocks import Cells, Mono, RunId
from windlass.runs.text import number, one_line, show
from windlass.runs.text import size as size

VALUE = 160  #: characters of one value


def region_words(region: Region) -> str:
    return " and ".join(condition_words(name, condition) for name, condition in region.root.items())


def condition_words(name: str, condition: Condition) -> str:
    match condition:
        case Interval(min=low, max=high):
            return between(name, low, high)
        case Contains(contains=items):
            return f"{name} contains {' and '.join(map(show, items))}"
        case _:
            return f"{name} is {' or '.join(map(show, condition.root))}"


def between(name: str, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{name} ≥ {number(low)}" if high is None else f"{name} ≤ {number(high)}"
    return f"{number(low)} ≤ {name} ≤ {number(high)}"


def range_words(parameter: Parameter) -> str:
    if parameter.type == "float" or parameter.type == "int":
        return f"{parameter.type} {parameter.low:g} … {parameter.high:g}" + (", log scale" if parameter.log else "")
    if parameter.type == "bool":
        return "true or false"
    choices = ", ".join(show(choice) for choice in parameter.choices)
    return f"{'subset of' if parameter.type == 'set' else 'one of'} {choices}"


def config_words(params: Mapping[str, Any], names: Iterable[str], limit: int = 240) -> str:
    """``rate = 0.01, depth = 3``: the named parameters that are there."""
    return one_line(", ".join(f"{name} = {show(params[name])}" for name in names if name in params), limit)


def objective_words(study: Study, run: RunRecord) -> str:
    """``auc 0.9934, log_loss 0.041``."""
    values = run.values
    return ", ".join(f"{o.metric} {number(values.get(o.metric))}" for o in study.objectives)


def outcome_words(study: Study, run: RunRecord | None) -> str:
    """How a run ended: its objectives, its failure, or where it is."""
    if run is None:
        return "its run is not on record"
    if run.failure is not None:
        return f"failed: {run.failure.kind}"
    if run.stopped_early is not None:
        return f"stopped early at step {run.stopped_early.step:g}"
    if run.status is not Status.COMPLETED:
        return str(run.status)
    broken = ", ".join(guard.metric for guard in study.broken_guards(run.values))
    return objective_words(study, run) + (f"; breaks {broken}" if broken else "")


def chance(probability: float) -> str:
    """``12 %``; ``< 1 %`` and ``> 99 %`` rather than 0 and 100."""
    if 0 < probability < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < probability < 1 else f"{probability:.0%}".replace("%", " %")


def interval(low: float, high: float) -> str:
    """Four significant digits: ``0.8213 … 0.9011``."""
    return f"{low:.4g} … {high:.4g}"


def within(prediction: Prediction, value: float) -> str:
    """Where a value lies in its forecast."""
    if prediction.covers(value, 0.5):
        return "inside 50 %"
    if prediction.covers(value, 0.9):
        return "inside 90 %"
    return "below 90 %" if value < prediction.p5 else "above 90 %"


def evidence_rows(evidence: Mapping[str, Any]) -> list[Cells]:
    """A row a number: name and value; ids of runs lead to their reports."""
    rows: list[Cells] = []
    for name, value in evidence.items():
        if isinstance(value, Mapping) and not any(isinstance(inner, Mapping) for inner in value.values()):
            words = ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
            rows.append((_spoken(name), one_line(words, VALUE)))
        elif isinstance(value, Mapping):
            rows += [(f"{_spoken(name)}, {outer}", *cells) for outer, *cells in evidence_rows(value)]
        elif isinstance(value, str) and RUN_ID.fullmatch(value):
            rows.append((_spoken(name), RunId(value)))
        else:
            rows.append((_spoken(name), one_line(_plain(value), VALUE)))
    return rows


def evidence_words(evidence: Mapping[str, Any], limit: int = 300) -> str:
    """``fails 0.12, nearest 20260101T…``: all on one line."""
    return one_line(", ".join(f"{_spoken(name)} {_plain(value)}" for name, value in evidence.items()), limit)


def changes(study: Study, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Parameters of the space that differ between two configs (nested or flat); a parameter not active is None.

    Without ``before`` all active parameters of ``after``.
    """
    old, new = flatten(before or {}), flatten(after)
    return [(name, old.get(name), new.get(name)) for name in study.space if old.get(name) != new.get(name)]


def value_cell(value: Any) -> str:
    return "inactive" if value is None else Mono(one_line(show(value), VALUE))


def listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return listed([_plain(item) for item in value])
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) + "}"
    return show(value)
