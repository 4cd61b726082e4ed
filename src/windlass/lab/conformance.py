"""Does a command keep the trainer contract? It is run for real, several times, in a scratch folder, and held to each
point: what it leaves when all is well, when it is asked to end, when it is killed, and when what it is given is wrong.

What a study needs of every trainer is ``required``; the rest is what makes runs resumable, comparable and safe.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from windlass.errors import DataError
from windlass.jobs.collect import collect, final_metrics, read_result
from windlass.jobs.local import LocalExecutor
from windlass.jobs.processes import descendants, send
from windlass.records.content import digest
from windlass.records.result import mismatches
from windlass.records.run import FailureKind, Limits, RunRecord, RunSpec, Status, make_run_id
from windlass.registry.evaluating import training_fingerprint
from windlass.runs.folder import RunFolder
from windlass.runs.lease import read_lease
from windlass.runs.reader import last_attempt, metric_names
from windlass.runs.source import absolute_command, command_digest

TRIAL_S = 120.0  #: longest one run may take, unless told otherwise
LARGEST_OUTPUT = 2**20  #: bytes on stdout
PAUSE_S = 0.02  #: between two looks at a run that is to be disturbed
MISSPELT = "wl_no_such_parameter"
PROFILE = {"profile": "conformance"}  #: the declared identity that a result has to repeat


class Finding(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    ADVICE = "advice"  #: not kept, and not required
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the contract, and how the trainer stands to it."""

    name: str
    finding: Finding
    words: str
    required: bool


@dataclass(frozen=True, kw_only=True)
class Conformance:
    """The report: every point of the contract."""

    command: Sequence[str]
    points: Sequence[Point]
    folder: Path  #: of the runs; gone unless it was asked to stay

    @property
    def ok(self) -> bool:
        return not any(point.finding is Finding.FAILED for point in self.points)

    @property
    def resumable(self) -> bool:
        return any(p.name == "goes on after SIGTERM" and p.finding is Finding.PASSED for p in self.points)

    def to_dict(self) -> dict[str, Any]:
        points = [
            {"point": p.name, "finding": str(p.finding), "required": p.required, "words": p.words} for p in self.points
        ]
        return {"command": list(self.command), "ok": self.ok, "resumable": self.resumable, "points": points}


