"""How often a whole campaign promotes something that is nothing, and finds something that is there.

Every campaign here is a real one on the panel's own prices: search, evaluations, gate, and the opening of the holdout.
Only the returns that its portfolios earn are others:

* **null**: the days of the forward returns are permuted in blocks of ``BLOCK`` days. That cuts every link between
  signal and return, and leaves cross-correlation, fat tails, and clusters of volatility within a block. In
  ``null, tilts removed`` each name's mean return over the panel is taken off first: nothing can be earned but by luck.
  In ``null, tilts kept`` it stays, the same on all days. That is a hard one: it is in past prices too, so that what
  rose before goes on rising, and to hold the same names for ever earns something on the holdout as well.
* **planted**: a null with its tilts removed, and in it one slow factor, no fixed basket, of the campaign's own first
  generation that works: on each day k times that factor's base weights are added to the returns. k is what raises the
  mean daily correlation of these weights with the returns, the information coefficient of what is held, by the level.
  What chance adds to it or takes away, on the gate's days and on the holdout's, stays: a signal that is there looks
  better in one sample than in another.

So the costs that a factor pays, the names that it may hold and how fast it turns over are those of the real panel.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from typing import Any, Literal, Self

import numpy as np
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from windlass.errors import StudyError
from windlass.workloads.alpha.campaign import Campaign, Trial, likeness, run_search
from windlass.workloads.alpha.counting import Counted
from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.evaluation.backtest import Book, Evaluation, evaluate, made_book
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.measures import correlations, static_tilt_share
from windlass.workloads.alpha.evaluation.timeline import LABEL, Timeline, timeline
from windlass.workloads.alpha.gate.hac import hac_t
from windlass.workloads.alpha.gate.verdict import Verdict
from windlass.workloads.alpha.judging import Judgement, judge, through_holdout
from windlass.workloads.alpha.panel import Floats, Panel
from windlass.workloads.alpha.search.search import Candidate
from windlass.workloads.alpha.spec import Config

Kind = Literal["null, tilts kept", "null, tilts removed", "planted"]

BLOCK = 20  #: days
FIXED = 0.5  #: most of the planted book that a basket which never changes holds, too: its gains would be a drift
SLOW = 0.03  #: most of the book that a planted factor turns over in a day, one way
ALIKE = 0.5  #: |correlation| of daily returns from which a promoted factor is the planted one
STREAM = 0x5E1F  #: keeps these random numbers apart from those of others with the same seed
KINDS: tuple[Kind, ...] = ("null, tilts kept", "null, tilts removed", "planted")


@dataclass(frozen=True, slots=True, order=True)
class Case:
    kind: Kind
    level: float  #: information coefficient; 0 of a null
    number: int  #: from 0


@dataclass(frozen=True, slots=True)
class Planted:
    expression: str
    ic: float  #: mean daily correlation of its base weights with the returns, on both, chance included
    dev_t: float  #: HAC t of its base returns, in its own direction
    holdout_t: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one campaign."""

    case: Case
    trials: int
    best_t: float  #: the largest |t| of all trials
    passed: Mapping[str, bool]  #: by clause, of the factor with the largest |t| among those looked at
    provisional: int
    promoted: int
    grade_a: int
    found: bool  #: one that is promoted moves with the planted one
    planted: Planted | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        planted = Planted(**data["planted"]) if data["planted"] else None
        return cls(**{**data, "case": Case(**data["case"]), "planted": planted})


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of campaigns, with Wilson's 95 % interval (1927)."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        z, n, p = float(ndtri(0.975)), self.of, self.value
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})" if self.of else "-"


@dataclass(frozen=True, slots=True)
class Row:
    """Of all campaigns of a kind and level."""

    kind: Kind
    level: float
    campaigns: int
    clauses: Mapping[str, Rate]  #: of the factor with the largest |t|: how often each clause alone lets it through
    provisional: Rate  #: campaigns with anything provisional
    promoted: Rate  #: with anything promoted: false promotion in a null
    grade_a: Rate
    found: Rate  #: with a promoted factor that moves with the planted one


def measure(
    panel: Panel,
    config: Config,
    *,
    nulls: int = 200,
    planted: Mapping[float, int] | None = None,
    candidates: int | None = None,
    seed: int = 0,
    processes: int = 2,
    finished: Iterable[Outcome] = (),
    on_campaign: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Row]:
    """The table of error rates of the gate on ``panel`` with ``config``, whose mode is p2.

    ``nulls`` campaigns of each of the two kinds; ``planted``: level -> campaigns. ``candidates`` of each campaign, the
    config's where None. ``finished`` outcomes of an earlier call with the same panel, config and seed are not run
    again; each new one goes to ``on_campaign`` as it ends, in no order. The table depends on neither.

    Raises StudyError where the mode is not p2 or no campaign is asked for, DataError where the panel is too short.
    """
    if config.workload.mode != "p2":
        raise StudyError(f"mode {config.workload.mode} promotes nothing, so there is no rate to measure", "Use p2.")
    settings = _settings(config, candidates)
    wanted = cases(nulls, planted or {})
    if not wanted:
        raise StudyError("no campaign is asked for", "Ask for null or planted campaigns.")
    done = {one.case: one for one in finished}
    left = [case for case in wanted if case not in done]
    for outcome in _run(panel, settings, left, seed, processes):
        done[outcome.case] = outcome
        on_campaign(outcome)
    return table([done[case] for case in wanted])


