"""The store's contract; ``tests/contracts/test_store.py`` runs on every implementation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from windlass.records.decision import Approval, Decision, StudyRecord
from windlass.records.run import RunRecord


class Store(Protocol):
    """Every method is one transaction: it happens whole or not at all, also under ``kill -9``."""

    def save_study(self, study: StudyRecord) -> None:
        """Insert, or replace the record of this name."""

    def studies(self) -> list[StudyRecord]:
        """All studies, oldest first."""

    def record(self, decisions: Sequence[Decision], runs: Sequence[RunRecord] = ()) -> None:
        """Append decisions together with the pending runs they lead to. Recording equal content twice is harmless.

        Raises DuplicateId where a decision or run of this key exists with other content.
        """

    def decisions(self, study: str, after: int = 0) -> list[Decision]:
        """Decisions of a study with a number above ``after``, by number."""

    def answer(self, approval: Approval) -> None:
        """Append a person's answer to a decision that waits for one. The same answer twice is harmless.

        Raises NotFound where there is no such decision, StateError where it did not wait or has another answer.
        """

    def approvals(self, study: str) -> list[Approval]:
        """All answers of a study, by decision number."""

    def put(self, runs: Iterable[RunRecord]) -> None:
        """Insert runs, or move them along their life cycle.

        Metrics, tags, artifacts and notes merge into what is there (the new value wins). Equal content is harmless.

        Raises StateError on a change to a terminal run of the same attempt, on a step back in the life cycle
        (pending -> queued -> running -> terminal; skipping forward is fine) and on an attempt below the stored one.
        Raises DuplicateId where the id exists with another config, seed, study or creation time.
        A higher attempt replaces status, failure and times; it may follow any status but completed.
        """

    def run(self, run_id: str) -> RunRecord:
        """By id, or by a part of it that only one run has. Raises NotFound with the nearest ids, or the matches."""

    def history(self, study: str) -> list[RunRecord]:
        """All runs of a study, by number (runs without one last, by creation)."""

    def search(
        self, expression: str = "", *, order_by: str = "created desc", limit: int | None = None, offset: int = 0
    ) -> list[RunRecord]:
        """Runs that match a search expression (``windlass.store.search`` has the grammar).

        Runs that lack the order's metric or parameter come last, in either direction; ties by id.
        Raises SearchError that points at the offending token.
        """

    def close(self) -> None: ...
