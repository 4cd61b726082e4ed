"""What an RLVR training is told: options of the study, and hyper-parameters with their defaults.

trainer:
  workload: rlvr
  options: {data: tasks.jsonl, model: models/base, verifier: {kind: exact}, max_new_tokens: 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from windlass.errors import StudyError, nearest

Backend = Literal["own", "trl"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

PROMPT = "{prompt}"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Options(Strict):
    """``trainer.options`` of a study; in a config they are the group ``workload``."""

    data: str = Field(min_length=1, description="tasks to learn from, JSON Lines; relative to the study file")
    validation: str | None = Field(default=None, description="tasks to judge by; without it, a share of 'data'")
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="by a hash of the task, not by the seed")
    model: str = Field(min_length=1, description="folder of the base model and its tokenizer, or its name on a hub")
    backend: Backend = Field(default="own", description="the loop: Windlass's own on torch, or TRL's GRPOTrainer")
    verifier: Mapping[str, Any] | None = Field(
        default=None, description="{kind: exact, ...}, of tasks that have none of their own"
    )
    check: Mapping[str, Any] | None = Field(
        default=None,
        description="a second verifier, which judges held-out completions and is never trained on;"
        " default: the first one, on held-out tasks",
    )
    template: str = Field(default=PROMPT, description="what the model reads; {prompt} stands for the task's")
    max_new_tokens: Count = Field(default=64, description="most tokens of a completion")
    check_every: Count = Field(default=25, description="steps between two checks on held-out tasks")
    check_tasks: Count = Field(
        default=256, description="held-out tasks of a check, at most; at the end, all are judged"
    )
    save_every: Count = Field(default=25, description="steps between two saved states that a kill goes back to")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.template.count(PROMPT) != 1:
            raise ValueError(f"'template' has {PROMPT} once, where the task's prompt goes")
        return self


class Hyper(Strict):
    """Hyper-parameters; the flat names of a study's space."""

    learning_rate: Positive = 1e-4
    batch: Count = 32  #: prompts in a step
    generations: int = Field(default=8, ge=2)  #: completions of each prompt: a group
    updates: Count = 1  #: of the weights, from the completions of a step
    kl: float = Field(default=0.0, ge=0)  #: weight of the divergence from the base model
    steps: Count = 200
    temperature: Positive = 1.0
    clip: float = Field(default=0.2, gt=0, lt=1)  #: how far a probability ratio counts, from the second update on
    max_grad_norm: Positive = 1.0


class Config(Hyper):
    """A run's config: options under ``workload``, and the hyper-parameters beside them."""

    workload: Options

    @property
    def hyper(self) -> Hyper:
        return Hyper(**self.model_dump(exclude={"workload"}))

    @property
    def learned(self) -> dict[str, Any]:
        """What decides which weights come out, beside data, base and seed; how often states are saved does not."""
        options = self.workload.model_dump(mode="json", exclude={"data", "validation", "model", "save_every"})
        return {**self.model_dump(mode="json", exclude={"workload"}), **options}


_Model = TypeVar("_Model", bound=BaseModel)


def read_config(config: Mapping[str, Any]) -> Config:
    """Raises StudyError that names the parameter."""
    return _read(Config, config, "config")


def read_options(options: Mapping[str, Any]) -> Options:
    """Raises StudyError that names the option."""
    return _read(Options, options, "trainer.options")


def parameter_names() -> tuple[str, ...]:
    """All names that a study's space and baseline may have."""
    return tuple(Hyper.model_fields)


def _read(model: type[_Model], given: Mapping[str, Any], where: str) -> _Model:
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise StudyError("\n".join(_explain(dict(item), model, where) for item in error.errors())) from None


def _explain(error: dict[str, Any], model: type[BaseModel], where: str) -> str:
    path, given = error["loc"], error["input"]
    place = ".".join([where, *map(str, path)])
    if error["type"] == "extra_forbidden":
        known = Options.model_fields if path[:-1] else model.model_fields
        return f"{place}: unknown key.{nearest(str(path[-1]), known)} Known: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "literal_error":
        message = f"{given!r} is not one of {error['ctx']['expected']}"
    elif error["type"] == "missing":
        message = "is needed"
    elif path and error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {given!r}"
    return f"{place}: {message}"
