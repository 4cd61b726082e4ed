"""What a campaign may claim: clauses with their values, and the first one that fails in words.

On development days a factor becomes *provisional*; the sealed holdout makes it grade B, or A where the time-shift
placebo agrees. Deflated Sharpe ratio, PBO and SPA are reported elsewhere and decide nothing.

The holdout is tested in a fixed sequence, the largest |t| of the development days first, up to the first factor that
fails: so a campaign's chance to promote anything without skill is that of one test (Maurer, Hothorn & Lehmacher 1995).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.gate.max_t import LEVEL

Floats = npt.NDArray[np.float64]
Grade = Literal["none", "provisional", "B", "A"]

HOLDOUT_T = 1.28  #: one-sided 10 % of a normal distribution: max_t and this together let through far fewer
HOLDOUT_T_A = 1.645  #: one-sided 5 %: for grade A
TIMING_T = 1.645  #: likewise
COMMON_DAYS = 60  #: that two series share, for a correlation to count
LIKENESS = 0.7  #: |correlation| of daily returns from which two factors are one
UNTESTED = "Not promoted: one with a larger t failed on the holdout, so this one is not tested."
COSTS = 2  #: times the costs of the config at which something has to be left


@dataclass(frozen=True, slots=True)
class Clause:
    name: str
    passed: bool | None  #: None: not looked at
    value: float | None
    limit: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one factor, on development days."""

    hash: str
    expression: str
    t: float  #: HAC t of ``returns``, with its sign
    maxt_p: float
    net_sharpe: float  #: a year's, out of sample in the walk-forward, at COSTS times the costs
    returns: Floats  #: (D,) gross daily returns of the base portfolio
    timing_t: float  #: HAC t, in its direction, of what it earns beyond the basket of its mean weights
    truncation: bool | None  #: whether the factor of a shortened panel is the shortened factor; None: not tried
    placebo_p: float


@dataclass(frozen=True, slots=True)
class Sealed:
    """Of one factor, on the holdout, in the direction that the development days chose."""

    t: float  #: HAC t of the gross daily returns
    net_sharpe: float  #: a year's, at COSTS times the costs


