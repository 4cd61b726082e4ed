"""The language model: an agent that proposes and criticises in words. It takes part where a study asks for it.

What a model says is data: an answer has to fit a schema, the values it proposes have to give a config of the study that
is not decided on yet, and its words are kept as text of limited length. Nothing of it is executed. An answer that
cannot be used is asked for once more, with the reason; after that, and on every other trouble (time-out, dead
endpoint, HTTP error, no key), the agent has nothing to propose and abstains, and says so on record.

It is silent where its budget is used up (the request that does it is the last one), and for ``REST`` decisions after
``PATIENCE`` exchanges in a row went wrong. Both follow from the exchanges on record, so a replay with the
recorded replies gives the same proposals and votes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from windlass.agents.briefing import again, to_criticise, to_propose
from windlass.agents.endpoint import LONGEST_ERROR, LONGEST_REPLY, NAME, Endpoint, Recorded, Replies, Request, plain
from windlass.agents.situation import Situation
from windlass.errors import ConfigRejected
from windlass.records.content import digest, flatten
from windlass.records.deciding import LanguageModel
from windlass.records.decision import Exchange, Incident, Proposal, Stance, Vote
from windlass.records.forecast import Forecast

PATIENCE = 3  #: exchanges in a row that went wrong, after which it rests
REST = 12  #: decisions for which it rests; then it is asked again, and rests again at once where that goes wrong, too

_SCALARS = [{"type": "number"}, {"type": "string"}, {"type": "boolean"}]
#: the space says what a value may be, in better words than a schema
_Value = Annotated[Any, WithJsonSchema({"anyOf": [*_SCALARS, {"type": "array", "items": {"anyOf": _SCALARS}}]})]
_RunNumber = Annotated[int, BeforeValidator(lambda value: value.lstrip("#") if isinstance(value, str) else value)]
_Runs = Annotated[
    list[_RunNumber], Field(max_length=20, description="the numbers of the runs that are the evidence: 12 for #12")
]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Idea(_Answer):
    """One configuration worth running."""

    values: dict[str, _Value] = Field(max_length=500, description="parameter name -> value; what is left out stays")
    hypothesis: str = Field(min_length=1, max_length=800, description="why this should help")
    expected_effect: str = Field(min_length=1, max_length=400, description="what you expect to see")
    runs: _Runs = []


class Ideas(_Answer):
    """Propose configurations for the next runs."""

    proposals: list[Idea] = Field(min_length=1, max_length=16)


class Judgement(_Answer):
    """Judge the proposal."""

    stance: Literal["approve", "reject", "revise", "abstain"]
    confidence: float = Field(ge=0, le=1)
    reason: str = Field(min_length=1, max_length=800)
    runs: _Runs = []


class Unusable(ValueError):
    """An answer that cannot be used; says why."""


Read = TypeVar("Read")
Answer = TypeVar("Answer", bound=BaseModel)


class LanguageModelAgent:
    """A proposer, and a critic where the study's ``criticises`` says so.

    Between two calls of :meth:`take_exchanges` it remembers what was said, because that counts against the budget;
    it holds nothing else. Take the exchanges when there is a decision to keep them in, and not before.
    """

    name: ClassVar[str] = NAME
    weight: ClassVar[float] = 1.0

    def __init__(self, section: LanguageModel, api_key: str | None = None) -> None:
        """``api_key`` is the content of ``section.key_variable``. Nothing is imported before it is asked."""
        self._section = section
        self._replies: Replies = Endpoint(section, api_key)
        self._exchanges: list[Exchange] = []
        self._incidents: dict[str, None] = {}

    @classmethod
    def recorded(cls, section: LanguageModel, exchanges: Sequence[Exchange]) -> Self:
        """The agent of a replay: it answers with the ``exchanges`` of one cycle, and never asks a model."""
        agent = cls(section)
        agent._replies = Recorded(section.model, exchanges)
        return agent

    @property
    def criticises(self) -> bool:
        return self._section.criticises

    def take_exchanges(self) -> tuple[Exchange, ...]:
        """What was asked and answered since the last call; also why nothing was asked."""
        taken, self._exchanges = tuple(self._exchanges), []
        return taken

    def take_incidents(self) -> tuple[Incident, ...]:
        """What kept it from doing its part since the last call, each once."""
        taken, self._incidents = tuple(Incident(agent=NAME, message=text) for text in self._incidents), {}
        return taken

    def propose(self, situation: Situation, numbers: Sequence[int]) -> list[Proposal]:
        """At most one proposal for each decision number; none where the model could not be had or understood."""
        if not numbers:
            return []
        request = to_propose(situation, len(numbers), Ideas)

        def read(reply: str) -> tuple[list[Proposal], list[str]]:
            return _proposals(situation, parsed(Ideas, reply), self._section.model, len(numbers))

        found = self._consult(situation, request, read)
        if found is None:
            return []
        proposals, refused = found
        if refused:
            self._incidents[f"{len(refused)} of its proposals refused: {'; '.join(refused)}"[:LONGEST_ERROR]] = None
        return proposals

    def review(self, situation: Situation, proposal: Proposal, config: Mapping[str, Any], forecast: Forecast) -> Vote:
        """The model's vote. It abstains on its own proposals, and where the model could not be had or understood."""
        if proposal.proposer == NAME:
            return self._abstention("it does not judge its own proposals")
        request = to_criticise(situation, proposal, config, forecast, Judgement)
        judgement = self._consult(situation, request, lambda reply: parsed(Judgement, reply))
        if judgement is None:
            return self._abstention(self._exchanges[-1].error)
        return Vote(
            critic=NAME,
            stance=Stance(judgement.stance),
            confidence=judgement.confidence,
            reason=plain(judgement.reason, 800),
            evidence=_named_runs(situation, judgement.runs),
        )

    def _abstention(self, reason: str) -> Vote:
        return Vote(critic=NAME, stance=Stance.ABSTAIN, confidence=0.0, reason=reason)

    def _consult(self, situation: Situation, request: Request, read: Callable[[str], Read]) -> Read | None:
        """What ``read`` makes of the reply; an unusable one is asked for once more. None after noting what is wrong."""
        for _ in range(2):
            if silent := self._silence(situation):
                # no request, no digest: a line in the log, once a cycle
                note = Exchange(agent=NAME, model=self._section.model, request="", reply=None, error=silent)
                self._exchanges = [*(one for one in self._exchanges if one != note), note]
                break
            exchange = self._replies.ask(request)
            if exchange.reply is None:
                self._exchanges.append(exchange)
                break
            try:
                answer = read(exchange.reply)
            except Unusable as problem:
                self._exchanges.append(replace(exchange, error=plain(str(problem), LONGEST_ERROR)))
                request = again(request, str(problem))
            else:
                self._exchanges.append(replace(exchange, error=""))
                return answer
        self._incidents[self._exchanges[-1].error] = None
        return None

    def _silence(self, situation: Situation) -> str:
        """Why nothing is asked now; empty where something may be."""
        section = self._section
        earlier = [
            (d.number, one) for d in situation.decided for one in d.exchanges if one.agent == NAME and one.request
        ]
        now = [one for one in self._exchanges if one.request]
        asked = [*(one for _, one in earlier), *now]
        tokens = sum(one.input_tokens + one.output_tokens for one in asked)
        if section.tokens is not None and tokens >= section.tokens:
            return f"not asked: its budget of {section.tokens} tokens is used up ({tokens} spent)"
        money = math.fsum(one.money for one in asked)
        if section.money is not None and money >= section.money:
            return f"not asked: its budget of {section.money:g} in money is used up ({money:.4g} spent)"
        gave_up = len(asked) >= PATIENCE and all(one.error for one in asked[-PATIENCE:])
        if gave_up and (now or situation.next_number <= earlier[-1][0] + REST):
            return f"not asked: the last {PATIENCE} exchanges went wrong, and it rests for {REST} decisions"
        return ""


