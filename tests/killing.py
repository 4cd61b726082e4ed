"""``kill -9`` at a chosen step of what a lab does about checkpoints, in real processes of a warm interpreter.

Run as a script it is that interpreter: it imports Windlass once, opens nothing, and forks a fresh process for each line
of JSON on stdin. What such a process comes to is a line of JSON on stdout.

A point is the moment before a step that leaves something behind: an entry appended, its copy written (also: half of
it), a run put into the store, a job submitted (also: after it), an outcome written (also: half of it), anything renamed
or linked. After a step is before the next one, and nothing lies in between.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent
#: what would else be imported in every process anew; polars only starts threads when it is first used
WARM = ("works", "polars", "scipy.stats", "windlass.jobs.local", "windlass.lab.deciding", "windlass.lab.doctor",
        "windlass.lab.policy", "windlass.lab.study", "windlass.lab.trainer", "windlass.loop.driver",
        "windlass.report.run", "windlass.runs.monitor", "windlass.registry.leakage", "windlass.store.sql")  # fmt: skip
_RANDOM = re.compile(r"\.\d+\.[0-9a-f]{8}|-\d+-[0-9a-f]{8}")

_KEY = re.compile(rb'"role":"[^"]*".*?"key":"[^"]*"')


class Interpreter:
    """The tests' end. A context manager."""

    def __enter__(self) -> Self:
        source = os.pathsep.join((str(HERE.parent / "src"), str(HERE)))
        one_thread = dict.fromkeys(("POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **one_thread, "PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def start(self, work: str, lab: Path, *args: Any, **kill: Any) -> None:
        """Do ``works.<work>(lab, *args)`` in a fresh process; ``answer`` waits for it.

        It is killed at its ``at``-th point, those whose name begins like one of ``skip`` not counted; or at the first
        point that is not among ``spare``.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"work": work, "lab": str(lab), "args": args, "kill": kill}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """``killed``: the point where it was, or None; ``value``: what the work returned; ``error``: what it raised."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the interpreter died"
        found: dict[str, Any] = json.loads(line)
        with suppress(ProcessLookupError):
            process = os.pidfd_open(found.pop("pid"))
            select.select([process], [], [])  # it holds no lock any more
            os.close(process)
        assert "crash" not in found, found["crash"]
        return found

    def run(self, *args: Any, **options: Any) -> dict[str, Any]:
        self.start(*args, **options)
        return self.answer()


# The process that is killed ------------------------------------------------------------------------------------------


class Killer:
    def __init__(
        self,
        lab: Path,
        tell: Callable[[str], None],
        at: int | None = None,
        skip: Sequence[str] = (),
        spare: Sequence[str] | None = None,
    ) -> None:
        self._lab, self._tell, self._left, self._skip = lab, tell, at, tuple(skip)
        self._spare = None if spare is None else set(spare)

    def point(self, label: str, first: Callable[[], object] | None = None) -> None:
        if label.startswith(self._skip):
            return
        if self._left is not None:
            self._left -= 1
        if self._left == 0 or (self._spare is not None and label not in self._spare):
            if first is not None:
                first()
            self._tell(label)
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        from windlass.jobs.local import LocalExecutor
        from windlass.registry import mirror, outcomes
        from windlass.registry.sql import SqlRegistry
        from windlass.store.sql import SqlStore

        enter, submit, put = SqlRegistry._enter, LocalExecutor.submit, SqlStore.put

        def entering(registry: Any, make: Any) -> Any:
            state = registry.state()
            self.point(f"append {_words(make(state))}")
            return enter(registry, make)

        def submitting(executor: Any, specs: Any) -> Any:
            jobs = " ".join(spec.name for spec in specs)
            if jobs:
                self.point(f"submit {jobs} {[spec.id for spec in specs]}")
            submit(executor, specs)
            if jobs:
                self.point(f"submitted {jobs} {[spec.id for spec in specs]}")

        def putting(store: Any, runs: Any) -> Any:
            if runs:
                self.point(f"put {[(run.id, str(run.status)) for run in runs]}")
            return put(store, runs)

        SqlRegistry._enter, LocalExecutor.submit, SqlStore.put = entering, submitting, putting  # type: ignore[method-assign, assignment]
        mirror.os, outcomes.os = self._torn("copy"), self._torn("outcomes")  # type: ignore[assignment]
        for name in ("rename", "replace", "link"):
            setattr(os, name, self._before(name, getattr(os, name)))

    def _before(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def moving(source: Any, target: Any, **options: Any) -> Any:
            place = os.path.relpath(os.fspath(target), self._lab)
            if not place.startswith(".."):
                self.point(f"{name} {_RANDOM.sub('', place)} {self._mark()}")
            return call(source, target, **options)

        return moving

    def _mark(self) -> str:
        """Tells the renames of one file from each other: how the log ends."""
        try:
            return _words_of((self._lab / "registry.jsonl").read_bytes().splitlines(keepends=True)[-1:])
        except FileNotFoundError:
            return ""

    def _torn(self, what: str) -> Any:
        killer = self

        class Torn:
            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            def write(self, fd: int, data: bytes) -> int:
                where = _KEY.findall(data)[:1] or _words_of(data.splitlines(keepends=True))
                killer.point(f"{what} {where}")
                killer.point(f"half of {what} {where}", lambda: os.write(fd, data[: len(data) // 2]))
                return os.write(fd, data)

        return Torn()


def _words_of(lines: Iterable[bytes]) -> str:
    from windlass.records.audit import Entry

    return _words(Entry.from_text(line) for line in lines if line.endswith(b"\n"))


def _words(entries: Iterable[Any]) -> str:
    from keepinglab import content

    return "; ".join(" ".join([entry.kind, *content(entry)]) for entry in entries)


def _work(order: dict[str, Any], answer: Any) -> None:
    import works
    from windlass.errors import WindlassError

    def tell(**found: Any) -> None:
        answer.write(json.dumps({"killed": None, "value": None, "error": None, "pid": os.getpid(), **found}) + "\n")
        answer.flush()

    lab = Path(order["lab"])
    if order["kill"]:
        Killer(lab, lambda label: tell(killed=label), **order["kill"]).arm()
    try:
        tell(value=getattr(works, order["work"])(lab, *order["args"]))
    except WindlassError as error:
        tell(error=[type(error).__name__, str(error)])
    except BaseException:
        tell(crash=traceback.format_exc())


def serve() -> None:
    """One order at a time may be killed; several may be under way, and answer as they end."""
    for module in WARM:
        importlib.import_module(module)
    gc.freeze()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    children: list[int] = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _work(json.loads(line), answer)
            os._exit(0)
        children.append(pid)
        for child in list(children):
            if os.waitpid(child, os.WNOHANG)[0]:
                children.remove(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    serve()
