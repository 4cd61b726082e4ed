"""What the world model expects of a config before it runs; data for critics, supervisor, log and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One number with its spread. The percentiles are of an observation (noise included), in the number's own unit;
    mean and sd are taken from the central 90 %, so that a long tail does not drown them.
    """

    mean: float
    sd: float
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float

    def covers(self, value: float, share: float) -> bool:
        """Whether the central interval of ``share`` (0.5 or 0.9) holds ``value``."""
        low, high = {0.5: (self.p25, self.p75), 0.9: (self.p5, self.p95)}[share]
        return low <= value <= high


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Everything the world model says about one config."""

    known: int  #: results that the model was fitted on, failures included
    metrics: Mapping[str, Prediction] = field(default_factory=dict)  #: declared metrics that could be modelled
    fails: float  #: probability that the run fails, 0 to 1
    caution: float = 0.0  #: part of ``fails``, in standard normal units: by how much earlier forecasts were too low
    kinds: Mapping[str, float] = field(default_factory=dict)  #: failure kind -> probability; they sum to ``fails``
    keeps_guards: float = 1.0  #: probability that a completed run keeps every guard
    cost_s: Prediction | None = None  #: wall seconds
    score: Prediction | None = None  #: of ``Study.score``
    merit: float | None = None  #: log of the acquisition value; comparable within one cycle only

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        values["metrics"] = {name: Prediction(**one) for name, one in values.get("metrics", {}).items()}
        for name in ("cost_s", "score"):
            values[name] = Prediction(**values[name]) if values.get(name) else None
        return cls(**values)
