"""Verdicts on completions as scores."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from windlass.errors import WindlassError
from windlass.records.task import Task, Verdict
from windlass.training.rlvr.plan import Scores
from windlass.verifiers import Verifier, VerifierFailed

SLOW_S = 2e-3  #: a verifier that takes longer judges from several threads: it waits for other processes


class Judge:
    """A verifier that judges whole batches. Equal completions of a task are judged once a batch.

    What the verifier raises goes on, with the task that it was raised at: a bug is no score.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._seconds = 0.0  # a verdict, of the batch before

    def __call__(self, completions: Sequence[str], tasks: Sequence[Task]) -> Scores:
        """``tasks[i]`` is the task of completion i. Raises what the verifier raises."""
        keys = [(task.id, completion) for task, completion in zip(tasks, completions, strict=True)]
        different = {key: task for key, task in zip(keys, tasks, strict=True)}
        began = time.perf_counter()
        workers = min(os.cpu_count() or 1, len(different))
        if self._seconds > SLOW_S and workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                verdicts = list(pool.map(lambda item: self._verdict(item[0][1], item[1]), different.items()))
        else:
            verdicts = [self._verdict(completion, task) for (_, completion), task in different.items()]
            self._seconds = (time.perf_counter() - began) / max(len(different), 1)
        known = {key: verdict.score for key, verdict in zip(different, verdicts, strict=True)}
        return [known[key] for key in keys]

    def _verdict(self, completion: str, task: Task) -> Verdict:
        try:
            return self._verifier.verify(completion, task)
        except (WindlassError, MemoryError):
            raise
        except Exception as error:
            raise VerifierFailed(
                f"the verifier raised {type(error).__name__} on task {task.id!r}: {error}",
                "Correct the verifier; what it raises is never a score.",
            ) from error


def mean_of(scores: Sequence[float | None]) -> float:
    """Of those that are there; 0 where there is none."""
    valid = [score for score in scores if score is not None]
    return sum(valid) / len(valid) if valid else 0.0
