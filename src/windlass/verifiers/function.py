"""A user's function as a verifier."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from pydantic import Field, PrivateAttr

from windlass.errors import DataError, nearest
from windlass.records.fields import FunctionName
from windlass.records.task import Task, Verdict
from windlass.verifiers.answers import as_text
from windlass.verifiers.protocol import Kind, VerifierFailed, scored, whole


class Function(Kind):
    """``function(completion, task)`` of a module: a score in 0..1, (score, reason), or None where it cannot judge.

    What it raises, and a score that is none, end what called it: a bug is no score. It is called from several threads.
    """

    function: FunctionName = Field(description="module:function, found on sys.path")
    _call: Callable[[str, Task], Any] = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        self._call = _load(self.function)

    def verify(self, completion: str, task: Task) -> Verdict:
        given = self._call(completion, task)
        reason = ""
        if isinstance(given, tuple):
            if len(given) != 2 or not isinstance(given[1], str):
                raise VerifierFailed(f"{self.function} gave {given!r}; wanted a score, (score, reason) or None")
            given, reason = given
        score = None if given is None else scored(given, f"{self.function}, on task {task.id!r},")
        return Verdict(score=score, reason=whole(reason))

    def right(self, task: Task) -> str | None:
        """What is expected, where it is a text or a number."""
        return as_text(task.expected) if isinstance(task.expected, (str, int, float)) else None


def _load(name: str) -> Callable[[str, Task], Any]:
    """Raises DataError where the module or the function is not there; what the module raises passes through."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise DataError(
                f"verifier 'function': there is no module {module!r}",
                f"Install it, or put its folder on PYTHONPATH. Looked in: {', '.join(filter(None, sys.path))}",
            ) from None
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [one for one in vars(found) if not one.startswith("_")]
            raise DataError(f"verifier 'function': {module!r} has no {attribute!r}.{nearest(part, public)}")
        found = getattr(found, part)
    if not callable(found):
        raise DataError(f"verifier 'function': {name} is no function but {found!r}")
    return found  # type: ignore[no-any-return]
