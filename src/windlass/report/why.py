"""Why a run was made, or a proposal was not: the whole story of one decision, in reading order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from windlass.records.content import flatten
from windlass.records.decision import Approval, Decision, Outcome, Stance
from windlass.records.forecast import Prediction
from windlass.records.ranking import Standing, counted_score
from windlass.records.result import encode_number
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.report.blocks import Block, Bullets, Cells, Code, Mono, Paragraph, RunId, Section, Table
from windlass.report.forecasts import ForecastCheck, forecast_checks
from windlass.report.tables import run_dict, status_words, told_failure
from windlass.report.words import (
    chance,
    changes,
    evidence_rows,
    evidence_words,
    interval,
    listed,
    objective_words,
    outcome_words,
    value_cell,
)
from windlass.runs.text import duration, number, one_line, signed, when


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Everything on record about one decision."""

    study: Study
    decision: Decision
    run: RunRecord | None
    approval: Approval | None  #: a person's answer
    before: RunRecord | None  #: the best run known when it was decided
    standing: Standing | None  #: of the run's config, now
    siblings: Sequence[Decision]  #: the other decisions of its cycle
    place: int | None = None  #: of ``standing`` among all configs that count, from 1
    places: int = 0  #: how many there are
    resumable: bool = False  #: the run was ended from outside, and left something to go on from

    @property
    def title(self) -> str:
        run_id = self.decision.run_id
        what = f"run {run_id}" if run_id else "a proposal that was not run"
        return f"Why #{self.decision.number} of study {self.study.name}: {what}"

    @property
    def checks(self) -> tuple[ForecastCheck, ...]:
        """What was forecast against what came; empty where there is no outcome."""
        return forecast_checks(self.decision, self.run)

    @property
    def new_best(self) -> bool | None:
        """Whether its result beat the best known when it was decided; None where it has no result that counts."""
        score = counted_score(self.study, self.run) if self.run else None
        if score is None:
            return None
        best = counted_score(self.study, self.before) if self.before else None
        return best is None or score > best

    def sections(self) -> list[Section]:
        """Those with something to say."""
        told = [
            Section("In short", list(_in_short(self))),
            Section("Strategy", list(_strategy(self))),
            Section("Proposal", list(_proposal(self))),
            Section("Forecast", list(_forecast(self))),
            Section("Votes", list(_votes(self))),
            Section("Decision", list(_decision(self))),
            Section("Outcome", list(_outcome(self))),
            Section("Whether the forecast held", list(_held(self))),
            Section("What it meant", list(_meaning(self))),
            Section(f"Cycle {self.decision.cycle}", list(_cycle(self))),
            Section("Next", [Code("\n".join(_next(self)), "sh")]),
        ]
        return [section for section in told if section.blocks]

    def request(self) -> Section:
        """What a person should know before they answer."""
        decision = self.decision
        rows = [
            ("proposed by", f"{decision.proposal.proposer}: {one_line(decision.proposal.reason, 300)}"),
            *([("risk", str(decision.risk))] if decision.risk else []),
            ("waits as", one_line(decision.verdict, 300)),
            ("run", Mono(decision.run_id or "–")),
        ]
        blocks = [Table(("", ""), rows), *_changed(self), *_forecast(self)]
        return Section(f"{self.study.name}#{decision.number}", blocks)

    def markdown(self) -> str:
        from windlass.report.markdown import render

        return render(self.title, self.sections())

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "study": self.study.name,
            "number": self.decision.number,
            "decision": self.decision.to_dict(),
            "changes": [
                {"parameter": name, "before": old, "proposed": new}
                for name, old, new in changes(self.study, self.before.config if self.before else None, _config(self))
            ],
            "approval": self.approval.to_dict() if self.approval else None,
            "before": run_dict(self.before) if self.before else None,
            "run": {**run_dict(self.run), "config": self.run.config} if self.run else None,
            "forecast_held": [
                {
                    "of": check.name,
                    "forecast": asdict(check.prediction),
                    "actual": encode_number(check.actual),
                    "within50": check.prediction.covers(check.actual, 0.5),
                    "within90": check.prediction.covers(check.actual, 0.9),
                }
                for check in self.checks
            ],
            "new_best": self.new_best,
            "standing": {
                "place": self.place,
                "of": self.places,
                "mean": self.standing.mean,
                "error": self.standing.error,
                "runs": [run.id for run in self.standing.runs],
            }
            if self.standing
            else None,
            "cycle": [{"number": d.number, "outcome": d.outcome, "run": d.run_id} for d in self.siblings],
        }


