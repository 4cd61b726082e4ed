"""Critics: each looks at one side of a proposal and votes, with numbers and run ids. Same situation, same vote.

A confidence says how much evidence is behind a vote, so a rejection weighs only as much as what speaks for it:
vetoing whatever lies near a crash halves the crashes and doubles the regret, as the best configs often do lie there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from windlass.agents.nearness import NEAR, Neighbour, SameObjects, neighbours
from windlass.agents.odds import chance_above, chance_to_lead, seconds_left
from windlass.agents.situation import Critic, Situation, World
from windlass.errors import ConfigRejected
from windlass.records.content import canonical, digest, flatten
from windlass.records.decision import Incident, Proposal, Stance, Vote
from windlass.records.forecast import Forecast
from windlass.records.lessons import Pattern
from windlass.records.region import same
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study
from windlass.space.space import Space

REFERENCE = 64  #: configs drawn at random that a merit is compared with
HOPELESS = 0.01  #: chance to beat the best below which a run is not for its result
RISKY = 0.5  #: P(fails) from which a run has to be worth the risk
WORTH = 0.02  #: chance to run and be the new best that is worth a risk
DOUBT = 0.5  #: confidence of a vote that has little to go by
FAINT = 0.05  #: least confidence of an approval, so that it still counts as a vote
SHOWN = 5  #: run ids in one piece of evidence, at most


def purpose(proposal: Proposal) -> str | None:
    """What a proposal is for, where that is not a better result."""
    if proposal.repeats is not None:
        return "a repeat measures the noise"
    return {
        "baseline": "the baseline is what results are compared with",
        "ablation": "an ablation measures what one change is worth",
    }.get(proposal.proposer)


class _Voter:
    name: ClassVar[str]

    def _vote(self, stance: Stance, confidence: float, reason: str, **evidence: Any) -> Vote:
        """Evidence that is None or not finite is left out: JSON has no word for it."""
        known = {
            key: value
            for key, value in evidence.items()
            if value is not None and not (isinstance(value, float) and not math.isfinite(value))
        }
        return Vote(critic=self.name, stance=stance, confidence=confidence, reason=reason, evidence=known)

    def _abstain(self, reason: str, **evidence: Any) -> Vote:
        return self._vote(Stance.ABSTAIN, 0.0, reason, **evidence)


class WorldCritic(_Voter):
    """How much a proposal promises: its merit among configs drawn at random, and its chance to beat the best.

    Rejects what has no chance and less merit than chance would find. What the world model suggested itself is never
    rejected, nor is the explorer, who is asked for what is not known.
    """

    name: ClassVar[str] = "world"
    weight: ClassVar[float] = 2.0

    def __init__(self) -> None:
        self._reference = SameObjects(_reference_merits)

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        if why := purpose(proposal):
            return self._abstain(f"{why}: its score is not the point")
        if not situation.world.usable or forecast.merit is None or forecast.known < situation.initial:
            return self._abstain(f"{forecast.known} results are known, too few to judge by", known=forecast.known)
        reference = self._reference(situation.world, situation.space, situation.study)
        share = float((reference < forecast.merit).mean())
        chance = chance_to_lead(situation, forecast)
        best = situation.lessons.progress.best
        score = forecast.score
        evidence = {
            "merit": forecast.merit,
            "reference_median": float(np.median(reference)),
            "better_than": share,
            "chance_to_lead": chance,
            "expected_score": score.mean if score else None,
            "sd": score.sd if score else None,
            "best_score": situation.lessons.progress.best_score,
            "best_run": best.id if best else None,
        }
        promises = f"promises more than {share:.0%} of {REFERENCE} random configs"
        if chance is not None:
            promises += f", {chance:.1%} chance to beat the best"
        if proposal.proposer == "explorer":
            return self._vote(Stance.APPROVE, DOUBT, f"{promises}; it is asked for what is not known", **evidence)
        if share >= 0.5 or (chance is not None and chance >= WORTH):
            return self._vote(Stance.APPROVE, max(share, DOUBT), promises, **evidence)
        if proposal.proposer == "bayesian":
            return self._abstain(f"{promises}; but it is the world model's own choice", **evidence)
        if chance is None or chance >= HOPELESS:
            return self._vote(Stance.REVISE, DOUBT, f"{promises}: there is better to try", **evidence)
        return self._vote(Stance.REJECT, 1 - share, f"{promises}: hopeless", **evidence)


def _reference_merits(world: World, space: Space, study: Study) -> npt.NDArray[np.float64]:
    """Merits of ``REFERENCE`` configs drawn at random, the same ones for a whole study."""
    rng = np.random.default_rng([study.seed, 0, 7])
    points = rng.random((REFERENCE, space.dimensions))
    return np.asarray(world.merit([space.repair(space.decode(point)) for point in points]))


class FeasibilityCritic(_Voter):
    """Whether a run will end with a result: learned constraints, and the forecast probability that it fails.

    Inside a learned region the confidence of the rejection is 2 b - 1, where b is the lower end of the Wilson interval
    of the share of failures there: nothing for a region that fails every other time, 0.6 where four of five fail for
    certain. Outside, a high P(fails) rejects only where it is above what is usual in the study and the chance to get
    a new best is not worth it. The explorer, who is asked where nothing else passes, may take the risk.
    """

    name: ClassVar[str] = "feasibility"
    weight: ClassVar[float] = 2.0

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        if proposal.repeats is None and (vote := self._learned(situation, flatten(config))):
            return vote
        fails, progress = forecast.fails, situation.lessons.progress
        usual = (progress.failed + 1) / (progress.settled + 2)
        kind = max(forecast.kinds, key=lambda one: (forecast.kinds[one], one), default=None)
        evidence = {"fails": fails, "usual": usual, "kind": kind, "known": forecast.known}
        risk = f"fails with probability {fails:.0%}" + (f", most likely {kind}" if kind and fails >= 0.1 else "")
        lead = chance_to_lead(situation, forecast)
        if fails >= RISKY and fails > usual and lead is not None and situation.world.usable:
            worth = (1 - fails) * lead
            evidence["worth"] = worth
            if worth < WORTH and proposal.proposer != "explorer":
                reason = f"{risk}, and gives a new best with {worth:.1%}, less than {WORTH:.0%}"
                return self._vote(Stance.REJECT, fails, reason, **evidence)
            worth_it = f"worth it for {worth:.1%} to get a new best"
            risk += f"; {worth_it if worth >= WORTH else 'the explorer asks for what is not known'}"
        return self._vote(Stance.APPROVE, max(1 - fails, FAINT), risk, **evidence)

    def _learned(self, situation: Situation, values: Mapping[str, Any]) -> Vote | None:
        inside = [one for one in situation.lessons.constraints if one.constraint.rejects(values)]
        if not inside:
            return None
        worst = max(inside, key=lambda one: (one.bound, one.constraint.name))
        confidence = 2 * worst.bound - 1
        if confidence <= 0:
            return None
        ran = len(worst.failed) + len(worst.survived)
        reason = (
            f"inside {worst.constraint.name!r}: {len(worst.failed)} of {ran} runs failed there,"
            f" at least {worst.bound:.0%} do"
        )
        return self._vote(
            Stance.REJECT,
            min(confidence, 1.0),
            reason,
            constraint=worst.constraint.name,
            support=ran,
            purity=worst.purity,
            bound=worst.bound,
            failed=list(worst.failed[:SHOWN]),
            survived=list(worst.survived[:SHOWN]),
        )


class CostCritic(_Voter):
    """Whether a run fits into its time limit and into what is left of the study's wall time."""

    name: ClassVar[str] = "cost"
    weight: ClassVar[float] = 1.5

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        limit, left, cost = situation.study.budget.run_time, seconds_left(situation), forecast.cost_s
        if cost is None:
            return self._abstain("no forecast of the duration")
        if limit is None and left is None:
            return self._abstain("no limit of time", seconds=cost.p50)
        over = 0.0 if limit is None else chance_above(cost, limit)
        late = 0.0 if left is None else chance_above(cost, left)
        share = cost.p50 / left if left else (0.0 if left is None else 1.0)
        typical = _typical_seconds(situation.runs)
        evidence = {
            "seconds": cost.p50,
            "p95": cost.p95,
            "limit": limit,
            "left": left,
            "chance_over_limit": over,
            "chance_too_late": late,
            "share_of_left": share,
            "typical": typical,
        }
        takes = f"takes {cost.p50:.3g} s"
        if limit is not None and over >= 0.5:
            return self._vote(Stance.REJECT, over, f"{takes}, above the limit of {limit:g} s", **evidence)
        if left is not None and late >= 0.5:
            return self._vote(Stance.REJECT, late, f"{takes}; only {left:.3g} s are left", **evidence)
        if share >= 0.5 and typical is not None and cost.p50 >= 2 * typical and situation.runs_left != 1:
            reason = f"{takes}, {share:.0%} of what is left; runs typically take {typical:.3g} s"
            return self._vote(Stance.REVISE, min(share, 1.0), reason, **evidence)
        reason = f"{takes}; {over:.0%} chance to pass the limit, {share:.0%} of the time left"
        return self._vote(Stance.APPROVE, max(1 - max(over, late), FAINT), reason, **evidence)


