"""Unit tests of Python code that a completion holds, run in the sandbox.

The code is the last ```python block (```py and a block without a language, too), closed or not; a completion without
any block is code as a whole. ``expected`` is a test or a list of them:

    {"stdin": "1 2\\n", "stdout": "3\\n"}     the code as a program: exit code 0, and this output
    "assert add(1, 2) == 3"                  Python, in a process of its own that asks the code's process for ``add``

Code and tests never share a process, and expected output never enters the sandbox of a program: see ``harness.py`` for
what the code cannot do to its tests. What it can: be asked for its own opinion, where a test compares two objects of
its classes, or calls a judge that the code defines.
"""

from __future__ import annotations

import ast
import builtins
import json
import secrets
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from windlass.errors import DataError
from windlass.records.fields import Bytes, Seconds, Strict, Text
from windlass.records.task import Task, Verdict
from windlass.sandbox import Finished, SandboxLimits, run_untrusted
from windlass.verifiers.answers import fails, last_block, passes
from windlass.verifiers.harness import signed
from windlass.verifiers.protocol import Kind, VerifierFailed, shown, unfit, whole

HARNESS = Path(__file__).with_name("harness.py")
NEEDS = "a test, or a list of tests: Python text, or {stdin, stdout}"
START = 2.0  #: seconds of wall time for the interpreters to start, beside the limits of the tests


class Case(Strict):
    """A program's input and the output that it has to have, but for white space at the ends of lines and of all."""

    stdin: Text = ""
    stdout: Text


class Code(Kind):
    """Unit tests, all or nothing; the code runs in the sandbox, apart from its tests."""

    score: Literal["all", "share"] = Field(
        default="all", description="all: 1 where every test passes, else 0; share: of the tests that pass"
    )
    limit: Seconds = Field(default=5.0, description="wall and CPU time of one test")
    memory: Bytes = Field(default=512 * 2**20, description="of the code, as in 512MiB")

    def verify(self, completion: str, task: Task) -> Verdict:
        tests = self._tests(task)
        block = last_block(completion, ("python", "py", "python3", ""))
        code = whole(completion if block is None else block)
        if not code.strip():
            return fails("there is no code")
        asserts = [test for test in tests if isinstance(test, str)]
        passed, first = self._asserts(code, asserts) if asserts else (0, "")
        for case in tests:
            if isinstance(case, str) or (first and self.score == "all"):
                continue
            if failed := self._case(code, case):
                first = first or failed
            else:
                passed += 1
        if not first:
            return passes(f"{len(tests)} of {len(tests)} tests pass")
        if self.score == "all":
            return fails(first)
        return Verdict(score=passed / len(tests), reason=f"{passed} of {len(tests)} tests pass; {first}")

    def _tests(self, task: Task) -> list[str | Case]:
        """Raises DataError for a task without tests, and for one that is no Python."""
        listed = task.expected if isinstance(task.expected, (list, tuple)) else [task.expected]
        tests: list[str | Case] = []
        for i, one in enumerate(listed):
            try:
                if isinstance(one, str) and one.strip():
                    ast.parse(one)
                    tests.append(one)
                else:
                    tests.append(Case.model_validate(one))
            except SyntaxError as error:
                raise DataError(f"task {task.id!r}: test {i} is no Python: {error}: {shown(one)}") from None
            except ValidationError:
                raise unfit(task, "code", NEEDS) from None
        if not tests:
            raise unfit(task, "code", NEEDS)
        return tests

    def _asserts(self, code: str, tests: list[str]) -> tuple[int, str]:
        """How many pass, and why the first that does not."""
        key = secrets.token_hex(32)
        asked = {
            "key": key,
            "tests": [(test, _names(test)) for test in tests],
            "limit": self.limit,
            "all": self.score == "all",
        }
        harness = HARNESS.read_text(encoding="utf-8")
        finished = run_untrusted(
            ["python", "-I", "-S", "harness.py"],  # isolated: no module that the code writes comes into the tests
            stdin=json.dumps(asked),
            files={"harness.py": harness, "solution.py": code},
            limits=self._limits(len(tests)),
        )
        told = (line.partition(" ") for line in finished.stdout.splitlines())
        result = next((json.loads(text) for digest, _, text in told if digest == signed(text, key)), None)
        if result is None:
            return 0, f"the tests came to no end: {_ending(finished)}"
        if "refused" in result:
            raise VerifierFailed(f"the sandbox cannot keep tests from the code: {result['refused']}")
        number, what = result["failed"] or (0, "")
        return result["passed"], f"test {number} ({shown(tests[number], 60)}): {what}" if what else ""

    def _case(self, code: str, case: Case) -> str:
        """Why a case fails; empty where it passes."""
        finished = run_untrusted(code, stdin=case.stdin, limits=self._limits(1))
        given = f"input {shown(case.stdin, 40)}"
        if finished.reason or finished.code != 0:
            return f"{given}: {_ending(finished)}"
        if _lines(finished.stdout) != _lines(case.stdout):
            return f"{given}: output {shown(finished.stdout, 40)}, not {shown(case.stdout, 40)}"
        return ""

    def _limits(self, tests: int) -> SandboxLimits:
        seconds = START + self.limit * tests
        return SandboxLimits(wall_s=seconds, cpu_s=seconds, memory_bytes=self.memory)


def _names(test: str) -> list[str]:
    """What a test may take from the code: nothing that Python has, so that the code cannot stand in for it."""
    used = {node.id for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
    return sorted(used - set(dir(builtins)) - sys.stdlib_module_names)


def _ending(finished: Finished) -> str:
    if finished.reason:
        return finished.reason
    how = f"signal {finished.signal}" if finished.signal else f"exit code {finished.code}"
    last = finished.stderr.strip().splitlines()[-1:]
    return f"{how}{f': {shown(last[0])}' if last else ''}"


def _lines(output: str) -> list[str]:
    return [line.rstrip() for line in output.rstrip().splitlines()]
