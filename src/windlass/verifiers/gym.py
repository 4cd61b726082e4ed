"""The procedural tasks of the library reasoning-gym, made and scored by itself in a worker process.

    tasks = make_tasks("chain_sum", size=100, seed=42)

An entry is made anew from dataset, seed, size and options where it is scored, so that a task's line holds only its
``index``. Where another version of the library makes another question, the task is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from pydantic import Field

from windlass.errors import DataError
from windlass.records.fields import Text, Whole
from windlass.records.task import Task, Verdict
from windlass.verifiers.answers import fails
from windlass.verifiers.patterns import Checked
from windlass.verifiers.protocol import build, shown
from windlass.verifiers.worker import worker

INDEX = "index"  #: in a task's metadata: the number of the entry, from 0


class Gym(Checked):
    """Reasoning-gym scores the answer as 1. The answer is the last <answer>...</answer>, else the whole completion.

    Many of its scorers give something to answers that are wrong: for any text that has the right one in it, its share
    of the text; 0.01 to 0.65 for junk or the prompt itself. With ``partial`` that is the score, and the audit tells.
    """

    check: ClassVar[str] = "gym"
    needs: ClassVar[tuple[str, str]] = ("reasoning_gym", "gym")

    dataset: Text = Field(description="the dataset's name in reasoning-gym, as in chain_sum")
    seed: Whole = Field(default=0, ge=0)
    size: Whole = Field(default=500, ge=1, description="entries of the dataset")
    options: Mapping[str, Any] = Field(default_factory=dict, description="of its generator, as in {min_terms: 3}")
    partial: bool = Field(default=False, description="true: the score that reasoning-gym gives; false: 1 or 0")

    def answer(self, completion: str) -> str | None:
        if self.after is None and self.tag is None and "</answer>" in completion:
            return self.model_copy(update={"tag": "answer"}).answer(completion)
        return super().answer(completion)

    def judge(self, answer: str, task: Task) -> Verdict:
        index = task.metadata.get(INDEX)
        if isinstance(index, bool) or not isinstance(index, int):
            raise DataError(
                f"task {task.id!r}: the verifier 'gym' needs an entry's number in metadata.{INDEX}, not {shown(index)}",
                "Make such tasks with windlass.verifiers.gym.make_tasks(name, size, seed)",
            )
        try:
            verdict = self.ask(answer, None, **self._made(), index=index, prompt=task.prompt)
        except DataError as error:
            raise DataError(f"task {task.id!r}: {error.message}", error.next_step) from None
        if self.partial or verdict.score in (0, 1, None):
            return verdict
        return fails(f"{verdict.reason}, and only 1 counts")

    def _made(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "seed": self.seed, "size": self.size, "options": dict(self.options)}


def make_tasks(name: str, size: int, seed: int = 0, **options: Any) -> list[Task]:
    """``size`` tasks of a dataset of reasoning-gym; ``options`` are its generator's.

    Raises DataError for a name or option that it does not have, and for a dataset that does not score its own answers
    as 1: nothing could be learned from it. MissingExtra without the library.
    """
    spec = {"kind": "gym", "dataset": name, "seed": seed, "size": size, **({"options": options} if options else {})}
    verifier = cast(Gym, build(spec))
    tasks = []
    for index in range(size):
        entry = worker("gym").get(entry={**verifier._made(), INDEX: index})
        answer = entry["answer"]
        task = Task(
            id=f"{name}-{seed}-{index}",
            prompt=entry["question"],
            expected=answer,
            verifier=spec,
            metadata={INDEX: index},
        )
        score = verifier.verify(answer, task).score if isinstance(answer, str) else None
        if score != 1:
            told = (
                "gives no answer of its own" if answer is None else f"scores its own answer {shown(answer)} as {score}"
            )
            raise DataError(
                f"reasoning-gym's {name!r} {told} (entry {index}, seed {seed}): no completion could be known as right",
                "Take another dataset.",
            )
        tasks.append(task)
    return tasks