def _typical_seconds(runs: tuple[RunRecord, ...]) -> float | None:
    """Median duration of completed runs."""
    known = [run.duration_s for run in runs if run.status is Status.COMPLETED and run.duration_s is not None]
    return median(known) if known else None


class NoveltyCritic(_Voter):
    """Whether a run tells something new: no duplicates, no near copy of what failed for a reason of its own."""

    name: ClassVar[str] = "novelty"
    weight: ClassVar[float] = 1.0

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        key = digest(config)
        twin = situation.configs.get(key)
        if proposal.repeats is not None:
            return self._repeat(situation, proposal, key, twin)
        if twin is not None:
            return self._vote(Stance.REJECT, 1.0, f"run {twin} has this config", run=twin)
        near = neighbours(situation, flatten(config))
        if not near:
            return self._vote(Stance.APPROVE, 1.0, "nothing has run yet")
        closest = near[0]
        evidence = {"run": closest.run_id, "largest_difference": closest.largest, "mean_difference": closest.mean}
        if closest.largest > NEAR:
            reason = f"differs from run {closest.run_id}, the nearest, by up to {closest.largest:.0%} of a range"
            return self._vote(Stance.APPROVE, min(1.0, 0.5 + 5 * closest.largest), reason, **evidence)
        return self._copy(situation, proposal, [one for one in near if one.largest <= NEAR], evidence)

    def _copy(self, situation: Situation, proposal: Proposal, near: list[Neighbour], evidence: dict[str, Any]) -> Vote:
        """``near``: all within ``NEAR`` in every parameter, nearest first."""
        runs = {run.id: run for run in situation.runs}
        found = [runs[one.run_id] for one in near if one.run_id in runs]
        failed = [run for run in found if run.failure and not run.failure.kind.blameless]
        worked = [run for run in found if run.status.terminal and run.failure is None]
        evidence = {
            **evidence,
            "failed": [run.id for run in failed[:SHOWN]],
            "completed": [r.id for r in worked[:SHOWN]],
        }
        if failed and not worked:
            ran, failure = failed[0], failed[0].failure
            assert failure is not None
            reason = f"within {NEAR:.0%} of run {ran.id} in every parameter, which failed ({failure.kind})"
            return self._vote(Stance.REJECT, 0.9, reason, **evidence)
        reason = f"within {NEAR:.0%} of run {near[0].run_id} in every parameter"
        if proposal.proposer == "explorer":
            return self._vote(Stance.REVISE, DOUBT, f"{reason}: nothing to explore there", **evidence)
        return self._vote(Stance.APPROVE, DOUBT, f"{reason}, which has not failed: a refinement", **evidence)

    def _repeat(self, situation: Situation, proposal: Proposal, key: str, twin: str | None) -> Vote:
        if twin is None:
            return self._vote(
                Stance.REJECT, 1.0, f"no run has this config, so it repeats nothing of run {proposal.repeats}"
            )
        made = [run for run in situation.runs if (run.fingerprints.get("config") or digest(run.config)) == key]
        known = {run.id for run in made}
        made_ids = [run.id for run in made if run.status is not Status.CANCELLED]
        made_ids += [  # decided on, with no record yet
            d.run_id
            for d in situation.decided
            if d.run_id is not None
            and d.run_id not in known
            and d.proposal.repeats == proposal.repeats
            and digest(d.config) == key
        ]
        evidence = {"runs": made_ids[:SHOWN], "count": len(made_ids), "most": situation.study.repeats}
        if len(made_ids) >= situation.study.repeats:
            reason = f"{len(made_ids)} runs have this config, as many as the study's repeats"
            return self._vote(Stance.REJECT, 1.0, reason, **evidence)
        reason = f"repeat {len(made_ids) + 1} of at most {situation.study.repeats} of this config"
        return self._vote(Stance.APPROVE, 1.0, reason, **evidence)


