"""What a language model gets to read about a study: the prompts of ``prompts/*.md``, filled in.

Everything that is not Windlass's own text stands in fenced blocks, one fact a line, control characters and line breaks
taken out, so that no text can end its block. The fence's name is a digest of what is quoted: the same situation gives
the same prompt, and nobody who writes into a log can know it beforehand. Nothing here depends on a clock, or on how
far a run has come that has not ended: a replay has to see the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from pydantic import BaseModel

from windlass.agents.endpoint import NAME, Request, plain
from windlass.agents.situation import Situation
from windlass.records.content import digest, flatten
from windlass.records.decision import Decision, Outcome, Proposal
from windlass.records.forecast import Forecast, Prediction
from windlass.records.lessons import LearnedConstraint, Pattern
from windlass.records.parameters import Parameter
from windlass.records.ranking import Standing, counted_score
from windlass.records.region import Region
from windlass.records.run import RunRecord, Status

#: most characters of each block, its fences aside; with the templates, a prompt has at most ``LONGEST_PROMPT``
LIMITS = {
    "study": 1_000,
    "space": 2_900,
    "rules": 900,
    "lessons": 1_200,
    "best": 1_300,
    "worst": 400,
    "failures": 900,
    "decided": 900,
    "proposal": 1_300,
}
LONGEST_LINE = 300  #: characters
LONGEST_PROMPT = 12_000  #: characters, the system prompt included, a remark on an unusable answer not
LONGEST_REMARK = 600  #: characters


def to_propose(situation: Situation, count: int, answer: type[BaseModel]) -> Request:
    """The request for at most ``count`` proposals."""
    standings = situation.lessons.progress.standings
    blocks = {
        **_common(situation),
        "worst": [_standing(situation, one) for one in standings[8:][-3:]],
        "decided": [_decided(situation, one) for one in reversed(situation.decided[-12:])],
    }
    return _request("propose", blocks, answer, count=str(count))


def to_criticise(
    situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast, answer: type[BaseModel]
) -> Request:
    """The request to judge one proposal."""
    chosen = {name: value for name, value in flatten(config).items() if name in situation.space.names}
    about = [
        f"by {_quoted(proposal.proposer)}: {_quoted(proposal.reason, 500)}",
        f"sets {_json(proposal.values)}",
        f"whole configuration: {_json(chosen)}",
        *_forecast(forecast),
    ]
    return _request("criticise", {**_common(situation), "proposal": about}, answer)


def again(request: Request, problem: str) -> Request:
    """The same request, with a remark on why the last answer could not be used."""
    remark = fill("again", {"problem": fenced([plain(problem, LONGEST_REMARK)], fence_of([problem, request.prompt]))})
    return Request(system=request.system, prompt=request.prompt + remark, tool=request.tool, answer=request.answer)


def _request(tool: str, blocks: Mapping[str, Iterable[str]], answer: type[BaseModel], **texts: str) -> Request:
    lines = {name: _within(block, LIMITS[name]) for name, block in blocks.items()}
    fence = fence_of([line for block in lines.values() for line in block])
    prompt = fill(tool, {**texts, **{name: fenced(block, fence) for name, block in lines.items()}})
    return Request(system=fill("system", {"fence": fence}), prompt=prompt, tool=tool, answer=answer)


@cache
def _template(name: str) -> Template:
    return Template((files("windlass.agents") / "prompts" / f"{name}.md").read_text(encoding="utf-8"))


def fill(name: str, parts: Mapping[str, str]) -> str:
    """One pass: what is filled in is not looked at again."""
    return _template(name).substitute(parts)


def fence_of(quoted: list[str]) -> str:
    return digest(quoted)[:16]


def fenced(lines: Iterable[str], fence: str) -> str:
    return "\n".join([f"BEGIN DATA {fence}", *lines, f"END DATA {fence}"])


def _within(lines: Iterable[str], limit: int) -> list[str]:
    """Lines cut to ``LONGEST_LINE``, as many from the beginning as ``limit`` characters hold."""
    cut = [plain(line, LONGEST_LINE) for line in lines]
    kept: list[str] = []
    room = limit - len("(9999 more)") - 1
    for line in cut:
        room -= len(line) + 1
        if room < 0:
            return [*kept, f"({len(cut) - len(kept)} more)"]
        kept.append(line)
    return kept or ["(none)"]


def _common(situation: Situation) -> dict[str, list[str]]:
    standings = situation.lessons.progress.standings
    return {
        "study": _study(situation),
        "space": [f"{name}: {_json(_domain(one))}" for name, one in situation.space.parameters.items()],
        "rules": _rules(situation),
        "lessons": _lessons(situation),
        "best": [_standing(situation, one) for one in standings[:8]],
        "failures": _failures(situation),
    }


def _domain(one: Parameter) -> dict[str, Any]:
    return {"type": one.type, **one.model_dump(mode="json", exclude_defaults=True, exclude_none=True)}


def _study(situation: Situation) -> list[str]:
    study, progress = situation.study, situation.lessons.progress
    fails = ", ".join(f"{count} {kind}" for kind, count in sorted(progress.failures.items()))
    left = situation.runs_left
    return [
        f"study {study.name}: {_quoted(study.description or 'no description')}",
        *(f"{o.direction} {_quoted(o.metric)}; a difference of {o.scale:g} matters" for o in study.objectives),
        *(f"a result counts only with {_json(g.model_dump(exclude_none=True))}" for g in study.guards),
        f"{progress.settled} runs ended: {progress.completed} completed, {progress.failed} failed ({fails or 'none'})",
        *([f"{left} runs are left"] if left is not None else []),
        f"baseline: {_json(flatten(study.baseline))}",
    ]


def _rules(situation: Situation) -> list[str]:
    study = situation.study
    return [
        *(f"rule: {_quoted(rule)}" for rule in study.rules),
        *(
            f"constraint {_quoted(one.name)}: {'never' if one.forbid is not None else 'only'} {_region(one.region)}"
            f"{f' because {_quoted(one.reason)}' if one.reason else ''}"
            for one in study.constraints
        ),
    ]


def _lessons(situation: Situation) -> list[str]:
    lessons = situation.lessons
    trend = lessons.trend
    slope = f"trend: {trend.slope:+.3g} a run ({trend.low:+.3g} to {trend.high:+.3g})" if trend is not None else ""
    return [
        f"{'stagnant' if lessons.stagnation.stagnant else 'not stagnant'}: {_quoted(lessons.stagnation.reason)}",
        *([f"{slope}, from the last {trend.runs}"] if trend is not None else []),
        *map(_constraint, lessons.constraints[:6]),
        *map(_pattern, lessons.patterns[:6]),
        *(f"note: {_quoted(note)}" for note in lessons.notes[:3]),
    ]


def _constraint(one: LearnedConstraint) -> str:
    inside = len(one.failed) + len(one.survived)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one.kinds.items()))
    where = _region(one.constraint.region)
    return f"runs fail where {where}: {len(one.failed)} of {inside} ({kinds}); elsewhere {one.base_rate:.0%}"


def _pattern(one: Pattern) -> str:
    size = f"{one.effect:+.3g} ({one.low:+.3g} to {one.high:+.3g}), {len(one.runs)} runs"
    return f"where {_region(one.region)}, the score is different by {size}"


def _standing(situation: Situation, one: Standing) -> str:
    spread = f" +- {one.error:.2g}" if one.error else ""
    several = f" over {len(one.runs)} runs" if len(one.runs) > 1 else ""
    named = {name: one.run.values[name] for name in situation.study.required_metrics if name in one.run.values}
    return (
        f"{_label(one.run)} score {one.mean:.4g}{spread}{several}, {_json(named)}, with {_chosen(situation, one.run)}"
    )


def _failures(situation: Situation) -> list[str]:
    """Failed and stopped runs, the latest first; of those with the same message, the latest, with their number."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for run in reversed(situation.runs):
        if run.failure is not None:
            groups.setdefault((run.failure.kind, plain(run.failure.message, 160)), []).append(run)
        elif run.stopped_early is not None:
            groups.setdefault(("stopped early", plain(run.stopped_early.reason, 160)), []).append(run)
    return [
        f"{_label(runs[0])} {kind}: {_quoted(message)}"
        f"{f' (and {len(runs) - 1} before it)' if runs[1:] else ''}, with {_chosen(situation, runs[0])}"
        for (kind, message), runs in list(groups.items())[:8]
    ]


