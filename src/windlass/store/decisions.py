"""``studies/<name>/decisions.jsonl``: the append-only copy of a study's decisions that needs no database."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from windlass.records.decision import Decision


class DecisionLog:
    """The store is written first; what a kill kept out of the file is caught up on the next start."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Decision]:
        """All decisions, by number; of one that is there twice, the first. Lines that are no decisions are left out."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        decisions: dict[int, Decision] = {}
        for line in lines:
            try:
                decision = Decision.from_dict(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            decisions.setdefault(decision.number, decision)
        return [decisions[number] for number in sorted(decisions)]

    def append(self, decisions: Sequence[Decision]) -> None:
        if not decisions:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(d.to_dict(), ensure_ascii=False) + "\n" for d in decisions)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, lines.encode())
        finally:
            os.close(fd)

    def catch_up(self, decisions: Sequence[Decision]) -> None:
        """Append what the file lacks of ``decisions``; a torn last line is cut off first."""
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                os.truncate(self.path, whole)
        written = {d.number for d in self.read()}
        self.append([d for d in decisions if d.number not in written])
