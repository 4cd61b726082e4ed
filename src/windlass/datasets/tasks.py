"""Tasks whose completions can be verified: read strictly, fingerprinted by content, written.

A file holds JSON Lines or JSON. Each row is a line of ``tasks.jsonl`` (:class:`windlass.records.task.Task`) or an
:class:`Example`, whose schema has all of a task's keys. A JSON object may hold them under ``examples``, beside what a
:class:`Dataset` has, itself bare or under ``dataset``. Keys are snake_case or camelCase.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from windlass.datasets.rows import OnBytes, Problems, fit, read_rows, shown, write_lines
from windlass.datasets.splits import Item
from windlass.errors import DataError
from windlass.records.content import canonical, digest
from windlass.records.fields import Number, Strict, Text
from windlass.records.task import Task

#: the kind of verifier that gives the reward that was recorded; ``expected`` is the completion that it was given for
RECORDED = "recorded"
NEXT = "Correct these rows, then: windlass tasks check FILE"


class Dataset(Strict):
    """What stands beside the examples of a dataset; kept nowhere, checked nevertheless."""

    id: Text = Field(min_length=1)
    label: Text = ""
    created_at: datetime.datetime | None = None
    metadata: Mapping[Text, Any] = Field(default_factory=dict)


class Example(Strict):
    """A row as a file may have it.

    It asks by ``prompt`` or, where a tool is all that is named, by ``tool_name``; it is judged by ``verifier`` and
    ``expected``, or has a recorded ``reward``.
    """

    id: Text = Field(min_length=1)
    prompt: Text | None = Field(default=None, min_length=1)
    tool_name: Text | None = Field(default=None, min_length=1)
    verifier: Mapping[Text, Any] | Text | None = Field(default=None, description="{kind: exact, ...} or the kind alone")
    expected: Any = None
    expected_answer: Any = Field(default=None, description="the same as expected")
    reward: Number | None = Field(default=None, ge=0, le=1)
    source: Text | None = None
    scenario_id: Text | None = None
    metadata: Mapping[Text, Any] = Field(default_factory=dict)

    def task(self) -> Task:
        """Raises ValueError that says all that keeps this from being one."""
        wrong = []
        if self.prompt is None and self.tool_name is None:
            wrong.append("neither 'prompt' nor 'tool_name'")
        if self.expected is not None and self.expected_answer is not None:
            wrong.append("both 'expected' and 'expected_answer'")
        expected = self.expected if self.expected_answer is None else self.expected_answer
        verifier = {"kind": self.verifier} if isinstance(self.verifier, str) else self.verifier
        if verifier is not None and not (isinstance(verifier.get("kind"), str) and verifier["kind"]):
            wrong.append("'verifier' has no 'kind'")
        if self.reward is not None:
            if verifier is not None or expected is not None:
                wrong.append("a recorded 'reward' beside a verifier or an expected answer: one of them decides")
            verifier = {"kind": RECORDED, "reward": self.reward}
        metadata = dict(self.metadata)
        for name in ("tool_name", "source", "scenario_id"):
            value = getattr(self, name)
            if value is not None and metadata.setdefault(name, value) != value:
                wrong.append(f"{name!r} is {shown(value)}, and {shown(metadata[name])} in 'metadata'")
        if wrong:
            raise ValueError("; ".join(wrong))
        return Task(
            id=self.id,
            prompt=self.prompt or self.tool_name or "",
            expected=expected,
            verifier=verifier,
            metadata=metadata,
        )


def read_tasks(path: Path, on_bytes: OnBytes | None = None) -> list[Task]:
    """The tasks of a file, in its order.

    Raises DataError that lists rows (at most 20, and how many more) that are malformed, are there twice, have another
    row's id, or expect something else than another row of the same prompt; and on a file without tasks.
    """
    return [task for _, task in numbered_tasks(path, on_bytes)]


def numbered_tasks(path: Path, on_bytes: OnBytes | None = None) -> list[tuple[int, Task]]:
    """As :func:`read_tasks`, each with the number of its row."""
    problems = Problems(path)
    content = read_rows(path, problems, "examples", on_bytes)
    check_header(path, content.header)
    tasks = []
    for row, value in content.rows:
        try:
            tasks.append((row, fit(Example, value).task()))
        except ValueError as error:
            problems.add(row, str(error))
    _compare(tasks, problems)
    problems.refuse(NEXT)
    if not tasks:
        raise DataError(f"{path} holds no tasks")
    return tasks


def check_header(path: Path, header: Mapping[str, Any] | None) -> None:
    """Raises DataError where what stands beside the examples is not what a :class:`Dataset` has."""
    if header is not None:
        try:
            fit(Dataset, header)
        except ValueError as error:
            raise DataError(f"{path}: beside 'examples': {error}") from None


def _compare(tasks: Iterable[tuple[int, Task]], problems: Problems) -> None:
    """Add what no row shows by itself: duplicates and contradictions."""
    ids: dict[str, int] = {}
    contents: dict[str, int] = {}
    answers: dict[str, tuple[int, Task]] = {}
    for row, task in tasks:
        if (first := contents.setdefault(identity(task), row)) != row:
            problems.add(row, f"the same task as row {first}")
            continue
        if (first := ids.setdefault(task.id, row)) != row:
            problems.add(row, f"the id {task.id!r} is that of row {first}, too")
        other_row, other = answers.setdefault(question(task), (row, task))
        if answer(other) != answer(task):
            words = f"expects {shown(answer(task))}, and row {other_row} {shown(answer(other))} for the same prompt"
            problems.add(row, words)


def identity(task: Task) -> str:
    """What only one task of a file may be.

    A reward without the completion that it was given for is an observation: it goes by what else is known of it.
    """
    return digest([task.content, dict(task.metadata)]) if _observation(task) else task.content


def question(task: Task) -> str:
    """What the tasks of a file have to answer alike: the prompt; for a recorded reward, prompt and completion."""
    if _observation(task):
        return identity(task)
    return digest([task.prompt, task.expected]) if _recorded(task) else digest([task.prompt])


def answer(task: Task) -> Any:
    return (task.verifier or {}).get("reward") if _recorded(task) else task.expected


def _recorded(task: Task) -> bool:
    return (task.verifier or {}).get("kind") == RECORDED


def _observation(task: Task) -> bool:
    return _recorded(task) and task.expected is None


def together(task: Task) -> str:
    """What a split keeps on one side: the prompt, whatever its white space."""
    return " ".join(task.prompt.split())


def items(tasks: Iterable[tuple[int, Task]]) -> Iterator[Item]:
    """Numbered tasks as :func:`windlass.datasets.splits.leaks` compares them."""
    for row, task in tasks:
        yield Item(row, together(task), None if _recorded(task) else canonical(task.expected))


def fingerprint(tasks: Iterable[Task]) -> str:
    """SHA-256 of what the tasks ask, expect and tell of themselves; not of their ids, nor of their order."""
    return digest(sorted(digest([task.content, dict(task.metadata)]) for task in tasks))


def as_row(task: Task) -> dict[str, Any]:
    """A line of ``tasks.jsonl``."""
    row = {"id": task.id, "prompt": task.prompt, "expected": task.expected}
    row |= {"verifier": task.verifier, "metadata": task.metadata}
    return {key: value for key, value in row.items() if value is not None and (key != "metadata" or value)}


def write_tasks(path: Path, tasks: Iterable[Task]) -> int:
    """JSON Lines that :func:`read_tasks` reads; the file is whole or not there. How many. Raises OSError."""
    return write_lines(path, map(as_row, tasks))
