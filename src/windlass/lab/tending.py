"""A deployment's outcomes, recorded and acted on: the challenger's next step, or the champion's way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from windlass.errors import LabBusy, StateError, WindlassError
from windlass.records.deployment import Role, Served, Stage
from windlass.registry.monitor import Regression
from windlass.registry.outcomes import OutcomeLog, Tally
from windlass.registry.promotion import serve, stage_challenger
from windlass.registry.state import State
from windlass.registry.tending import Findings, Tender
from windlass.registry.trial import Move

if TYPE_CHECKING:
    from windlass.lab.keeping import Keeping


class Tending:
    """Of one lab; ``Keeping`` hands its part on."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._tenders: dict[str, tuple[OutcomeLog, Tender]] = {}
        self._settled = 0  #: the last entry that everything on disk was seen to follow

    def observe(self, deployment: str, served: Sequence[Served]) -> list[str]:
        """Record what became of answers, and act on it; returns what was done, in words."""
        self._tender(deployment)[0].append(served)
        return self.tend(deployment)

    def tallies(self, deployment: str) -> Mapping[tuple[str, Role], Tally]:
        """Outcomes counted by (checkpoint id, role)."""
        return self._tender(deployment)[0].tallies()

    def findings(self, deployment: str) -> Findings:
        """What the outcomes so far ask for; nothing is done about it."""
        return self._find(deployment, self._keeping.state)

    def _find(self, deployment: str, state: State) -> Findings:
        line, policy = state.deployment(deployment), state.policy_of(deployment)[0]
        trial = policy
        if line.challenger is not None:  # others may have been judged by another policy since
            trial, _ = state.policies[state.verdicts_of(deployment, line.challenger)[-1].policy]
        return self._tender(deployment)[1].look(line, policy, trial)

    def tend(self, deployment: str) -> list[str]:
        """Look at the outcomes and act: the challenger's next step, and under ``act: auto`` a rollback.

        Returns what was done or is recommended, in words. What another process did first, or has in hand, is left as it
        is.
        """
        state = self._keeping.state
        if self._settled != state.sequence:  # whoever entered that may be dead by now
            self._keeping.settle()
            self._settled, state = state.sequence, self._keeping.state
        if state.open_rollback(deployment) is not None:
            return self._take_up(deployment)
        done: list[str] = []
        while True:
            found = self._find(deployment, state)
            try:
                words = self._move(deployment, found, state) if found.advice is not None else ""
            except StateError:
                before, state = state, self._keeping.state
                if state.sequence == before.sequence:
                    raise
                continue  # another process came first
            if not words:
                break
            self._keeping.settle()
            done.append(words)
            state = self._keeping.state
        if found.regression is not None:
            done.append(self._answer(deployment, found.regression))
        return done

    def _move(self, deployment: str, found: Findings, state: State) -> str:
        """Take the step that a challenger's outcomes advise; an empty string where it is to wait."""
        advice, line = found.advice, state.deployment(deployment)
        assert advice is not None
        if advice.move is Move.WAIT:
            return ""
        challenger = str(found.challenger)
        verdict = state.verdicts_of(deployment, challenger)[-1]
        policy, _ = state.policies[verdict.policy]
        registry, outcomes = self._keeping.vault.registry, self._tender(deployment)[0].end()
        stage, share = None, 0.0
        match advice.move:
            case Move.REJECT:
                stage = Stage.REJECTED
            case Move.ROLL_BACK:
                stage = Stage.ROLLED_BACK
            case Move.GROW:
                stage, share = Stage.CANARY, float(advice.share or 0.0)
            case Move.ADVANCE if policy.canary is not None:
                stage, share = Stage.CANARY, policy.canary.shares[0]
        actor = str(line.stages[challenger])  # shadow, canary
        if stage is None:
            serve(registry, verdict, actor=actor, reason=advice.reason, outcomes=outcomes, evidence=advice.evidence)
            return f"{challenger} serves as {deployment}: {advice.reason}"
        stage_challenger(
            registry,
            verdict,
            stage,
            actor=actor,
            reason=advice.reason,
            share=share,
            outcomes=outcomes,
            evidence=advice.evidence,
        )
        with_share = f", {100 * share:g} % of keys" if share else ""
        place = {Stage.REJECTED: "rejected for", Stage.ROLLED_BACK: "rolled back from"}.get(stage, f"{stage} of")
        return f"{challenger} is {place} {deployment}{with_share}: {advice.reason}"

    def _answer(self, deployment: str, regression: Regression) -> str:
        state = self._keeping.state
        champion = state.deployment(deployment).champion
        tried = any(
            r.failed and (r.source, r.reason) == (champion, regression.reason) for r in state.rollbacks.values()
        )
        if tried or not self._auto(deployment):
            return f"{champion} serves worse: {regression.reason}. Recommended: windlass rollback {deployment}"
        try:
            ended = self._keeping.rollback(
                deployment, reason=regression.reason, evidence=regression.evidence, actor="monitor"
            )
        except WindlassError as error:
            return f"{champion} serves worse: {regression.reason}. It could not be rolled back: {error.message}"
        if ended.failed:
            return f"{champion} serves worse: {regression.reason}. The rollback was undone: {ended.notes[-1]}"
        return f"{deployment} was rolled back to {ended.target}: {regression.reason}"

    def _take_up(self, deployment: str) -> list[str]:
        """A rollback that a kill interrupted goes on under ``act: auto``, and is told otherwise."""
        if self._keeping.rolling_back(deployment) is not None:
            return []
        if not self._auto(deployment):
            return [f"a rollback of {deployment} was interrupted. Recommended: windlass rollback {deployment}"]
        try:
            ended = self._keeping.rollback(deployment, actor="monitor")
        except LabBusy:
            return []
        if ended.failed:
            return [f"the rollback of {deployment} that was interrupted was undone: {ended.notes[-1]}"]
        return [f"{deployment} was rolled back to {ended.target}, after an interruption"]

    def _auto(self, deployment: str) -> bool:
        return self._keeping.state.policy_of(deployment)[0].monitor.act == "auto"

    def _tender(self, deployment: str) -> tuple[OutcomeLog, Tender]:
        if deployment not in self._tenders:
            log = self._keeping.vault.outcomes(self._keeping.state.deployment(deployment).name)
            self._tenders[deployment] = (log, Tender(log))
        return self._tenders[deployment]
