"""Decide every cycle again from its log, and compare: a decision that cannot be repeated cannot be explained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from windlass import __version__
from windlass.agents import Council
from windlass.loop.deliberation import Knowledge, deliberate
from windlass.loop.stopping import Partial
from windlass.records.decision import Approval, Decision
from windlass.records.run import RunRecord, Status
from windlass.records.study import TERMS, Study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraced:
    """One cycle, decided again."""

    cycle: int
    decisions: int
    same: bool
    differences: tuple[str, ...]  #: in words: what the log has, and what came out this time


def retrace(
    study: Study,
    runs: Sequence[RunRecord],
    decided: Sequence[Decision],
    approvals: Sequence[Approval],
    council: Callable[[Study, Sequence[Decision]], Council],
    cycle: int | None = None,
    partial: Callable[[Sequence[RunRecord]], Mapping[str, Partial]] = lambda runs: {},
) -> Iterator[Retraced]:
    """Every cycle of a study (or one), from what was known then.

    ``council`` makes a cycle's agents from its log; ``partial`` says what the stopped among runs would have come to.
    """
    version = ""
    for number, group in groupby(decided, key=lambda decision: decision.cycle):
        logged = list(group)
        first = logged[0]
        if first.terms is not None:
            study, version = _under(study, first.terms), str(first.terms.get("windlass", ""))
        if cycle not in (None, number):
            continue
        known = _known(study, runs, [d for d in decided if d.number < first.number], approvals, first.learned)
        known = replace(known, partial=partial(known.runs))
        again = deliberate(known, council(study, logged), first.evidence["slots"], first.at)
        differences = _differences(logged, again)
        if differences and version != __version__:
            differences.append(f"decided by Windlass {version}; this is {__version__}")
        yield Retraced(cycle=number, decisions=len(logged), same=not differences, differences=tuple(differences))


def _under(study: Study, terms: Mapping[str, Any]) -> Study:
    """The study as it was run under ``terms``."""
    asked = study.model_dump(mode="json", exclude=set(TERMS), exclude_defaults=True)
    return Study.model_validate({**asked, **{key: value for key, value in terms.items() if key in TERMS}})


def _known(
    study: Study,
    runs: Sequence[RunRecord],
    before: Sequence[Decision],
    approvals: Sequence[Approval],
    learned: Sequence[str],
) -> Knowledge:
    """What the lab knew: the results and answers that it had learned of, and runs without a result for the others."""
    told = Counter(run_id for decision in before for run_id in decision.learned) + Counter(learned)
    answers = {answer.number: answer for answer in approvals}
    records = {run.id: run for run in runs}
    seen = [run for run in runs if run.number is None]
    heard: dict[int, Approval] = {}
    for decision in before:
        if decision.run_id is None:
            continue
        changes = told[decision.run_id]
        if decision.waiting and changes:
            changes -= 1
            heard[decision.number] = answers[decision.number]
        run = records.get(decision.run_id)
        if run is None:
            continue
        if changes:
            seen.append(run)
        elif decision.approved or decision.number in heard:
            seen.append(_unsettled(run))
    return Knowledge(
        study=study,
        space=Space.of(study),
        generator=ConfigGenerator(study),
        runs=tuple(sorted(seen, key=lambda run: (run.number or 0, run.id))),
        decided=tuple(before),
        approvals=heard,
    )


def _unsettled(run: RunRecord) -> RunRecord:
    """The record as it was before its run ended."""
    keep = ("id", "name", "created", "study", "number", "config", "seed", "tags", "fingerprints", "lineage")
    return RunRecord(**{name: getattr(run, name) for name in keep}, status=Status.PENDING)


def _differences(logged: Sequence[Decision], again: Sequence[Decision]) -> list[str]:
    found: list[str] = []
    if len(logged) != len(again):
        found.append(f"{len(logged)} decisions in the log, {len(again)} now")
    for old, new in zip(logged, again, strict=False):
        before, after = _plain(old), _plain(replace(new, exchanges=old.exchanges))
        for key in before:
            if before[key] != after[key]:
                found.append(f"#{old.number} {key}: {_short(before[key])} in the log, {_short(after[key])} now")
    return found


def _plain(decision: Decision) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(decision.to_dict(), sort_keys=True))
    return {key: json.dumps(value, sort_keys=True) for key, value in data.items()}


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
