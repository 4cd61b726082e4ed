"""A logger for Lightning: what a module logs is in the journal, at its step.

::

    with windlass.start_run() as run:
        lightning.Trainer(logger=WindlassLogger(run)).fit(model, data)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger

from windlass.runs.sdk import Run
from windlass.training.callbacks.recorder import Recorder


class WindlassLogger(Logger):  # type: ignore[misc, unused-ignore]
    """Logs on rank 0, as :class:`Recorder` says. ``run`` is by default that of this script."""

    def __init__(self, run: Run | None = None) -> None:
        super().__init__()
        self._recorder = Recorder(run)

    @property
    def experiment(self) -> Run | None:
        """The run; None in a process that does not log."""
        return self._recorder.run

    @property
    def name(self) -> str:
        return "windlass"

    @property
    def version(self) -> str:
        return "" if self.experiment is None else self.experiment.id

    @property
    def save_dir(self) -> str | None:
        """The run folder: Lightning puts its checkpoints below it."""
        return None if self.experiment is None else str(self.experiment.path)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._recorder.log(metrics, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a run's config is what it was started with."""
