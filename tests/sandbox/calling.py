"""Callers of the sandbox: this process, one of another user, and a root without most of its rights as in a container.

Run as a program it is such another caller: requests as JSON lines on its standard input, answers on its output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from windlass.sandbox import Finished, Level, SandboxLimits, SandboxUnavailable, available, run_untrusted
from windlass.sandbox.linux import keep_capabilities, libc

SOURCE = Path(__file__).parents[2] / "src"
USER = 12345
#: what Docker leaves to root: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
#: NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP
CONTAINER = sum(1 << number for number in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
PR_CAPBSET_DROP = 24


class Caller(Protocol):
    """``run``: files to lie ``beside`` the program; every limit by its name."""

    pid: int

    def run(
        self,
        program: str | Sequence[str],
        *,
        level: Level,
        stdin: str = "",
        beside: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Finished: ...


class Here:
    """This process."""

    pid = os.getpid()

    def run(
        self,
        program: str | Sequence[str],
        *,
        level: Level,
        stdin: str = "",
        beside: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Finished:
        return run_untrusted(program, stdin=stdin, files=beside, level=level, limits=SandboxLimits(**limits))


class Elsewhere:
    """Another process: ``kind`` is ``user`` or ``container``."""

    def __init__(self, kind: str, python: str, temporary: str) -> None:
        self.process = subprocess.Popen(
            [python, __file__, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "TMPDIR": temporary, "A_SECRET": "shibboleth"},
            **({"user": USER, "group": USER, "extra_groups": []} if kind == "user" else {}),
        )
        self.pid = self.process.pid
        self.levels = [Level(name) for name in self._ask({})]

    def run(
        self,
        program: str | Sequence[str],
        *,
        level: Level,
        stdin: str = "",
        beside: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Finished:
        answer = self._ask({"program": program, "stdin": stdin, "beside": beside, "level": level, "limits": limits})
        if isinstance(answer, str):
            raise SandboxUnavailable(answer)
        return Finished(**{**answer, "level": Level(answer["level"])})

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def levels() -> list[Level]:
    """The levels that work for this process."""
    try:
        best = available()
    except SandboxUnavailable:
        return []
    return [level for level in Level if level is best or _works(level)]


def _works(level: Level) -> bool:
    try:
        return run_untrusted("", level=level).code == 0
    except SandboxUnavailable:
        return False


def python_for_others() -> str | None:
    """An interpreter that another user may start; Windlass's own may lie in somebody's home."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        test = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            if subprocess.run([python, "-c", test], user=USER, group=USER, extra_groups=[], cwd="/").returncode == 0:
                return python
        except OSError:
            continue
    return None


def main() -> None:
    if sys.argv[1] == "container":
        for number in range(41):
            if not CONTAINER >> number & 1:
                libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        keep_capabilities(CONTAINER)
    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            print(json.dumps(levels()), flush=True)
            continue
        limits, level = request.pop("limits"), Level(request.pop("level"))
        try:
            answer: Any = asdict(Here().run(**request, level=level, **limits))
        except SandboxUnavailable as error:
            answer = str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
