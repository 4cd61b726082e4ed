"""What an ORPO training is told: options of the study, and hyper-parameters with their defaults.

trainer:
  workload: orpo
  options: {data: pairs.jsonl, model: models/reader, tier: cpu-experimental}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.records.content import digest
from windlass.records.options import Strict, read

Backend = Literal["peft-trl-orpo", "unsloth-orpo", "dry-run"]
TierName = Literal["consumer-gpu", "small-gpu", "cpu-experimental"]

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Options(Strict):
    """``trainer.options`` of a study; in a config they are the group ``workload``."""

    data: str = Field(min_length=1, description="pairs to learn from, JSON Lines; relative to the study file")
    validation: str | None = Field(default=None, description="pairs to judge by; without it, a share of 'data'")
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="by a hash of the prompt, not by the seed")
    model: str = Field(min_length=1, description="folder of the base model and its tokenizer, or its name on a hub")
    backend: Backend = "peft-trl-orpo"
    tier: TierName = "consumer-gpu"
    profile: str = Field(default="default", description="what the adapter is for, as in 'reader'")
    family: str = Field(default="", description="of the base model, as in 'llama'; part of a result's identity")
    minutes: float = Field(default=240, gt=0, description="budget of training time, over all attempts")
    tokens: int = Field(default=2_000_000, gt=0, description="budget of tokens read, padding not counted")
    save_every: int = Field(default=50, ge=1, description="steps between two saved states that a kill goes back to")
    unsloth_python: str | None = Field(
        default=None, description="the Python of the environment that has unsloth, for backend unsloth-orpo"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backend == "unsloth-orpo" and self.unsloth_python is None:
            raise ValueError("backend 'unsloth-orpo' runs in an environment of its own: give 'unsloth_python'")
        if self.backend != "unsloth-orpo" and self.unsloth_python is not None:
            raise ValueError(f"'unsloth_python' goes with backend 'unsloth-orpo', not with {self.backend!r}")
        if self.backend == "unsloth-orpo" and self.tier == "cpu-experimental":
            raise ValueError("backend 'unsloth-orpo' needs an NVIDIA GPU: tier consumer-gpu or small-gpu")
        return self


class Hyper(Strict):
    """Hyper-parameters; the flat names of a study's space."""

    learning_rate: Positive = 3e-4
    batch: Count = 2  #: pairs in one forward pass
    accumulation: Count = 8  #: forward passes in one step
    rank: Count = 16  #: of the LoRA matrices
    alpha: Count = 32  #: LoRA's scale is alpha / rank
    dropout: Share = 0.05  #: on the input of the LoRA matrices
    warmup: Share = 0.1  #: of the steps; then the learning rate falls by a cosine to 0
    steps: Count = 1000
    max_length: int = Field(default=2048, ge=8)  #: tokens of a prompt with its completion
    beta: Positive = 0.1  #: weight of the odds-ratio term: lambda of the paper

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all values."""
        return digest(self.model_dump(mode="json"))


class Config(Hyper):
    """A run's config: options under ``workload``, and the hyper-parameters beside them."""

    workload: Options

    @property
    def hyper(self) -> Hyper:
        return Hyper(**self.model_dump(exclude={"workload"}))

    @property
    def learned(self) -> dict[str, Any]:
        """What decides which weights come out, beside data, base and seed: budgets and paths do not."""
        options = self.workload
        return {
            **self.model_dump(mode="json", exclude={"workload"}),
            "backend": options.backend,
            "tier": options.tier,
            "validation_share": None if options.validation else options.validation_share,
        }


def read_config(config: Mapping[str, Any]) -> Config:
    """Raises StudyError that names the parameter."""
    return read(Config, config, "config")


def read_options(options: Mapping[str, Any]) -> Options:
    """Raises StudyError that names the option."""
    return read(Options, options, "trainer.options")


def parameter_names() -> tuple[str, ...]:
    """All names that a study's space and baseline may have."""
    return tuple(Hyper.model_fields)
