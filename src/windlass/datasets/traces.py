"""Learning traces: what a tool was asked, what it gave, how that was judged; and the tasks that they make.

The files are those of tasks: JSON Lines, a JSON list, or a dataset with ``examples``, bare or under ``dataset``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, StrictBool

from windlass.datasets.rows import OnBytes, Problems, fit, read_rows, write_lines
from windlass.datasets.tasks import RECORDED, check_header
from windlass.errors import DataError
from windlass.records.content import canonical
from windlass.records.fields import Number, Strict, Text
from windlass.records.task import Task


class TaskOutcome(StrEnum):
    SUCCESS = "success"
    PARTIAL = "partial"
    FAIL = "fail"


class VerificationAlignment(StrEnum):
    """Whether outcome and verification say the same."""

    ALIGNED = "aligned"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"


class PolicyCompliance(StrEnum):
    COMPLIANT = "compliant"
    NON_COMPLIANT = "non_compliant"
    UNCERTAIN = "uncertain"


class SafetyRisk(StrEnum):
    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class RewardHacking(StrEnum):
    NONE = "none"
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"


class Labels(Strict):
    """How a trace was judged; what nobody judged is unknown, uncertain or none."""

    task_outcome: TaskOutcome
    verification_alignment: VerificationAlignment = VerificationAlignment.UNKNOWN
    policy_compliance: PolicyCompliance = PolicyCompliance.UNCERTAIN
    safety_risk: SafetyRisk = SafetyRisk.NONE
    reward_hacking_signal: RewardHacking = RewardHacking.NONE


class Trace(Strict):
    """One use of a tool."""

    id: Text = Field(min_length=1)
    request_id: Text | None = None
    correlation_id: Text | None = None
    tool_name: Text = Field(min_length=1)
    source: Text | None = None
    tool_input: Any = None
    tool_output: Any = None
    duration_ms: Number | None = Field(default=None, ge=0)
    reward: Number | None = Field(default=None, ge=0, le=1, description="as recorded; without it, by the labels")
    verification_passed: StrictBool | None = None
    labels: Labels
    metadata: Mapping[Text, Any] = Field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The prompt: a text that went in; else the tool's name, and what went in as JSON."""
        if isinstance(self.tool_input, str) and self.tool_input.strip():
            return self.tool_input
        return self.tool_name if self.tool_input in (None, "", {}, []) else f"{self.tool_name} {text(self.tool_input)}"

    @property
    def answered(self) -> str:
        """The completion: what came out, as text; empty where nothing did."""
        return "" if self.tool_output is None else text(self.tool_output)


def text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


#: in hundredths, so that sums are exact
_OUTCOME = {TaskOutcome.SUCCESS: 50, TaskOutcome.PARTIAL: 25, TaskOutcome.FAIL: 0}
_RISK = {SafetyRisk.NONE: 0, SafetyRisk.LOW: 0, SafetyRisk.MEDIUM: 20, SafetyRisk.HIGH: 40}


def labelled_reward(labels: Labels) -> float:
    """0.2 + (0.5 success | 0.25 partial) + 0.15 aligned + 0.1 compliant - (0.2 medium | 0.4 high risk), in 0..1."""
    hundredths = 20 + _OUTCOME[labels.task_outcome] - _RISK[labels.safety_risk]
    hundredths += 15 * (labels.verification_alignment is VerificationAlignment.ALIGNED)
    hundredths += 10 * (labels.policy_compliance is PolicyCompliance.COMPLIANT)
    return min(max(hundredths, 0), 100) / 100


def alignment(outcome: TaskOutcome, verified: bool | None) -> VerificationAlignment:
    """What follows from an outcome and a verification; of a partial outcome, nothing does."""
    if verified is None or outcome is TaskOutcome.PARTIAL:
        return VerificationAlignment.UNKNOWN
    agree = verified == (outcome is TaskOutcome.SUCCESS)
    return VerificationAlignment.ALIGNED if agree else VerificationAlignment.CONFLICT


def task_of(trace: Trace) -> Task:
    """The trace as a task with a recorded reward, for what came out as its completion.

    The reward is the trace's own, without one :func:`labelled_reward`. What else is known goes into ``metadata``, where
    the trace's own keys ``tool_name``, ``source`` and ``trace`` give way.
    """
    known = {"request_id": trace.request_id, "correlation_id": trace.correlation_id, "duration_ms": trace.duration_ms}
    known |= {"verification_passed": trace.verification_passed}
    about = {key: value for key, value in known.items() if value is not None}
    metadata = {**trace.metadata, "tool_name": trace.tool_name}
    metadata |= {"source": trace.source} if trace.source else {}
    metadata["trace"] = {**about, "labels": trace.labels.model_dump(mode="json")}
    reward = labelled_reward(trace.labels) if trace.reward is None else trace.reward
    return Task(
        id=trace.id,
        prompt=trace.asked,
        expected=trace.answered or None,
        verifier={"kind": RECORDED, "reward": reward},
        metadata=metadata,
    )


def read_traces(path: Path, on_bytes: OnBytes | None = None) -> list[tuple[int, Trace]]:
    """The traces of a file, each with the number of its row.

    Raises DataError that lists rows that are malformed or have another row's id, and on a file without traces. The same
    trace twice is no error here: see ``windlass.datasets.quality``.
    """
    problems = Problems(path)
    content = read_rows(path, problems, "examples", on_bytes)
    check_header(path, content.header)
    traces: list[tuple[int, Trace]] = []
    ids: dict[str, int] = {}
    for row, value in content.rows:
        try:
            trace = fit(Trace, value)
        except ValueError as error:
            problems.add(row, str(error))
            continue
        if (first := ids.setdefault(trace.id, row)) != row:
            problems.add(row, f"the id {trace.id!r} is that of row {first}, too")
        traces.append((row, trace))
    problems.refuse("Correct these rows, and run the command again.")
    if not traces:
        raise DataError(f"{path} holds no traces")
    return traces


def write_traces(path: Path, traces: Iterable[Trace]) -> int:
    """JSON Lines that :func:`read_traces` reads; the file is whole or not there. How many. Raises OSError."""
    return write_lines(path, (trace.model_dump(mode="json", exclude_none=True) for trace in traces))
