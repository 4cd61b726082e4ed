"""``with Preemption() as asked``: a training that is asked to end finishes its step, and saves its state."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
    """Turns SIGTERM and SIGINT into a flag while the block runs; afterwards the handlers are those of before.

    ::

        with Preemption() as asked:
            for step in range(first, steps):
                ...
                if asked.now:  # read it once a step: it may turn between two looks
                    state.save(step + 1, tensors, numbers)
                    raise Preempted(f"asked to end after step {step + 1}; the state is saved")

    Outside of the main thread there are no signal handlers: the flag stays down.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    @property
    def now(self) -> bool:
        """Whether the training was asked to end."""
        return self._asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True