_DIRECTION = re.compile(
    r"\b(rais|increas|high|more|larg|great|grow|rise|up\b|lower|reduc|decreas|less|small|fewer|shrink|down\b|improv"
    r"|better|worse|faster|slower|help|hurt|gain|drop)\w*",
    re.IGNORECASE,
)


class HypothesisCritic(_Voter):
    """Where a proposal comes with words: do they speak of what it changes, and say which way that will go, and do the
    learned patterns speak against it? Words are the evidence ``hypothesis``, or ``expects`` with the reason. English
    only; a check of form, not of sense.
    """

    name: ClassVar[str] = "hypothesis"
    weight: ClassVar[float] = 1.0

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        text = _said(proposal)
        if not text:
            return self._abstain("no hypothesis in words")
        values, before = flatten(config), _before(situation)
        changed = [name for name in situation.space.names if name in values and not _kept(name, values, before)]
        named = [name for name in changed if _mentions(text, name)]
        metrics = [one for one in situation.study.required_metrics if _mentions(text, one)]
        direction = _DIRECTION.search(text)
        evidence: dict[str, Any] = {"changed": changed[:SHOWN], "named": named, "metrics": metrics}
        if not named:
            reason = f"names none of what it changes ({', '.join(changed[:SHOWN]) or 'nothing'})"
            return self._vote(Stance.REVISE, 0.6, reason, **evidence)
        if not metrics and direction is None:
            return self._vote(Stance.REVISE, DOUBT, "states neither a metric nor a direction", **evidence)
        moved = [one for one in _moved_into(situation, values, before) if set(one.region.root) <= set(changed)]
        against = [one for one in moved if one.high < 0]
        supporting = [one for one in moved if one.low > 0]
        if against and purpose(proposal) is None:
            worst = min(against, key=lambda one: (one.high, _region_words(one)))
            reason = (
                f"runs with {_region_words(worst)} score {-worst.effect:.3g} less ({worst.low:.3g} to {worst.high:.3g})"
            )
            evidence |= {"effect": worst.effect, "low": worst.low, "high": worst.high, "runs": list(worst.runs[:SHOWN])}
            return self._vote(Stance.REVISE, 0.8, reason, **evidence)
        says = f"names {', '.join(named)}" + (f" and {', '.join(metrics)}" if metrics else "")
        if supporting:
            best = max(supporting, key=lambda one: (one.low, _region_words(one)))
            evidence |= {"effect": best.effect, "low": best.low, "high": best.high, "runs": list(best.runs[:SHOWN])}
            return self._vote(
                Stance.APPROVE, 0.8, f"{says}; runs with {_region_words(best)} score {best.effect:.3g} more", **evidence
            )
        return self._vote(Stance.APPROVE, 0.6, f"{says}; nothing learned speaks against it", **evidence)


