"""The sections of a study file that say how its experiments are decided: panel, safety, early stopping, agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from windlass.records.fields import Number, Positive, Seconds, Strict, Text, Whole, matching

Share = Annotated[Number, Field(ge=0, le=1)]
Autonomy = Literal["manual", "semi", "auto"]
Conflict = Literal["revise", "cautious", "majority", "ask"]


class Panel(Strict):
    """How the critics' votes become a decision."""

    weights: Mapping[Text, Annotated[Number, Field(ge=0)]] = Field(
        default_factory=dict, description="critic -> weight; what is left out keeps its default"
    )
    approve_at: Annotated[Number, Field(gt=0, le=1)] = Field(default=0.66, description="score from which it runs")
    reject_at: Annotated[Number, Field(ge=-1, lt=0)] = Field(
        default=-0.66, description="score down to which it does not"
    )
    conflict: Conflict = Field(
        default="revise",
        description="between the two: revise (propose again), cautious (reject), majority (the sign decides), "
        "ask (a person decides)",
    )


class Safety(Strict):
    """Hard rules. The supervisor vetoes what breaks one, whatever the votes say."""

    failure_risk: Share | None = Field(default=None, description="highest forecast probability that a run fails")
    run_cost: Seconds | None = Field(default=None, description="longest forecast duration of one run, for example 2h")


class EarlyStopping(Strict):
    """Runs whose learning curve shows to be hopeless are stopped."""

    metric: Text = Field(min_length=1, description="logged by the trainer with step=")
    direction: Literal["maximize", "minimize"]
    rule: Literal["median", "halving"] = Field(
        default="median",
        description="median: worse than half of the runs at that step; halving: not in the best 1/factor",
    )
    from_step: Annotated[Number, Field(ge=0)] = Field(default=1, description="no run is stopped before this step")
    runs: Positive = Field(default=5, description="curves that must have come that far before one is judged by them")
    factor: Annotated[Number, Field(gt=1)] = Field(default=3, description="of halving: rungs at from_step * factor^k")


class Price(Strict):
    """In the provider's currency, per million tokens."""

    input: Annotated[Number, Field(ge=0)]
    output: Annotated[Number, Field(ge=0)]


class LanguageModel(Strict):
    """A model that proposes and criticises in words. Its replies are recorded, so that a replay needs no model."""

    model: Annotated[
        Text, *matching(r"(openai|anthropic):\S+", "openai:NAME (also for compatible endpoints) or anthropic:NAME")
    ] = Field(description="provider:name, for example openai:gpt-5 or anthropic:claude-opus-4")
    base_url: Text | None = Field(default=None, description="of an OpenAI-compatible endpoint, for example a local one")
    api_key: Text | None = Field(
        default=None,
        description="the environment variable that holds the key; by default the provider's usual one, "
        "and none at a base_url",
    )
    every: Positive = Field(default=4, description="asked for one proposal in so many decisions")
    criticises: bool = Field(default=False, description="also votes on every proposal")
    timeout: Seconds = Field(default=60.0, description="of one request, for example 60s")
    tokens: Positive | None = Field(default=None, description="budget of the whole study, input and output together")
    money: Annotated[Number, Field(gt=0)] | None = Field(default=None, description="budget of the study; needs price")
    price: Price | None = None

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.money is not None and self.price is None:
            raise ValueError("a budget in money needs price: {input: ..., output: ...}, per million tokens")
        return self

    @property
    def provider(self) -> str:
        """``openai`` or ``anthropic``: the protocol that is spoken."""
        return self.model.partition(":")[0]

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key; empty where no key is sent.

        A provider's usual key goes to that provider alone: an endpoint at ``base_url`` gets what ``api_key`` names.
        """
        return self.api_key or ("" if self.base_url else f"{self.provider.upper()}_API_KEY")


class Agents(Strict):
    """Who takes part."""

    without: tuple[Text, ...] = Field(default=(), description="proposers and critics that stay out")
    language_model: LanguageModel | None = None


Repeats = Annotated[Whole, Field(ge=1)]
