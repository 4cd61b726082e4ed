"""Pairs that do not go together: an id twice, the same pair twice, or but for white space and case; contradictions.

Texts are alike when they are equal after Unicode's compatibility composition (NFKC), case folding, and with each run of
white space as one space.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from windlass.records.task import Pair


class ClashKind(StrEnum):
    SAME_ID = "same_id"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    CONTRADICTION = "contradiction"  #: for the same prompt, one prefers what the other rejects


class Clash(NamedTuple):
    kind: ClashKind
    first: int  #: position of a pair
    second: int  #: position of the later one, which clashes with it


WORDS = {
    ClashKind.SAME_ID: "has the id of {}, too",
    ClashKind.DUPLICATE: "the same pair as {}",
    ClashKind.NEAR_DUPLICATE: "the same pair as {} but for white space or case",
    ClashKind.CONTRADICTION: "contradicts {}: for the same prompt it prefers what that one rejects",
}


def clashes(pairs: Sequence[Pair], *, alike: bool = False) -> Iterator[Clash]:
    """In the order of the later pair; each pair is held against the first of its kind.

    ``alike`` also finds near duplicates, and contradictions of texts that are alike rather than equal.
    """
    ids: dict[str, int] = {}
    exact: dict[tuple[str, str, str], int] = {}
    near: dict[tuple[bytes, bytes, bytes], int] = {}
    for i, pair in enumerate(pairs):
        if (first := exact.setdefault((pair.prompt, pair.chosen, pair.rejected), i)) != i:
            yield Clash(ClashKind.DUPLICATE, first, i)
            continue
        if (first := ids.setdefault(pair.id, i)) != i:
            yield Clash(ClashKind.SAME_ID, first, i)
        other = exact.get((pair.prompt, pair.rejected, pair.chosen))
        if alike:
            prompt, chosen, rejected = map(_key, (pair.prompt, pair.chosen, pair.rejected))
            if (first := near.setdefault((prompt, chosen, rejected), i)) != i:
                yield Clash(ClashKind.NEAR_DUPLICATE, first, i)
            if other is None and chosen != rejected:  # a pair about case or white space is no contradiction of itself
                other = near.get((prompt, rejected, chosen))
        if other is not None:
            yield Clash(ClashKind.CONTRADICTION, other, i)


def leveled(text: str) -> str:
    """What texts that are alike have in common."""
    return " ".join((text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()).split())


def _key(text: str) -> bytes:
    return hashlib.blake2b(leveled(text).encode(), digest_size=16).digest()
