"""One campaign's search: generations of expressions, each evaluated on development rows alone.

The job drives it with a ledger and a state on disk, the selftest without either; nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windlass.errors import WindlassError
from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.evaluation.backtest import evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.timeline import Timeline
from windlass.workloads.alpha.gate.placebo import curve, spectrum
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import Node
from windlass.workloads.alpha.panel import Floats, Panel
from windlass.workloads.alpha.search.search import Candidate, Scored, Search, fitness, require
from windlass.workloads.alpha.spec import Config

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A candidate that was evaluated; both signs of it were tried."""

    candidate: Candidate
    sign: int  #: of the mean base return on the development rows
    metrics: Mapping[str, float]
    base: Float32s  #: (D,) gross daily return of the base book on the scored rows, sign not applied
    curve: Float32s  #: (S,) mean daily return of the same book at every other start

    @property
    def merit(self) -> float:
        """What orders trials: the net information ratio of the walk; in p0, the size of the ICIR."""
        ratio = self.metrics.get("net_ir")
        return abs(self.metrics["icir"]) if ratio is None else ratio


class Campaign:
    """A search on one panel. ``panel`` may have more rows than the campaign may see: they are cut off here.

    ``market`` and ``engine`` are made where they are not given; one engine serves campaigns on the same prices whose
    markets have other returns.
    """

    def __init__(
        self,
        panel: Panel,
        timeline: Timeline,
        config: Config,
        seed: int,
        *,
        market: Market | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.config, self.timeline = config, timeline
        self._seen = seen = panel.head(timeline.dev.stop)
        self.market = Market.of(seen, config) if market is None else market.head(timeline.dev.stop)
        self.engine = Engine(seen, config.workload.engine) if engine is None else engine
        self.left_out: list[str] = []  #: expressions of a language model that cannot be used here, with the reason
        self._search = Search(
            config.workload.idea,
            config.search,
            seed,
            candidates=config.workload.candidates,
            groups=panel.groups,
            fields=panel.fields,
            given=list(self._given(panel)),
        )
        self._earned = spectrum(self.market.earned[timeline.scored])

    def _given(self, panel: Panel) -> Iterator[Candidate]:
        """Raises ExpressionError and DataError for a person's expression; a model's is left out."""
        for one in self.config.workload.expressions:
            try:
                candidate = Candidate.of(self.read(one.expression), "user" if one.by == "user" else "language_model")
                require(candidate, panel.fields, panel.groups)
            except WindlassError as error:
                if one.by == "user":
                    raise
                self.left_out.append(f"{one.by}: {one.expression} is left out: {error.message}")
            else:
                yield candidate

    @property
    def generations(self) -> int:
        return self._search.generations

    def like(self, config: Config) -> Campaign:
        """The same panel and days under another config: what another campaign's trials were evaluated with."""
        return Campaign(self._seen, self.timeline, config, 0, engine=self.engine)

    def read(self, text: str) -> Node:
        """An expression over the panel's columns. Raises ExpressionError."""
        return parse(text, fields=tuple(self._seen.fields))

    def propose(self, generation: int, past: Sequence[Trial]) -> list[Candidate]:
        """The candidates of a generation; the same for the same past."""
        return self._search.propose(generation, self.scored(past))

    def scored(self, trials: Sequence[Trial]) -> list[Scored]:
        """With the fitness that each has among all of them."""
        if not trials:
            return []
        merits = np.array([one.merit for one in trials])
        values = fitness(
            [one.candidate for one in trials], merits, np.stack([one.base for one in trials]), self.config.search
        )
        return [Scored(one.candidate, float(value), one.base) for one, value in zip(trials, values, strict=True)]

    def evaluate(self, candidates: Sequence[Candidate]) -> Iterator[Trial]:
        """Each candidate's trial, in their order."""
        for candidate in candidates:
            yield self.trial(candidate)

    def trial(self, candidate: Candidate) -> Trial:
        found = evaluate(self.signal(candidate), self.market, self.timeline, self.config, keep_weights=True)
        assert found.weights is not None
        return Trial(
            candidate,
            found.sign,
            found.metrics,
            found.base.astype(np.float32),
            curve(found.weights, self._earned).astype(np.float32),
        )

    def signal(self, candidate: Candidate) -> Floats:
        """(T, N) on the development rows."""
        return self.engine.signal(candidate.node)[: self.timeline.dev.stop]


def run_search(campaign: Campaign) -> list[Trial]:
    """All generations, one after the other."""
    trials: list[Trial] = []
    for generation in range(campaign.generations):
        trials += campaign.evaluate(campaign.propose(generation, trials))
    return trials


def placed(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; what never traded last. Ties stay in the order of their trial."""
    merits = np.array([one.merit for one in trials])
    order = np.argsort(np.where(np.isfinite(merits), -merits, np.inf), kind="stable")
    return [trials[place] for place in order]


def leaders(trials: Sequence[Trial], count: int, most: float) -> list[Trial]:
    """The best ``count`` of which no two move together: |correlation| of base returns below ``most``."""
    chosen: list[Trial] = []
    for one in placed(trials):
        if len(chosen) == count or not np.isfinite(one.merit):
            break
        if all(abs(likeness(one.base, other.base)) < most for other in chosen):
            chosen.append(one)
    return chosen


def likeness(one: Float32s, other: Float32s) -> float:
    """Pearson's r of two series; 0 where one of them does not move."""
    x, y = one - one.mean(dtype=np.float64), other - other.mean(dtype=np.float64)
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else 0.0
