"""What a rollback does outside of the log, in a lab."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from windlass.errors import StateError
from windlass.loop.keeping import EvaluationFailed, Keeper, KeepingEvent, Step
from windlass.records.deployment import Role, StepState
from windlass.registry import rollback
from windlass.registry.pointer import read_pointer

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping

OnEvent = Callable[[KeepingEvent], None]


class LabHands:
    """What a rollback does outside of the log; see ``registry.rollback.Hands``."""

    def __init__(self, keeping: Keeping, on_event: OnEvent | None) -> None:
        self._keeping = keeping
        self._on_event = on_event

    def step(self, deployment: str, step: str, state: StepState, note: str) -> None:
        tell(self._on_event, Step(deployment, step, state, note))

    def point(self, deployment: str) -> str:
        self._keeping.vault.settle()
        return f"the pointer says {read_pointer(self._keeping.pointer_file(deployment))['checkpoint']}"

    def verify(self, checkpoint: str) -> list[str]:
        keeping = self._keeping
        return list(keeping.blobs.verify(keeping.state.checkpoints[checkpoint].digest))

    def smoke(self, deployment: str, checkpoint: str) -> tuple[bool, str]:
        """On the first benchmark that decides: the evaluator has to run, and to find what it found before."""
        keeping = self._keeping
        policy, folder = keeping.state.policy_of(deployment)
        benchmark = next(b for b in policy.benchmarks if b.require == "better")
        keeper = Keeper(vault=keeping.vault, policy=policy, folder=folder, actor=person())
        target = keeping.state.checkpoints[checkpoint]
        open_rollback = keeping.state.open_rollback(deployment)
        spec = keeper.spec(benchmark, target, f"smoke {open_rollback.id if open_rollback else time.time()}")
        spec = keeping.next_try(keeper, benchmark, spec)
        before = keeping.state.evaluations_of(checkpoint, benchmark.name)
        for _ in keeping.run_jobs([spec], self._on_event):
            pass
        outcome = keeper.collect(spec.id)
        if isinstance(outcome, EvaluationFailed):
            return False, f"its evaluation on {benchmark.name} failed: {outcome.why}"
        return rollback.fit(benchmark, outcome, before, keeping.vault.derive)

    def outcomes(self, deployment: str) -> int:
        return self._keeping.vault.outcomes(deployment).end()

    def watch(self, deployment: str, checkpoint: str) -> str:
        keeping = self._keeping
        pointed = read_pointer(keeping.pointer_file(deployment))["checkpoint"]
        if pointed != checkpoint:
            raise StateError(f"the pointer of {deployment} says {pointed}", f"windlass deployments show {deployment}")
        tally = keeping.tallies(deployment).get((checkpoint, Role.CHAMPION))
        known = f"{tally.n} of its earlier answers are on record" if tally else "no answer of it is on record yet"
        return f"the pointer says {pointed}; {known}; its answers are watched"


def tell(on_event: OnEvent | None, event: KeepingEvent) -> None:
    if on_event is not None:
        on_event(event)


def person() -> str:
    return getpass.getuser()
