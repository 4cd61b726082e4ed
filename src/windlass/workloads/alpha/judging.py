"""The gate over a whole search: which few are looked at closely, and what may be claimed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass.errors import DataError
from windlass.workloads.alpha.campaign import Campaign, Trial, leaders, likeness, placed
from windlass.workloads.alpha.counting import Counted
from windlass.workloads.alpha.engine.engine import truncation_differences
from windlass.workloads.alpha.evaluation.backtest import Evaluation, evaluate
from windlass.workloads.alpha.evaluation.measures import sharpe
from windlass.workloads.alpha.gate import verdict
from windlass.workloads.alpha.gate.deflated import deflated_sharpe
from windlass.workloads.alpha.gate.hac import hac_t
from windlass.workloads.alpha.gate.max_t import LEVEL, MaxT, max_t
from windlass.workloads.alpha.gate.overfitting import pbo
from windlass.workloads.alpha.gate.placebo import Placebo, search_wide
from windlass.workloads.alpha.gate.spa import Spa, spa
from windlass.workloads.alpha.gate.verdict import COSTS, LIKENESS, Evidence, Sealed, Verdict, final, provisional, tried
from windlass.workloads.alpha.panel import Floats

CUTS = (0.4, 0.7, 0.95)  #: of the development days, at which the truncation proof shortens the panel


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    max_t: MaxT  #: over all counted trials, this campaign's first
    placebo: Placebo  #: likewise
    named: Mapping[str, Trial]  #: the few that were looked at closely, by alpha id, best first
    evaluations: Mapping[str, Evaluation]  #: of those
    verdicts: tuple[Verdict, ...]  #: of those, the largest |t| first; none in p0 and p1, which promote nothing
    dsr: Mapping[str, float]  #: of those, by hash
    likeness: Mapping[str, float]  #: of those, by hash: the largest |correlation| with a better one or a kept one
    pbo: float
    spa: Spa
    best: Mapping[str, Any]  #: of the best in sample
    words: str
    metrics: dict[str, float]

    def verdict_of(self, digest: str) -> Verdict | None:
        return next((one for one in self.verdicts if one.hash == digest), None)

    def name_of(self, digest: str) -> str:
        return next(name for name, one in self.named.items() if one.candidate.digest == digest)


def alpha_id(number: int) -> str:
    """Of the ``number``-th trial of a campaign, from 0."""
    return f"A{number + 1:04d}"


def judge(
    campaign: Campaign, trials: Sequence[Trial], counted: Counted, seed: int, kept: Mapping[str, Floats]
) -> Judgement:
    """``kept`` by expression: (D,) daily returns of what is promoted already, on the campaign's scored days.

    Raises DataError where no trial ever held a position.
    """
    bases = counted.bases.astype(np.float64)
    found = max_t(bases, seed=seed)
    placebo = search_wide(bases.mean(axis=0), counted.curves)
    chosen = _chosen(trials, found, campaign.config.workload.top_k)
    if not np.isfinite(found.observed_max):
        raise DataError(
            f"none of {bases.shape[1]} portfolios ever earned or lost anything: prices do not move",
            "windlass alpha data PANEL",
        )
    numbers = {one.candidate.digest: number for number, one in enumerate(trials)}
    named = {alpha_id(numbers[one.candidate.digest]): one for one in chosen}
    evaluations = {
        name: evaluate(
            campaign.signal(one.candidate), campaign.market, campaign.timeline, campaign.config, keep_weights=True
        )
        for name, one in named.items()
    }
    ratios = [ratio for ratio in _ratios(bases) if np.isfinite(ratio)]
    both = np.array([*ratios, *(-ratio for ratio in ratios)])
    dsr = {one.candidate.digest: deflated_sharpe(one.sign * one.base.astype(np.float64), both) for one in chosen}
    verdicts: list[Verdict] = []
    if campaign.config.workload.mode == "p2":
        evidence = [
            Evidence(
                hash=one.candidate.digest,
                expression=one.candidate.text,
                t=float(found.t[numbers[one.candidate.digest]]),
                maxt_p=float(found.p[numbers[one.candidate.digest]]),
                net_sharpe=dear(evaluations[name]),
                returns=one.base.astype(np.float64),
                timing_t=_timing(campaign, evaluations[name]),
                truncation=_proved(campaign, one),
                placebo_p=float(placebo.p[numbers[one.candidate.digest]]),
            )
            for name, one in named.items()
        ]
        verdicts = provisional(evidence, trials=bases.shape[1], kept=kept)
    best, number = chosen[0], numbers[chosen[0].candidate.digest]
    overfit, ability = pbo(bases), spa(bases, seed=seed)
    passed = [one for one in verdicts if one.grade == "provisional"]
    metrics = {
        "ic": best.metrics["ic"] * best.sign,
        "rank_ic": best.metrics["rank_ic"] * best.sign,
        "icir": abs(best.metrics["icir"]),
        **{name: best.metrics[name] for name in ("net_ir", "gross_ir", "turnover_1way") if name in best.metrics},
        "t": abs(float(found.t[number])),
        "maxt_p": float(found.p[number]),
        "placebo_p": float(placebo.p[number]),
        "dsr": dsr[best.candidate.digest],
        "pbo": overfit,
        "spa_p": ability.consistent,
        "trials": float(len(trials)),
        "trials_counted": float(2 * bases.shape[1]),
        "provisional": float(len(passed)),
    }
    return Judgement(
        max_t=found,
        placebo=placebo,
        named=named,
        evaluations=evaluations,
        verdicts=tuple(verdicts),
        dsr=dsr,
        likeness=_alike(chosen, kept),
        pbo=overfit,
        spa=ability,
        best={
            "alpha_id": alpha_id(number),
            "expression": best.candidate.text,
            "sign": best.sign,
            "gross_sharpe": best.metrics.get("gross_ir"),
            "net_sharpe": best.metrics.get("net_ir"),
            "t": abs(float(found.t[number])),
        },
        words=_words(campaign, found, best, verdicts, passed, bases.shape[1]),
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
    )


def through_holdout(
    verdicts: Sequence[Verdict], chosen: Sequence[str], look: Callable[[str], Evaluation]
) -> tuple[dict[str, Evaluation], list[Verdict]]:
    """One factor after the other, by hash, up to the first that fails: the later ones stay unseen. ``look`` evaluates
    one on the holdout. What was seen, by hash, and the verdicts after it."""
    found: dict[str, Evaluation] = {}
    sealed: dict[str, Sealed] = {}
    judged = list(verdicts)
    for digest in chosen:
        found[digest] = look(digest)
        sealed[digest] = Sealed(t=found[digest].metrics["holdout_t"], net_sharpe=dear(found[digest]))
        judged = final(verdicts, sealed)
        if next(one for one in judged if one.hash == digest).grade == "none":
            break
    return found, judged


def _chosen(trials: Sequence[Trial], found: MaxT, top_k: int) -> list[Trial]:
    """The best by merit, and those that the search-wide test lets through; of what moves together the better one."""
    chosen = leaders(trials, top_k, LIKENESS)
    if not chosen:
        raise DataError(
            f"none of {len(trials)} expressions ever held a position",
            "windlass alpha data PANEL shows what is missing; portfolio.adv_floor may be too high for these names.",
        )
    order = np.argsort(-np.nan_to_num(np.abs(found.t[: len(trials)])), kind="stable")
    significant = [trials[place] for place in order if found.p[place] < LEVEL]
    strong: list[Trial] = []
    for one in significant:
        if len(strong) == top_k:
            break
        if all(abs(likeness(one.base, other.base)) < LIKENESS for other in strong):
            strong.append(one)
    digests = {one.candidate.digest for one in chosen}
    return placed([*chosen, *(one for one in strong if one.candidate.digest not in digests)])


def _ratios(bases: Floats) -> Floats:
    """Daily Sharpe ratio of every column, NaN where it does not move."""
    deviation = bases.std(axis=0, ddof=1)
    ratios: Floats = np.full(len(deviation), np.nan)
    np.divide(bases.mean(axis=0), deviation, out=ratios, where=deviation > 0)
    return ratios


def dear(found: Evaluation) -> float:
    """The Sharpe ratio of a year at ``COSTS`` times the costs."""
    assert found.daily is not None
    return sharpe(found.daily.net_at(COSTS))


def _timing(campaign: Campaign, found: Evaluation) -> float:
    """HAC t of the returns beyond those of a basket that always holds the mean weights: a static tilt, of whatever
    names drifted up in these years, earns none of them."""
    assert found.weights is not None
    earned = campaign.market.earned[found.rows]
    basket = earned @ found.weights.mean(axis=0, dtype=np.float64)
    return found.sign * hac_t(found.base - basket)


def _proved(campaign: Campaign, one: Trial) -> bool:
    """The truncation proof, on the development days."""
    panel = campaign.market.panel
    cuts = [int(share * len(panel.dates)) for share in CUTS]
    return truncation_differences(one.candidate.node, panel, cuts, campaign.engine.backend) == 0


def _alike(chosen: Sequence[Trial], kept: Mapping[str, Floats]) -> dict[str, float]:
    others = dict(kept)
    found: dict[str, float] = {}
    for one in chosen:
        series = one.base.astype(np.float64)
        found[one.candidate.digest] = verdict.likeness(series, others)[0]
        others[one.candidate.digest] = series
    return found


def _words(
    campaign: Campaign,
    found: MaxT,
    best: Trial,
    verdicts: Sequence[Verdict],
    passed: Sequence[Verdict],
    trials: int,
) -> str:
    counted = tried(trials)
    if campaign.config.workload.mode != "p2":
        strongest = (
            f"the largest |t| of {counted} is {found.observed_max:.2f}, where luck alone reaches {found.critical:.2f}"
        )
        return f"Mode {campaign.config.workload.mode} promotes nothing; {strongest}."
    if passed:
        names = "; ".join(one.expression for one in passed)
        return f"{len(passed)} provisional after {counted}, to be judged on the sealed holdout: {names}."
    told = next(one for one in verdicts if one.hash == best.candidate.digest)
    failed = ", ".join(name.replace("_", "-") for name in told.failed)
    p = next(clause.value for clause in told.clauses if clause.name == "max_t")
    return (
        f"Nothing is promoted after {counted}. The best by net Sharpe ratio on the walk's test days,"
        f" {best.metrics['net_ir']:.2f}, has |t| {abs(told.t):.2f} before costs on all development days, which luck"
        f" reaches with p {p:.3f} (failed: {failed}). The largest |t| of all is {found.observed_max:.2f}; luck alone"
        f" goes beyond {found.critical:.2f} once in twenty."
    )
