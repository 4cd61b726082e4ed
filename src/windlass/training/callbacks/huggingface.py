"""A callback for transformers' Trainer: what it logs is in the journal, at its step.

::

    with windlass.start_run() as run:
        Trainer(..., callbacks=[WindlassCallback(run)]).train()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from windlass.runs.sdk import Run
from windlass.training.callbacks.recorder import Recorder


class WindlassCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Logs on rank 0, as :class:`Recorder` says. ``run`` is by default that of this script."""

    def __init__(self, run: Run | None = None) -> None:
        self._recorder = Recorder(run)

    @property
    def run(self) -> Run | None:
        """None in a process that does not log."""
        return self._recorder.run

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._recorder.log(logs or {}, state.global_step)
