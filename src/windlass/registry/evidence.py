"""What the gate asks before it compares numbers: is the evidence there, may it be used, does it belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from windlass.errors import DataError
from windlass.records.evaluation import Evaluation
from windlass.records.gate import Benchmark, GatePolicy
from windlass.registry.scores import Scores

CLOCKS_DIFFER_S = 3600.0  #: an evaluation may be this far ahead of the gate's clock
_SHOWN = 3  #: examples that a reason names


@dataclass(frozen=True)
class Sheet:
    """An evaluation and its scores."""

    evaluation: Evaluation
    scores: Scores


@dataclass(frozen=True)
class Pair:
    """Scores of challenger and, where one serves, champion on one benchmark, in the same order of examples."""

    benchmark: Benchmark
    challenger: Scores
    champion: Scores | None


def paired(benchmark: Benchmark, challenger: Sheet, champion: Sheet | None) -> Pair:
    """Whatever order the examples came in."""
    return Pair(benchmark, _sorted(challenger.scores), None if champion is None else _sorted(champion.scores))


def problems(
    policy: GatePolicy,
    challenger: str,
    champion: str | None,
    evidence: Mapping[str, Sheet],
    baseline: Mapping[str, Sheet],
    at: float,
) -> Iterator[str]:
    """Why the evidence cannot be judged, in sentences. Raises ValueError on scores of another checkpoint."""
    for benchmark in policy.benchmarks:
        sides = {challenger: evidence.get(benchmark.name)}
        if champion is not None:
            sides[champion] = baseline.get(benchmark.name)
        complete = True
        for checkpoint, sheet in sides.items():
            role = "challenger" if checkpoint == challenger else "champion"
            if sheet is None:
                yield f"The {role} {checkpoint} has no evaluation on {benchmark.name!r}."
                complete = False
                continue
            if (sheet.evaluation.checkpoint, sheet.evaluation.benchmark) != (checkpoint, benchmark.name):
                raise ValueError(
                    f"evaluation {sheet.evaluation.id} is of {sheet.evaluation.checkpoint} on"
                    f" {sheet.evaluation.benchmark!r}, not of {checkpoint} on {benchmark.name!r}"
                )
            yield from (f"{role.capitalize()}: {text}" for text in _of_evaluation(policy, benchmark, sheet, role, at))
        if complete:
            yield from _together(benchmark, *(sheet for sheet in sides.values() if sheet is not None))


def too_few(policy: GatePolicy, evidence: Mapping[str, Sheet]) -> dict[str, int]:
    """By benchmark, the examples that are missing to the least number."""
    missing = {b.name: b.min_examples - len(evidence[b.name].scores) for b in policy.benchmarks if b.name in evidence}
    return {name: count for name, count in missing.items() if count > 0}


def marks(policy: GatePolicy, sheets: Mapping[str, Mapping[str, Sheet]]) -> Iterator[str]:
    """What is to be known beside a verdict. ``sheets`` by role."""
    for role, by_name in sheets.items():
        for benchmark in policy.benchmarks:
            if benchmark.name not in by_name:
                continue
            evaluation = by_name[benchmark.name].evaluation
            leakage = evaluation.leakage
            if evaluation.imported:
                yield f"The {role}'s evaluation on {benchmark.name!r} was made elsewhere: {evaluation.imported}."
            if leakage.overlap is None:
                why = f": {leakage.words}" if leakage.words else ""
                yield f"Whether the {role} was trained on examples of {benchmark.name!r} is not known{why}."
            elif leakage.overlap:
                yield (
                    f"The {role} was trained on {leakage.overlap:,} of {leakage.examples:,} examples of"
                    f" {benchmark.name!r}."
                )


def _of_evaluation(policy: GatePolicy, benchmark: Benchmark, sheet: Sheet, role: str, at: float) -> Iterator[str]:
    evaluation, leakage = sheet.evaluation, sheet.evaluation.leakage
    which = f"evaluation {evaluation.id} on {benchmark.name!r}"
    ahead = evaluation.at - at
    if ahead > CLOCKS_DIFFER_S:
        yield f"{which} is dated {_span(ahead)} from now: a clock is wrong."
    elif benchmark.max_age is not None and -ahead > benchmark.max_age:
        yield f"{which} is {_span(-ahead)} old; at most {_span(benchmark.max_age)} is allowed."
    if evaluation.imported and policy.imported == "refuse":
        yield f"{which} was made elsewhere ({evaluation.imported}), which the policy refuses."
    if policy.leakage == "refuse" and role == "challenger":  # the champion's only makes it harder to beat
        if leakage.overlap:
            yield (
                f"{which}: {leakage.overlap:,} of {leakage.examples:,} examples were trained on, which the policy"
                " refuses."
            )
        elif leakage.overlap is None and leakage.declared:
            yield f"{which}: what it was trained on could not be compared with the benchmark ({leakage.words})."
    yield from (f"{which}: {text}" for text in _columns(benchmark, sheet.scores))


def _columns(benchmark: Benchmark, scores: Scores) -> Iterator[str]:
    for metric in dict.fromkeys([benchmark.metric, *(guard.metric for guard in benchmark.guards)]):
        try:
            values = scores.column(metric)
        except DataError as error:
            yield f"{error.message}."
            continue
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            yield f"{metric!r} is {values[wrong[0]]} at example {str(scores.ids[wrong[0]])!r}."
        elif benchmark.test == "exact" and metric == benchmark.metric and not np.isin(values, (0, 1)).all():
            other = np.flatnonzero(~np.isin(values, (0, 1)))[0]
            yield (
                f"the exact test takes scores of 0 and 1; {metric!r} is {values[other]:g} at example"
                f" {str(scores.ids[other])!r}."
            )
    for column in benchmark.slices:
        try:
            scores.group(column)
        except DataError as error:
            yield f"{error.message}."
    if len(np.unique(scores.ids)) != len(scores.ids):
        yield "examples repeat."


def _together(benchmark: Benchmark, challenger: Sheet, champion: Sheet | None = None) -> Iterator[str]:
    if champion is None:
        return
    mine, other = challenger.evaluation, champion.evaluation
    name = benchmark.name
    if mine.data != other.data:
        yield f"{name!r} had other data for the challenger, {mine.data[:12]}, than for the champion, {other.data[:12]}."
    if mine.evaluator != other.evaluator:
        yield (
            f"{name!r} had another evaluator for the challenger, {mine.evaluator[:12]}, than for the champion,"
            f" {other.evaluator[:12]}."
        )
    only = np.setdiff1d(challenger.scores.ids, champion.scores.ids)
    lacks = np.setdiff1d(champion.scores.ids, challenger.scores.ids)
    if len(only) or len(lacks):
        yield (
            f"{name!r} had other examples for the challenger than for the champion: {_named(only)} are the"
            f" challenger's alone, {_named(lacks)} the champion's."
        )
        return
    x, y = _sorted(challenger.scores), _sorted(champion.scores)
    for column in benchmark.slices:
        try:
            differ = np.flatnonzero(x.group(column) != y.group(column))
        except (DataError, ValueError):
            continue  # told of the side that lacks it
        if len(differ):
            yield (
                f"{name!r}: {len(differ):,} examples have another {column!r} for the challenger than for the champion,"
                f" {str(x.ids[differ[0]])!r} among them."
            )


def _sorted(scores: Scores) -> Scores:
    order = np.argsort(scores.ids, kind="stable")
    return Scores(
        ids=scores.ids[order],
        columns={name: values[order] for name, values in scores.columns.items()},
        groups={name: values[order] for name, values in scores.groups.items()},
    )


def _named(ids: np.ndarray) -> str:
    if not len(ids):
        return "none"
    shown = ", ".join(repr(str(name)) for name in ids[:_SHOWN])
    return f"{len(ids):,} ({shown}{', ...' if len(ids) > _SHOWN else ''})"


def _span(seconds: float) -> str:
    """``3.2 h``, ``41 d``."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
