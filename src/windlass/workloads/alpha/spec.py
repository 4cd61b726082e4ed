"""The shape of what a campaign is told: options of data and judgement, and the parameters that a study may tune."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.records.options import Strict, read
from windlass.records.options import parameter_names as names_in

Mode = Literal["p0", "p1", "p2"]
Control = Literal["sector", "beta", "volatility", "liquidity", "statistical"]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
BasisPoints = Annotated[float, Field(ge=0, le=1000)]


class Synthetic(Strict):
    """The panel that is made where no file is given."""

    names: int = Field(default=200, ge=20, le=2000)
    days: int = Field(default=1259, ge=400, le=5000)
    ic: float = Field(default=0.0, ge=0, le=0.1, description="mean daily information coefficient of the planted signal")
    seed: int = Field(default=0, ge=0, lt=2**32)


class Suggestion(Strict):
    """An expression that a person or a language model adds to the search."""

    expression: str = Field(max_length=10_000)
    by: str = Field(default="user", max_length=200, description="user, or the model that wrote it")
    at: str = Field(default="", max_length=40, description="when, as an ISO date")
    knows_until: date | None = Field(default=None, description="the model's knowledge cut-off, as an ISO date")


class WalkForward(Strict):
    """Rows of the expanding train/valid/test walk over the development days."""

    train: int = Field(default=252, ge=60)
    valid: int = Field(default=63, ge=10)
    test: int = Field(default=63, ge=10)
    embargo: int = Field(default=21, ge=0, le=252)
    warmup: int = Field(default=100, ge=0, le=252, description="first rows, where most signals are still unknown")


class Options(Strict):
    """``trainer.options`` of a study; in a config they are the group ``workload``."""

    idea: str = Field(default="", max_length=2000, description="for example: Momentum + liquidity")
    data: str | None = Field(default=None, description="panel, .csv, .tsv or .parquet; default: a synthetic one")
    sectors: str | None = Field(default=None, description="file with columns instrument, sector[, industry]")
    membership: str | None = Field(default=None, description="file of dated snapshots: instrument, asof")
    borrow: str | None = Field(default=None, description="file with columns instrument, rate[, date]")
    columns: tuple[str, ...] = Field(
        default=(), description="further columns of the panel that expressions may use: known at the close, no labels"
    )
    synthetic: Synthetic = Synthetic()
    mode: Mode = "p2"
    candidates: int = Field(default=200, ge=1, le=20_000, description="expressions that are evaluated")
    top_k: int = Field(default=5, ge=1, le=50)
    holdout: float = Field(default=0.3, ge=0.1, le=0.6, description="share of the last days, sealed")
    walk: WalkForward = WalkForward()
    fill: Literal["next_open", "next_close"] = "next_open"
    aum: float = Field(default=10e6, gt=0, description="assets under management, in the panel's currency")
    engine: Literal["auto", "numba", "numpy"] = "auto"
    expressions: tuple[Suggestion, ...] = Field(default=(), max_length=1000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.data is None and (named := [n for n in ("sectors", "membership", "borrow") if getattr(self, n)]):
            raise ValueError(f"'{named[0]}' goes with 'data'; the synthetic panel has its own")
        return self


class Search(Strict):
    generation: int = Field(default=50, ge=1, le=1000)  #: candidates between two looks at what is best
    variation: Share = 0.5  #: of a later generation: mutated, crossed, jittered; the rest is new
    novelty: float = Field(default=0.5, ge=0, le=10)  #: penalty on likeness to better ones, in units of Sharpe
    complexity: float = Field(default=0.01, ge=0, le=1)  #: penalty on each node, in units of Sharpe


class Portfolio(Strict):
    holding: int = Field(default=5, ge=1, le=63)  #: days; each day's book is the mean of so many days' targets
    #: rank: centred ranks; risk: each divided by its name's volatility (p2; else rank); quantile: both ends alike
    weighting: Literal["rank", "risk", "quantile"] = "risk"
    quantile: float = Field(default=0.1, gt=0, le=0.5)  #: on each side, where weighting is quantile
    neutralize: tuple[Control, ...] = ("sector", "beta", "statistical")  #: p2; the last: twenty factors of past returns
    volatility_target: float | None = Field(default=None, gt=0, le=1)  #: p2; of a year
    leverage: float = Field(default=2.0, ge=1, le=10)  #: most that the volatility target may scale by
    turnover_cap: float | None = Field(default=None, gt=0, le=2)  #: p2; of a day, one-way, as a share of the book
    adv_floor: float = Field(default=1e6, ge=0)  #: p2; least traded value of a day
    optimizer: Literal["off", "ridge", "convex"] = "convex"  #: p2; a constrained portfolio of the top K


class Costs(Strict):
    """Of a trade in basis points of its value. p1 charges ``linear`` alone."""

    linear_bps: BasisPoints = 1.0
    half_spread_bps: BasisPoints = 2.5
    impact_bps: BasisPoints = 10.0  #: at a participation of 1
    impact_exponent: float = Field(default=0.5, gt=0, le=2)
    borrow_rate: float = Field(default=0.003, ge=0, le=1)  #: of a year, on the short side, where the panel has none
    no_short_above: float = Field(
        default=0.2, gt=0
    )  #: borrow rate of a year above which a name is left out of both sides


class Config(Strict):
    """A run's config."""

    workload: Options = Options()
    search: Search = Search()
    portfolio: Portfolio = Portfolio()
    costs: Costs = Costs()

    @property
    def settings(self) -> Config:
        """The campaign's part of a config that has more."""
        return Config(workload=self.workload, search=self.search, portfolio=self.portfolio, costs=self.costs)


class Opening(Config):
    """The config of a run that opens the holdout of a campaign."""

    campaign: str  #: run id
    top: Count = 5  #: of the provisional ones, in the order of their dev t; the best alone where there is none


class Selftest(Config):
    """The config of a run that measures the gate's error rates."""

    nulls: Count = 200  #: campaigns of each of two kinds of null panels
    planted: int = Field(default=50, ge=0)  #: campaigns at each level
    levels: tuple[float, ...] = (0.010, 0.015)  #: mean daily information coefficients
    processes: int = Field(default=1, ge=1, le=64)


def read_config(config: Mapping[str, Any]) -> Config:
    """Raises StudyError that names the parameter."""
    return read(Config, config, "config")


def read_options(options: Mapping[str, Any]) -> Options:
    """Raises StudyError that names the option."""
    return read(Options, options, "trainer.options")


def parameter_names() -> tuple[str, ...]:
    """All flat names that a campaign reads, the options apart."""
    return names_in(Config)
