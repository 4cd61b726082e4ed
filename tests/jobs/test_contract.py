"""What a job of any language is held to: its result, its output, its tokens, how it is asked to end. Real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobspecs import drain, job, script, wait_for_file, wait_for_start
from windlass.jobs import shim
from windlass.jobs.collect import collect
from windlass.jobs.local import LocalExecutor
from windlass.jobs.tokens import TokenCount
from windlass.records.result import Mismatch, Result, mismatches, parse_result
from windlass.records.run import FailureKind, Limits, RunRecord, RunSpec, Status
from windlass.runs.folder import RunFolder
from windlass.runs.lease import read_lease


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[LocalExecutor]:
    with closing(LocalExecutor(tmp_path / "runs", 2)) as executor:
        yield executor


def run_to_end(executor: LocalExecutor, spec: RunSpec) -> RunRecord:
    executor.submit([spec])
    drain(executor)
    return collect(executor.runs_root / spec.id)


def failed(run: RunRecord) -> tuple[FailureKind, str]:
    assert run.status is Status.FAILED and run.failure is not None
    return run.failure.kind, run.failure.message


# the result


def test_a_shell_script_repeats_the_nonce(executor: LocalExecutor) -> None:
    write = """printf '{"metrics": {"loss": 0.5}, "nonce": "%s"}' "$WINDLASS_NONCE" > result.json"""
    run = run_to_end(executor, job("sh", "-c", f"{write}; echo no JSON"))
    assert (run.status, run.values) == (Status.COMPLETED, {"loss": 0.5})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "has no nonce: a result that is a file repeats $WINDLASS_NONCE"),
        (', "nonce": "of yesterday"', "has the nonce 'of yesterday', which is not that of this start"),
    ],
)
def test_a_result_file_of_another_start_is_none(executor: LocalExecutor, said: str, words: str) -> None:
    """Not even where the job printed a valid one, and whatever failure the file speaks of."""
    file = f'{{"metrics": {{"loss": 0.5}}{said}}}'
    run = run_to_end(executor, job("sh", "-c", f"""echo '{file}' > result.json; echo '{{"metrics": {{"loss": 1}}}}'"""))
    kind, message = failed(run)
    assert kind is FailureKind.INVALID_RESULT and words in message
    assert run.values == {}


def test_stdout_needs_no_nonce_and_may_not_have_a_wrong_one(executor: LocalExecutor) -> None:
    assert run_to_end(executor, script("print('{\"metrics\": {}}')")).status is Status.COMPLETED
    kind, message = failed(run_to_end(executor, script('print(\'{"metrics": {}, "nonce": "x"}\')')))
    assert kind is FailureKind.INVALID_RESULT and message.startswith("exit code 0, but stdout.log has the nonce 'x'")


def test_a_lease_without_a_nonce_asks_for_none(executor: LocalExecutor) -> None:
    """As labs have them from before there were nonces."""
    spec = script("import json; json.dump({'metrics': {'loss': 1}}, open('result.json', 'w'))")
    run_to_end(executor, spec)
    folder = RunFolder(executor.runs_root / spec.id)
    lease = json.loads(folder.lease_file.read_text())
    del lease["nonce"]
    folder.lease_file.write_text(json.dumps(lease))
    assert (collect(folder).status, collect(folder).values) == (Status.COMPLETED, {"loss": 1.0})


def test_every_field_that_is_not_repeated_is_told(executor: LocalExecutor) -> None:
    said = {"backend": "dry-run", "data": 7, "run": "mine", "more": "is no harm"}
    spec = script(
        f"import json; print(json.dumps({{'metrics': {{'loss': 1}}, 'identity': {said}, 'notes': ['trained']}}))",
        identity={"backend": "own", "profile": "reader"},
        fingerprints={"data": "d" * 64, "study": "not asked for"},
    ).identified()
    run = run_to_end(executor, spec)
    kind, message = failed(run)
    assert kind is FailureKind.INVALID_RESULT
    assert message == (
        "exit code 0, but its result is not of this run: "
        "backend: expected 'own', is 'dry-run' (the result is of another backend); "
        "profile: expected 'reader', is None (the result does not say); "
        f"run: expected {spec.id!r}, is 'mine' (the result is of another run); "
        f"data: expected {'d' * 64!r}, is 7 (int, not a text)"
    )
    assert (run.values, run.notes, run.artifacts) == ({}, (), ())


def test_mismatches_are_values() -> None:
    result = Result(identity={"target_profile": "writer"})
    (one,) = mismatches({"target_profile": "reader"}, result)
    assert one == Mismatch(
        field="target_profile", expected="reader", actual="writer", reason="the result is of another target profile"
    )
    assert mismatches({}, result) == [] and mismatches({"target_profile": "writer"}, result) == []


def test_a_failure_needs_no_identity(executor: LocalExecutor) -> None:
    said = {"failure": {"kind": "preflight", "message": "no GPU"}}
    run = run_to_end(executor, script(f"print('{json.dumps(said)}'); raise SystemExit(3)", identity={"backend": "own"}))
    assert failed(run) == (FailureKind.PREFLIGHT, "no GPU")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"status": "done"}, "'status' is one of completed, preempted, not 'done'"),
        ({"status": []}, "'status' is one of completed, preempted, not []"),
        ({"identity": ["backend"]}, "'identity' is an object of field -> text, not ['backend']"),
        ({"identiy": {}}, "Did you mean 'identity'"),
    ],
)
def test_a_malformed_result_says_what_is_wrong(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_result(data)
    assert words in str(caught.value)


# exit codes and signals


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        (
            "echo '{\"metrics\": {}}'; echo no model in /models >&2; exit 3",
            FailureKind.PREFLIGHT,
            "no model in /models",
        ),
        ("echo saved >&2; exit 143", FailureKind.PREEMPTED, "saved"),
        ("echo '{\"metrics\": {}}'; exit 143", FailureKind.PREEMPTED, "exit code 143, nothing on stderr"),
        ('echo \'{"status": "preempted"}\'', FailureKind.PREEMPTED, "its result says that it was asked to end"),
        ("kill -TERM $$", FailureKind.KILLED, "ended by SIGTERM"),
    ],
)
def test_how_a_job_ends_says_what_became_of_it(
    executor: LocalExecutor, command: str, kind: FailureKind, message: str
) -> None:
    assert failed(run_to_end(executor, job("sh", "-c", command))) == (kind, message)


ASKED = """
import os, signal, sys, time
def asked(*_):
    print("saved", file=sys.stderr)
    sys.exit(143)
