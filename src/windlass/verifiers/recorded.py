"""Rewards that were recorded: for a completion that was seen, what it got then."""

from __future__ import annotations

from pydantic import Field

from windlass.records.fields import Number
from windlass.records.task import Task, Verdict
from windlass.verifiers.answers import normal
from windlass.verifiers.protocol import Kind, Known, unfit


class Recorded(Kind):
    """``expected`` is the completion that ``reward`` was recorded for. Of any other one nothing is known: None."""

    reward: Number = Field(ge=0, le=1, description="what the completion got")

    def verify(self, completion: str, task: Task) -> Verdict:
        if normal(completion) == normal(self._completion(task)):
            return Verdict(score=self.reward, reason="as recorded")
        return Verdict(score=None, reason="no reward was recorded for this completion")

    def right(self, task: Task) -> str | None:
        return self._completion(task)

    def known(self, task: Task) -> Known | None:
        return Known(self._completion(task), self.reward)

    def _completion(self, task: Task) -> str:
        if not isinstance(task.expected, str) or not task.expected.strip():
            raise unfit(task, "recorded", "the completion that the reward was recorded for")
        return task.expected
