"""What a verifier is, and the way from ``{kind: exact, ...}`` to one.

    verifier = build({"kind": "numeric", "relative": 0.01})
    verdict = verifier.verify(completion, task)          score in 0..1 or None, and the reason
    verifier = for_task({"kind": "numeric"}, tasks)      each task's own verifier, else this one

A verdict's ``score`` is 0 where the completion is wrong, unreadable, empty, or costs more to check than it may; it is
None where nothing can be said of it. A verifier that raises ends what called it: DataError where the task cannot be
judged at all, VerifierFailed where the verifier itself is wrong. Neither is ever a score.
"""

from __future__ import annotations

import importlib
import json
import numbers
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol, Self, cast

from pydantic import ValidationError

from windlass.errors import DataError, WindlassError, nearest
from windlass.records.content import digest
from windlass.records.fields import Strict
from windlass.records.task import Task, Verdict

#: kind -> its class
_HOMES = {
    "exact": "windlass.verifiers.answers:Exact",
    "numeric": "windlass.verifiers.answers:Numeric",
    "choice": "windlass.verifiers.answers:Choice",
    "set": "windlass.verifiers.answers:Set",
    "sequence": "windlass.verifiers.answers:Sequence",
    "regex": "windlass.verifiers.patterns:Regex",
    "json_schema": "windlass.verifiers.patterns:JsonSchema",
    "math": "windlass.verifiers.maths:Math",
    "gym": "windlass.verifiers.gym:Gym",
    "code": "windlass.verifiers.code:Code",
    "function": "windlass.verifiers.function:Function",
    "recorded": "windlass.verifiers.recorded:Recorded",
    "weighted": "windlass.verifiers.weighted:Weighted",
}
KINDS = tuple(_HOMES)
SOLUTION = "solution"  #: in a task's metadata: a completion that has to score 1
LIST = "windlass verifiers list"


class VerifierFailed(WindlassError):
    """A verifier raised or gave what is no score: its own fault, not the completion's."""


class Verifier(Protocol):
    """Judges completions. Equal arguments give equal verdicts, in any order and from any thread."""

    def verify(self, completion: str, task: Task) -> Verdict:
        """Raises DataError for a task that it cannot judge, VerifierFailed where the verifier is wrong."""


class Known(NamedTuple):
    """A completion whose right score is known."""

    completion: str
    score: float


class Kind(Strict):
    """A verifier as data: its fields are its options."""

    def verify(self, completion: str, task: Task) -> Verdict:
        """See :meth:`Verifier.verify`."""
        raise NotImplementedError

    def right(self, task: Task) -> str | None:
        """A right answer, where the task says one. Raises DataError for a task that cannot be judged."""
        return None

    def within(self, answer: str) -> str:
        """A completion with this answer."""
        return answer

    def known(self, task: Task) -> Known | None:
        """A completion with a known score, for the audit: the task's ``metadata.solution``, else its right answer."""
        solution = task.metadata.get(SOLUTION)
        if isinstance(solution, str):
            return Known(solution, 1.0)
        right = self.right(task)
        return None if right is None else Known(self.within(right), 1.0)

    def close(self) -> None:
        """End the processes it uses. It can be used again, which starts them anew."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kind_class(kind: str) -> type[Kind]:
    """Raises DataError for an unknown kind."""
    if kind not in _HOMES:
        raise DataError(f"there is no verifier of kind {kind!r}.{nearest(kind, KINDS)} Kinds: {', '.join(KINDS)}", LIST)
    module, _, name = _HOMES[kind].partition(":")
    return cast(type[Kind], getattr(importlib.import_module(module), name))


def options(kind: type[Kind]) -> list[str]:
    """The names of a kind's options."""
    return [field.alias or name for name, field in kind.model_fields.items()]