def cases(nulls: int, planted: Mapping[float, int]) -> list[Case]:
    """All campaigns; the kinds take turns, so that a part of them is a fair sample of each."""
    found = [Case(kind, 0.0, number) for kind in KINDS[:2] for number in range(nulls)]
    found += [Case("planted", level, number) for level, count in planted.items() for number in range(count)]
    return sorted(found, key=lambda case: (case.number, KINDS.index(case.kind), case.level))


def table(outcomes: Sequence[Outcome]) -> list[Row]:
    """One row a kind and level, in the order of ``KINDS`` and of the levels."""
    groups = sorted({(KINDS.index(one.case.kind), one.case.level) for one in outcomes})
    rows = []
    for place, level in groups:
        those = [one for one in outcomes if (one.case.kind, one.case.level) == (KINDS[place], level)]
        names = list(dict.fromkeys(name for one in those for name in one.passed))
        rows.append(
            Row(
                KINDS[place],
                level,
                len(those),
                {name: Rate(sum(one.passed.get(name, False) for one in those), len(those)) for name in names},
                provisional=Rate(sum(one.provisional > 0 for one in those), len(those)),
                promoted=Rate(sum(one.promoted > 0 for one in those), len(those)),
                grade_a=Rate(sum(one.grade_a > 0 for one in those), len(those)),
                found=Rate(sum(one.found for one in those), len(those)),
            )
        )
    return rows


class Bench:
    """A panel made ready for many campaigns: prices, costs and signals are the same for all of them."""

    def __init__(self, panel: Panel, config: Config, seed: int) -> None:
        self.panel, self.config, self.seed = panel, config, seed
        self.market = Market.of(panel, config)
        self.engine = Engine(panel, config.workload.engine)
        walk, holding = config.workload.walk, config.portfolio.holding
        self.timeline: Timeline = timeline(len(panel.dates), config.workload.holdout, walk, holding)

    def run(self, case: Case) -> Outcome:
        """One campaign, from the search to the opened holdout."""
        random = np.random.default_rng(
            [self.seed, STREAM, KINDS.index(case.kind), round(case.level * 1e6), case.number]
        )
        run_seed = int(random.integers(2**32))
        forward = permuted(self.market.forward, random, tilts=case.kind == "null, tilts kept")
        plant = None
        if case.kind == "planted":
            plant = self._factor(run_seed, random)
            forward = self._planted(plant, forward, case.level)
        market = self.market.with_forward(forward)
        campaign = Campaign(self.panel, self.timeline, self.config, run_seed, market=market, engine=self.engine)
        trials = run_search(campaign)
        judgement = judge(campaign, trials, _counted(trials), run_seed, {})
        verdicts = self._opened(judgement, campaign, market)
        return self._outcome(case, trials, judgement, verdicts, plant, market)

    def _opened(self, judgement: Judgement, campaign: Campaign, market: Market) -> list[Verdict]:
        """The holdout of what is provisional, else of the one with the largest |t|."""
        chosen = [one for one in judgement.verdicts if one.grade == "provisional"] or judgement.verdicts[:1]
        by_hash = {one.candidate.digest: one for one in judgement.named.values()}

        def look(digest: str) -> Evaluation:
            signal = self.engine.signal(by_hash[digest].candidate.node)
            return evaluate(signal, market, self.timeline, self.config, rows="holdout", sign=by_hash[digest].sign)

        return through_holdout(judgement.verdicts, [one.hash for one in chosen], look)[1]

    def _outcome(
        self,
        case: Case,
        trials: Sequence[Trial],
        judgement: Judgement,
        verdicts: Sequence[Verdict],
        plant: Candidate | None,
        market: Market,
    ) -> Outcome:
        promoted = [one for one in verdicts if one.grade in ("A", "B")]
        bases = {one.candidate.digest: one.base for one in trials}
        planted = None if plant is None else self._fate(plant, market)
        return Outcome(
            case=case,
            trials=len(trials),
            best_t=judgement.max_t.observed_max,
            passed={clause.name: bool(clause.passed) for clause in verdicts[0].clauses} if verdicts else {},
            provisional=sum(one.grade == "provisional" for one in judgement.verdicts),
            promoted=len(promoted),
            grade_a=sum(one.grade == "A" for one in promoted),
            found=plant is not None
            and any(abs(likeness(bases[one.hash], bases[plant.digest])) >= ALIKE for one in promoted),
            planted=planted,
        )

    def _factor(self, run_seed: int, random: np.random.Generator) -> Candidate:
        """A slow one of the first generation that the campaign will propose, and no fixed basket, drawn at random."""
        first = Campaign(
            self.panel, self.timeline, self.config, run_seed, market=self.market, engine=self.engine
        ).propose(0, [])
        for place in random.permutation(len(first)):
            one: Candidate = first[place]
            held = self._book(one, self.market).held[self.timeline.scored]
            turnover = np.abs(np.diff(held, axis=0)).sum(axis=1).mean() / 2
            if 0 < turnover <= SLOW and static_tilt_share(held) <= FIXED:
                return one
        raise StudyError(
            f"none of the {len(first)} first factors of a campaign turns over {SLOW:.0%} of its book a day or less"
            " and is no fixed basket",
            "Ask for more candidates, or for an idea with slower factors.",
        )

    def _planted(self, plant: Candidate, forward: Floats, level: float) -> Floats:
        """``forward`` with the factor in it; by secants, as the coefficient is almost linear in k."""
        weights = self._book(plant, self.market).held
        before = self._ic(weights, self.market.with_forward(forward))
        k = 1.0
        for _ in range(3):
            planted: Floats = forward + k * weights
            k *= level / (self._ic(weights, self.market.with_forward(planted)) - before)
        return forward + k * weights

    def _fate(self, plant: Candidate, market: Market) -> Planted:
        book = self._book(plant, market)
        dev, sealed = (hac_t(book.base[rows]) for rows in (self.timeline.scored, self.timeline.sealed))
        return Planted(plant.text, self._ic(book.held, market), dev, sealed)

    def _ic(self, weights: Floats, market: Market) -> float:
        """Mean daily correlation of weights with the return that follows, over the names that are held."""
        parts = []
        for rows in (self.timeline.scored, self.timeline.sealed):
            held, forward = weights[rows], market.forward[rows]
            parts.append(correlations(held, forward, (held != 0) & np.isfinite(forward)))
        return float(np.nanmean(np.concatenate(parts)))

    def _book(self, candidate: Candidate, market: Market) -> Book:
        return made_book(self.engine.signal(candidate.node), market, market.config)