def _said(proposal: Proposal) -> str:
    """The hypothesis in words, empty where there is none."""
    expects = proposal.evidence.get("expects")
    hypothesis = proposal.evidence.get("hypothesis", proposal.reason if expects else "")
    return "\n".join(part for part in (hypothesis, expects) if isinstance(part, str) and part.strip())


def _before(situation: Situation) -> dict[str, Any]:
    """The flat config that proposals are laid over, as far as it goes."""
    try:
        return flatten(situation.config({}))
    except ConfigRejected:
        return dict(situation.space.fixed)


def _kept(name: str, values: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return name in before and same(values[name], before[name])


def _mentions(text: str, name: str) -> bool:
    """The dotted name, or its last part, as a word; ``_``, ``-`` and blanks are one."""
    forms = (re.split(r"[_-]", form) for form in (name, name.rpartition(".")[2]))
    return any(re.search(rf"(?<!\w){'[_ -]'.join(map(re.escape, form))}(?!\w)", text, re.IGNORECASE) for form in forms)


def _moved_into(situation: Situation, values: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[Pattern]:
    for pattern in situation.lessons.patterns:
        if pattern.region.contains(values) and not pattern.region.contains(before):
            yield pattern


def _region_words(pattern: Pattern) -> str:
    return " and ".join(
        f"{name} in {condition.model_dump(exclude_none=True)}" for name, condition in pattern.region.root.items()
    )


#: in the order in which they vote
CRITICS: Mapping[str, Critic] = {
    critic.name: critic
    for critic in (WorldCritic(), FeasibilityCritic(), CostCritic(), NoveltyCritic(), HypothesisCritic())
}


def review_all(
    critics: Mapping[str, Critic],
    situation: Situation,
    proposal: Proposal,
    config: Mapping[str, Any],
    forecast: Forecast,
) -> tuple[list[Vote], list[Incident]]:
    """One vote of every critic. A critic that raises, or whose vote is none, abstains, and an incident tells."""
    votes: list[Vote] = []
    incidents: list[Incident] = []
    for name, critic in critics.items():
        try:
            vote = critic.review(situation, proposal, config, forecast)
            _check(vote, name)
        except Exception as error:  # an agent's fault must not end the study; it is on record
            message = f"could not judge a proposal of {proposal.proposer}: {type(error).__name__}: {error}"
            vote = Vote(critic=name, stance=Stance.ABSTAIN, confidence=0.0, reason=message)
            incidents.append(Incident(agent=name, message=message))
        votes.append(vote)
    return votes, incidents


def _check(vote: Vote, name: str) -> None:
    """Raises TypeError or ValueError where a vote cannot be counted or written down."""
    if not isinstance(vote, Vote) or not isinstance(vote.stance, Stance) or vote.critic != name:
        raise TypeError(f"{vote!r} is no vote of {name}")
    if not isinstance(vote.confidence, (int, float)) or not 0 <= vote.confidence <= 1:
        raise ValueError(f"a confidence is from 0 to 1, not {vote.confidence!r}")
    canonical(vote.evidence)
