"""The model card of a checkpoint: what is on record about it, and what the gate could not see. Nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from windlass.records.checkpoint import Checkpoint
from windlass.records.decision import Approval, Decision
from windlass.records.deployment import Deployment, Rollback, Tenure
from windlass.records.document import dump_yaml
from windlass.records.evaluation import Evaluation
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.report.blocks import Block, Bullets, Code, Mono, Paragraph, Section, Table
from windlass.report.lineage import STANDS
from windlass.report.markdown import render
from windlass.report.words import chance, interval, listed
from windlass.runs.text import duration, number, one_line, size, when

UNKNOWN = "not on record"
COMPARED = ("benchmark", "metric", "asked", "n", "before", "now", "improvement", "interval", "needed", "p", "power")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Everything on record about one checkpoint, as of one entry of the audit log."""

    checkpoint: Checkpoint
    sequence: int  #: of the newest audit entry it was made after
    hash: str  #: of that entry
    description: str = ""  #: the study's
    runs: Sequence[str] = ()  #: all that gave these bytes
    removed: float | None = None  #: when its bytes were removed, seconds since the epoch
    decision: Decision | None = None  #: that led to the run
    approval: Approval | None = None  #: a person's answer to it
    evaluations: Sequence[Evaluation] = ()  #: of it, oldest first
    verdicts: Sequence[Verdict] = ()  #: with it as challenger, oldest first
    policies: Mapping[str, GatePolicy] = field(default_factory=dict)  #: by fingerprint
    deployments: Sequence[Deployment] = ()  #: where it has a stage
    rollbacks: Sequence[Rollback] = ()  #: from it or to it, oldest first

    @property
    def tenures(self) -> list[tuple[str, Tenure]]:
        """Deployment and time of every service, oldest first."""
        found = [(line.name, t) for line in self.deployments for t in line.tenures]
        return sorted(((n, t) for n, t in found if t.checkpoint == self.checkpoint.id), key=lambda pair: pair[1].since)

    @property
    def verdict(self) -> Verdict | None:
        """The newest one by which it came to serve; else the newest one."""
        by_id = {verdict.id: verdict for verdict in self.verdicts}
        served = [by_id[tenure.verdict] for _, tenure in self.tenures if tenure.verdict in by_id]
        return next(reversed(served or list(self.verdicts)), None)

    @property
    def policy(self) -> GatePolicy | None:
        """Of ``verdict``."""
        return self.policies.get(self.verdict.policy) if self.verdict else None

    def markdown(self) -> str:
        sections = [
            Section("What it is", list(_identity(self))),
            Section("Intended use", [Paragraph(_use(self))]),
            Section("Where it comes from", list(_origin(self))),
            Section("What it was trained on", list(_training(self))),
            Section("Evaluations", list(_evaluations(self))),
            Section("Verdict", list(_verdict(self))),
            Section("What the gate could not see", list(_limits(self))),
            Section("Service", list(_service(self))),
            Section("To verify", list(_verify(self))),
        ]
        return render(f"Model card of checkpoint {self.checkpoint.id}", sections)


def _use(card: Card) -> str:
    if not card.description:
        return f"The description of its study is {UNKNOWN}."
    return f"In the words of study {card.checkpoint.study}: {card.description}"


def _identity(card: Card) -> Iterator[Block]:
    checkpoint = card.checkpoint
    stands = [f"{STANDS[line.stages[checkpoint.id]]} {line.name}" for line in card.deployments]
    yield Table(
        ("", ""),
        [
            ("checkpoint", Mono(checkpoint.id)),
            ("SHA-256 of its manifest", Mono(checkpoint.digest)),
            ("size", f"{size(checkpoint.bytes)} in {checkpoint.files} files ({checkpoint.bytes:,} bytes)"),
            ("registered", when(checkpoint.created)),
            ("it is", ", ".join(stands) or "on no deployment's line"),
            *([("its bytes", f"were removed on {when(card.removed)}")] if card.removed is not None else []),
        ],
    )


def _origin(card: Card) -> Iterator[Block]:
    checkpoint = card.checkpoint
    asked = f"{checkpoint.study or UNKNOWN}" + (f", decision #{checkpoint.number}" if checkpoint.number else "")
    rows = [
        ("run", Mono(checkpoint.run)),
        ("study", asked),
        ("parent checkpoint", Mono(checkpoint.parent) if checkpoint.parent else "none on record"),
        ("seed", str(checkpoint.seed)),
    ]
    rows += [("the same bytes came from", Mono(run)) for run in card.runs if run != checkpoint.run]
    names = dict.fromkeys(("data", "config", "code", "environment", *sorted(checkpoint.fingerprints)))
    rows += [
        (f"{name} fingerprint", Mono(checkpoint.fingerprints[name]) if name in checkpoint.fingerprints else UNKNOWN)
        for name in names
    ]
    yield Table(("", ""), rows)
    yield from _proposal(card)
    yield Code(dump_yaml(checkpoint.config) if checkpoint.config else f"# {UNKNOWN}", "yaml")
    commands = [f"windlass why {checkpoint.run}"] if checkpoint.number is not None else []
    yield Code("\n".join([*commands, f"windlass checkpoints lineage {checkpoint.id}"]), "sh")