def fate(explained: Explained) -> str:
    """What became of the proposal, in a few words."""
    decision, answer, run = explained.decision, explained.approval, explained.run
    if decision.outcome is Outcome.REJECTED:
        return f"it was not run: {decision.verdict}"
    if decision.waiting and answer is None:
        return f"it waits for a person: {decision.verdict}"
    if answer is not None and not answer.approved:
        return f"{answer.by} rejected it: {answer.reason}"
    words = "it is approved and has no run yet" if run is None else outcome_words(explained.study, run)
    words = f"completed with {words}" if run is not None and run.status is Status.COMPLETED else words
    return f"{answer.by} approved it: {answer.reason}; {words}" if answer is not None else words


def _config(explained: Explained) -> dict[str, Any]:
    """The config that was decided on; of a rejected proposal what it would have changed."""
    decision, before = explained.decision, explained.before
    if decision.config:
        return dict(decision.config)
    return {**(flatten(before.config) if before else {}), **decision.proposal.values}


def _in_short(explained: Explained) -> Iterator[Block]:
    decision, run = explained.decision, explained.run
    active = [vote for vote in decision.votes if vote.stance is not Stance.ABSTAIN]
    counts = ", ".join(
        f"{sum(v.stance is stance for v in active)} {stance}"
        for stance in Stance
        if any(v.stance is stance for v in active)
    )
    rows = [
        ("decided", f"{when(decision.at)}, in cycle {decision.cycle}, knowing {decision.seen} settled runs"),
        ("to", str(decision.mode)),
        ("proposed by", decision.proposal.proposer),
    ]
    if counts:
        rows.append(("votes", counts))
    if decision.risk:
        rows.append(("risk", str(decision.risk)))
    rows.append(("fate", one_line(fate(explained), 400)))
    if run is not None and explained.new_best is not None:
        rows.append(("it was", "a new best" if explained.new_best else "no new best"))
    yield Table(("", ""), rows)


def _strategy(explained: Explained) -> Iterator[Block]:
    decision = explained.decision
    if decision.strategy:
        yield Paragraph(_sentence(f"{decision.mode}: {decision.strategy}"))
    first = min([decision, *explained.siblings], key=lambda d: d.number)  # it has the strategy's numbers
    if first.evidence:
        yield Table(("evidence", ""), evidence_rows(first.evidence))


def _proposal(explained: Explained) -> Iterator[Block]:
    decision, proposal = explained.decision, explained.decision.proposal
    yield Paragraph(_sentence(f"by {proposal.proposer}: {proposal.reason}"))
    if proposal.repeats:
        yield Paragraph(f"It repeats run {proposal.repeats} with seed {decision.seed}.")
    if proposal.evidence:
        yield Table(("evidence", ""), evidence_rows(proposal.evidence))
    yield from _changed(explained)


def _changed(explained: Explained) -> Iterator[Block]:
    """The config against the best then."""
    before = explained.before
    changed = changes(explained.study, before.config if before else None, _config(explained))
    if before is None:
        yield Paragraph("No run had a result yet that it could be compared with.")
        if changed:
            yield Table(("parameter", "value"), [(Mono(name), value_cell(new)) for name, _, new in changed])
    elif changed:
        yield Paragraph(
            f"Against the best run known then, #{before.number} ({objective_words(explained.study, before)}):"
        )
        rows = [(Mono(name), value_cell(old), value_cell(new)) for name, old, new in changed]
        yield Table(("parameter", f"best then, #{before.number}", "proposed"), rows)
    else:
        yield Paragraph(f"Its config is that of the best run known then, #{before.number}.")


