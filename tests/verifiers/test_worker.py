"""The processes behind checks: limits that the kernel holds, death, restarts, threads, forks. With real processes."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import windlass.verifiers.worker
from windlass.errors import DataError
from windlass.verifiers.protocol import VerifierFailed
from windlass.verifiers.worker import Worker, worker

CATASTROPHE = {"expected": "(a+)+b", "answer": "a" * 60}


@pytest.fixture
def regex() -> Iterator[Worker]:
    made = Worker("regex")
    yield made
    made.close()


def ask(worker: Worker, answer: str = "aab", expected: str = "(a+)+b", limit: float = 2.0) -> tuple[Any, str]:
    done = worker.ask(answer=answer, expected=expected, options={"anywhere": False}, limit=limit)
    return done.score, done.reason


def pid(worker: Worker) -> int:
    assert worker._process is not None
    return worker._process.pid


def test_one_process_makes_many_checks(regex: Worker) -> None:
    assert ask(regex) == (1.0, "it matches")
    first = pid(regex)
    assert ask(regex, "c") == (0.0, "it does not match")
    assert pid(regex) == first


def test_the_kernel_ends_a_check_that_takes_too_long_and_the_next_one_works(regex: Worker) -> None:
    ask(regex)
    first = pid(regex)
    assert ask(regex, limit=0.2, **CATASTROPHE) == (0.0, "checking it takes more than 0.2 s of CPU time")
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert ask(regex)[0] == 1
    assert pid(regex) != first


def test_a_process_that_is_killed_gives_no_score_and_the_next_check_works(regex: Worker) -> None:
    ask(regex)
    os.kill(pid(regex), signal.SIGKILL)
    assert ask(regex) == (None, "the checking process died: killed by SIGKILL")
    assert ask(regex)[0] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_whole_job_changes_no_verdict(regex: Worker, number: signal.Signals) -> None:
    ask(regex)
    first = pid(regex)
    os.kill(first, number)
    assert ask(regex) == (1.0, "it matches")
    assert ask(regex, "c") == (0.0, "it does not match")
    assert pid(regex) != first


def test_checks_from_threads_survive_the_death_of_the_process(regex: Worker) -> None:
    asked = [("aab", 1.0), ("c", 0.0), ("a" * 60, 0.0)] * 3
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda one: ask(regex, one[0], limit=0.2)[0], asked))
    assert scores == [right for _, right in asked]


def test_closing_ends_the_process_and_the_next_check_starts_another(regex: Worker) -> None:
    ask(regex)
    first = pid(regex)
    regex.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert ask(regex)[0] == 1


def _ask_and_tell(told: Any) -> None:
    told.put((ask(worker("regex"))[0], pid(worker("regex"))))


def test_a_fork_gets_a_process_of_its_own() -> None:
    regex = worker("regex")
    ask(regex)
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    child = context.Process(target=_ask_and_tell, args=(told,))
    child.start()
    score, process = told.get(timeout=30)
    child.join()
    assert score == 1
    assert process != pid(regex)
    assert ask(regex)[0] == 1


def test_the_process_ends_with_the_one_that_asked() -> None:
    code = "from windlass.verifiers.worker import worker as w; import os, signal\n"
    code += "w('regex').ask(answer='a', expected='a', options={'anywhere': False}, limit=1)\n"
    code += "print(w('regex')._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    pidfd = _pidfd(int(done.stdout))
    if pidfd is not None:
        assert multiprocessing.connection.wait([pidfd], timeout=30)
        os.close(pidfd)


def _pidfd(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None


def test_what_a_task_expects_is_refused_as_data_not_scored(regex: Worker) -> None:
    with pytest.raises(DataError, match="'\\(' is no regular expression"):
        ask(regex, expected="(")
    assert ask(regex)[0] == 1


def test_a_check_that_raises_is_the_verifiers_fault(regex: Worker) -> None:
    with pytest.raises(VerifierFailed, match="KeyError"):
        regex.ask(answer="a", expected="a", options={}, limit=1)


def test_preparing_has_a_limit_of_its_own_and_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windlass.verifiers.worker, "PREPARING", 0.05)  # loading SymPy takes more
    math = Worker("math")
    with pytest.raises(DataError, match=r"takes more than 0\.05 s of CPU time: it expects '42'"):
        math.ask(answer="42", expected="42", options={"boxed": False}, limit=10)
    math.close()
