"""Entries made of changes, and entries folded to a state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from windlass.errors import StateError, StoreError
from windlass.records.audit import Change, Entry
from windlass.records.content import canonical
from windlass.registry.state import State


def chain(state: State, changes: Sequence[Change], actor: str, at: float) -> list[Entry]:
    """The entries that changes become after ``state``. Raises StoreError on values that JSON does not have."""
    made: list[Entry] = []
    sequence, previous = state.sequence, state.hash
    for change in changes:
        try:
            plain = replace(change, body=json.loads(canonical(change.body)))
            entry = Entry.after(sequence + 1, previous, at, actor, plain)
        except (ValueError, TypeError) as error:
            raise StoreError(f"{change.kind} of {change.subject} cannot be stored: {error}") from error
        sequence, previous = entry.sequence, entry.hash
        made.append(entry)
    return made


def fold(entries: Iterable[Entry], onto: State | None = None) -> State:
    """The state that entries lead to; ``onto``, where they start, stays as it is.

    Raises StateError where they do not follow one another, are not what their hash was made of, or are not allowed.
    """
    state = onto.copy() if onto is not None else State()
    for entry in entries:
        if not entry.sound:
            raise StateError(f"entry {entry.sequence} is not what its hash was made of", "windlass audit verify")
        state.apply(entry)
    return state