def _forecast(explained: Explained) -> Iterator[Block]:
    forecast = explained.decision.forecast
    if forecast is None:
        return
    objectives = {o.metric: o.direction for o in explained.study.objectives}
    named: list[tuple[str, str, Prediction]]
    named = [(Mono(name), objectives.get(name, "guard"), one) for name, one in forecast.metrics.items()]
    named += [("score", "maximize", forecast.score)] if forecast.score and len(objectives) > 1 else []
    rows: list[Cells] = [
        (name, wanted, f"{one.p50:.4g}", interval(one.p25, one.p75), interval(one.p5, one.p95))
        for name, wanted, one in named
    ]
    if (cost := forecast.cost_s) is not None:
        spans = [f"{duration(max(0.0, a))} … {duration(b)}" for a, b in ((cost.p25, cost.p75), (cost.p5, cost.p95))]
        rows.append(("duration", "", duration(cost.p50), *spans))
    yield Paragraph(
        f"From {forecast.known} results, failures included." if forecast.known else "Nothing was known yet."
    )
    if rows:
        yield Table(("", "wanted", "median", "50 % interval", "90 % interval"), rows, right=(2,))
    kinds = ", ".join(f"{kind} {chance(p)}" for kind, p in _by_size(forecast.kinds) if p >= 0.005)
    words = [f"It fails with a probability of {chance(forecast.fails)}" + (f" ({kinds})" if kinds else "") + "."]
    if explained.study.guards:
        words.append(f"A completed run keeps the guards with a probability of {chance(forecast.keeps_guards)}.")
    yield Paragraph(" ".join(words))


def _votes(explained: Explained) -> Iterator[Block]:
    decision = explained.decision
    if not decision.votes:
        return
    yield Table(
        ("critic", "vote", "confidence", "reason"),
        [
            (
                v.critic,
                str(v.stance),
                "–" if v.stance is Stance.ABSTAIN else f"{v.confidence:.2f}",
                one_line(v.reason, 400),
            )
            for v in decision.votes
        ],
        right=(2,),
    )
    evidence = [(v.critic, one_line(evidence_words(v.evidence), 400)) for v in decision.votes if v.evidence]
    if evidence:
        yield Table(("critic", "evidence"), evidence)


def _decision(explained: Explained) -> Iterator[Block]:
    decision, answer = explained.decision, explained.approval
    if (tally := decision.tally) is not None:
        yield Paragraph(
            f"The panel says {tally.stance}: its score is {tally.score:+.2f} of -1 to 1, from {tally.active} votes; "
            f"{chance(tally.agreement)} of their weight is of one mind, entropy {tally.entropy:.2f} bits."
            + ("" if tally.reason in decision.verdict else f" {_sentence(tally.reason)}")
        )
    if decision.risk is not None:
        yield Paragraph(f"Risk, as the supervisor sees it: {decision.risk}.")
    if decision.overrides:
        rows = [(o.rule, str(o.before), str(o.after), one_line(o.reason, 400)) for o in decision.overrides]
        yield Table(("overridden by", "before", "after", "reason"), rows)
    said = decision.verdict.startswith(decision.outcome)
    yield Paragraph(_sentence(decision.verdict if said else f"{decision.outcome}: {decision.verdict}"))
    if answer is not None:
        did = "approved" if answer.approved else "rejected"
        yield Paragraph(f"{answer.by} {did} it on {when(answer.at)}: {answer.reason.rstrip('.')}.")
    first = min([decision, *explained.siblings], key=lambda d: d.number)
    if first.incidents:
        yield Bullets([f"{one.agent} could not do its part in this cycle: {one.message}" for one in first.incidents])