def _proposal(card: Card) -> Iterator[Block]:
    decision, answer = card.decision, card.approval
    if decision is None:
        yield Paragraph(f"Why it was run is {UNKNOWN}.")
        return
    proposal = decision.proposal
    words = f"Proposed by {proposal.proposer} to {decision.mode}: {one_line(proposal.reason, 400).rstrip('.')}."
    if answer is not None:
        words += f" {answer.by} {'approved' if answer.approved else 'rejected'} it: {one_line(answer.reason, 200)}"
    yield Paragraph(words)


def _training(card: Card) -> Iterator[Block]:
    checkpoint = card.checkpoint
    data = checkpoint.fingerprints.get("data")
    parent = (
        f" It continued from checkpoint {checkpoint.parent}, which has data of its own." if checkpoint.parent else ""
    )
    yield Paragraph((f"Data with the fingerprint {data}." if data else f"Its data is {UNKNOWN}.") + parent)
    if checkpoint.metrics:
        rows = [
            (Mono(name), number(value)) for name, value in checkpoint.metrics.items() if not name.startswith("system/")
        ]
        yield Paragraph("What the run said of itself when it was trained; the gate did not use it:")
        yield Table(("metric", "last value"), rows, right=(1,))


def _evaluations(card: Card) -> Iterator[Block]:
    if not card.evaluations:
        yield Paragraph("None on record.")
        return
    yield Table(
        ("evaluation", "benchmark", "data", "examples", "means", "trained on, too", "made"),
        [
            (
                Mono(one.id),
                one.benchmark,
                Mono(one.data[:12]),
                str(one.n),
                ", ".join(f"{name} {value:.4g}" for name, value in one.means.items()),
                "unknown" if one.leakage.overlap is None else f"{one.leakage.overlap} of {one.leakage.examples}",
                f"imported from {one_line(one.imported, 80)}" if one.imported else f"{when(one.at)}",
            )
            for one in card.evaluations
        ],
        right=(3,),
    )
    told = [f"{one.benchmark} ({one.id}): {one.leakage.words}" for one in card.evaluations if one.leakage.words]
    if told:
        yield Paragraph("How the benchmarks were held against the training data:")
        yield Bullets(told)


def _verdict(card: Card) -> Iterator[Block]:
    verdict, policy = card.verdict, card.policy
    if verdict is None:
        yield Paragraph(f"None: a verdict on it is {UNKNOWN}.")
        return
    against = f"against {verdict.champion}, which served" if verdict.champion else "while nothing served"
    yield Paragraph(
        f"{verdict.ruling.capitalize()}: for deployment {verdict.deployment}, {against}, on {when(verdict.at)}"
        f" (verdict {verdict.id}, policy {verdict.policy[:12]})."
    )
    yield Bullets(verdict.reasons)
    if verdict.comparisons:
        yield Table(COMPARED, [_compared(one) for one in verdict.comparisons], right=(3, 4, 5, 6, 8, 9, 10))
        yield Paragraph("Improvements are turned so that more is better; intervals are at the comparison's own level.")
    share = f" of alpha {policy.alpha:g} for {policy.challengers} challengers" if policy else ""
    yield Paragraph(
        f"It was challenger number {verdict.look} on these benchmarks, judged at a one-sided level of"
        f" {verdict.level:.3g}{share}."
    )
    if others := [one for one in card.verdicts if one is not verdict]:
        yield Paragraph("Other verdicts on it:")
        rows = [(when(o.at), o.deployment, str(o.ruling), one_line(" ".join(o.reasons), 200)) for o in others]
        yield Table(("on", "deployment", "ruling", "because"), rows)


def _compared(one: Comparison) -> tuple[str, ...]:
    return (
        one.benchmark,
        Mono(one.metric),
        f"{one.role}{f' in {one.group}' if one.group else ''}: {one.finding}",
        str(one.n),
        f"limit {one.champion:.4g}" if one.role == "least" else f"{one.champion:.4g}",
        f"{one.challenger:.4g}",
        f"{one.delta:+.3g}",
        f"{interval(one.low, one.high)} ({100 * (1 - 2 * one.level):.4g} %)",
        f"more than {number(one.threshold)}",
        f"{one.p_value:.2g}",
        chance(one.power) if one.power is not None else "–",
    )


# What the gate could not see -------------------------------------------------------------------------------------


def _limits(card: Card) -> Iterator[Block]:
    if card.verdict is None:
        yield Paragraph("There is no verdict: nothing about it was tested.")
        return
    found = [*_untested(card, card.verdict), *_weak(card, card.verdict), *_doubtful(card, card.verdict)]
    yield Bullets(found) if found else Paragraph("Nothing on record limits what the gate saw.")


