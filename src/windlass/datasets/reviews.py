"""What was decided on pairs: a log of imports and reviews, and what follows from it.

A pair is pending when it is imported. From then on::

    pending  -> approved, rejected, superseded
    approved -> rejected, superseded
    rejected -> approved, superseded
    superseded is an end

A log is a list of entries in their order; the standings of all pairs are a function of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from windlass.errors import DataError, NotFound, StateError, nearest
from windlass.records.fields import Strict, Text

MOST_TOLD = 20  #: ids that an error lists


class ReviewState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


ALLOWED: Mapping[ReviewState, tuple[ReviewState, ...]] = {
    ReviewState.PENDING: (ReviewState.APPROVED, ReviewState.REJECTED, ReviewState.SUPERSEDED),
    ReviewState.APPROVED: (ReviewState.REJECTED, ReviewState.SUPERSEDED),
    ReviewState.REJECTED: (ReviewState.APPROVED, ReviewState.SUPERSEDED),
    ReviewState.SUPERSEDED: (),
}

Filled = Annotated[Text, Field(min_length=1)]
Digest = Annotated[Text, Field(pattern=r"^[0-9a-f]{64}$")]


class Imported(Strict):
    """Pairs that came from a file; from this entry on they are there."""

    kind: Literal["imported"] = "imported"
    at: float  #: seconds since the epoch
    by: Filled
    source: Filled  #: where the file's pairs are from, for a pair that does not say so itself
    file: Filled  #: its name, without folders
    file_sha256: Digest
    rows: int = Field(ge=1)
    ends: int = Field(ge=1)  #: bytes of ``pairs.jsonl`` up to the last of these rows
    sha256: Digest  #: of these rows' bytes


class Reviewed(Strict):
    """One decision on some pairs."""

    kind: Literal["reviewed"] = "reviewed"
    at: float  #: seconds since the epoch
    by: Filled
    state: ReviewState
    pairs: tuple[Text, ...] = Field(min_length=1)
    reason: Text = ""
    instead: Text | None = None  #: the pair that supersedes them


Entry = Imported | Reviewed
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class Standing(NamedTuple):
    """Where a pair stands, and the review that put it there."""

    state: ReviewState = ReviewState.PENDING
    review: Reviewed | None = None


Standings = dict[str, Standing]


def entry_of(line: bytes) -> Entry:
    """Raises ValueError on a line that is no entry."""
    try:
        return _ENTRY.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")) from None


def line_of(entry: Entry) -> bytes:
    return entry.model_dump_json(exclude_none=True).encode() + b"\n"


def apply(standings: Standings, review: Reviewed) -> None:
    """Let a review of pairs that are there take its effect.

    Raises NotFound for a pair that is not there, StateError where a state does not allow the new one, or where the pair
    that supersedes is no such; then nothing has changed.
    """
    require_known(review.pairs, standings)
    changed = {one: standings[one].state for one in review.pairs}
    if wrong := [(one, state) for one, state in changed.items() if review.state not in ALLOWED[state]]:
        told = [f"  {one} is {state}" for one, state in wrong[:MOST_TOLD]]
        told += [f"  and {len(wrong) - MOST_TOLD:,} more"] if len(wrong) > MOST_TOLD else []
        after = {state: ", ".join(ALLOWED[state]) or "nothing" for _, state in wrong}
        allowed = "; ".join(f"after {state} comes {states}" for state, states in after.items())
        raise StateError("\n".join([f"what would become {review.state}:", *told]), allowed[:1].upper() + allowed[1:])
    if (review.instead is None) == (review.state is ReviewState.SUPERSEDED):
        raise StateError("a pair is superseded by another one, and only then there is another one")
    if review.instead is not None:
        require_known([review.instead], standings)
        state = standings[review.instead].state
        if review.instead in changed:
            raise StateError(f"{review.instead} cannot supersede itself")
        if state not in (ReviewState.PENDING, ReviewState.APPROVED):
            raise StateError(f"{review.instead} is {state}; what supersedes a pair is pending or approved")
    standing = Standing(review.state, review)
    for one in review.pairs:
        standings[one] = standing


def require_reason(standings: Standings, review: Reviewed) -> None:
    """A rejection says why, and so does who takes one back. Raises DataError."""
    if review.reason or review.state is ReviewState.SUPERSEDED:
        return
    if review.state is ReviewState.REJECTED:
        raise DataError("a rejection needs a reason", "Add: --reason '...'")
    if taken_back := [one for one in review.pairs if standings[one].state is ReviewState.REJECTED]:
        raise DataError(f"{taken_back[0]} was rejected; to take that back needs a reason", "Add: --reason '...'")


def require_known(pairs: Iterable[str], known: Mapping[str, object]) -> None:
    """Raises NotFound that names the first unknown pair and the nearest one there is."""
    unknown = [one for one in pairs if one not in known]
    if unknown:
        more = f" Nor are {len(unknown) - 1:,} others." if len(unknown) > 1 else ""
        message = f"there is no pair {unknown[0]!r}.{nearest(unknown[0], known)}{more}"
        raise NotFound(message, "windlass preferences list FOLDER")