def check_trainer(
    command: Sequence[str],
    *,
    folder: Path,
    config: Mapping[str, Any] | None = None,
    data: Sequence[Path] = (),
    seed: int = 1,
    time_s: float = TRIAL_S,
    keep: Path | None = None,
    on_point: Callable[[Point], None] | None = None,
) -> Conformance:
    """Run ``command`` (relative to ``folder``) through the whole contract; ``keep`` names a folder for its runs.

    Raises DataError where ``data`` is not there.
    """
    if missing := [str(path) for path in data if not path.exists()]:
        raise DataError(f"there is no {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="windlass-trainer-") as scratch:
        root = (keep or Path(scratch)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        suite = _Suite(command, folder.resolve(), root, dict(config or {}), [p.resolve() for p in data], seed, time_s)
        points = []
        for point in suite.points():
            points.append(point)
            if on_point is not None:
                on_point(point)
        return Conformance(command=tuple(command), points=tuple(points), folder=root)


@dataclass
class _Suite:
    command: Sequence[str]
    folder: Path
    root: Path
    config: dict[str, Any]
    data: list[Path]
    seed: int
    time_s: float
    made: int = field(default=0)

    def points(self) -> Iterator[Point]:
        plain = self._run(self._spec())
        yield from self._result(plain)
        if plain.status is not Status.COMPLETED:
            return
        yield from self._repeated(plain)
        yield from self._disturbed(plain, "SIGTERM", signal.SIGTERM)
        yield from self._disturbed(plain, "kill -9", signal.SIGKILL)
        yield from self._refused()

    # What a run leaves -------------------------------------------------------------------------------------------

    def _result(self, run: RunRecord) -> Iterator[Point]:
        folder = RunFolder(self.root / run.id)
        exit, failure = folder.exit(), run.failure
        told = failure.message if failure else ""
        started = exit is not None and exit.reason != "not_started"
        yield _point("starts", started, "it starts" if started else told)
        if not started or exit is None:
            return
        ended = exit.code == 0
        took = f"exit code {exit.code} after {exit.wall_s:.1f} s" if ended else told
        yield _point("ends by itself with exit code 0", ended, took if exit.code is not None else told)
        lease = read_lease(folder)
        result, problem = read_result(folder, lease.nonce if lease is not None else "")
        where = "result.json" if folder.result_file.exists() else "stdout"
        yield _point("one JSON result", result is not None, f"on {where}" if result else problem)
        printed = folder.stdout_file.stat().st_size if folder.stdout_file.exists() else 0
        small = printed <= LARGEST_OUTPUT
        yield _point("stdout is for the result", small, f"{printed:,} bytes on stdout; logs belong on stderr")
        if result is None:
            return
        bad = [name for name, value in result.metrics.items() if not math.isfinite(value)]
        named = ", ".join(f"{name} {value:.6g}" for name, value in sorted(result.metrics.items())) or "none"
        yield _point(
            "finite metrics", bool(result.metrics) and not bad, f"not finite: {', '.join(bad)}" if bad else named
        )
        lost = [a.path for a in run.artifacts if not (folder.path / a.path).exists()]
        there = f"{len(run.artifacts)} named, all there" if not lost else f"named, and not there: {', '.join(lost)}"
        yield _point("artifacts are where the result says", not lost, there)
        wrong = mismatches(folder.spec().identity, result)
        words = "; ".join(map(str, wrong)) or f"repeats {', '.join(folder.spec().identity)}"
        yield _advice("repeats the spec's identity", not wrong, words)
        names = [name for name in metric_names(folder) if not name.startswith("system/")]
        _, step = last_attempt(folder)
        course = (
            f"{', '.join(names[:6])} up to step {step:g}" if names and step is not None else "journal.jsonl is empty"
        )
        yield _advice("logs metrics as it goes", bool(names), course)

    def _repeated(self, plain: RunRecord) -> Iterator[Point]:
        again = self._run(self._spec())
        same = again.status is Status.COMPLETED and again.values == plain.values
        yield _advice("the same seed gives the same result", same, _difference(plain, again))

    # A run that is disturbed -------------------------------------------------------------------------------------

    def _disturbed(self, plain: RunRecord, how: str, number: signal.Signals) -> Iterator[Point]:
        """Signal the trainer once it has logged something; then let a new attempt go on from what it left."""
        spec = self._spec()
        folder = RunFolder(self.root / spec.id)
        with closing(LocalExecutor(self.root, 1)) as executor:
            executor.submit([spec])
            asked_at = self._signal_when_under_way(executor, folder, number, plain.duration_s or 0.0)
            while executor.active():
                executor.wait(1.0)
            run = collect(folder)
            if asked_at is None:
                words = f"it ended before it could be disturbed ({plain.duration_s or 0:.1f} s): give it more to do"
                yield Point(name=f"goes on after {how}", finding=Finding.UNTESTED, words=words, required=False)
                return
            if number is signal.SIGTERM:
                yield from self._ended_when_asked(run, folder, asked_at)
            if not (folder.state.is_dir() and any(folder.state.iterdir())):
                yield _advice(f"goes on after {how}", False, "it left nothing in state/ to go on from")
                return
            if run.status is Status.COMPLETED:
                return
            executor.resume(run.id)
            while executor.active():
                executor.wait(1.0)
        resumed = collect(folder)
        same = resumed.status is Status.COMPLETED and resumed.values == plain.values
        _, step = last_attempt(folder)
        words = f"attempt {resumed.attempt} went on to step {step:g}, with equal results" if same and step else ""
        yield _advice(f"goes on after {how}", same, words or _difference(plain, resumed))

    def _ended_when_asked(self, run: RunRecord, folder: RunFolder, asked_at: float) -> Iterator[Point]:
        exit = folder.exit()
        took = exit.ended - asked_at if exit is not None else math.inf
        grace = folder.spec().limits.grace_s
        ended = took <= grace
        yield _advice("ends soon after SIGTERM", ended, f"{took:.1f} s after it was asked; {grace:g} s are given")
        honest = run.status is not Status.COMPLETED
        kind = run.failure.kind if run.failure else run.status
        words = f"its run is {kind}" if honest else "it says that it is completed: such a run looks like a whole one"
        yield Point(
            name="an interrupted run is not completed",
            finding=Finding.PASSED if honest else Finding.FAILED,
            words=words,
            required=True,
        )
        preempted = run.failure is not None and run.failure.kind is FailureKind.PREEMPTED
        code = exit.code if exit is not None else None
        yield _advice("says that it was preempted", preempted, f"exit code {code}; 143 says that it can go on")

    def _signal_when_under_way(
        self, executor: LocalExecutor, folder: RunFolder, number: signal.Signals, wall_s: float
    ) -> float | None:
        """When the trainer was signalled, in seconds since the epoch; None where it ended before.

        That is once it has logged something, and for a kill once it has logged more after it saved something; where
        it does neither, after half of the ``wall_s`` that a whole run takes.
        """
        began, saved = time.monotonic(), math.inf
        while executor.active():
            executor.wait(PAUSE_S)
            lease, seen = read_lease(folder), 0
            with suppress(OSError):
                seen = folder.journal_file.read_bytes().count(b"\n")
            if saved == math.inf and folder.state.is_dir() and any(folder.state.iterdir()):
                saved = seen
            under_way = seen > saved or (seen > 0 and number is signal.SIGTERM)
            if folder.exit_file.exists() or lease is None or not (under_way or time.monotonic() > began + wall_s / 2):
                continue
            asked_at = time.time()
            send(descendants(lease.pid), number)
            return asked_at
        return None

    # What has to be refused --------------------------------------------------------------------------------------

    def _refused(self) -> Iterator[Point]:
        scratch = self.root / "broken"
        scratch.mkdir(exist_ok=True)
        (scratch / "spec.json").write_text("{ this is no JSON", encoding="utf-8")
        argv = [*self._argv(), "--spec", str(scratch / "spec.json"), "--output-dir", str(scratch)]
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(argv, cwd=scratch, capture_output=True, timeout=self.time_s, check=False)
            words = f"exit code {done.returncode}"
            yield _point("refuses a spec that it cannot read", done.returncode != 0, words)
        unknown = self._run(self._spec(config={**self.config, MISSPELT: 1}))
        refused = unknown.failure is not None and unknown.failure.kind is not FailureKind.TIMEOUT
        words = unknown.failure.message if unknown.failure else f"a misspelt parameter changes nothing: {MISSPELT!r}"
        yield _advice("refuses parameters that it does not know", refused, words)
        if not self.data:
            words = "give the data that it trains on: --data FILE"
            yield Point(name="refuses changed data", finding=Finding.UNTESTED, words=words, required=False)
            return
        changed = self._run(self._spec(data_fingerprint="0" * 64))
        refused = changed.failure is not None and changed.failure.kind is FailureKind.PREFLIGHT
        words = changed.failure.message if changed.failure else "it trained on data that are not what the spec says"
        yield _advice(
            "refuses changed data", refused, f"{changed.failure.kind if changed.failure else 'completed'}: {words}"
        )

    # Runs --------------------------------------------------------------------------------------------------------

    def _argv(self) -> tuple[str, ...]:
        return absolute_command(self.command, self.folder)

    def _spec(self, config: Mapping[str, Any] | None = None, data_fingerprint: str | None = None) -> RunSpec:
        self.made += 1
        chosen, created = dict(self.config if config is None else config), time.time()
        data = {"data": data_fingerprint or training_fingerprint(self.data)} if self.data else {}
        return RunSpec(
            id=make_run_id(created, "conformance", {"number": self.made, "at": created}),
            name="conformance",
            created=created,
            config=chosen,
            command=self._argv(),
            seed=self.seed,
            limits=Limits(time_s=self.time_s),
            data=tuple(map(str, self.data)),
            fingerprints={"config": digest(chosen), "code": command_digest(self.command, self.folder), **data},
            identity=PROFILE,
        ).identified()

    def _run(self, spec: RunSpec) -> RunRecord:
        """To its end. A result that does not repeat the identity is judged without it: that is a point of its own."""
        with closing(LocalExecutor(self.root, 1)) as executor:
            executor.submit([spec])
            while executor.active():
                executor.wait(1.0)
        run = collect(self.root / spec.id)
        result, _ = read_result(RunFolder(self.root / spec.id))
        silent = result is not None and not result.identity and mismatches(spec.identity, result)
        if result is not None and silent and run.failure is not None and run.failure.kind is FailureKind.INVALID_RESULT:
            return replace(run, status=Status.COMPLETED, failure=None, metrics=final_metrics(run.metrics, result))
        return run


def _point(name: str, kept: bool, words: str) -> Point:
    return Point(name=name, finding=Finding.PASSED if kept else Finding.FAILED, words=words, required=True)


def _advice(name: str, kept: bool, words: str) -> Point:
    return Point(name=name, finding=Finding.PASSED if kept else Finding.ADVICE, words=words, required=False)


def _difference(plain: RunRecord, other: RunRecord) -> str:
    if other.failure is not None:
        return f"{other.failure.kind}: {other.failure.message}"
    if other.status is not Status.COMPLETED:
        return str(other.status)
    names = sorted({*plain.values, *other.values})
    differing = [n for n in names if plain.values.get(n) != other.values.get(n)]
    if not differing:
        return f"equal to the last bit: {', '.join(names)}"
    told = [f"{n} {json.dumps(plain.values.get(n))} and {json.dumps(other.values.get(n))}" for n in differing]
    return "differs: " + ", ".join(told[:4])
