"""The audit of a verifier: before a model is trained on its scores, it is tried to be fooled.

    report = audit(tasks, verifier)
    report.ok, report.problems, report.words(), report.to_dict()

What is known to be right has to get its score (oracle). What a model could always say without an answer must not pay:
nothing, junk, the prompt itself, the answers of all tasks at once. Its mean score over the tasks has to stay at or
below a floor. The same checks again, in the reverse order and from several threads, have to give the same verdicts.
All but the latencies is the same in each audit.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from windlass.errors import DataError
from windlass.records.task import Task, Verdict
from windlass.verifiers.protocol import SOLUTION, Kind, Known, PerTask, Verifier, shown

ProbeName = Literal["oracle", "empty", "junk", "echo", "candidates"]
PROBES: tuple[ProbeName, ...] = get_args(ProbeName)
#: what each probe gives to the verifier
MEANING = {
    "oracle": "a right completion",
    "empty": "an empty completion",
    "junk": "junk",
    "echo": "the echoed prompt",
    "candidates": "a list of all answers",
}
EMPTY = ("", " \n\t ")
JUNK = ("Lorem ipsum dolor sit amet.", "?!", "}{)(", "qwertyuiop " * 40)
CANDIDATES = 20  #: answers that a completion names at once, at most
SHORT = 200  #: characters of an answer that is named so, at most
REPEATED = 100  #: checks that are made again, at most
TOLERANCE = 1e-9  #: what an oracle's score may differ by: sums of weights are rounded

OnCheck = Callable[[int, int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What came of one kind of completion. Scores are None where there were none."""

    name: ProbeName
    checks: int
    invalid: int  #: verdicts without a score; they count as 0
    raised: int
    mean: float | None  #: over the tasks; of several such completions, the best of them
    lowest: float | None  #: of any task
    highest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit found. Latencies are in seconds; the first check, which starts processes, is apart."""

    tasks: int
    of: int  #: tasks that there are
    floor: float
    probes: tuple[Probe, ...]
    first: float
    p50: float
    p95: float
    slowest: float
    repeated: int  #: checks that were made again, in reverse and from threads
    threads: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON; ``ok`` first."""
        return {"ok": self.ok, **asdict(self)}

    def words(self) -> str:
        """For people: a line a probe, latency, repetition, then notes and problems."""
        lines = [f"{self.tasks} of {self.of} tasks, floor {self.floor:g}"]
        for probe in self.probes:
            told = "not tried"
            if probe.mean is not None:
                told = f"mean {probe.mean:.3g} ({probe.lowest:.3g} to {probe.highest:.3g})"
            more = f", {probe.invalid} without a score" if probe.invalid else ""
            more += f", {probe.raised} raised" if probe.raised else ""
            lines.append(f"  {probe.name:10} {probe.checks:5} checks  {told}{more}")
        times = f"p50 {_time(self.p50)}, p95 {_time(self.p95)}, most {_time(self.slowest)}, first {_time(self.first)}"
        lines.append(f"  {'latency':10} {times}")
        lines.append(f"  {'again':10} {self.repeated:5} checks in reverse, and from {self.threads} threads")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, "The verifier can be trained on." if self.ok else "Do not train on this verifier."])


class _Check(NamedTuple):
    probe: ProbeName
    task: Task
    completion: str
    way: int = 0  #: of several completions of a probe, which
    wanted: float = 0.0  #: the oracle's score


class _Outcome(NamedTuple):
    """Equal outcomes are equal verdicts."""

    score: float | None
    reason: str
    error: str = ""


