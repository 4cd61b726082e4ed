"""The study file's schema: what to train, over which space, to which end, within which limits.

``Study.model_validate(data)`` takes the parsed file; ``windlass.records.studyfile`` reads YAML text into it with
errors that name the line. Everything is frozen; unknown keys are refused. Mappings inside a study are plain
dictionaries for the sake of JSON: nobody changes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from windlass.errors import nearest
from windlass.records.content import Path, digest
from windlass.records.deciding import Agents, Autonomy, EarlyStopping, Panel, Repeats, Safety
from windlass.records.fields import (
    Argv,
    Bytes,
    FunctionName,
    Name,
    Number,
    Positive,
    Problem,
    Seconds,
    Strict,
    Text,
    Whole,
    matching,
    refuse,
)
from windlass.records.gate import GatePolicy
from windlass.records.parameters import Parameter
from windlass.records.region import Constraint, Interval
from windlass.records.run import OWN_IDENTITY


def _refuse_what_json_lacks(value: Mapping[str, Any]) -> Mapping[str, Any]:
    refuse(_not_json(value, ()))
    return value


def _not_json(value: Any, path: Path) -> Iterable[Problem]:
    """What in a nested config is not a JSON value, or has a key with a dot (which is how nested names are written)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield Problem((*path, str(key)), f"keys are text; quote it: '{key}'")
            elif "." in key or not key:
                outer, _, rest = key.partition(".")
                yield Problem((*path, key), f"{key!r} is no key; write it nested, {outer}: {{{rest}: ...}}")
            else:
                yield from _not_json(inner, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _not_json(inner, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"must be a finite number, not {value!r}")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        yield Problem(path, f"{type(value).__name__} {value!r} is no JSON value")


Nested = Annotated[Mapping[str, Any], AfterValidator(_refuse_what_json_lacks)]


class Trainer(Strict):
    """What a job runs: exactly one of ``command``, ``function`` and ``workload``."""

    command: Argv | None = Field(
        None, description="argv, or one string; run as COMMAND --spec spec.json --output-dir DIR"
    )
    function: FunctionName | None = Field(None, description="module:function, called as function(config, run)")
    workload: Text | None = Field(None, description="a built-in workload, for example tabular")
    options: Nested = Field(default_factory=dict, description="the workload's own settings")
    data: tuple[Text, ...] = Field(
        (), description="files and folders that it trains on: fingerprinted, and held against the gate's benchmarks"
    )
    preload: tuple[Text, ...] = Field((), description="modules imported once, before short Python jobs are forked")
    env: Mapping[Text, Text] = Field(default_factory=dict, description="added to the job's environment")
    identity: Mapping[Text, Text] = Field(
        default_factory=dict, description="what every result has to repeat, beside its run and fingerprints"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        named = [kind for kind in ("command", "function", "workload") if getattr(self, kind)]
        if len(named) != 1:
            raise ValueError(f"a trainer has exactly one of command, function, workload; here: {named or 'none'}")
        if self.options and not self.workload:
            raise ValueError("'options' are a workload's; a command or function gets its settings from 'baseline'")
        if self.data and self.workload:
            raise ValueError("'data' is for a command or function; a workload's data are in its options")
        if own := sorted({*OWN_IDENTITY} & {*self.identity}):
            raise ValueError(f"'identity' has {', '.join(own)} by itself, of every run; declare other fields")
        if self.preload and self.command:
            raise ValueError("'preload' serves functions and workloads; a command starts its own interpreter")
        return self


class Objective(Strict):
    metric: Text = Field(min_length=1)
    direction: Literal["maximize", "minimize"]
    scale: Number = Field(1.0, gt=0, description="a difference that matters, in the metric's unit")

    def gain(self, value: float) -> float:
        """``value`` in units of ``scale``, turned so that more is better."""
        return (value if self.direction == "maximize" else -value) / self.scale


class Guard(Interval):
    """A bound that a run has to respect to count as best."""

    metric: Text = Field(min_length=1)


class Budget(Strict):
    runs: Positive | None = Field(default=None, description="runs in all, failed ones included")
    wall_time: Seconds | None = Field(default=None, description="of driving this study, for example 30m")
    concurrent: Positive = Field(default=1, description="runs at a time")
    run_time: Seconds | None = Field(default=None, description="of one run")
    run_memory: Bytes | None = Field(default=None, description="of one run's whole process tree, for example 2GiB")
    run_tokens: Positive | None = Field(
        default=None, description="of one run: the highest value that its metric 'tokens' may have"
    )


class Stagnation(Strict):
    runs: Positive = Field(description="stop after this many settled runs without an improvement")
    min_improvement: Number = Field(0.0, ge=0, description="in units of the objective's scale")


class Stop(Strict):
    target: Mapping[Text, Number] = Field(
        default_factory=dict, description="objective metric -> value; stop when one run reaches all of them"
    )
    stagnation: Stagnation | None = None


#: keys that say how a study is run, not what it asks
TERMS = ("budget", "stop", "repeats", "baseline_runs", "autonomy", "panel", "safety", "agents", "gate")


class Study(Strict):
    """A study: one question, one space, many runs."""

    name: Annotated[Text, *matching(r"[A-Za-z0-9][A-Za-z0-9\-]{0,47}", "up to 48 letters, digits and '-'")]
    description: Text = ""
    trainer: Trainer
    space: Mapping[Name, Parameter] = Field(min_length=1)
    rules: tuple[Text, ...] = Field((), description="for example: train + validation + test == 1")
    baseline: Nested = Field(default_factory=dict, description="a nested config; proposals go over it")
    objectives: tuple[Objective, ...] = Field(min_length=1)
    guards: tuple[Guard, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    budget: Budget = Budget()
    stop: Stop = Stop()
    early_stopping: EarlyStopping | None = None
    repeats: Repeats = Field(default=3, description="runs of one config, at most, to tell good configs from lucky runs")
    baseline_runs: Positive = Field(
        default=1,
        description="runs of the baseline, before anything else; from two on, a gain within two standard deviations of"
        " their spread is no win, and does not go before the gate",
    )
    autonomy: Autonomy = Field(
        default="auto",
        description="who approves runs. manual: a person; semi: a person the risky ones; auto: the lab",
    )
    panel: Panel = Panel()
    safety: Safety = Safety()
    agents: Agents = Agents()
    gate: GatePolicy | None = Field(
        default=None, description="what a checkpoint has to show to serve under a deployment's name"
    )
    seed: Whole = Field(0, ge=0)
    tags: Mapping[Text, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._contradictions())
        return self

    def _contradictions(self) -> Iterable[Problem]:
        if self.baseline_runs > self.repeats:
            text = f"the baseline runs {self.baseline_runs} times, and no config more than 'repeats', {self.repeats}"
            yield Problem(("baseline_runs",), text)
        names = [c.name for c in self.constraints]
        for i, name in enumerate(names):
            if name in names[:i]:
                yield Problem(("constraints", i, "name"), f"a constraint above is named {name!r}, too")
        metrics = [o.metric for o in self.objectives]
        for i, metric in enumerate(metrics):
            if metric in metrics[:i]:
                yield Problem(("objectives", i, "metric"), f"an objective above has the metric {metric!r}, too")
        for metric in self.stop.target:
            if metric not in metrics:
                text = f"no objective has this metric.{nearest(metric, metrics)} Objectives: {', '.join(metrics)}"
                yield Problem(("stop", "target", metric), text)

    @property
    def fingerprint(self) -> str:
        """Of what the study asks; its ``TERMS`` may change between two starts."""
        left_out: dict[str, Any] = dict.fromkeys((*TERMS, "description", "tags"), True)
        if not self.trainer.identity:  # a study has the fingerprint that it had before this key was there
            left_out["trainer"] = {"identity"}
        return digest(self.model_dump(mode="json", exclude=left_out))

    @property
    def terms(self) -> dict[str, Any]:
        """How the study is run, as data: what of it may change between two starts and bears on decisions."""
        return self.model_dump(mode="json", include=set(TERMS), exclude_defaults=True)

    @property
    def required_metrics(self) -> tuple[str, ...]:
        """A result without these is invalid."""
        return tuple(dict.fromkeys([o.metric for o in self.objectives] + [g.metric for g in self.guards]))

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Sum of the objectives' gains (more is better), or None where a metric is absent or not finite."""
        gains = [objective.gain(metrics.get(objective.metric, math.nan)) for objective in self.objectives]
        return sum(gains) if all(map(math.isfinite, gains)) else None

    def broken_guards(self, metrics: Mapping[str, float]) -> tuple[Guard, ...]:
        """The guards that these metrics break; an absent metric breaks its guard."""
        return tuple(g for g in self.guards if not g.holds(metrics.get(g.metric, math.nan)))

    def reached_target(self, metrics: Mapping[str, float]) -> bool:
        if not self.stop.target:
            return False
        by_metric = {o.metric: o for o in self.objectives}
        return all(
            by_metric[metric].gain(metrics.get(metric, math.nan)) >= by_metric[metric].gain(target)
            for metric, target in self.stop.target.items()
        )