def build(spec: Mapping[str, Any]) -> Kind:
    """The verifier that ``{"kind": ..., option: value, ...}`` describes.

    Raises DataError that names every unknown or wrong option, with the nearest right name; MissingExtra where a library
    that the kind needs is not installed.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        raise DataError(f"a verifier is described as {{kind: ..., ...}}, not as {shown(spec)}", LIST)
    kind = spec["kind"]
    made = kind_class(kind)
    try:
        return made.model_validate({key: value for key, value in spec.items() if key != "kind"})
    except ValidationError as error:
        told = [_words(problem, made) for problem in error.errors(include_url=False)]
        raise DataError(f"verifier {kind!r}: {'; '.join(told)}", LIST) from None


def _words(problem: Any, made: type[Kind]) -> str:
    location, value, context = problem["loc"], problem.get("input"), problem.get("ctx", {})
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")
    match problem["type"]:
        case "extra_forbidden" if len(location) == 1:
            known = options(made)
            return f"unknown option {place!r}.{nearest(place, known)} Options: {', '.join(known) or 'none'}"
        case "extra_forbidden":
            return f"unknown key {place!r}"
        case "missing":
            return f"{place!r} is missing"
        case "literal_error":
            names = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
            return f"{place!r} must be {context['expected']}, not {shown(value)}.{nearest(str(value), names)}".rstrip(
                "."
            )
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = message if message[:2].isupper() else message[:1].lower() + message[1:]
    if not place:
        return message
    return f"{place!r}: {message}" + ("" if "not " in message else f", not {shown(value)}")


class PerTask:
    """A verifier of tasks of which some have their own. Equal specs share one verifier."""

    def __init__(self, default: Mapping[str, Any] | None) -> None:
        self._default = default
        self._built: dict[str, Kind] = {}
        self._lock = threading.Lock()

    def of(self, task: Task) -> Kind:
        """The verifier that judges a task. Raises DataError that names the task."""
        spec = self._default if task.verifier is None else task.verifier
        if spec is None:
            raise DataError(f"task {task.id!r} has no verifier, and there is none for all tasks", LIST)
        key = digest(dict(spec))
        with self._lock:
            if key not in self._built:
                try:
                    self._built[key] = build(spec)
                except DataError as error:
                    place = "" if task.verifier is None else f"task {task.id!r}: "
                    raise DataError(f"{place}{error.message}", error.next_step) from None
            return self._built[key]

    def verify(self, completion: str, task: Task) -> Verdict:
        return self.of(task).verify(completion, task)

    def close(self) -> None:
        for one in self._built.values():
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def for_task(default: Mapping[str, Any] | None = None, tasks: Iterable[Task] = ()) -> PerTask:
    """A verifier that judges each task by its own ``verifier``, and by ``default`` where it has none.

    Those of ``tasks`` are built at once. Raises DataError as :func:`build` does, and for a task that has none at all.
    """
    made = PerTask(default)
    for task in tasks:
        made.of(task)
    return made


def unfit(task: Task, kind: str, needs: str) -> DataError:
    """A task whose ``expected`` the verifier cannot use."""
    return DataError(
        f"task {task.id!r}: the verifier {kind!r} needs {needs} as 'expected', not {shown(task.expected)}",
        "Correct the task, or give it another verifier: windlass verifiers list",
    )


def scored(value: Any, who: str) -> float:
    """A score as a number in 0..1. Raises VerifierFailed that has the value where it is none."""
    if isinstance(value, numbers.Real) and 0 <= float(value) <= 1:  # NaN is not
        return float(value)
    raise VerifierFailed(f"{who} gave {value!r} as a score; a score is a number in 0..1, or None")


def shown(value: Any, most: int = 80) -> str:
    """A value in one line of a message, cut at ``most`` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    flat = " ".join(text[: 4 * most].split())
    cut = whole(flat[:most] + "…" if len(flat) > most or len(text) > 4 * most else flat)
    return repr(cut) if isinstance(value, str) else cut


def whole(text: str) -> str:
    """A text without halves of surrogate pairs, which no file and no record holds; what a model says may have them."""
    return text.encode(errors="replace").decode()
