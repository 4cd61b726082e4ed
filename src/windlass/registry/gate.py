"""The gate: whether a challenger may take the champion's place, from evidence alone.

A pure function, which never says promote unless everything that the policy asks for is there and shown.

Challengers are counted and share the policy's alpha, whatever the dependence between them. That covers challengers that
were made without regard to the scores of these examples. It does not cover those that were tuned on them, for which no
count of looks is enough (Dwork et al., Science 349 (2015), 636-638): evaluate on examples that nothing was tuned on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.records.gate import GatePolicy
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.registry import reasons
from windlass.registry.comparing import comparisons
from windlass.registry.evidence import Sheet, marks, paired, problems, too_few

__all__ = ["Sheet", "judge"]

_NOTHING_LEFT = 1e-9  #: of an alpha; sums of levels are rounded


def judge(
    policy: GatePolicy,
    challenger: str,
    champion: str | None,
    *,
    evidence: Mapping[str, Sheet],
    baseline: Mapping[str, Sheet],
    spent: float,
    look: int,
    at: float,
) -> Verdict:
    """The verdict on ``challenger``, a checkpoint's id, against ``champion``, None where nothing serves yet.

    ``evidence`` and ``baseline`` are their evaluations by benchmark, ``at`` is the time in seconds since the epoch.
    Challengers on one set of benchmarks are looked at in turn: this is number ``look`` (from 1), those before spent
    ``spent`` of the policy's alpha, and what is left is shared equally by this one and those to come. A verdict that
    tested nothing (``Verdict.tested``) spends nothing.

    - promote: every comparison passed. Without a champion, evidence and ``least`` are all there is to ask for.
    - keep: one is broken, so no further examples would let the challenger pass, or it is the champion.
    - inconclusive: anything else; ``more`` examples would settle it, where a number is known.

    Raises ValueError where an evaluation is of another checkpoint or benchmark, or ``look`` is below 1.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    sides = {"challenger": evidence, "champion": baseline if champion is not None else {}}
    level = max(0.0, policy.alpha - spent) / max(policy.challengers - look + 1, 1)
    known: dict[str, Any] = {
        "deployment": policy.deployment,
        "challenger": challenger,
        "champion": champion,
        "evaluations": tuple(
            side[benchmark.name].evaluation.id
            for side in sides.values()
            for benchmark in policy.benchmarks
            if benchmark.name in side
        ),
        "policy": policy.fingerprint,
        "stages": policy.stages if champion is not None else (),  # there is nothing to answer beside
        "look": look,
        "level": level,
        "at": at,
    }
    if challenger == champion:
        return Verdict(**known, ruling=Ruling.KEEP, reasons=(f"{challenger} is the champion already.",))
    wrong = tuple(problems(policy, challenger, champion, evidence, baseline, at))
    few = too_few(policy, evidence)
    if wrong or few:
        return Verdict(
            **known,
            ruling=Ruling.INCONCLUSIVE,
            reasons=(*wrong, *reasons.too_few(evidence, few)),
            more=max(few.values()) if few and not wrong else None,
        )
    if champion is not None and (look > policy.challengers or policy.alpha - spent <= _NOTHING_LEFT * policy.alpha):
        return Verdict(**known, ruling=Ruling.INCONCLUSIVE, reasons=(reasons.worn_out(policy, spent, look),))
    pairs = [paired(b, evidence[b.name], sides["champion"].get(b.name)) for b in policy.benchmarks]
    found = tuple(comparison for pair in pairs for comparison in comparisons(policy, pair, level))
    ruling = _ruling(found)
    deciding = decisive(found)
    return Verdict(
        **known,
        ruling=ruling,
        reasons=(
            reasons.headline(policy, challenger, champion, ruling, found, deciding),
            *reasons.findings(policy, found, look),
            *marks(policy, sides),
        ),
        comparisons=found,
        more=deciding.more if deciding is not None and ruling is Ruling.INCONCLUSIVE else None,
    )


def _ruling(found: tuple[Comparison, ...]) -> Ruling:
    findings = {comparison.finding for comparison in found}
    if Finding.BROKEN in findings:
        return Ruling.KEEP
    return Ruling.INCONCLUSIVE if Finding.OPEN in findings else Ruling.PROMOTE


def decisive(found: tuple[Comparison, ...]) -> Comparison | None:
    """Of the open comparisons, the one whose ``more`` examples settle the verdict; None where none is open.

    The first to be broken ends it; for a promotion, the last has to pass, and no number will do where one has none.
    """
    still = [comparison for comparison in found if comparison.finding is Finding.OPEN]
    breaking = [one for one in still if one.toward is Finding.BROKEN]
    if breaking:
        return min(breaking, key=lambda one: one.more or 0)
    return next((one for one in still if one.more is None), max(still, key=lambda one: one.more or 0, default=None))
