"""Splits by content: a row's side follows from what it says, whatever else is in the file.

Rows that are added move none of the others, and equal content is always on one side. A content's place is a number in
0..1, the first 8 bytes of the SHA-256 of its UTF-8 text as a fraction; the parts of a split are intervals of it. Of n
different contents a part gets share * n, give or take sqrt(n * share * (1 - share)).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from windlass.errors import DataError

_WHOLE = 2**64
_CLOSE = Fraction(1, 10**9)  #: how far the sum of shares may be from 1: 0.1 and 0.2 are no decimals in binary


def held_out(contents: Sequence[str], share: float, *, within: str = "") -> list[bool]:
    """(n,) whether each content is held out. ``share`` is in 0..1.

    What is held out at a share stays so at any larger one. A split of what a split left needs a name, ``within``: by
    the same places there would be nothing to hold out. Raises DataError on a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise DataError(f"the share to hold out is {share!r}; it is in 0..1")
    limit = share * _WHOLE  # exact: a power of two
    return [_position(content, within) < limit for content in contents]


def split(contents: Sequence[str], shares: Mapping[str, float], *, within: str = "") -> list[str]:
    """(n,) the part that each content belongs to.

    ``shares`` of the parts add up to 1. Parts are laid out by name, so that their order does not matter;
    ``{"heldout": share, "train": 1 - share}`` holds out what :func:`held_out` does. For ``within`` see there.

    Raises DataError where there is no part, a share is not in 0..1, or they do not add up to 1.
    """
    if not shares:
        raise DataError("a split needs at least one part", "For example: train=0.8,validation=0.1,heldout=0.1")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise DataError(f"the share of {name!r} is {share!r}; it is in 0..1")
    total = sum((Fraction(share) for share in shares.values()), Fraction(0))
    if abs(total - 1) > _CLOSE:
        told = " + ".join(f"{name} {share:g}" for name, share in shares.items())
        raise DataError(f"the shares {told} add up to {float(total):g}, not to 1")
    names = sorted(name for name, share in shares.items() if share)
    ends, end = [], Fraction(0)
    for name in names[:-1]:
        end += Fraction(shares[name])
        ends.append(end * _WHOLE)
    return [names[bisect_right(ends, _position(content, within))] for content in contents]


def _position(content: str, within: str) -> int:
    """0..2^64 - 1."""
    named = f"{within}\0{content}" if within else content
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")


@dataclass(frozen=True, slots=True)
class Item:
    """What leakage is looked for by."""

    row: int
    asks: str  #: equal in another part: the row leaks
    says: str | None  #: what it answers; None where different answers are no contradiction


@dataclass(frozen=True, slots=True)
class Leak:
    """Two rows of two parts that ask the same."""

    part: str
    row: int
    other: str
    other_row: int
    contradicts: bool  #: and answer it differently

    def __str__(self) -> str:
        also = ", and expects something else" if self.contradicts else ""
        return f"row {self.row} of {self.part} asks what row {self.other_row} of {self.other} asks{also}"


def leaks(parts: Mapping[str, Iterable[Item]]) -> list[Leak]:
    """Every row that asks what a row of an earlier part asks, beside the first such row of each."""
    first: dict[str, dict[str, Item]] = {}
    found = []
    for part, items in parts.items():
        own: dict[str, Item] = {}
        for item in items:
            own.setdefault(item.asks, item)
            for other, known in first.items():
                if match := known.get(item.asks):
                    contradicts = None not in (item.says, match.says) and item.says != match.says
                    found.append(Leak(part, item.row, other, match.row, contradicts))
        first[part] = own
    return found
