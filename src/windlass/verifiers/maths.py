"""Symbolic mathematics by the library math-verify, in a worker process: 1/2 is 0.5 is \\frac{1}{2} is \\frac{2}{4}."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from windlass.records.task import Task, Verdict
from windlass.verifiers.answers import as_text
from windlass.verifiers.patterns import Checked
from windlass.verifiers.protocol import unfit

READ = 4000  #: characters at the end of an answer that are read


class Math(Checked):
    """The answer is mathematically equal to the expected expression, which is LaTeX or plain.

    What counts is what math-verify finds in the last 4,000 characters: all ``\\boxed{}`` together, of which several are
    a set; else what follows 'the final answer is'; else the last expression. With ``boxed``, the last box alone.
    """

    check: ClassVar[str] = "math"
    needs: ClassVar[tuple[str, str]] = ("math_verify", "maths")

    boxed: bool = Field(default=False, description="true: the answer is in the last \\boxed{...}, and nowhere else")

    def judge(self, answer: str, task: Task) -> Verdict:
        return self.ask(answer[-READ:], self._expected(task), boxed=self.boxed)

    def _expected(self, task: Task) -> str:
        if isinstance(task.expected, bool) or not isinstance(task.expected, (str, int, float)):
            raise unfit(task, "math", "an expression or a number")
        text = as_text(task.expected).strip()
        if not text:
            raise unfit(task, "math", "an expression that is not empty")
        return text

    def right(self, task: Task) -> str | None:
        text = self._expected(task)
        marked = any(mark in text for mark in ("$", "\\boxed", "\\(", "\\["))
        return f"\\boxed{{{text}}}" if self.boxed or not marked else text
