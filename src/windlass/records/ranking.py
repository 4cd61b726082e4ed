"""Which runs count as results of a study, and the order of their configs: one rule for deciders and reports.

Runs of one config with different seeds stand together. A config counts with its mean score less one standard error,
so that one lucky run does not outrank a config that proved itself: with n runs, mean - s / sqrt(n), where s is the
spread between repeats, pooled over all repeated configs (0 as long as nothing was repeated).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from windlass.records.content import digest
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study

SIGMAS = 2.0  #: a gain on the baseline of no more than this many standard deviations is noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One config's place in the ranking."""

    run: RunRecord  #: its first run
    runs: tuple[RunRecord, ...]  #: all its runs that count, by number
    mean: float  #: of ``Study.score``
    error: float  #: standard error of the mean; 0 while there is no estimate of the noise

    @property
    def score(self) -> float:
        """What it is ranked by."""
        return self.mean - self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """What runs of the baseline, alike but for their seed, differ by: a gain within ``SIGMAS`` of it is no win."""

    runs: tuple[RunRecord, ...]  #: of the baseline, by number
    mean: float  #: of ``Study.score``
    sd: float  #: sample standard deviation

    def sigmas(self, score: float) -> float:
        """How far a score lies above the baseline's mean, in standard deviations; infinite where there is no noise."""
        gain = score - self.mean
        return gain / self.sd if self.sd > 0 else math.copysign(math.inf, gain) if gain else 0.0

    def won(self, standing: Standing) -> bool:
        """Whether a config's mean is a win over the baseline, and not its noise."""
        return self.sigmas(standing.mean) > SIGMAS


def noise_floor(study: Study, runs: Iterable[RunRecord]) -> NoiseFloor | None:
    """Of a study that runs its baseline more than once; None before two of its runs have a score."""
    ordered = sorted(runs, key=lambda run: (run.number or 0, run.id))
    if study.baseline_runs < 2 or not ordered:
        return None
    key = _config_of(ordered[0])
    scored = [(counted_score(study, run), run) for run in ordered if _config_of(run) == key]
    counted = [(score, run) for score, run in scored if score is not None][: study.baseline_runs]
    if len(counted) < 2:
        return None
    mean = math.fsum(score for score, _ in counted) / len(counted)
    variance = math.fsum((score - mean) ** 2 for score, _ in counted) / (len(counted) - 1)
    return NoiseFloor(runs=tuple(run for _, run in counted), mean=mean, sd=math.sqrt(variance))


def counted_score(study: Study, run: RunRecord) -> float | None:
    """``Study.score`` of a completed run that keeps the guards; None for every other run."""
    if run.status is not Status.COMPLETED or study.broken_guards(run.values):
        return None
    return study.score(run.values)


def repeat_noise(study: Study, runs: Iterable[RunRecord]) -> float | None:
    """Pooled standard deviation of the score between runs of one config; None while no config has two results."""
    return _pooled(_grouped(study, runs).values())


def standings(study: Study, runs: Iterable[RunRecord]) -> list[Standing]:
    """Configs with a result that counts, best first; ties by the number and id of their first run."""
    groups = _grouped(study, runs)
    noise = _pooled(groups.values()) or 0.0
    placed = []
    for group in groups.values():
        ordered = sorted(group, key=lambda one: (one[1].number or 0, one[1].id))
        mean = math.fsum(score for score, _ in group) / len(group)
        members = tuple(run for _, run in ordered)
        placed.append(Standing(run=members[0], runs=members, mean=mean, error=noise / math.sqrt(len(group))))
    return sorted(placed, key=lambda one: (-one.score, one.run.number or 0, one.run.id))


def ranked(study: Study, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The first run of each config that counts, best config first."""
    return [standing.run for standing in standings(study, runs)]


def _grouped(study: Study, runs: Iterable[RunRecord]) -> dict[str, list[tuple[float, RunRecord]]]:
    groups: dict[str, list[tuple[float, RunRecord]]] = {}
    for run in runs:
        if (score := counted_score(study, run)) is not None:
            groups.setdefault(_config_of(run), []).append((score, run))
    return groups


def _config_of(run: RunRecord) -> str:
    return run.fingerprints.get("config") or digest(run.config)


def _pooled(groups: Iterable[list[tuple[float, RunRecord]]]) -> float | None:
    squares, freedom = 0.0, 0
    for group in groups:
        mean = math.fsum(score for score, _ in group) / len(group)
        squares += math.fsum((score - mean) ** 2 for score, _ in group)
        freedom += len(group) - 1
    return math.sqrt(squares / freedom) if freedom else None