def audit(
    tasks: Sequence[Task],
    verifier: Verifier,
    *,
    floor: float = 0.1,
    most: int = 50,
    threads: int = 4,
    on_check: OnCheck | None = None,
) -> AuditReport:
    """Try to fool a verifier on at most ``most`` of the tasks, spread evenly.

    ``floor`` is the highest mean score that worthless completions may get. ``on_check`` is called with (done, total).
    What the verifier raises is a problem in the report. Raises DataError where there are no tasks.
    """
    if not tasks:
        raise DataError("there is no task to audit a verifier with")
    count = min(most, len(tasks))
    chosen = [tasks[i * len(tasks) // count] for i in range(count)]
    checks, problems, notes = _checks(chosen, verifier, floor)
    total = len(checks) + 2 * min(REPEATED, len(checks))
    outcomes, seconds = list[_Outcome](), list[float]()
    first = _timed(verifier, checks[0])[1]
    for check in checks:
        outcome, took = _timed(verifier, check)
        outcomes.append(outcome)
        seconds.append(took)
        if on_check:
            on_check(len(outcomes), total)
    wrong, exposed = _wrong(checks, outcomes, floor)
    problems += wrong
    notes += exposed
    again = [i * len(checks) // min(REPEATED, len(checks)) for i in range(min(REPEATED, len(checks)))]
    reverse = {i: _timed(verifier, checks[i])[0] for i in reversed(again)}
    problems += _differing(checks, outcomes, reverse, "a second time")
    if on_check:
        on_check(len(checks) + len(again), total)
    with ThreadPoolExecutor(threads) as pool:
        threaded = dict(zip(again, pool.map(lambda i: _timed(verifier, checks[i])[0], again), strict=True))
    problems += _differing(checks, outcomes, threaded, f"from {threads} threads")
    if on_check:
        on_check(total, total)
    seconds.sort()
    return AuditReport(
        tasks=count,
        of=len(tasks),
        floor=floor,
        probes=tuple(_probe(name, checks, outcomes) for name in PROBES),
        first=first,
        p50=_quantile(seconds, 0.5),
        p95=_quantile(seconds, 0.95),
        slowest=seconds[-1],
        repeated=len(again),
        threads=threads,
        problems=tuple(problems),
        notes=tuple(notes + _remarks(checks, outcomes)),
    )


def _checks(tasks: Sequence[Task], verifier: Verifier, floor: float) -> tuple[list[_Check], list[str], list[str]]:
    """The checks, problems and notes."""
    kinds = [_kind(verifier, task) for task in tasks]
    known, answers, problems, notes = list[Known | None](), list[str | None](), list[str](), list[str]()
    for task, kind in zip(tasks, kinds, strict=True):
        try:
            known.append(_known(kind, task))
            answers.append(kind.right(task) if isinstance(kind, Kind) else None)
        except DataError as error:
            known[len(answers) :] = [None]
            answers.append(None)
            problems.append(error.message)
    checks = list[_Check]()
    for task, one in zip(tasks, known, strict=True):
        if one is not None:
            checks.append(_Check("oracle", task, one.completion, wanted=one.score))
        checks += [_Check("empty", task, completion, way) for way, completion in enumerate(EMPTY)]
        checks += [_Check("junk", task, completion, way) for way, completion in enumerate(JUNK)]
        checks.append(_Check("echo", task, task.prompt))
    distinct: dict[type, dict[str, None]] = {}
    for kind, answer in zip(kinds, answers, strict=True):
        if answer is not None and len(answer) <= SHORT:
            distinct.setdefault(type(kind), {})[answer] = None
    for task, kind, own in zip(tasks, kinds, answers, strict=True):
        others = [one for one in distinct.get(type(kind), {}) if one != own][: CANDIDATES - 1]
        if isinstance(kind, Kind) and own is not None and len(own) <= SHORT and others:
            for way, joint in enumerate((", ", "\n")):
                for listed in _orders(own, others):
                    checks.append(_Check("candidates", task, kind.within(joint.join(listed)), way))
    missing = sum(one is None for one in known)
    if missing == len(tasks) and not problems:
        problems.append(f"no task says what a right completion is: give some of them metadata.{SOLUTION}")
    elif missing:
        notes.append(f"{missing} of {len(tasks)} tasks do not say what a right completion is (metadata.{SOLUTION})")
    common, count = next(iter(Counter(one for one in answers if one is not None).most_common(1)), ("", 0))
    if count > 1 and count / len(tasks) > floor:
        notes.append(f"always saying {shown(common)} is right on {count} of {len(tasks)} tasks")
    return checks, problems[:5], notes


def _kind(verifier: Verifier, task: Task) -> Verifier:
    try:
        return verifier.of(task) if isinstance(verifier, PerTask) else verifier
    except DataError:
        return verifier  # each of its checks will say so


def _known(kind: Verifier, task: Task) -> Known | None:
    if isinstance(kind, Kind):
        return kind.known(task)
    solution = task.metadata.get(SOLUTION)
    return Known(solution, 1.0) if isinstance(solution, str) else None


def _orders(own: str, others: Sequence[str]) -> Iterable[list[str]]:
    """Own answer first, last, and where there are others enough in the middle: no rule of position finds it in all."""
    yield [own, *others]
    yield [*others, own]
    if len(others) > 1:
        half = len(others) // 2
        yield [*others[:half], own, *others[half:]]


def _timed(verifier: Verifier, check: _Check) -> tuple[_Outcome, float]:
    began = time.perf_counter()
    try:
        verdict: Verdict = verifier.verify(check.completion, check.task)
        outcome = _Outcome(verdict.score, verdict.reason)
    except Exception as error:  # any: a verifier is anybody's code, and that it raises is what is to be found out
        outcome = _Outcome(None, "", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return outcome, time.perf_counter() - began


class _Worth(NamedTuple):
    """What one way to answer is worth on one task: the lowest score where it was tried in several orders."""

    score: float
    check: _Check
    outcome: _Outcome


def _worths(name: ProbeName, checks: Sequence[_Check], outcomes: Sequence[_Outcome]) -> list[list[_Worth]]:
    """For each way of a probe, for each task. Without those that raised."""
    ways: dict[int, dict[str, _Worth]] = {}
    for check, outcome in zip(checks, outcomes, strict=True):
        if check.probe == name and not outcome.error:
            worth = _Worth(outcome.score or 0.0, check, outcome)
            of_task = ways.setdefault(check.way, {})
            of_task[check.task.id] = min(of_task.get(check.task.id, worth), worth, key=lambda one: one.score)
    return [list(of_task.values()) for of_task in ways.values()]


def _mean(worths: Sequence[_Worth]) -> float:
    return math.fsum(one.score for one in worths) / len(worths)


def _wrong(checks: Sequence[_Check], outcomes: Sequence[_Outcome], floor: float) -> tuple[list[str], list[str]]:
    """Problems and notes, one for each kind of what is not as it has to be, with its first or worst case."""
    problems, notes = list[str](), list[str]()
    for name in PROBES:
        raised = [(c, o) for c, o in zip(checks, outcomes, strict=True) if c.probe == name and o.error]
        if raised:
            check, outcome = raised[0]
            problems.append(f"it raises on {_what(check)}: {outcome.error}{_more(len(raised), 'checks')}")
        worths = _worths(name, checks, outcomes)
        if name == "oracle":
            wrong = [one for one in itertools.chain(*worths) if not _is_right(one)]
            if wrong:
                told = f"gets {_score(wrong[0].outcome)}, not {wrong[0].check.wanted:g}{_because(wrong[0].outcome)}"
                problems.append(f"{_what(wrong[0].check)} {told}{_more(len(wrong), 'tasks')}")
            continue
        best = max(worths, key=_mean, default=[])
        paid = [one for one in best if one.score > floor]
        if paid:
            top = max(paid, key=lambda one: one.score)
            told = f"{_what(top.check)} gets {top.score:.3g}{_because(top.outcome)}{_more(len(paid), 'tasks')}"
            if _mean(best) > floor:
                problems.append(f"{told}; the mean over {len(best)} tasks is {_mean(best):.3g}, above {floor:g}")
            else:
                notes.append(told)
    return problems, notes


def _is_right(oracle: _Worth) -> bool:
    return oracle.outcome.score is not None and abs(oracle.score - oracle.check.wanted) <= TOLERANCE


def _what(check: _Check) -> str:
    shows = "" if check.probe in ("empty", "echo") else f" {shown(check.completion, 60)}"
    return f"{MEANING[check.probe]}{shows} on task {check.task.id!r}"


def _because(outcome: _Outcome) -> str:
    return f" ({outcome.reason})" if outcome.reason else ""


def _more(count: int, what: str) -> str:
    return f"; so on {count} {what}" if count > 1 else ""


def _score(outcome: _Outcome) -> str:
    return "no score" if outcome.score is None else f"{outcome.score:g}"


def _differing(
    checks: Sequence[_Check], outcomes: Sequence[_Outcome], again: dict[int, _Outcome], when: str
) -> list[str]:
    bad = [
        i for i, outcome in again.items() if (outcome.score, outcome.error) != (outcomes[i].score, outcomes[i].error)
    ]
    if not bad:
        return []
    i = min(bad)
    told = f"{_told(outcomes[i])} at first and {_told(again[i])} {when}"
    return [f"{_what(checks[i])} gets {told}; {len(bad)} of {len(again)} checks differ"]


def _told(outcome: _Outcome) -> str:
    return outcome.error or _score(outcome)


def _remarks(checks: Sequence[_Check], outcomes: Sequence[_Outcome]) -> list[str]:
    none = sum(o.score is None and not o.error and c.probe != "oracle" for c, o in zip(checks, outcomes, strict=True))
    return (
        [f"{none} worthless completions get no score instead of 0; they count as invalid in training"] if none else []
    )


def _probe(name: ProbeName, checks: Sequence[_Check], outcomes: Sequence[_Outcome]) -> Probe:
    every = [outcome for check, outcome in zip(checks, outcomes, strict=True) if check.probe == name]
    worths = _worths(name, checks, outcomes)
    scores = [one.score for way in worths for one in way]
    return Probe(
        name=name,
        checks=len(every),
        invalid=sum(one.score is None and not one.error for one in every),
        raised=sum(bool(one.error) for one in every),
        mean=max(map(_mean, worths), default=None),
        lowest=min(scores, default=None),
        highest=max(scores, default=None),
    )


def _quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values: the smallest that ``share`` of them do not exceed."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
