from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobspecs import job
from windlass.jobs.outcome import outcome
from windlass.records.result import Result, ResultStatus
from windlass.records.run import Exit, Failure, FailureKind, Status

SPEC = job("train", required_metrics=("auc",))
GOOD = Result(metrics={"auc": 0.9})
PREEMPTED = Result(metrics={"auc": 0.5}, status=ResultStatus.PREEMPTED)
SAID = Failure(kind=FailureKind.DIVERGED, message="loss above 1e8")


TORCH_CPU = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"
)
TORCH_CUDA = """Traceback (most recent call last):
  File "train.py", line 9, in <module>
    loss.backward()
torch.AcceleratorError: CUDA error: out of memory
CUDA kernel errors might be asynchronously reported at some other API call.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


@pytest.mark.parametrize(
    ("exit", "result", "stderr", "kind", "message"),
    [
        (None, GOOD, "", FailureKind.LOST, "nobody saw"),
        (Exit(code=0, reason="timeout", message="ran past 3 s"), GOOD, "", FailureKind.TIMEOUT, "ran past 3 s"),
        (Exit(code=None, signal=9, reason="memory", message="used 2"), None, "", FailureKind.OUT_OF_MEMORY, "used 2"),
        (Exit(code=None, reason="not_started", message="no train"), None, "", FailureKind.ERROR, "no train"),
        (Exit(code=None, signal=9), None, "", FailureKind.KILLED, "SIGKILL"),
        (Exit(code=None, signal=11), GOOD, "", FailureKind.KILLED, "SIGSEGV"),
        (Exit(code=None, signal=63), None, "", FailureKind.KILLED, "signal 63"),
        (Exit(code=2), GOOD, "a\nValueError: b\n", FailureKind.ERROR, "exit code 2: ValueError: b"),
        (Exit(code=3), GOOD, "a\nno GPU here\n", FailureKind.PREFLIGHT, "no GPU here"),
        (Exit(code=3), None, "", FailureKind.PREFLIGHT, "exit code 3, nothing on stderr"),
        (Exit(code=143), GOOD, "saved at step 7", FailureKind.PREEMPTED, "saved at step 7"),
        (Exit(code=143), Result(failure=SAID), "", FailureKind.DIVERGED, "loss above 1e8"),
        (Exit(code=0), PREEMPTED, "", FailureKind.PREEMPTED, "asked to end"),
        (Exit(code=0), replace(PREEMPTED, metrics={}), "", FailureKind.PREEMPTED, "asked to end"),
        (Exit(code=143, reason="timeout", message="ran past 3 s"), PREEMPTED, "", FailureKind.TIMEOUT, "ran past"),
        (Exit(code=None, signal=15, reason="budget", message="7 tokens"), GOOD, "", FailureKind.BUDGET, "7 tokens"),
        (Exit(code=0, reason="output", message="9 GiB"), GOOD, "", FailureKind.INVALID_RESULT, "9 GiB"),
        (Exit(code=1), None, "", FailureKind.ERROR, "exit code 1, nothing on stderr"),
        (Exit(code=1), None, "x\nMemoryError\n", FailureKind.OUT_OF_MEMORY, "MemoryError"),
        (Exit(code=1), None, "numpy._core._exceptions._ArrayMemoryError: 8 TiB", FailureKind.OUT_OF_MEMORY, "8 TiB"),
        (Exit(code=1), None, "torch.OutOfMemoryError: CUDA out of memory", FailureKind.OUT_OF_MEMORY, "CUDA"),
        (Exit(code=1), None, TORCH_CPU, FailureKind.OUT_OF_MEMORY, "DefaultCPUAllocator"),
        (Exit(code=1), None, "RuntimeError: CUDA out of memory. Tried to", FailureKind.OUT_OF_MEMORY, "Tried to"),
        (Exit(code=1), None, TORCH_CUDA, FailureKind.OUT_OF_MEMORY, "Compile with"),
        (Exit(code=1), None, f"  x\n{TORCH_CUDA}\n  y\nValueError: z", FailureKind.ERROR, "ValueError: z"),
        (Exit(code=1), None, "windlass.errors.Unhealthy: no step", FailureKind.UNHEALTHY, "no step"),
        (Exit(code=1), None, "windlass.errors.Diverged: nan loss", FailureKind.DIVERGED, "nan loss"),
        (Exit(code=1), None, "ValueError: no MemoryError here", FailureKind.ERROR, "no MemoryError"),
        (Exit(code=1), Result(failure=SAID), "Traceback", FailureKind.DIVERGED, "loss above 1e8"),
        (Exit(code=0), Result(failure=SAID), "", FailureKind.DIVERGED, "loss above 1e8"),
        (Exit(code=0), None, "", FailureKind.INVALID_RESULT, "exit code 0, but it is garbage"),
        (Exit(code=0), Result(metrics={"auk": 1.0}), "", FailureKind.INVALID_RESULT, "Did you mean 'auk'"),
        (Exit(code=0), Result(metrics={"auc": math.nan}), "", FailureKind.DIVERGED, "'auc' is nan"),
        (Exit(code=0), Result(metrics={"auc": math.inf}), "", FailureKind.DIVERGED, "'auc' is inf"),
    ],
)
def test_causes(exit: Exit | None, result: Result | None, stderr: str, kind: FailureKind, message: str) -> None:
    status, failure = outcome(SPEC, exit, result, "it is garbage", stderr)
    assert status is Status.FAILED and failure is not None
    assert failure.kind is kind and message in failure.message


def test_a_clean_exit_with_a_valid_result_completes() -> None:
    assert outcome(SPEC, Exit(code=0), GOOD) == (Status.COMPLETED, None)
    assert outcome(job("train"), Exit(code=0), Result(metrics={"extra": math.nan})) == (Status.COMPLETED, None)


def test_stopped_early_is_no_failure_and_no_result() -> None:
    for exit in (Exit(code=None, signal=15, reason="stop"), Exit(code=None, signal=9, reason="stop")):
        assert outcome(SPEC, exit, None, "nothing") == (Status.STOPPED, None)
    assert outcome(SPEC, Exit(code=0, reason="stop"), GOOD) == (Status.STOPPED, None), "it was ended on the way"
    assert outcome(SPEC, Exit(code=1, reason="stop"), Result(failure=SAID)) == (Status.STOPPED, None)


def test_cancelled_is_no_failure() -> None:
    assert outcome(SPEC, Exit(code=None, signal=15, reason="cancel"), None, "nothing") == (Status.CANCELLED, None)


@given(
    exit=st.none()
    | st.builds(
        Exit,
        code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
        reason=st.sampled_from(["exit", "timeout", "memory", "budget", "output", "cancel", "stop", "not_started"]),
    ),
    metrics=st.none() | st.dictionaries(st.sampled_from(["auc", "loss"]), st.floats()),
    said=st.sampled_from(ResultStatus),
    stderr=st.text(),
)
def test_completed_needs_everything(
    exit: Exit | None, metrics: dict[str, float] | None, said: ResultStatus, stderr: str
) -> None:
    result = None if metrics is None else Result(metrics=metrics, status=said)
    status, failure = outcome(SPEC, exit, result, "problem", stderr)
    assert status.terminal and (failure is not None) == (status is Status.FAILED)
    perfect = (
        exit is not None
        and (exit.code, exit.signal, exit.reason) == (0, None, "exit")
        and metrics is not None
        and math.isfinite(metrics.get("auc", math.nan))
        and said is ResultStatus.COMPLETED
    )
    assert (status is Status.COMPLETED) == perfect
