"""The gate's policy: what a challenger has to show, on which benchmarks, before it may serve. A study's ``gate``, or
a file of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from windlass.records.content import digest
from windlass.records.fields import (
    Argv,
    FunctionName,
    Number,
    Positive,
    Problem,
    Scalar,
    Seconds,
    Strict,
    Text,
    matching,
    refuse,
)

Direction = Literal["maximize", "minimize"]
Label = Annotated[Text, *matching(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,47}", "up to 48 letters, digits, '-' and '_'")]
Share = Annotated[Number, Field(gt=0, lt=1)]
Margin = Annotated[Number, Field(ge=0)]
#: no number of examples shows that something has not fallen at all
Tolerated = Annotated[Number, Field(gt=0)]


class GuardMetric(Strict):
    """A column of the scores that a challenger may not make worse by more than ``margin``."""

    metric: Text = Field(min_length=1)
    direction: Direction
    margin: Tolerated = Field(description="the largest fall that is tolerated, in the metric's unit")


class Benchmark(Strict):
    """Data and an evaluator that gives every example a score."""

    name: Label
    data: Text = Field(min_length=1, description="a file or folder, relative to the policy's file")
    command: Argv | None = Field(None, description="the evaluator: run as COMMAND --spec spec.json --output-dir DIR")
    function: FunctionName | None = Field(
        None, description="the evaluator as module:function, called as function(config, run)"
    )
    options: Mapping[Text, Scalar] = Field(
        default_factory=dict, description="the evaluator's own settings; it gets them as config['options']"
    )
    run_time: Seconds | None = Field(default=None, description="time limit of one evaluation")
    metric: Text = Field(min_length=1, description="the column of the scores that decides")
    direction: Direction
    require: Literal["better", "no_worse"] = Field(
        default="better", description="better: by more than min_delta; no_worse: by no more than margin"
    )
    min_delta: Margin = Field(default=0.0, description="the improvement that has to be exceeded")
    margin: Tolerated | None = Field(default=None, description="of no_worse: the largest fall that is tolerated")
    least: Number | None = Field(
        default=None, description="the worst mean that may serve at all, shown at the policy's alpha"
    )
    test: Literal["auto", "bootstrap", "exact"] = Field(
        default="auto", description="bootstrap: paired; exact: for scores of 0 and 1; auto: exact where all are 0 or 1"
    )
    min_examples: Positive = Field(default=100)
    detect: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="an improvement that matters: power is told for it; where it is ruled out, the champion stays",
    )
    guards: tuple[GuardMetric, ...] = ()
    slices: tuple[Text, ...] = Field(
        (), description="columns whose values divide the examples; the metric is held in each, rare values together"
    )
    slice_margin: Tolerated = Field(default=0.05, description="the largest fall within a slice that is tolerated")
    max_age: Seconds | None = Field(default=None, description="of an evaluation, for example 30d")

    @model_validator(mode="after")
    def _one(self) -> Self:
        named = [kind for kind in ("command", "function") if getattr(self, kind)]
        if len(named) != 1:
            raise ValueError(f"a benchmark has exactly one of command, function; here: {named or 'none'}")
        refuse(self._contradictions())
        return self

    def _contradictions(self) -> Iterable[Problem]:
        if self.require == "no_worse":
            if self.margin is None:
                yield Problem(("margin",), "no_worse needs a margin: the largest fall that is tolerated")
            for field in ("min_delta", "detect"):
                if getattr(self, field):
                    yield Problem((field,), f"{field} is for 'better'; no_worse has a margin")
        else:
            if self.margin is not None:
                yield Problem(("margin",), "a margin is for 'no_worse'; 'better' has min_delta")
            if self.detect is not None and self.detect <= self.min_delta:
                yield Problem(("detect",), f"an improvement that matters exceeds min_delta, {self.min_delta:g}")
        for i, guard in enumerate(self.guards):
            if guard.metric in [other.metric for other in self.guards[:i]]:
                yield Problem(("guards", i, "metric"), f"a guard above holds {guard.metric!r}, too")
        for i, column in enumerate(self.slices):
            if column in self.slices[:i]:
                yield Problem(("slices", i), f"{column!r} is named above, too")


class Shadow(Strict):
    """The challenger answers beside the champion; nobody sees its answers, their outcomes are recorded."""

    accepted: Share = Field(default=0.9, description="least share of answers that are accepted")
    failed: Share = Field(default=0.05, description="most that may time out, throw or be invalid")
    detect: Share = Field(
        default=0.05, description="a challenger that is better than both limits by this, or without fault, passes ..."
    )
    power: Share = Field(default=0.8, description="... with this probability; gives the count of answers needed")
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="that one at a limit does not pass, and that one within both is not rejected"
    )


class Canary(Strict):
    """The challenger serves a growing share of keys; it rolls back by itself when it is worse than the champion."""

    shares: tuple[Share, ...] = Field(default=(0.01, 0.05, 0.2, 0.5), min_length=1, description="of keys, step by step")
    worse: Share = Field(
        default=0.05,
        description="a fall of the share of accepted answers that matters: the share of keys grows once it is ruled"
        " out; the challenger goes back once it is shown to be worse while such a fall is not ruled out",
    )
    failed: Share = Field(default=0.05, description="most that may time out, throw or be invalid")
    power: Share = Field(
        default=0.8,
        description="to grow where both are alike, and to go back where the challenger is worse by that much, at the"
        " count of answers that follows from it",
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(
        default=0.95, description="that one no worse than the champion does not go back, over all steps and looks"
    )

    @model_validator(mode="after")
    def _grow(self) -> Self:
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError(f"shares grow from step to step, not {list(self.shares)}")
        return self


class Monitor(Strict):
    """Watches the answers of the champion."""

    drop: Share = Field(default=0.05, description="a fall of the share of accepted answers that matters")
    window: Positive = Field(
        default=1000,
        description="newest answers that are held against those before; parts of it are, too, for a sudden fall,"
        " and its multiples, for a slow one",
    )
    confidence: Annotated[Number, Field(gt=0.5, lt=1)] = Field(
        default=0.99, description="that a champion as good as ever raises no alarm, however long it serves"
    )
    act: Literal["recommend", "auto"] = Field(default="recommend", description="auto: it rolls back by itself")


class GatePolicy(Strict):
    """What a checkpoint has to show to serve under a name."""

    deployment: Label
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        default=0.05, description="highest probability that any of the challengers is promoted without being better"
    )
    challengers: Positive = Field(default=20, description="how many are to be judged on these benchmarks, in all")
    power: Share = Field(default=0.8, description="for the numbers of examples that are asked for")
    imported: Literal["refuse", "accept"] = Field(default="refuse", description="evaluations that were made elsewhere")
    leakage: Literal["refuse", "mark"] = Field(default="refuse", description="examples that were trained on, too")
    shadow: Shadow | None = None
    canary: Canary | None = None
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._contradictions())
        return self

    def _contradictions(self) -> Iterable[Problem]:
        names = [benchmark.name for benchmark in self.benchmarks]
        for i, name in enumerate(names):
            if name in names[:i]:
                yield Problem(("benchmarks", i, "name"), f"a benchmark above is named {name!r}, too")
        if all(benchmark.require != "better" for benchmark in self.benchmarks):
            yield Problem(("benchmarks",), "one benchmark at least requires 'better'")

    @property
    def fingerprint(self) -> str:
        return digest(self.model_dump(mode="json"))

    @property
    def stages(self) -> tuple[str, ...]:
        """What lies between a verdict and serving: shadow, canary, both or neither."""
        return tuple(name for name in ("shadow", "canary") if getattr(self, name) is not None)
