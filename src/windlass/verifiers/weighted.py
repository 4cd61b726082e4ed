"""A weighted mean of verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from windlass.errors import DataError
from windlass.records.fields import Number, Strict
from windlass.records.task import Task, Verdict
from windlass.verifiers.protocol import Kind, Known, build


class Part(Strict):
    """One verifier of several."""

    verifier: Mapping[str, Any] = Field(description="{kind: ..., ...}")
    weight: Number = Field(default=1.0, gt=0)
    optional: bool = Field(default=False, description="true: where it gives None, the mean is that of the others")


class Weighted(Kind):
    """The weighted mean of the parts' scores. None of a part is None of all, unless that part is optional."""

    parts: tuple[Part, ...] = Field(min_length=1, description="[{verifier: {...}, weight: 1, optional: false}, ...]")
    _built: tuple[Kind, ...] = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        built = []
        for i, part in enumerate(self.parts):
            try:
                built.append(build(part.verifier))
            except DataError as error:
                raise DataError(f"verifier 'weighted': parts[{i}]: {error.message}", error.next_step) from None
        self._built = tuple(built)

    def verify(self, completion: str, task: Task) -> Verdict:
        total = weights = 0.0
        told = []
        for part, verifier in zip(self.parts, self._built, strict=True):
            verdict = verifier.verify(completion, task)
            name = part.verifier["kind"]
            if verdict.score is None:
                if not part.optional:
                    return Verdict(score=None, reason=f"{name}: {verdict.reason}")
                told.append(f"{name} left out: {verdict.reason}")
                continue
            total += part.weight * verdict.score
            weights += part.weight
            told.append(f"{name} {verdict.score:g}: {verdict.reason}")
        if not weights:
            return Verdict(score=None, reason="; ".join(told))
        return Verdict(score=min(total / weights, 1.0), reason="; ".join(told))

    def right(self, task: Task) -> str | None:
        return next((right for one in self._built if (right := one.right(task)) is not None), None)

    def known(self, task: Task) -> Known | None:
        """The solution; else the first completion that a part knows to be right."""
        known = (one.known(task) for one in self._built)
        return next((one for one in known if one is not None and one.score == 1), None)

    def within(self, answer: str) -> str:
        """A completion in which the most parts find the answer first: see :meth:`right`."""
        return self._built[0].within(answer)

    def close(self) -> None:
        for verifier in self._built:
            verifier.close()
