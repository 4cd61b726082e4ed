"""Which rows a campaign may look at, which it learns from, which it is judged on, and which stay sealed.

All bounds are row numbers of the panel. A row's label, the return that a signal of that row earns, ends ``LABEL`` rows
later. Between two parts of which one must not know the other lie ``gap`` rows: a purge of LABEL + holding rows, so that
no position and no label spans both, and an embargo after it (Lopez de Prado 2018, chapter 7). Before the holdout the
purge is for a holding of ``SEALED_HOLDING`` rows at least, so that campaigns that tune their holding see the same days.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from windlass.errors import DataError
from windlass.workloads.alpha.spec import WalkForward

LABEL = 2  #: rows from a signal to the end of the return it earns: filled one row later, valued one row after that
SEALED_HOLDING = 21  #: rows
LEAST_HOLDOUT = 20  #: rows; fewer say nothing


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of the walk: the sign is chosen on ``train``; only ``test`` is out of sample."""

    train: slice
    valid: slice
    test: slice


@dataclass(frozen=True, slots=True)
class Timeline:
    dev: slice  #: from row 0: all that a campaign may see; the panel's prices from ``dev.stop`` on are not for it
    gap: int  #: rows between train and valid, valid and test; at least so many between dev and holdout
    holdout: slice  #: to the panel's last row
    segments: tuple[Segment, ...]  #: their tests follow each other without a gap, to the end of ``scored``
    scored: slice  #: dev rows after the warm-up whose label ends inside dev: the rows of every trial's series
    sealed: slice  #: holdout rows whose label ends inside the panel

    @property
    def walked(self) -> slice:
        """The test rows of all segments: one continuous path."""
        return slice(self.segments[0].test.start, self.segments[-1].test.stop)


def timeline(days: int, holdout_share: float, walk: WalkForward, holding: int) -> Timeline:
    """Of a panel with ``days`` rows whose positions are held for ``holding`` rows.

    The holdout is the last ``holdout_share`` of the rows, rounded up. Train grows from the end of the warm-up; valid
    and test move on by ``walk.test`` rows; the last test takes in the rows that are left, fewer than ``walk.test``.

    Raises DataError where not even one segment fits.
    """
    gap = LABEL + holding + walk.embargo
    first_test = walk.warmup + walk.train + gap + walk.valid + gap
    sealed = math.ceil(holdout_share * days)
    before_holdout = LABEL + max(holding, SEALED_HOLDING) + walk.embargo
    dev_stop = days - sealed - before_holdout
    last = dev_stop - LABEL
    if last - first_test < walk.test or sealed - LABEL < LEAST_HOLDOUT:
        raise DataError(*_too_short(days, holdout_share, first_test + walk.test + LABEL + before_holdout, walk, gap))
    starts = range(first_test, last - walk.test + 1, walk.test)
    segments = []
    for start in starts:
        valid = slice(start - gap - walk.valid, start - gap)
        stop = last if start == starts[-1] else start + walk.test
        segments.append(Segment(slice(walk.warmup, valid.start - gap), valid, slice(start, stop)))
    return Timeline(
        dev=slice(0, dev_stop),
        gap=gap,
        holdout=slice(days - sealed, days),
        segments=tuple(segments),
        scored=slice(walk.warmup, last),
        sealed=slice(days - sealed, days - LABEL),
    )


def _too_short(days: int, share: float, visible: int, walk: WalkForward, gap: int) -> tuple[str, str]:
    needed = max(math.ceil(visible / (1 - share)), math.ceil((LEAST_HOLDOUT + LABEL) / share))
    while needed - math.ceil(share * needed) < visible:
        needed += 1
    message = (
        f"the panel has {days} days; a holdout of {share:.0%} and a walk of {walk.warmup} days of warm-up, {walk.train}"
        f" of train, {walk.valid} of valid and {walk.test} of test, with gaps of {gap}, needs {needed}"
    )
    spare = days - math.ceil(share * days) - visible
    if -spare < walk.train - 60 and days * share >= LEAST_HOLDOUT + LABEL:
        return message, f"Set walk.train to {walk.train + spare} or less in the options, or bring more days."
    return message, "Shorten walk.warmup, walk.train, walk.valid, walk.test or walk.embargo, or bring more days."
