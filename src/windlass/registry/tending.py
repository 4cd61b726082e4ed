"""What a deployment's outcomes ask for: the challenger's next step, or a way back for the champion."""

from __future__ import annotations

from dataclasses import dataclass

from windlass.records.deployment import Deployment, Role, Stage
from windlass.records.gate import GatePolicy
from windlass.registry.monitor import Regression, Watch
from windlass.registry.outcomes import Follower, OutcomeLog, Tally
from windlass.registry.trial import Advice, Trial, canary_advice, canary_needed, shadow_advice, shadow_needed


@dataclass(frozen=True, slots=True)
class Findings:
    challenger: str | None = None
    advice: Advice | None = None  #: of the challenger, where one is in shadow or canary
    regression: Regression | None = None  #: of the champion


class Tender:
    """Follows one deployment's outcome log as it grows; each look reads only what is new.

    What it finds follows from the log alone, so that any process at any time finds the same.
    """

    def __init__(self, log: OutcomeLog) -> None:
        self._log = log
        self._challenge: _Challenge | None = None
        self._tenure: _Tenure | None = None

    def look(self, line: Deployment, policy: GatePolicy, trial: GatePolicy) -> Findings:
        """The champion is watched by ``policy``, the challenger is on its way by ``trial``.

        While a rollback is under way there is nothing to find.
        """
        if line.champion is None or line.frozen is not None:
            return Findings()
        challenger, advice = line.challenger, None
        if challenger is not None:
            if self._challenge is None or self._challenge.key != _line_key(line):
                self._challenge = _Challenge(line, trial, self._log)
            advice = self._challenge.advice()
        if self._tenure is None or self._tenure.key != line.tenures[-1]:
            self._tenure = _Tenure(line, policy, self._log)
        return Findings(challenger, advice, self._tenure.regression())


def _line_key(line: Deployment) -> tuple[object, ...]:
    return line.champion, line.challenger, line.stages.get(line.challenger or ""), line.share, line.trial_from


class _Challenge:
    """One step of a challenger: its shadow, or one share of its canary."""

    def __init__(self, line: Deployment, policy: GatePolicy, log: OutcomeLog) -> None:
        assert line.challenger is not None
        self.key = _line_key(line)
        self._policy = policy
        self._step = 0
        if line.stages[line.challenger] is Stage.SHADOW:
            assert policy.shadow is not None
            role, needed = Role.SHADOW, shadow_needed(policy.shadow)
        else:
            assert policy.canary is not None
            self._step = policy.canary.shares.index(line.share)
            role, needed = Role.CANARY, canary_needed(policy.canary, self._step, _before(line, log))
        self._trial = Trial(role, line.challenger, line.champion, needed)
        self._follower = Follower(log.path, line.trial_from)

    def advice(self) -> Advice:
        for served in self._follower.new():
            self._trial.add(served)
        if self._trial.role is Role.SHADOW:
            assert self._policy.shadow is not None
            return shadow_advice(self._policy.shadow, self._trial)
        assert self._policy.canary is not None
        return canary_advice(self._policy.canary, self._step, self._trial)


def _before(line: Deployment, log: OutcomeLog) -> Tally:
    """The champion's answers in its tenure, up to where the challenger's step begins."""
    assert line.champion is not None
    return log.tally(line.champion, Role.CHAMPION, line.tenures[-1].outcomes_from, line.trial_from)


class _Tenure:
    """The champion's answers since it began to serve, held against its own earlier ones or its predecessor's."""

    def __init__(self, line: Deployment, policy: GatePolicy, log: OutcomeLog) -> None:
        assert line.champion is not None
        self.key = line.tenures[-1]
        predecessor = None
        if len(line.tenures) > 1:
            predecessor = log.tally(line.tenures[-2].checkpoint, Role.CHAMPION, end=self.key.outcomes_from)
        self._watch = Watch(policy.monitor, line.champion, predecessor)
        self._follower = Follower(log.path, self.key.outcomes_from)

    def regression(self) -> Regression | None:
        for served in self._follower.new():
            self._watch.add(served)
        return self._watch.found
