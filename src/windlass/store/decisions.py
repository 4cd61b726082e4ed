"""``studies/<name>/decisions.jsonl``: the append-only copy of a study's decisions that needs no database.

One JSON line a decision; a person's answer to a decision that waited is a line ``{"approval": {...}}``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windlass.records.decision import Approval, Decision


class DecisionLog:
    """The store is written first; what a kill kept out of the file is caught up on the next start."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Decision]:
        """All decisions, by number; of one that is there twice, the first. Lines that are no decisions are left out."""
        decisions: dict[int, Decision] = {}
        for data in self._lines():
            try:
                decision = Decision.from_dict(data)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            decisions.setdefault(decision.number, decision)
        return [decisions[number] for number in sorted(decisions)]

    def approvals(self) -> list[Approval]:
        """All answers, by decision number; of one that is there twice, the first."""
        answers: dict[int, Approval] = {}
        for data in self._lines():
            try:
                answer = Approval(**data["approval"])
            except (TypeError, KeyError):
                continue
            answers.setdefault(answer.number, answer)
        return [answers[number] for number in sorted(answers)]

    def append(self, decisions: Sequence[Decision], approvals: Sequence[Approval] = ()) -> None:
        lines = [d.to_dict() for d in decisions] + [{"approval": a.to_dict()} for a in approvals]
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def catch_up(self, decisions: Sequence[Decision], approvals: Sequence[Approval] = ()) -> None:
        """Append what the file lacks; a torn last line is cut off first."""
        if self.path.exists():
            data = self.path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole != len(data):
                os.truncate(self.path, whole)
        written, answered = {d.number for d in self.read()}, {a.number for a in self.approvals()}
        self.append(
            [d for d in decisions if d.number not in written], [a for a in approvals if a.number not in answered]
        )

    def _lines(self) -> list[Mapping[str, Any]]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found: list[Mapping[str, Any]] = []
        for line in lines:
            try:
                data = json.loads(line)
            except ValueError:
                continue
            if isinstance(data, dict):
                found.append(data)
        return found
