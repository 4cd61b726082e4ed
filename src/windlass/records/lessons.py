"""What the historian learned from a study's history; data for director, proposers, critics and the report.

Scores are ``Study.score``: sums of gains in units of scale, more is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from windlass.records.ranking import Standing
from windlass.records.region import Constraint, Region
from windlass.records.run import FailureKind, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A study's results, summed up."""

    settled: int  #: terminal runs, cancelled ones left out
    active: int  #: runs not terminal yet
    completed: int
    failures: Mapping[FailureKind, int]
    standings: tuple[Standing, ...]  #: configs with a result that counts, best first
    best_score: float | None  #: of the best config, as it is ranked
    since_improvement: int  #: settled runs after the last one that improved the best by the wanted margin
    recent_failure_share: float  #: 0 to 1, of the last ``RECENT`` settled runs

    @property
    def ranked(self) -> tuple[RunRecord, ...]:
        """The first run of each config that counts, best config first."""
        return tuple(standing.run for standing in self.standings)

    @property
    def best(self) -> RunRecord | None:
        return self.standings[0].run if self.standings else None

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedConstraint:
    """A region in which runs fail, with the runs that say so."""

    constraint: Constraint  #: ``forbid``, over one parameter or two
    kinds: Mapping[str, int]  #: failure kind -> runs inside that failed so
    failed: tuple[str, ...]  #: ids of the failed runs inside
    survived: tuple[str, ...]  #: ids of the completed runs inside
    purity: float  #: share of the runs inside that failed
    bound: float  #: lower end of the 95 % Wilson interval of that share
    base_rate: float  #: share of the runs outside that failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A constraint that was learned once and does not hold any more."""

    constraint: Constraint
    reason: str  #: with the runs that contradict it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A value, an interval, or a pair of them that goes with better or worse scores than the rest."""

    region: Region
    effect: float  #: mean score inside less outside, in score units, the other patterns aside
    low: float  #: 90 % interval of the effect
    high: float
    runs: tuple[str, ...]  #: ids of the runs inside, best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How the scores of recent runs move."""

    slope: float  #: score units a run
    low: float  #: 90 % interval
    high: float
    runs: int  #: how many it was taken from


@dataclass(frozen=True, slots=True, kw_only=True)
class Stagnation:
    """Whether the search still gets anywhere, against the noise."""

    stagnant: bool
    since_improvement: int  #: settled runs since the last improvement that is more than noise
    noise_sd: float | None  #: of the score between repeats of one config; None: unknown
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """How good an agent turned out to be. ``value`` is a posterior mean, so few cases say little."""

    agent: str
    cases: int  #: settled runs that it proposed, or settled runs it voted on
    good: float  #: proposer: sum of rewards in 0..1; critic: votes that turned out right
    value: float  #: 0 to 1
    sd: float  #: spread of the posterior of ``value``
    facts: Mapping[str, float] = field(default_factory=dict)  #: counts behind it: proposed, rejected, failed, improved


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Everything learned, once a cycle."""

    progress: Progress
    constraints: tuple[LearnedConstraint, ...] = ()
    expired: tuple[Expired, ...] = ()
    patterns: tuple[Pattern, ...] = ()  #: strongest first
    trend: Trend | None = None
    stagnation: Stagnation
    proposers: Mapping[str, Credit] = field(default_factory=dict)
    critics: Mapping[str, Credit] = field(default_factory=dict)
    set_aside: Mapping[str, str] = field(default_factory=dict)  #: run id -> why it could not be learned from
    notes: tuple[str, ...] = ()  #: for people: what was odd, such as constraints that leave nothing
