"""The council: the agents that take part in one study, and the weights of their votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from windlass.agents.critics import CRITICS
from windlass.agents.language import LanguageModelAgent
from windlass.agents.panel import check_weights, tally
from windlass.agents.proposers import PROPOSERS
from windlass.agents.situation import Critic, Proposer
from windlass.errors import StudyError, nearest
from windlass.records.decision import Exchange, Incident, Tally, Vote
from windlass.records.study import Study

ALWAYS_VOTE = ("feasibility", "novelty")  #: critics that never abstain; the others may, all of them at a time


@dataclass(frozen=True, kw_only=True)
class Council:
    """Who proposes and who votes."""

    study: Study
    proposers: Mapping[str, Proposer]
    critics: Mapping[str, Critic]
    language: LanguageModelAgent | None = None

    @classmethod
    def of(cls, study: Study, language: LanguageModelAgent | None = None) -> Self:
        """Raises StudyError where the study names an agent that there is not, or leaves nobody to propose or vote."""
        proposers, critics = dict(PROPOSERS), dict(CRITICS)
        known = [*proposers, *critics, LanguageModelAgent.name]
        for name in study.agents.without:
            if name not in known:
                raise StudyError(
                    f"agents.without: no agent {name!r}.{nearest(name, known)} Known: {', '.join(known)}",
                    "Edit the study's agents.without.",
                )
        if language is not None:
            proposers[language.name] = language
            if language.criticises:
                critics[language.name] = language
        proposers = {name: one for name, one in proposers.items() if name not in study.agents.without}
        critics = {name: one for name, one in critics.items() if name not in study.agents.without}
        if "explorer" not in proposers:
            raise StudyError(
                "agents.without: the explorer has to stay: it proposes where nothing is known",
                "Edit the study's agents.without.",
            )
        if missing := [name for name in ALWAYS_VOTE if name not in critics]:
            raise StudyError(
                f"agents.without: {' and '.join(missing)} cannot stay out: the panel needs two votes, and only"
                f" {' and '.join(ALWAYS_VOTE)} vote on every proposal",
                "Edit the study's agents.without.",
            )
        check_weights(study.panel, list(critics))
        return cls(study=study, proposers=proposers, critics=critics, language=language)

    def tally(self, votes: Sequence[Vote]) -> Tally:
        weights = {name: critic.weight for name, critic in self.critics.items()}
        return tally(votes, {**weights, **self.study.panel.weights}, self.study.panel)

    def take_incidents(self) -> tuple[Incident, ...]:
        """What kept the language model from doing its part since it was last asked."""
        return self.language.take_incidents() if self.language is not None else ()

    def take_exchanges(self) -> tuple[Exchange, ...]:
        """What was said to and by the language model since it was last asked for."""
        return self.language.take_exchanges() if self.language is not None else ()
