"""What a backend is given (Plan), what it keeps count of (Course) and what it gives back (Trained)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from windlass.records.task import Task
from windlass.training.rlvr.spec import Hyper, Precision

if TYPE_CHECKING:
    from torch import Tensor

Point = tuple[int, float]  #: step, value
#: step, metrics
Tell = Callable[[int, Mapping[str, float]], None]
#: of completions, in the order of the tasks; None where one could not be judged
Scores = list[float | None]


class Asked(Protocol):
    @property
    def now(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training that may begin."""

    model: Path  #: folder of the base and its tokenizer
    tasks: Sequence[Task]  #: to learn from
    held_out: Sequence[Task]
    template: str
    hyper: Hyper
    max_new_tokens: int
    check_every: int
    check_tasks: int
    save_every: int
    seed: int
    device: str
    precision: Precision
    state: Path
    identity: Mapping[str, str]
    scratch: Path  #: a folder for what nobody keeps

    def prompt(self, task: Task) -> str:
        """What the model reads."""
        return self.template.replace("{prompt}", task.prompt)

    def drawn(self, step: int) -> list[int]:
        """The numbers of the tasks of a step, from 0. They depend on the seed and the step alone."""
        return random.Random(f"{self.seed}/{step}").sample(range(len(self.tasks)), self.hyper.batch)

    def checks_at(self, step: int) -> bool:
        """Whether held-out tasks are judged once ``step`` steps are done."""
        return step % self.check_every == 0 or step == self.hyper.steps

    def saves_at(self, step: int) -> bool:
        return step % self.save_every == 0 or step == self.hyper.steps


@dataclass(kw_only=True)
class Course:
    """What happened in the steps so far; goes into the saved state, so that a resumed training ends with the same."""

    step: int = 0  #: steps done
    rewards: list[Point] = field(default_factory=list)  #: mean of a step's valid scores
    losses: list[float] = field(default_factory=list)
    checks: list[Point] = field(default_factory=list)  #: mean score of the held-out tasks of a check
    divergences: list[float] = field(default_factory=list)  #: from the base, at the checks; nats a token
    tokens: int = 0  #: read and written by the sampler, padding not counted
    verdicts: int = 0
    invalid: int = 0  #: verdicts without a score
    groups: int = 0
    dead_groups: int = 0  #: all completions of which had one score
    solved_groups: int = 0  #: of these, where that score was 1
    drift: float = 0.0  #: largest difference of a log-probability between sampler and trainer

    @property
    def without_variance(self) -> float:
        """Share of dead groups among those that are not solved: where a task is solved, there is nothing to learn.

        1 where every group was solved from the first step on: such a reward tells nothing either.
        """
        unsolved = self.groups - self.solved_groups
        return (self.dead_groups - self.solved_groups) / unsolved if unsolved else 1.0

    def count(self, scores: Sequence[float | None], generations: int) -> dict[str, float]:
        """One step's scores: its metrics ``reward``, ``dead_groups`` and ``invalid``. Begins the next step."""
        groups = [scores[start : start + generations] for start in range(0, len(scores), generations)]
        valid = [[score for score in group if score is not None] for group in groups]
        dead = [group for group in valid if not group or min(group) == max(group)]
        every = [score for group in valid for score in group]
        self.step += 1
        self.rewards.append((self.step, sum(every) / len(every) if every else 0.0))
        self.verdicts += len(scores)
        self.invalid += len(scores) - len(every)
        self.groups += len(groups)
        self.dead_groups += len(dead)
        self.solved_groups += sum(bool(group) and group[0] == 1 for group in dead)
        return {
            "reward": self.rewards[-1][1],
            "dead_groups": len(dead) / len(groups),
            "invalid": 1 - len(every) / len(scores),
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        points = {name: [tuple(point) for point in data[name]] for name in ("rewards", "checks")}
        return cls(**{**data, **points})


@dataclass(frozen=True, kw_only=True)
class Examined:
    """The held-out tasks, before and after: with the verifier, and with the independent check."""

    verified: Scores
    checked: Scores  #: the same where there is no second verifier

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that came to its end. Its weights are in ``folder``."""

    course: Course
    before: Examined
    after: Examined
    weights: Mapping[str, Tensor]  #: by name, those that are tied once
    digest_before: str
    digest_after: str
    folder: Path  #: the model, as transformers loads it