def _decided(situation: Situation, one: Decision) -> str:
    own = f" {_quoted(one.proposal.reason, 100)}" if one.proposal.proposer == NAME else ""
    return f"#{one.number} {_quoted(one.proposal.proposer)} {_json(one.proposal.values)}: {_fate(situation, one)}{own}"


def _fate(situation: Situation, one: Decision) -> str:
    if one.outcome is Outcome.REJECTED:
        return _quoted(one.verdict, 100)
    run = next((run for run in reversed(situation.runs) if run.id == one.run_id), None)
    if run is None or not run.status.terminal:
        return "no result yet"
    if run.status is not Status.COMPLETED:
        return str(run.status)
    score = counted_score(situation.study, run)
    return "a guard is broken" if score is None else f"score {score:.4g}"


def _forecast(forecast: Forecast) -> list[str]:
    numbers = [("score", forecast.score), *forecast.metrics.items(), ("seconds", forecast.cost_s)]
    return [
        f"forecast from {forecast.known} results: fails with probability {forecast.fails:.2f}",
        *(f"forecast of {_quoted(name)}: {_range(one)}" for name, one in numbers if one is not None),
    ]


def _range(one: Prediction) -> str:
    return f"{one.mean:.4g}, in 90 of 100 cases from {one.p5:.4g} to {one.p95:.4g}"


def _label(run: RunRecord) -> str:
    return f"#{run.number}" if run.number is not None else f"run {run.id}"


def _chosen(situation: Situation, run: RunRecord) -> str:
    return _json({name: value for name, value in run.params.items() if name in situation.space.names})


def _region(region: Region) -> str:
    return _json(region.model_dump(mode="json", exclude_none=True))


def _quoted(text: str, limit: int = 200) -> str:
    return json.dumps(plain(text, limit), ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(_short(value), ensure_ascii=False, default=str)


def _short(value: Any) -> Any:
    """Floats to six digits, texts to one line: what a model needs, and the same on every machine."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, str):
        return plain(value, 80)
    if isinstance(value, Mapping):
        return {plain(str(key), 80): _short(inner) for key, inner in value.items()}
    return [_short(inner) for inner in value] if isinstance(value, (list, tuple)) else value
