"""The study file's schema: what to train, over which space, to which end, within which limits.

``Study.model_validate(data)`` takes the parsed file; ``windlass.records.studyfile`` reads YAML text into it with
errors that name the line. Everything is frozen; unknown keys are refused. Mappings inside a study are plain
dictionaries for the sake of JSON: nobody changes them.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    StrictBool,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from windlass.errors import nearest
from windlass.records.content import Path, digest

#: whole numbers stay below this, so that an int parameter's cells are exact in double precision
LARGEST_INT = 2**40


class Problem(NamedTuple):
    """Something wrong with a study, and where."""

    path: Path
    message: str


def _refuse(problems: Iterable[Problem]) -> None:
    """Let pydantic report each problem at its own place."""
    errors = [
        InitErrorDetails(type=PydanticCustomError("problem", "{text}", {"text": text}), loc=path, input=None)
        for path, text in problems
    ]
    if errors:
        raise ValidationError.from_exception_data("Study", errors)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_DURATION = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {value!r}")
    if not abs(value) < 1e300:
        raise ValueError(f"must be a finite number, not {value!r}")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == math.inf:
        raise ValueError(f"must be a whole number, not {value!r}")
    if value != int(value):
        raise ValueError(f"must be a whole number, not {value!r}")
    return int(value)


def _scalar(value: Any) -> bool | int | float | str:
    if isinstance(value, (bool, str)):
        return value
    if not isinstance(value, (int, float)):
        raise ValueError(f"must be text, a number, true or false, not {value!r}")
    _number(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        hint = f"; quote it: '{value}'" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
        raise ValueError(f"must be text, not {value!r}{hint}")
    return value


def _matching(pattern: str, words: str) -> Any:
    """Field metadata: a text that matches all of ``pattern``; ``words`` say so to people."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} does not fit; write {words}")
        return value

    return Field(json_schema_extra={"pattern": f"^{pattern}$"}), AfterValidator(check)


def parse_duration(value: Any) -> float:
    """``90``, ``"90s"``, ``"10m"``, ``"1h30m"`` -> seconds."""
    if not isinstance(value, str):
        return _number(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value.lower())
    if not parts or "".join(n + u for n, u in parts) != re.sub(r"\s", "", value.lower()):
        raise ValueError(f"{value!r} is no duration; write seconds, or for example 90s, 10m, 1h30m")
    return _number(sum(float(number) * _DURATION[unit] for number, unit in parts))


def parse_bytes(value: Any) -> int:
    """``1000``, ``"512MiB"``, ``"2 GB"`` -> bytes."""
    if not isinstance(value, str):
        return _whole(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B)", value.strip().upper())
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{value!r} is no size; write bytes, or for example 512MiB, 2GB")
    return int(_number(float(match[1]) * _BYTES[match[2]]))


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Text = Annotated[str, BeforeValidator(_text)]
Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
_DurationText = Annotated[str, Field(pattern=r"^\s*(\d+(\.\d+)?\s*[smhdSMHD]\s*)+$")]
_SizeText = Annotated[str, Field(pattern=r"^\s*\d+(\.\d+)?\s*([KMGkmg][Ii]?)?[Bb]\s*$")]
Seconds = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[float, Field(gt=0)] | _DurationText),
]
Bytes = Annotated[
    int, Field(gt=0), BeforeValidator(parse_bytes, json_schema_input_type=Annotated[int, Field(gt=0)] | _SizeText)
]
Name = Annotated[
    Text,
    *_matching(
        r"[A-Za-z_][A-Za-z0-9_\-]*(\.[A-Za-z_][A-Za-z0-9_\-]*)*",
        "letters, digits, '_' and '-', with dots between groups, as in optimizer.lr",
    ),
]


class Interval(Strict):
    """A closed interval; one end may be left open."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("an interval needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Contains(Strict):
    """For a set-valued parameter: all of these are in the set."""

    contains: tuple[Scalar, ...] = Field(min_length=1)

    def holds(self, value: Any) -> bool:
        return isinstance(value, (list, tuple, set, frozenset)) and all(
            any(same(member, one) for one in value) for member in self.contains
        )


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, (bool, int, float, str)) else value


class OneOf(
    RootModel[
        Annotated[
            tuple[Scalar, ...],
            Field(min_length=1),
            BeforeValidator(_several, json_schema_input_type=Scalar | tuple[Scalar, ...]),
        ]
    ]
):
    """One of the listed values: ``svm`` or ``[svm, mlp]``."""

    model_config = ConfigDict(frozen=True)

    def holds(self, value: Any) -> bool:
        return any(same(value, one) for one in self.root)


def same(a: Any, b: Any) -> bool:
    """Equal, where true is not 1 (and 1.0 is)."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _condition_kind(value: Any) -> str:
    if isinstance(value, Contains) or (isinstance(value, Mapping) and "contains" in value):
        return "contains"
    return "interval" if isinstance(value, (Interval, Mapping)) else "one_of"


Condition = Annotated[
    Annotated[Interval, Tag("interval")] | Annotated[Contains, Tag("contains")] | Annotated[OneOf, Tag("one_of")],
    Discriminator(_condition_kind),
]