def _untested(card: Card, verdict: Verdict) -> Iterator[str]:
    """What no comparison looked at."""
    if verdict.champion is None:
        yield "Nothing served when it was judged: whether it is better than anything else was not tested."
    for benchmark in card.policy.benchmarks if card.policy else ():
        if not benchmark.slices:
            yield f"{benchmark.name}: the policy names no slices; a fall within a group of examples would not be seen."
    seen = {(one.benchmark, one.metric) for one in verdict.comparisons}
    for evaluation in _used(card, verdict):
        unseen = [name for name in evaluation.means if (evaluation.benchmark, name) not in seen]
        if unseen and verdict.champion is not None:
            yield f"{evaluation.benchmark}: {listed(unseen, 8)}: on record, and nothing was decided by it."
    if left_out := [one for one in card.evaluations if one.id not in verdict.evaluations]:
        yield f"Not part of the verdict: {listed([f'{one.benchmark} ({one.id})' for one in left_out], 8)}."
    if verdict.ruling is Ruling.PROMOTE and not verdict.stages:
        yield "The policy asks for neither shadow nor canary: no live answer was looked at before it could serve."


def _weak(card: Card, verdict: Verdict) -> Iterator[str]:
    """What the number of examples leaves open."""
    policy = card.policy
    least = {benchmark.name: benchmark.min_examples for benchmark in policy.benchmarks} if policy else {}
    power = f"the policy's power of {chance(policy.power)}" if policy else "the policy's power"
    for one in verdict.comparisons:
        name = f"{one.benchmark} {one.metric}" + (f" in {one.group}" if one.group else "")
        if one.role == "better" and one.detectable is not None:
            small = f"improvements of less than {one.detectable:.3g}"
            yield f"{name}: with {one.n} examples, {small} are found with less than {power}."
        if one.finding is Finding.UNTESTED:
            yield f"{name}: {one.n} examples, too few to show anything; only a proven fall would have counted."
        elif one.role == "slice" and one.n < least.get(one.benchmark, 0):
            yield f"{name}: {one.n} examples, and {least[one.benchmark]} are asked of the whole benchmark."
        if one.finding is Finding.OPEN:
            more = f"; about {one.more} more examples would settle it" if one.more else ""
            yield f"{name}: left open{more}."
        elif one.finding is Finding.PASSED and one.role != "better" and one.low < 0:
            yield f"{name}: that it is worse by up to {-one.low:.3g} is not ruled out."


def _doubtful(card: Card, verdict: Verdict) -> Iterator[str]:
    """What may be wrong with the evidence."""
    limits = {benchmark.name: benchmark.max_age for benchmark in card.policy.benchmarks} if card.policy else {}
    for one in _used(card, verdict):
        name = f"{one.benchmark} ({one.id})"
        if one.leakage.overlap is None:
            yield f"{name}: whether its examples were trained on is unknown."
        elif one.leakage.overlap:
            yield f"{name}: {one.leakage.overlap} of {one.leakage.examples} examples were trained on."
        if one.imported:
            yield f"{name}: its scores were made elsewhere and imported; no job of this lab made them."
        limit = limits.get(one.benchmark)
        allowed = f"up to {duration(limit)} is allowed" if limit is not None else "the policy sets no limit"
        age = verdict.at - one.at
        yield f"{name}: {f'{duration(age)} old at' if age >= 0 else 'dated after'} the verdict; {allowed}."
        for note in one.notes:
            yield f"{name}: {one_line(note, 300)}"


def _used(card: Card, verdict: Verdict) -> list[Evaluation]:
    return [one for one in card.evaluations if one.id in verdict.evaluations]


# Service ---------------------------------------------------------------------------------------------------------


def _service(card: Card) -> Iterator[Block]:
    if card.tenures:
        rows = [
            (name, when(t.since), "now" if t.until is None else when(t.until), one_line(t.because, 200))
            for name, t in card.tenures
        ]
        yield Table(("deployment", "from", "until", "because"), rows)
    else:
        yield Paragraph("It never served.")
    for rollback in card.rollbacks:
        steps = ", ".join(f"{name} {state}" for name, state in rollback.steps.items())
        yield Paragraph(
            f"Rollback {rollback.id} of {rollback.deployment} on {when(rollback.at)}, from {rollback.source} to"
            f" {rollback.target}: {one_line(rollback.reason, 300)} ({steps})."
        )
        if rollback.notes:
            yield Bullets([one_line(note, 300) for note in rollback.notes])


def _verify(card: Card) -> Iterator[Block]:
    anchor = f"{card.sequence}:{card.hash[:12]}"
    yield Code(f"windlass checkpoints verify {card.checkpoint.id}\nwindlass audit verify --expect {anchor}", "sh")
    yield Paragraph(f"Made from the audit log as of entry {card.sequence}, whose hash is {card.hash}.")
