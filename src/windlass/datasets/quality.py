"""The quality filter: which traces are worth training on, and for each of the others why it is not.

``len(traces) == len(kept) + len(dropped)``: nothing is lost without a word.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any, NamedTuple

from windlass.datasets.tasks import answer, identity, question
from windlass.datasets.traces import RewardHacking, Trace, VerificationAlignment, alignment, task_of
from windlass.records.content import digest
from windlass.records.task import Task

#: a modified z-score beyond this is an outlier: Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)
OUTLIER = 3.5
LONGEST = 32_000  #: characters of a prompt and of an output, where nothing else is said
LEAST_DURATIONS = 20  #: of a tool, for an outlier to be one


class Reason(StrEnum):
    """Why a trace is dropped; the first that holds, in this order."""

    HACKING = "reward hacking confirmed"
    EMPTY = "empty output"
    SHORT_PROMPT = "prompt too short"
    LONG_PROMPT = "prompt too long"
    SHORT_OUTPUT = "output too short"
    LONG_OUTPUT = "output too long"
    LABELS = "labels contradict themselves"
    DURATION = "outlying duration"
    DUPLICATE = "duplicate"
    CONTRADICTION = "judged differently elsewhere"


class Dropped(NamedTuple):
    row: int
    id: str
    reason: Reason
    words: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Characters of what was asked and of what came out."""

    prompt_min: int = 1
    prompt_max: int = LONGEST
    output_min: int = 1
    output_max: int = LONGEST


@dataclass(frozen=True, slots=True)
class Filtered:
    kept: tuple[tuple[int, Trace], ...]
    dropped: tuple[Dropped, ...]  #: by row

    @property
    def counts(self) -> dict[str, int]:
        """Traces dropped by reason, the most frequent first."""
        return dict(Counter(str(one.reason) for one in self.dropped).most_common())


def sift(traces: Sequence[tuple[int, Trace]], limits: Limits | None = None) -> Filtered:
    """Numbered traces, in their order, without those that have a :class:`Reason`.

    Of duplicates (same tool, input, output and judgement) the first stays. Of traces that gave the same and were judged
    differently (outcome, verification or recorded reward) none does: nobody knows which is right.

    A duration is outlying if the modified z-score of its logarithm among those of its tool, 0.6745 (x - median) / MAD,
    is beyond 3.5; tools with fewer than 20 durations, and those whose MAD is 0, have no outliers.
    """
    limits = limits or Limits()
    dropped: list[Dropped] = []
    typical = _typical_durations(trace for _, trace in traces)
    passed: list[tuple[int, Trace]] = []
    for row, trace in traces:
        if found := _alone(trace, limits) or _duration(trace, typical):
            dropped.append(Dropped(row, trace.id, *found))
        else:
            passed.append((row, trace))
    judged: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row, trace in passed:
        judged[_same(trace)].setdefault(_judgement(trace), row)
    kept: list[tuple[int, Trace]] = []
    for row, trace in passed:
        rows, judgement = judged[_same(trace)], _judgement(trace)
        if rows[judgement] != row:
            dropped.append(Dropped(row, trace.id, Reason.DUPLICATE, f"of row {rows[judgement]}"))
        elif others := [f"row {other}: {words}" for words, other in rows.items() if other != row]:
            dropped.append(Dropped(row, trace.id, Reason.CONTRADICTION, f"here {judgement}; {'; '.join(others)}"))
        else:
            kept.append((row, trace))
    return Filtered(tuple(kept), tuple(sorted(dropped)))


def _alone(trace: Trace, limits: Limits) -> tuple[Reason, str] | None:
    """What is wrong with a trace whatever the others are."""
    asked, answered, labels = len(trace.asked.strip()), len(trace.answered.strip()), trace.labels
    if labels.reward_hacking_signal is RewardHacking.CONFIRMED:
        return Reason.HACKING, "by its label"
    if not answered:
        return Reason.EMPTY, ""
    for length, least, most, short, long in (
        (asked, limits.prompt_min, limits.prompt_max, Reason.SHORT_PROMPT, Reason.LONG_PROMPT),
        (answered, limits.output_min, limits.output_max, Reason.SHORT_OUTPUT, Reason.LONG_OUTPUT),
    ):
        if length < least:
            return short, f"{length:,} characters, at least {least:,} are wanted"
        if length > most:
            return long, f"{length:,} characters, at most {most:,} are wanted"
    follows = alignment(labels.task_outcome, trace.verification_passed)
    if VerificationAlignment.UNKNOWN not in (follows, labels.verification_alignment) and (
        follows is not labels.verification_alignment
    ):
        passed = "passed" if trace.verification_passed else "failed"
        words = f"verification {passed}, outcome {labels.task_outcome}: {follows}, not {labels.verification_alignment}"
        return Reason.LABELS, words
    return None


class _Typical(NamedTuple):
    """Of a tool's durations, in logarithms."""

    middle: float
    spread: float  #: median absolute deviation


def _typical_durations(traces: Iterable[Trace]) -> dict[str, _Typical]:
    known: defaultdict[str, list[float]] = defaultdict(list)
    for trace in traces:
        if trace.duration_ms:
            known[trace.tool_name].append(math.log(trace.duration_ms))
    typical = {}
    for tool, logs in known.items():
        middle = median(logs)
        spread = median(abs(log - middle) for log in logs)
        if len(logs) >= LEAST_DURATIONS and spread > 0:
            typical[tool] = _Typical(middle, spread)
    return typical


def _duration(trace: Trace, typical: dict[str, _Typical]) -> tuple[Reason, str] | None:
    usual = typical.get(trace.tool_name)
    if usual is None or not trace.duration_ms:
        return None
    score = 0.6745 * (math.log(trace.duration_ms) - usual.middle) / usual.spread
    if abs(score) <= OUTLIER:
        return None
    words = f"{trace.duration_ms:.6g} ms, of {trace.tool_name} usually {math.exp(usual.middle):.6g} ms"
    return Reason.DURATION, f"{words}; modified z-score {score:+.1f}"


def _same(trace: Trace) -> str:
    return digest([trace.tool_name, trace.tool_input, trace.tool_output])


def _judgement(trace: Trace) -> str:
    return f"{trace.labels.task_outcome}, verification {trace.verification_passed}, reward {trace.reward}"


def to_tasks(traces: Sequence[tuple[int, Trace]]) -> tuple[list[Task], tuple[Dropped, ...]]:
    """Numbered traces as tasks that ``windlass.datasets.tasks.read_tasks`` takes together, and those that make none.

    A trace without output makes none; of those that make the same task the first does; of those that have other rewards
    for one prompt and completion none does.
    """
    dropped: list[Dropped] = []
    made: list[tuple[int, Task]] = []
    rewards: defaultdict[str, set[Any]] = defaultdict(set)
    for row, trace in traces:
        task = task_of(trace)
        if task.expected is None or not trace.answered.strip():
            dropped.append(Dropped(row, trace.id, Reason.EMPTY, ""))
        else:
            made.append((row, task))
            rewards[question(task)].add(answer(task))
    kept: dict[str, tuple[int, Task]] = {}
    for row, task in made:
        if len(given := rewards[question(task)]) > 1:
            words = f"rewards of one prompt and completion: {', '.join(f'{one:.3g}' for one in sorted(given))}"
            dropped.append(Dropped(row, task.id, Reason.CONTRADICTION, words))
        elif (first := kept.setdefault(identity(task), (row, task))[0]) != row:
            dropped.append(Dropped(row, task.id, Reason.DUPLICATE, f"of row {first}"))
    return [task for _, task in kept.values()], tuple(sorted(dropped))
