"""The regression monitor: does the champion still serve as well as it did? A pure function of the outcome log.

    b           a block: a ``BLOCKS``-th of the policy's window
    2**i b      the sizes of what is looked at: the newest answers, against all that came before them in this tenure,
                or, while those are fewer than a window, against the predecessor's
    r           the number of the look at one size: they follow each other without overlap
    alpha       1 - confidence of the policy; look r at size i spends

        alpha * 2**-|i - c| / 3 / (r (r + 1))       with 2**c b one window

These sum to less than alpha, over all looks of a tenure without end. Small sizes find a breakdown within tens of
answers, that of the window a fall by ``drop``; larger ones keep the power that ever smaller levels take away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.records.gate import Monitor
from windlass.registry.outcomes import Tally
from windlass.registry.wilson import fisher, lower, newcombe

BLOCKS = 16
CENTRE = BLOCKS.bit_length() - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """The champion was found to serve worse than before."""

    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: JSON values


def regression(policy: Monitor, before: Tally, recent: Tally, *, level: float) -> Regression | None:
    """Whether the accepted share has fallen: shown at ``level``, while a fall by ``drop`` is not ruled out."""
    counts = (recent.accepted, recent.n, before.accepted, before.n)
    low, high = newcombe(*counts, level)
    if high >= 0 or low > -policy.drop or not lower(*counts, level):
        return None
    return Regression(
        reason=(
            f"{recent.accepted} of the newest {recent.n} answers accepted ({100 * recent.accepted_share:.3g} %), of"
            f" {before.n} before {100 * before.accepted_share:.3g} %: a fall by {-100 * high:.2g} to {-100 * low:.2g}"
            " points"
        ),
        evidence={
            "recent": recent.to_dict(),
            "before": before.to_dict(),
            "difference": {"low": low, "high": high, "limit": -policy.drop},
            "p_value": float(fisher(*counts)),
            "level": level,
        },
    )


class Watch:
    """Folds the champion's answers since its tenure began; each answer once, in the log's order.

    It keeps one tally a size. The first regression ends it: after a rollback, or a word that the alarm was false, a new
    one begins from there.
    """

    def __init__(self, policy: Monitor, champion: str, predecessor: Tally | None = None) -> None:
        self.found: Regression | None = None
        self.answers = 0
        self._policy = policy
        self._who = (champion, Role.CHAMPION)
        self._predecessor = predecessor or Tally()
        self._block = -(-policy.window // BLOCKS)
        self._counts = Counter[ServedOutcome]()
        self._total = Tally()  # of whole blocks
        self._sizes: list[Tally | None] = []  # the half of a block of twice the size, as the bits of a counter
        self._looks = Counter[int]()

    def add(self, served: Served) -> None:
        """Answers of others are passed over."""
        if (served.checkpoint, served.role) != self._who or self.found:
            return
        self._counts[served.outcome] += 1
        self.answers += 1
        if self.answers % self._block == 0:
            self.add_block(Tally.of(self._counts))
            self._counts.clear()

    def add_block(self, recent: Tally) -> None:
        """The next b answers at once."""
        self._total += recent
        for size in range(len(self._sizes) + 1):
            self._look(size, recent)
            if size == len(self._sizes):
                self._sizes.append(None)
            half = self._sizes[size]
            if half is None:
                self._sizes[size] = recent
                return
            self._sizes[size] = None
            recent = half + recent

    def _look(self, size: int, recent: Tally) -> None:
        before = self._total - recent
        if before.n < self._policy.window:
            before = self._predecessor
        if before.n < self._policy.window or self.found:
            return
        self._looks[size] += 1
        look = self._looks[size]
        level = (1 - self._policy.confidence) * 2.0 ** -abs(size - CENTRE) / 3 / (look * (look + 1))
        self.found = regression(self._policy, before, recent, level=level)