@dataclass(frozen=True, slots=True)
class Verdict:
    hash: str
    expression: str
    grade: Grade
    t: float  #: HAC t on development days
    clauses: tuple[Clause, ...]
    words: str

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the clauses that did not pass, the placebo's apart."""
        return tuple(c.name for c in self.clauses if c.passed is False and c.name != "placebo")

    def clause(self, name: str) -> Clause | None:
        return next((clause for clause in self.clauses if clause.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        number = math.nan if data["t"] is None else data["t"]
        return cls(**{**data, "t": number, "clauses": tuple(Clause(**clause) for clause in data["clauses"])})


def provisional(
    evidence: Sequence[Evidence], *, trials: int, kept: Mapping[str, Floats] | None = None
) -> list[Verdict]:
    """Verdicts of the development days, the largest |t| first.

    ``trials``: portfolios tried on this data, in earlier runs too; each counts bought and sold. ``kept``: what is
    promoted already, by name, (D,) returns on the same days, NaN where unknown; a factor that is kept already is like
    itself.
    """
    taken, verdicts = dict(kept or {}), []
    for item in sorted(evidence, key=_place):
        alike, like = likeness(item.returns, taken)
        clauses = (
            _max_t(item, trials),
            _net("net", item.net_sharpe, "on the walk's test days"),
            _timing(item.timing_t),
            _correlation(alike, like),
            _truncation(item.truncation),
            _placebo(item.placebo_p),
        )
        decisive = [clause for clause in clauses if clause.name != "placebo"]
        grade: Grade = "provisional" if all(clause.passed for clause in decisive) else "none"
        if grade == "provisional":
            taken[item.hash] = item.returns
        words = _provisional_words(decisive, trials)
        verdicts.append(Verdict(item.hash, item.expression, grade, item.t, clauses, words))
    return verdicts


def alike_by_now(item: Verdict, returns: Floats, kept: Mapping[str, Floats]) -> Verdict:
    """The verdict where something like it was promoted since: what is kept is looked at again before the holdout."""
    alike, like = likeness(returns, kept)
    clause = _correlation(alike, like)
    if clause.passed or item.grade != "provisional":
        return item
    clauses = tuple(clause if one.name == clause.name else one for one in item.clauses)
    return replace(item, grade="none", clauses=clauses, words=f"Not promoted: {clause.words}.")


def searched(item: Verdict, trials: int) -> Verdict:
    """The verdict where ``trials`` were made on days of the holdout, by campaigns that sealed fewer days."""
    words = f"{trials:,} trials of other campaigns saw days of this holdout" if trials else "no trial saw these days"
    clause = Clause("unseen", trials == 0, float(trials), 0.0, words)
    grade: Grade = "none" if trials and item.grade == "provisional" else item.grade
    told = f"Not promoted: {words}." if grade != item.grade else item.words
    return replace(item, grade=grade, clauses=(*item.clauses, clause), words=told)


def final(verdicts: Iterable[Verdict], sealed: Mapping[str, Sealed]) -> list[Verdict]:
    """Verdicts after the holdout was opened, the largest |t| of the development days first.

    ``sealed`` by hash; a verdict without an entry is unchanged, unless one before it failed. What is not provisional
    cannot become more: its holdout is shown and not counted. Once a provisional one fails, or is not opened, the later
    ones are not tested.
    """
    stopped, lost, done = False, False, []
    for verdict in sorted(verdicts, key=_place):
        opened = sealed.get(verdict.hash)
        if opened is None:
            stopped |= verdict.grade == "provisional"
            behind = lost and verdict.grade == "provisional"
            done.append(replace(verdict, grade="none", words=UNTESTED) if behind else verdict)
            continue
        clauses = (*verdict.clauses, _holdout_t(opened.t), _net("holdout_net", opened.net_sharpe, "on the holdout"))
        if verdict.grade != "provisional":
            shown = f"{verdict.words} Holdout, for information: t {opened.t:.2f}."
            done.append(replace(verdict, clauses=clauses, words=shown))
            continue
        if stopped:
            clauses = (*verdict.clauses, *(replace(clause, passed=None) for clause in clauses[-2:]))
            done.append(replace(verdict, grade="none", clauses=clauses, words=UNTESTED))
            continue
        failed = next((clause for clause in clauses[-2:] if not clause.passed), None)
        stopped = lost = failed is not None
        placebo = verdict.clause("placebo")
        best = placebo is not None and placebo.passed and opened.t > HOLDOUT_T_A
        grade: Grade = "none" if failed else "A" if best else "B"
        done.append(replace(verdict, grade=grade, clauses=clauses, words=_final_words(grade, failed, placebo)))
    return done


def likeness(returns: Floats, others: Mapping[str, Floats]) -> tuple[float, str]:
    """The largest |correlation| with one of ``others`` over the days that both know, and whose; (0, "") without any.

    Fewer than ``COMMON_DAYS`` such days say nothing.
    """
    most, whose = 0.0, ""
    for name, series in others.items():
        both = np.isfinite(returns) & np.isfinite(series)
        if both.sum() < COMMON_DAYS or np.ptp(returns[both]) == 0 or np.ptp(series[both]) == 0:
            continue
        value = abs(float(np.corrcoef(returns[both], series[both])[0, 1]))
        if value > most:
            most, whose = value, name
    return most, whose


def tried(trials: int) -> str:
    return f"{2 * trials:,} trials ({trials:,} portfolios, bought or sold)"


def _place(item: Evidence | Verdict) -> tuple[float, str]:
    return (-abs(item.t) if math.isfinite(item.t) else math.inf, item.hash)


def _max_t(item: Evidence, trials: int) -> Clause:
    words = f"|t| {abs(item.t):.2f}: the best of {tried(trials)} is as good by luck with p {item.maxt_p:.3f}"
    return Clause("max_t", bool(item.maxt_p < LEVEL), item.maxt_p, LEVEL, words)


def _net(name: str, sharpe: float, where: str) -> Clause:
    words = f"Sharpe ratio {sharpe:.2f} {where} at {COSTS} times the costs"
    return Clause(name, bool(sharpe > 0), sharpe, 0.0, words)


def _timing(t: float) -> Clause:
    words = f"HAC t {t:.2f} of what it earns beyond a basket of its mean weights"
    return Clause("timing", bool(t > TIMING_T), t, TIMING_T, words)


def _correlation(value: float, name: str) -> Clause:
    words = f"correlation {value:.2f} with {name}" if name else "nothing kept to be like"
    return Clause("correlation", value < LIKENESS, value, LIKENESS, words)


def _truncation(passed: bool | None) -> Clause:
    words = {
        True: "the factor of a shortened panel is the shortened factor, bit for bit",
        False: "the factor changes when later days are cut off: it looks ahead",
        None: "not tried whether it looks ahead",
    }
    return Clause("truncation", passed, None, None, words[passed])


def _placebo(p: float) -> Clause:
    known = math.isfinite(p)
    words = f"as good at another time with p {p:.3f}" if known else "no placebo"
    return Clause("placebo", bool(p < LEVEL) if known else None, p if known else None, LEVEL, words)


def _holdout_t(t: float) -> Clause:
    return Clause("holdout_t", bool(t > HOLDOUT_T), t, HOLDOUT_T, f"HAC t {t:.2f} on the holdout")


def _provisional_words(decisive: Sequence[Clause], trials: int) -> str:
    failed = next((clause for clause in decisive if not clause.passed), None)
    if failed is None:
        return f"Provisional after {tried(trials)}: the holdout decides."
    if failed.name == "max_t":
        return f"Not promoted: {failed.words}; {LEVEL} is asked for."
    return f"Not promoted after {tried(trials)}: {failed.words}."


def _final_words(grade: Grade, failed: Clause | None, placebo: Clause | None) -> str:
    if failed is not None:
        asked = f"; {failed.limit} is asked for" if failed.name == "holdout_t" else ""
        return f"Not promoted: {failed.words}{asked}."
    if grade == "A":
        return "Promoted, grade A: it holds on the sealed days, and the time-shift placebo agrees."
    if placebo is not None and placebo.passed:
        return f"Promoted, grade B: it holds on the sealed days; grade A asks for t {HOLDOUT_T_A} there."
    reason = placebo.words if placebo is not None else "no placebo"
    return f"Promoted, grade B: it holds on the sealed days; for grade A the placebo is missing ({reason})."
