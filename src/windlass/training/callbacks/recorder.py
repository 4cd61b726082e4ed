"""What a framework's trainer reports, as metrics of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from windlass.runs.sdk import Run, start_run
from windlass.training.callbacks.ranks import main_process

#: what transformers and TRL call the tokens seen so far
TOKENS = ("num_input_tokens_seen", "num_tokens")


class Recorder:
    """Logs on the main process alone; ``run`` is None in the others. Without a run it is this script's own.

    Numbers are logged, anything else is passed over. One that is not finite becomes a note, the first time: it is no
    point of a curve, and no secret. The cumulative count of tokens is also logged as ``tokens``, which a budget reads.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = None if not main_process() else start_run() if run is None else run
        self._noted: set[str] = set()

    def log(self, reported: Mapping[str, Any], step: int | None) -> None:
        if self.run is None:
            return
        numbers = {name: value for name, given in reported.items() if (value := _number(given)) is not None}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        for name in sorted(numbers.keys() - finite.keys() - self._noted):
            self._noted.add(name)
            self.run.note(f"{name} is {numbers[name]}" + ("" if step is None else f" at step {step}"))
        for name in TOKENS:
            if name in finite:
                finite["tokens"] = finite[name]
        if finite:
            self.run.log(finite, step=step)


def _number(value: Any) -> float | None:
    """Numbers, also of numpy and torch."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