def parsed(schema: type[Answer], reply: str) -> Answer:
    """Raises Unusable."""
    if len(reply) > LONGEST_REPLY:
        raise Unusable(f"the answer has more than {LONGEST_REPLY} characters")
    try:
        return schema.model_validate_json(reply)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        words = [": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in faults[:5]]
        raise Unusable("; ".join(plain(word, 160) for word in words)) from None


def _proposals(situation: Situation, ideas: Ideas, model: str, count: int) -> tuple[list[Proposal], list[str]]:
    """The usable ones, at most ``count``, and why the others were refused. Raises Unusable where none is left."""
    proposals: list[Proposal] = []
    refused: list[str] = []
    taken: set[str] = set()
    for idea in ideas.proposals:
        if len(proposals) == count:
            break
        try:
            config = situation.config(idea.values)
        except ConfigRejected as rejection:
            refused.append(plain(rejection.message, 300))
            continue
        key = digest(config)
        if key in taken or key in situation.configs:
            twin = f"run {situation.configs[key]}" if key in situation.configs else "a proposal before it"
            refused.append(f"{twin} has this configuration already")
            continue
        taken.add(key)
        chosen = flatten(config)
        proposals.append(
            Proposal(
                values={name: chosen[name] for name in idea.values if name in chosen},
                proposer=NAME,
                reason=plain(idea.hypothesis, 800),
                evidence={
                    "expects": plain(idea.expected_effect, 400),
                    "model": model,
                    **_named_runs(situation, idea.runs),
                },
            )
        )
    if not proposals:
        raise Unusable("; ".join(refused))
    return proposals, refused


def _named_runs(situation: Situation, numbers: Sequence[int]) -> dict[str, list[Any]]:
    """The ids of the runs that a model named, and the numbers that no run has."""
    ids = {run.number: run.id for run in situation.runs if run.number is not None}
    named = list(dict.fromkeys(numbers))
    unknown = [number for number in named if number not in ids]
    return {"runs": [ids[n] for n in named if n in ids], **({"no_such_runs": unknown} if unknown else {})}
