"""What an RLVR training is told: options of the study, and hyper-parameters with their defaults.

trainer:
  workload: rlvr
  options: {data: tasks.jsonl, model: models/base, verifier: {kind: exact}, max_new_tokens: 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.records.options import Strict, read

Backend = Literal["own", "trl"]
Precision = Literal["float32", "bfloat16"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

PROMPT = "{prompt}"


class Options(Strict):
    """``trainer.options`` of a study; in a config they are the group ``workload``."""

    data: str = Field(min_length=1, description="tasks to learn from, JSON Lines; relative to the study file")
    validation: str | None = Field(default=None, description="tasks to judge by; without it, a share of 'data'")
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="by a hash of the task, not by the seed")
    model: str = Field(min_length=1, description="folder of the base model and its tokenizer, or its name on a hub")
    backend: Backend = Field(default="own", description="the loop: Windlass's own on torch, or TRL's GRPOTrainer")
    precision: Precision = Field(
        default="float32", description="bfloat16: weights stay in 32 bits, products are computed in 16; for a GPU"
    )
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


def read_config(config: Mapping[str, Any]) -> Config:
    """Raises StudyError that names the parameter."""
    return read(Config, config, "config")


def read_options(options: Mapping[str, Any]) -> Options:
    """Raises StudyError that names the option."""
    return read(Options, options, "trainer.options")


def parameter_names() -> tuple[str, ...]:
    """All names that a study's space and baseline may have."""
    return tuple(Hyper.model_fields)