def permuted(forward: Floats, random: np.random.Generator, *, tilts: bool) -> Floats:
    """Forward returns (T, N) with their days in another order, ``BLOCK`` neighbours at a time.

    The last LABEL rows, which have none, stay. Without ``tilts`` each name's mean is taken off first.
    """
    known = forward[:-LABEL]
    if not tilts:
        count = np.isfinite(known).sum(axis=0)
        mean = np.divide(np.nansum(known, axis=0), count, out=np.zeros(known.shape[1]), where=count > 0)
        known = known - mean
    blocks = [np.arange(start, min(start + BLOCK, len(known))) for start in range(0, len(known), BLOCK)]
    order = np.concatenate([blocks[place] for place in random.permutation(len(blocks))])
    return np.concatenate([known[order], forward[-LABEL:]])


def _settings(config: Config, candidates: int | None) -> Config:
    """Without what changes no verdict."""
    options = config.workload.model_copy(update={} if candidates is None else {"candidates": candidates})
    portfolio = config.portfolio.model_copy(update={"optimizer": "off"})
    return config.model_copy(update={"workload": options, "portfolio": portfolio})


def _counted(trials: Sequence[Trial]) -> Counted:
    bases = np.stack([one.base for one in trials], axis=1)
    return Counted(len(trials), 0, 0, 0, bases, np.stack([one.curve for one in trials]))


_bench: Bench | None = None  #: of a worker process


def _start(panel: Panel, config: Config, seed: int) -> None:
    global _bench
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1)
    _bench = Bench(panel, config, seed)


def _end_with_parent() -> None:
    """A worker whose parent was killed would finish its campaign, and wait for ever for the next one."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(case: Case) -> Outcome:
    assert _bench is not None
    return _bench.run(case)


def _run(panel: Panel, config: Config, left: Sequence[Case], seed: int, processes: int) -> Iterator[Outcome]:
    if not left:
        return
    if processes == 1:
        with threadpool_limits(1):
            bench = Bench(panel, config, seed)
            yield from map(bench.run, left)
        return
    workers = min(processes, len(left))
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(panel, config, seed)) as pool:
        running = [pool.submit(_work, case) for case in left]
        try:
            for one in as_completed(running):
                yield one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
