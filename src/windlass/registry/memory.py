"""The registry's twin in memory: same behaviour, nothing on disk. For tests and simulations."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from threading import Lock

from windlass.records.audit import Change, Entry
from windlass.registry.log import chain, fold
from windlass.registry.state import State


class MemoryRegistry:
    """Implements ``Registry``; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: list[Entry] = []
        self._state = State()

    def state(self) -> State:
        return self._state

    def append(self, *changes: Change, actor: str, at: float | None = None) -> list[Entry]:
        with self._lock:
            new = chain(self._state, changes, actor, time.time() if at is None else at)
            self._take(new)
        return new

    def entries(self, after: int = 0) -> list[Entry]:
        return self._entries[max(0, after) :]

    def lines(self) -> Iterable[tuple[int, str]]:
        return [(entry.sequence, entry.to_text()) for entry in self._entries]

    def restore(self, entries: Sequence[Entry]) -> None:
        with self._lock:
            self._take(entries)

    def _take(self, new: Sequence[Entry]) -> None:
        state = fold(new, self._state)
        self._entries.extend(new)
        self._state = state
