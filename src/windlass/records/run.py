"""The records of a run: what was asked (RunSpec), how it ended (Exit, Result, Outcome), what is known (RunRecord).

Standard library only: the SDK inside a training script imports this module.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from windlass.records.content import digest, flatten

#: what a result repeats of its spec beside the fields that a study or workload declares
OWN_IDENTITY = ("run", "config", "code", "data")
RUN_ID = re.compile(r"\d{8}T\d{6}Z_[A-Za-z0-9][A-Za-z0-9\-]{0,63}_[0-9a-f]{10}")


def make_run_id(created: float, name: str, identity: Mapping[str, Any]) -> str:
    """``YYYYMMDDTHHMMSSZ_<name>_<hash10>``; the hash is of ``identity`` (config, seed, number), not of the clock."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created))
    return f"{stamp}_{name}_{digest(identity)[:10]}"


class Status(StrEnum):
    """pending -> queued -> running -> completed | failed | cancelled | stopped."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"  #: ended early by the lab: its learning curve showed no hope

    @property
    def terminal(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.STOPPED)


class FailureKind(StrEnum):
    """Why a run failed."""

    ERROR = "error"  #: the trainer exited with a code other than 0, or could not be started
    TIMEOUT = "timeout"  #: ran past its time limit
    OUT_OF_MEMORY = "out_of_memory"  #: ran past its memory limit, or raised MemoryError
    KILLED = "killed"  #: ended by a signal that Windlass did not send
    DIVERGED = "diverged"  #: said so, or a required metric is NaN or infinite
    INVALID_RESULT = "invalid_result"  #: exit code 0, but no single valid result
    PREFLIGHT = "preflight"  #: exit code 3: what was asked cannot be trained here; nothing was trained
    PREEMPTED = "preempted"  #: exit code 143: asked to end, saved its state, and can go on from there
    UNHEALTHY = "unhealthy"  #: trained to its end, and a health gate refuses the outcome
    BUDGET = "budget"  #: ran past its budget of tokens
    LOST = "lost"  #: its supervisor vanished; nobody knows how it ended

    @property
    def blameless(self) -> bool:
        """Whether the end came from outside, and says nothing about the config."""
        return self in (FailureKind.LOST, FailureKind.KILLED, FailureKind.PREEMPTED)

    @property
    def resumable(self) -> bool:
        """Whether a new attempt may continue the run's curves."""
        return self.blameless


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use; None means no limit."""

    time_s: float | None = None  #: wall seconds
    memory_bytes: int | None = None  #: resident bytes of the whole process tree
    tokens: int | None = None  #: of the logged metric ``tokens``, which counts from the run's begin
    grace_s: float = 5.0  #: seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What was asked; ``spec.json``, written 0600 before the start and never changed."""

    id: str  #: ``YYYYMMDDTHHMMSSZ_<name>_<hash10>``, the folder's name
    name: str  #: the study's name, or what ``start_run(name=)`` said
    created: float  #: seconds since the epoch
    config: Mapping[str, Any] = field(default_factory=dict)  #: nested, JSON values
    command: tuple[str, ...] = ()  #: argv without ``--spec``/``--output-dir``; empty for a script's own run
    function: str | None = None  #: ``module:function``, the short form of a command
    preload: tuple[str, ...] = ()  #: modules the parent process imports before it forks this job
    env: Mapping[str, str] = field(default_factory=dict)  #: added to the job's environment
    python_path: tuple[str, ...] = ()  #: put before sys.path of a ``function`` job
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    data: tuple[str, ...] = ()  #: absolute paths of the files and folders that it trains on
    required_metrics: tuple[str, ...] = ()  #: a result without these is invalid; NaN there is divergence
    study: str | None = None
    number: int | None = None  #: the decision's number in its study, from 1
    fingerprints: Mapping[str, str] = field(default_factory=dict)  #: config, code, data, environment
    identity: Mapping[str, str] = field(default_factory=dict)  #: what a result has to repeat; see ``identified``
    lineage: Mapping[str, str] = field(default_factory=dict)  #: replay_of, resumed_from, ...
    tags: Mapping[str, str] = field(default_factory=dict)

    def identified(self) -> Self:
        """With the run's id and fingerprints beside the fields that were declared; without such fields, as it is."""
        declared = {name: value for name, value in self.identity.items() if name not in OWN_IDENTITY}
        if not declared:
            return replace(self, identity={})
        own = {"run": self.id, **self.fingerprints}
        return replace(self, identity={**declared, **{name: own[name] for name in OWN_IDENTITY if name in own}})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError or ValueError on a shape that no Windlass wrote."""
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        for name in ("command", "preload", "python_path", "data", "required_metrics"):
            values[name] = tuple(values.get(name, ()))
        values["limits"] = Limits(**values.get("limits", {}))
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file or folder that a run left; ``path`` is relative to the run folder."""

    name: str
    path: str
    kind: str = "other"  #: dataset, model, report, manifest, checkpoint, metrics, scores, figure, other
    bytes: int = 0
    sha256: str = ""  #: empty for folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run failed, whole: kind, message, the job's own traceback and what it says to do, where it has them."""

    kind: FailureKind
    message: str
    traceback: str = ""
    next_step: str = ""  #: a command or an action, as of a WindlassError


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """Why the lab ended a run early: ``stop.json``, written before the signal is sent."""

    metric: str
    step: float  #: the last one seen
    value: float  #: of the metric at that step
    rule: str  #: median, halving
    reason: str  #: in words and numbers
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: numbers and run ids, JSON values

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            object.__setattr__(self, "value", math.nan)  # one NaN, so that equal content is equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """``exit.json``: how the process ended, written by its supervisor by rename."""

    code: int | None  #: exit code; None when ended by a signal or never started
    signal: int | None = None
    reason: str = "exit"  #: exit, timeout, memory, budget, output, cancel, stop (early, by the lab), not_started
    message: str = ""  #: why it could not be started, or who cancelled it
    started: float = 0.0  #: seconds since the epoch
    ended: float = 0.0
    wall_s: float = 0.0  #: measured with a monotonic clock
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSummary:
    """One metric of one run, summed up for search. Values are stored truly: NaN and infinity included.

    ``last`` is the value at the highest step (the latest arrival among equal steps), or the final result's
    value where the result names the metric. ``min`` and ``max`` leave NaN out (NaN when there is nothing else).
    """

    last: float
    min: float
    max: float
    step: float = 0
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("last", "min", "max"):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, math.nan)  # one NaN, so that equal content is equal

    @classmethod
    def of(cls, value: float) -> Self:
        return cls(last=value, min=value, max=value)

    @property
    def finite(self) -> bool:
        return math.isfinite(self.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What is known about a run; all of it can be rebuilt from its folder."""

    id: str
    name: str
    status: Status
    created: float
    attempt: int = 1  #: a resume is a new attempt; within one attempt a terminal status is final
    study: str | None = None
    number: int | None = None
    started: float | None = None
    ended: float | None = None
    failure: Failure | None = None
    stopped_early: EarlyStop | None = None  #: of a run that is ``stopped``
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    metrics: Mapping[str, MetricSummary] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    notes: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    cpu_s: float = 0.0

    @property
    def params(self) -> dict[str, Any]:
        """The config, flat: ``{"optimizer.lr": 0.1}``."""
        return flatten(self.config)

    @property
    def values(self) -> dict[str, float]:
        """The last value of every metric."""
        return {name: summary.last for name, summary in self.metrics.items()}

    @property
    def duration_s(self) -> float | None:
        if self.started is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.started)