signal.signal(signal.SIGTERM, asked)
os.rename(os.open("part", os.O_CREAT) and "part", "here")
time.sleep(60)
"""


def test_sigterm_from_outside_is_passed_on_and_the_job_says_what_it_was(executor: LocalExecutor) -> None:
    """The machine asks all its processes to end, the supervisor among them."""
    spec = script(ASKED)
    executor.submit([spec])
    wait_for_start(executor, spec.id)
    folder = RunFolder(executor.runs_root / spec.id)
    wait_for_file(folder.path / "here")
    lease = read_lease(folder)
    assert lease is not None
    os.kill(lease.pid, signal.SIGTERM)
    drain(executor)
    exit = folder.exit()
    assert exit is not None and exit.message == f"SIGTERM from process {os.getpid()}"
    assert failed(collect(folder)) == (FailureKind.PREEMPTED, "saved")


def test_a_cancelled_job_stays_cancelled_whatever_it_says(executor: LocalExecutor) -> None:
    spec = script(ASKED)
    executor.submit([spec])
    wait_for_start(executor, spec.id)
    folder = RunFolder(executor.runs_root / spec.id)
    wait_for_file(folder.path / "here")
    executor.cancel(spec.id, "not needed")
    drain(executor)
    exit, run = folder.exit(), collect(folder)
    assert exit is not None and (exit.code, exit.reason) == (143, "cancel")
    assert (run.status, run.failure, run.notes) == (Status.CANCELLED, None, ("cancelled: not needed",))


# output


def test_a_flood_on_stdout_ends_the_job_and_is_cut_on_disk(executor: LocalExecutor) -> None:
    run = run_to_end(executor, job("sh", "-c", "exec cat /dev/zero"))
    kind, message = failed(run)
    assert kind is FailureKind.INVALID_RESULT
    assert message.startswith("printed ") and "on stdout (at most 64 MiB are kept)" in message
    assert (executor.runs_root / run.id / "stdout.log").stat().st_size == shim.LARGEST_OUTPUT


def test_a_flood_that_ends_before_anybody_looks_is_the_same(executor: LocalExecutor) -> None:
    size = shim.LARGEST_OUTPUT + 1
    run = run_to_end(executor, job("sh", "-c", f"truncate -s {size} stdout.log"))
    kind, message = failed(run)
    assert kind is FailureKind.INVALID_RESULT and f"printed {size:,} bytes" in message
    assert (executor.runs_root / run.id / "stdout.log").stat().st_size == shim.LARGEST_OUTPUT


def test_stderr_is_free(executor: LocalExecutor) -> None:
    code = "import os; [os.write(2, b'x' * 2**20) for _ in range(70)]; print('{\"metrics\": {}}')"
    run = run_to_end(executor, script(code))
    assert run.status is Status.COMPLETED
    assert (executor.runs_root / run.id / "stderr.log").stat().st_size == 70 * 2**20


# tokens


def logging(*tokens: float) -> str:
    """Code that logs so many tokens, one step each."""
    return f"""