def _outcome(explained: Explained) -> Iterator[Block]:
    run = explained.run
    if run is None:
        return
    rows: list[tuple[str, str]] = [("run", RunId(run.id)), ("status", status_words(run))]
    if run.started is not None:
        rows += [("started", when(run.started)), ("duration", duration(run.duration_s))]
    rows += [(name, number(run.values.get(name))) for name in explained.study.required_metrics if name in run.metrics]
    if broken := explained.study.broken_guards(run.values) if run.status is Status.COMPLETED else ():
        rows.append(("breaks", ", ".join(guard.metric for guard in broken)))
    yield Table(("", ""), rows)
    if run.failure is not None:
        yield from told_failure(run.failure)
    if run.attempt > 1 and run.notes:
        yield Bullets(run.notes)
    if (stop := run.stopped_early) is not None:
        yield Paragraph(f"Stopped early by the rule {stop.rule!r} at step {stop.step:g}: {stop.reason}.")
        if stop.evidence:
            yield Table(("evidence", ""), evidence_rows(stop.evidence))


def _held(explained: Explained) -> Iterator[Block]:
    run, forecast = explained.run, explained.decision.forecast
    if run is None or forecast is None or run.status not in (Status.COMPLETED, Status.FAILED):
        return
    rows = [
        (Mono(c.name) if c.name in run.metrics else c.name, c.words(c.prediction.p50), c.words(c.actual), c.verdict)
        for c in explained.checks
    ]
    if rows:
        yield Table(("", "median", "came", "which is"), rows, right=(1, 2))
    failed = run.status is Status.FAILED
    kind = forecast.kinds.get(run.failure.kind) if run.failure else None
    ended = f"it failed ({run.failure.kind})" if run.failure else "it failed" if failed else "it did not fail"
    words = f"The forecast gave a failure {chance(forecast.fails)}; {ended}."
    if kind is not None and run.failure is not None:
        words += f" Of this kind it gave {chance(kind)}."
    if run.failure is not None and run.failure.kind.blameless:
        words += " Such an end says little about the config."
    yield Paragraph(words)


def _meaning(explained: Explained) -> Iterator[Block]:
    study, run, before, standing = explained.study, explained.run, explained.before, explained.standing
    if run is None or not run.status.terminal:
        return
    if explained.new_best is None:
        because = (
            "it did not complete" if run.status is not Status.COMPLETED else "it breaks a guard or has no finite score"
        )
        yield Paragraph(f"It has no place in the ranking: {because}.")
    elif before is None:
        yield Paragraph("It was the first result that counts.")
    else:
        gains = [
            f"{o.metric} {number(before.values.get(o.metric))} → {number(run.values.get(o.metric))}"
            f" ({signed(run.values[o.metric] - before.values[o.metric])})"
            for o in study.objectives
        ]
        word = "It beat" if explained.new_best else "It did not beat"
        yield Paragraph(f"{word} the best known when it was decided, #{before.number}: {', '.join(gains)}.")
    if standing is not None:
        place = f"place {explained.place} of {explained.places}" if explained.place else "in the ranking"
        count = len(standing.runs)
        runs = f"{count} runs ({listed([f'#{run.number}' for run in standing.runs])})" if count > 1 else "one run"
        error = f" ± {standing.error:.3g}" if standing.error else ""
        yield Paragraph(f"Today its config is {place}, with a score of {standing.mean:.6g}{error} from {runs}.")


def _cycle(explained: Explained) -> Iterator[Block]:
    if explained.siblings:
        rows = [
            (f"#{d.number}", d.proposal.proposer, str(d.outcome), one_line(d.verdict, 160)) for d in explained.siblings
        ]
        yield Table(("number", "proposer", "outcome", "why"), rows)


def _next(explained: Explained) -> list[str]:
    decision, run, name = explained.decision, explained.run, explained.study.name
    if decision.waiting and explained.approval is None:
        reference = f"'{name}#{decision.number}'"
        return [f"windlass approvals {verb} {reference} --reason '...'" for verb in ("approve", "reject")]
    commands = [f"windlass runs show {run.id}"] if run is not None else []
    if run is not None and explained.resumable:
        commands.insert(0, f"windlass runs resume {run.id}")
    if run is not None and explained.before is not None and explained.before.id != run.id:
        commands.append(f"windlass runs compare {explained.before.id} {run.id}")
    return [*commands, f"windlass studies retrace {name} --cycle {decision.cycle}", f"windlass studies report {name}"]


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _by_size(kinds: Any) -> list[tuple[str, float]]:
    return sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