class Region(RootModel[Annotated[Mapping[Name, Condition], Field(min_length=1)]]):
    """A box in the space: every listed parameter meets its condition.

    One type serves ``when`` (activates a parameter), ``forbid`` and ``allow``, so there is one reading of it.
    """

    model_config = ConfigDict(frozen=True)

    def contains(self, values: Mapping[str, Any]) -> bool:
        """All conditions hold. A condition on an absent (inactive) parameter does not hold."""
        return all(name in values and condition.holds(values[name]) for name, condition in self.root.items())

    def violated_by(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The listed parameters that are present and outside; an absent parameter violates nothing."""
        return tuple(n for n, condition in self.root.items() if n in values and not condition.holds(values[n]))


class Constraint(Strict):
    """A forbidden or an allowed region; exactly one of the two, so that it cannot be read in two ways.

    ``forbid`` rejects a config that lies inside the region (every condition holds; both ends of an interval belong
    to it). ``allow`` rejects a config in which a listed, active parameter lies outside.
    """

    name: Text = Field(min_length=1)
    forbid: Region | None = None
    allow: Region | None = None
    reason: Text = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.forbid is None) == (self.allow is None):
            raise ValueError("a constraint has either 'forbid' or 'allow', exactly one of them")
        return self

    @property
    def region(self) -> Region:
        region = self.forbid or self.allow
        assert region is not None
        return region

    def rejects(self, values: Mapping[str, Any]) -> bool:
        if self.forbid is not None:
            return self.forbid.contains(values)
        return bool(self.region.violated_by(values))


class _Parameter(Strict):
    when: Region | None = Field(None, description="active only where these conditions on other parameters hold")


class _Numeric(_Parameter):
    log: StrictBool = Field(False, description="sample on a log scale; low must be above 0")

    def _check_range(self, low: float, high: float) -> Self:
        if not low < high:
            raise ValueError(f"low {low:g} must be below high {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a log scale needs low above 0, not {low:g}")
        return self


class FloatParameter(_Numeric):
    type: Literal["float"]
    low: Number
    high: Number

    @model_validator(mode="after")
    def _range(self) -> Self:
        return self._check_range(self.low, self.high)


class IntParameter(_Numeric):
    type: Literal["int"]
    low: Whole
    high: Whole

    @model_validator(mode="after")
    def _range(self) -> Self:
        if max(-self.low, self.high) > LARGEST_INT:
            raise ValueError(f"an int stays within +-{LARGEST_INT}; take a float for wider ranges")
        return self._check_range(self.low, self.high)


class CategoricalParameter(_Parameter):
    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _refuse_duplicates(self.choices)
        return self


class BoolParameter(_Parameter):
    type: Literal["bool"]


class SetParameter(_Parameter):
    """A subset of ``choices``; its value is a list in the order of ``choices``."""

    type: Literal["set"]
    choices: tuple[Scalar, ...] = Field(min_length=1)
    min_size: Whole = Field(0, ge=0)
    max_size: Annotated[int, Field(ge=0), BeforeValidator(_whole)] | None = None

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        _refuse_duplicates(self.choices)
        top = len(self.choices) if self.max_size is None else self.max_size
        if not self.min_size <= top <= len(self.choices):
            raise ValueError(f"sizes {self.min_size} to {top} do not fit {len(self.choices)} choices")
        return self


def _refuse_duplicates(choices: tuple[Scalar, ...]) -> None:
    if len(set(choices)) != len(choices):  # 1, 1.0 and true are one value here: data frames and SQL agree
        raise ValueError(f"choices repeat a value: {list(choices)}")


PARAMETER_TYPES = ("float", "int", "categorical", "bool", "set")


def _parameter_type(value: Any) -> Any:
    return value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)


Parameter = Annotated[
    Annotated[FloatParameter, Tag("float")]
    | Annotated[IntParameter, Tag("int")]
    | Annotated[CategoricalParameter, Tag("categorical")]
    | Annotated[BoolParameter, Tag("bool")]
    | Annotated[SetParameter, Tag("set")],
    Discriminator(_parameter_type),
]


def _argv(value: Any) -> Any:
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def _refuse_what_json_lacks(value: Mapping[str, Any]) -> Mapping[str, Any]:
    _refuse(_not_json(value, ()))
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

    command: (
        Annotated[tuple[Text, ...], BeforeValidator(_argv, json_schema_input_type=str | tuple[str, ...])] | None
    ) = Field(None, description="argv, or one string; run as COMMAND --spec spec.json --output-dir DIR")
    function: Annotated[Text, *_matching(r"[\w.]+:[\w.]+", "module:function")] | None = Field(
        None, description="module:function, called as function(config, run)"
    )
    workload: Text | None = Field(None, description="a built-in workload, for example tabular")
    options: Nested = Field(default_factory=dict, description="the workload's own settings")
    preload: tuple[Text, ...] = Field((), description="modules imported once, before short Python jobs are forked")
    env: Mapping[Text, Text] = Field(default_factory=dict, description="added to the job's environment")

    @model_validator(mode="after")
    def _one(self) -> Self:
        named = [kind for kind in ("command", "function", "workload") if getattr(self, kind)]
        if len(named) != 1:
            raise ValueError(f"a trainer has exactly one of command, function, workload; here: {named or 'none'}")
        if self.options and not self.workload:
            raise ValueError("'options' are a workload's; a command or function gets its settings from 'baseline'")
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


class Stagnation(Strict):
    runs: Positive = Field(description="stop after this many settled runs without an improvement")
    min_improvement: Number = Field(0.0, ge=0, description="in units of the objective's scale")


class Stop(Strict):
    target: Mapping[Text, Number] = Field(
        default_factory=dict, description="objective metric -> value; stop when one run reaches all of them"
    )
    stagnation: Stagnation | None = None


class Study(Strict):
    """A study: one question, one space, many runs."""

    name: Annotated[Text, *_matching(r"[A-Za-z0-9][A-Za-z0-9\-]{0,47}", "up to 48 letters, digits and '-'")]
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
    seed: Whole = Field(0, ge=0)
    tags: Mapping[Text, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse(self._contradictions())
        return self

    def _contradictions(self) -> Iterable[Problem]:
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
        """Of what the study asks; budget and stop rules may change between two starts."""
        return digest(self.model_dump(mode="json", exclude={"budget", "stop", "description", "tags"}))

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