import json, os, time
with open("journal.jsonl", "a", buffering=1) as journal:
    for step, tokens in enumerate({tokens}):
        journal.write(json.dumps({{"time": 0, "step": step, "metrics": {{"loss": 1, "tokens": tokens}}}}) + "\\n")
"""


def test_a_job_that_uses_too_many_tokens_is_ended(executor: LocalExecutor) -> None:
    spec = script(logging(500, 2000.5) + "time.sleep(60)", limits=Limits(tokens=2000))
    run = run_to_end(executor, spec)
    assert failed(run) == (FailureKind.BUDGET, "used 2,000.5 tokens, more than its budget of 2,000")
    assert run.duration_s is not None and run.duration_s < 30


def test_one_that_ends_before_anybody_looks_is_over_its_budget_too(executor: LocalExecutor) -> None:
    code = logging(2001) + "print('{\"metrics\": {}}')"
    assert failed(run_to_end(executor, script(code, limits=Limits(tokens=2000))))[0] is FailureKind.BUDGET
    within = script(logging(2000) + "print('{\"metrics\": {}}')", limits=Limits(tokens=2000))
    assert run_to_end(executor, within).status is Status.COMPLETED
    assert run_to_end(executor, script(code)).status is Status.COMPLETED, "no budget, no limit"


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"metrics": {"tokens": 99}}\n')
    count = TokenCount(journal)
    assert count.look() == 0, "what was there before is of another attempt"

    def write(text: str) -> float:
        with open(journal, "a") as file:
            file.write(text)
        return count.look()

    assert write('{"step":1,"metrics":{"loss":0.5,"tokens":100}}\n{"metrics": {"tokens": 1.5e2}}\n') == 150
    assert write('{"metrics": {"tokens": 30') == 150, "half a line"
    assert write('0}}\n{"metrics":{"tokens":"NaN"}}\n{"note": "\\"metrics\\": {\\"tokens\\": 999}"}\n') == 300
    assert write('{"tags": {"tokens": 999}}\n{"metrics": {"tokens": 200, "other_tokens": 999}}\n') == 300
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("nothing is new"))
    assert count.look() == 300
    monkeypatch.undo()
    assert write("x" * (2 * 2**20) + '\n{"metrics": {"tokens": 400}}\n') == 400, "a long line is no event"
    journal.unlink()
    assert count.look() == 400
