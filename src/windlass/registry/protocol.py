"""The registry's contract; ``tests/contracts/test_registry.py`` runs on every implementation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from windlass.records.audit import Change, Entry
from windlass.registry.state import State


class Registry(Protocol):
    """An append-only log of changes, and the state that they add up to."""

    def state(self) -> State:
        """What all entries so far add up to. Entries that come later give another State; this one stays."""

    def append(self, *changes: Change, actor: str, at: float | None = None) -> list[Entry]:
        """Enter changes in one transaction, all of them or none. ``at`` is seconds since the epoch, by default now.

        Raises StateError on what the state does not allow: whoever comes second with a promotion is told so. Raises
        StoreError on values that JSON does not have.
        """

    def entries(self, after: int = 0) -> list[Entry]:
        """Entries with a sequence above ``after``, in order. Raises StoreError on one that cannot be read."""

    def lines(self) -> Iterable[tuple[int, str | bytes]]:
        """Every entry as it is stored: its sequence and its text, unread. For verification."""

    def restore(self, entries: Sequence[Entry]) -> None:
        """Take in entries that a copy of this log has beyond its end, as they are.

        Raises StateError where they do not continue this log.
        """
