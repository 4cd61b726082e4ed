"""``start_run`` and ``Run``: how a training script says what happens. Standard library only."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from windlass.errors import Diverged, NotFound, StateError, WindlassError
from windlass.records.content import canonical
from windlass.records.result import LOGGED, Result, ResultStatus, parse_result
from windlass.records.run import Artifact, Exit, Failure, FailureKind, RunSpec, make_run_id
from windlass.runs import attempts, index
from windlass.runs.failure import describe_failure, exit_code
from windlass.runs.folder import RunFolder, read_json, write_atomic
from windlass.runs.journal import Journal, tell
from windlass.runs.lease import Heartbeat, Holder, Lease, claim, holder, take_over
from windlass.settings import SETTINGS_FILE, find_lab, job_nonce, job_run_dir, lay_out, load_settings

CAPTURE_S = 2.0  #: how long the end of a script waits for its environment to be written down


def start_run(
    name: str | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    lab: Path | str | None = None,
    tags: Mapping[str, str] | None = None,
    seed: int = 0,
    resume: str | Path | None = None,
) -> Run:
    """The run of this script. Inside a job it is the job's run; elsewhere a new one, in the nearest lab upwards.

    Where there is no lab, ``./lab`` is made. ``resume`` continues a run that was preempted, lost, killed or cancelled:
    an id, or the path of a run folder; its curves go on from ``run.resumed_step``.

    Raises NotFound and StateError for a run that cannot be resumed, WindlassError for a config that is no JSON.
    """
    job = job_run_dir()
    if job is not None:
        return attach(RunFolder(job))
    root = _lab_folder(lab)
    if resume is not None:
        return _resume(root, resume)
    name = name or "script"
    created = time.time()
    try:
        plain = json.loads(json.dumps(dict(config or {}), default=_plain))
        identity = {"config": json.loads(canonical(plain)), "seed": seed}
    except (TypeError, ValueError) as error:
        raise WindlassError(f"config is no JSON: {error}", "Use numbers, texts, lists and mappings.") from None
    lease = Lease.of(os.getpid(), heartbeat=True, lasts_s=load_settings(root).lease_s)
    for salt in range(10_000):
        run_id = make_run_id(created, _as_name(name), {**identity, "salt": salt} if salt else identity)
        spec = RunSpec(
            id=run_id, name=name, created=created, config=identity["config"], seed=seed, tags=dict(tags or {})
        )
        folder = RunFolder(root / "runs" / run_id)
        if folder.path.exists():
            continue
        with contextlib.suppress(OSError, StateError):
            folder.create(spec)
        if folder.path.is_dir() and claim(folder, lease):
            index.append(root / "runs", [run_id], "started")
            return Run(folder, spec, owner=True)
        if not folder.path.is_dir():
            break
    raise WindlassError(f"no run folder could be made in {root / 'runs'}", f"Check: ls -ld {root / 'runs'}; df {root}")


def attach(folder: RunFolder) -> Run:
    """The run of a job, whose supervisor answers for it."""
    later = attempts.due(folder)
    number, step = (later.number, later.step) if later is not None else (1, None)
    return Run(folder, folder.spec(), owner=False, attempt=number, resumed_step=step)


def _lab_folder(lab: Path | str | None) -> Path:
    if lab is not None:
        root = Path(lab).expanduser().resolve()
        if not (root / SETTINGS_FILE).is_file():
            raise NotFound(f"{root} is no lab: it has no {SETTINGS_FILE}", f"windlass init {lab}")
        return root
    try:
        root = find_lab()
    except NotFound:
        root = Path.cwd() / "lab"
        tell(f"no lab here or above; runs go to {root}")
    lay_out(root)
    return root


def _as_name(text: str) -> str:
    """What a run id may hold of a name: letters, digits and '-'."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text).strip("-")
    return kept[:64].strip("-") or "run"


def _resume(root: Path, resume: str | Path) -> Run:
    folder = _find_run(root / "runs", resume)
    spec = folder.spec()
    with attempts.locked(folder):
        attempt, step = _reopen(root, folder)
    index.append(folder.path.parent, [folder.id], "resumed")
    return Run(folder, spec, owner=True, attempt=attempt, resumed_step=step)


def _find_run(runs_root: Path, named: str | Path) -> RunFolder:
    """By path, id, a part of it that one run has, or ``latest``."""
    if Path(named).is_dir():
        return RunFolder(named)
    wanted = index.latest(runs_root) or "" if named == "latest" else str(named)
    found = [path for path in runs_root.glob("[!.]*/") if wanted and wanted in path.name]
    if len(found) != 1:
        raise NotFound(
            f"{len(found) or 'no'} runs in {runs_root} have {str(named)!r} in their id", "windlass runs list"
        )
    return RunFolder(found[0])


def _reopen(root: Path, folder: RunFolder) -> tuple[int, float | None]:
    """Take over a run whose holder is gone; the number of the new attempt, and the last step of those before."""
    if holder(folder) is Holder.ALIVE and folder.exit() is None:
        raise StateError(f"run {folder.id} is still running", f"windlass runs show {folder.id}")
    ended, result = folder.exit(), read_json(folder.result_file)
    failed = isinstance(result, dict) and result.get("failure")
    preempted = isinstance(failed, dict) and failed.get("kind") == FailureKind.PREEMPTED
    if ended is not None and ended.reason == "stop":
        raise StateError(
            f"run {folder.id} was stopped early; only preempted, lost, killed and cancelled runs can be resumed",
            f"windlass runs replay {folder.id}",
        )
    if ended is not None and ended.reason != "cancel" and ended.signal is None and not preempted:
        how = "failed by itself" if failed or ended.code else "is completed"
        raise StateError(
            f"run {folder.id} {how}; only preempted, lost, killed and cancelled runs can be resumed", "Start a new run."
        )
    from windlass.runs.reader import last_attempt

    last, step = last_attempt(folder)
    lease = Lease.of(os.getpid(), heartbeat=True, lasts_s=load_settings(root).lease_s, attempt=last + 1)
    attempts.set_aside(folder, last)
    take_over(folder, lease)
    return last + 1, step


class Run:
    """One run, as the script that trains sees it. Use it with ``with``, or call ``finish``.

    A script that ends without either is completed by its exit, and failed by an exception that nobody caught.
    """

    def __init__(
        self,
        folder: RunFolder,
        spec: RunSpec,
        *,
        owner: bool,
        attempt: int = 1,
        resumed_step: float | None = None,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.id = folder.id
        self.path = folder.path
        self.config: Mapping[str, Any] = spec.config
        self.seed = spec.seed
        self.attempt = attempt
        self.resumed_step = resumed_step  #: the last step of the attempts before, or None
        self._owner = owner  # no supervisor: this process holds the lease and writes exit.json
        self._pid = os.getpid()
        self._last: dict[str, tuple[float | None, Any]] = {}  # name -> step and value, of the highest step
        self._artifacts: list[Artifact] = []
        self._notes: list[str] = []
        self._identity = dict(spec.identity)
        self._journal = Journal(folder.journal_file)
        self._finished = False
        self._began = time.monotonic()
        self._started = time.time()
        self._crash: BaseException | None = None
        settings = load_settings(folder.path.parent.parent)
        if owner and attempt > 1:
            self._journal.event(attempt=attempt, resumed_at_step=resumed_step)
        self._monitor = _start_monitor(self._journal, settings.system_metrics_s)
        if owner:
            self._heartbeat = Heartbeat(folder, settings.heartbeat_s)
            self._capture = _capture_in_background(folder, Path.cwd())
            self._on_sigterm()
            self._watch_for_a_crash()
            atexit.register(self._at_exit)

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: float | None = None, **values: Any) -> None:
        """Metrics at a step: ``run.log(step=1, loss=0.3)``, ``run.log({"val/loss": 0.4}, step=1)``.

        Survives ``kill -9`` of this process once it returns; never waits for a tracker. Without a step, values of one
        name are counted from 0.

        Raises WindlassError for a value that is no number.
        """
        if metrics:
            values = {**metrics, **values}
        self._journal.metrics(values, step)
        last = self._last
        for name, value in values.items():
            known = last.get(name)
            if known is None or step is None or known[0] is None or step >= known[0]:
                last[name] = (step, value)

    def tag(self, **tags: str) -> None:
        self._journal.event(tags={name: str(value) for name, value in tags.items()})

    def note(self, text: str) -> None:
        self._journal.event(note=str(text))

    def artifact(self, path: Path | str, *, name: str | None = None, kind: str = "other") -> Artifact:
        """Register a file or folder. One outside the run folder is copied into ``artifacts/``.

        Raises NotFound where there is nothing at ``path``.
        """
        source = Path(path)
        if not source.exists():
            raise NotFound(f"artifact {source} does not exist")
        if not source.resolve().is_relative_to(self.path.resolve()):
            source = self._copy_in(source)
        relative = source.resolve().relative_to(self.path.resolve())
        record = Artifact(
            name=name or relative.name,
            path=str(relative),
            kind=kind,
            bytes=_size(source),
            sha256=_sha256(source) if source.is_file() else "",
        )
        self._journal.event(artifact=asdict(record))
        self._artifacts.append(record)
        return record

    @property
    def artifacts_dir(self) -> Path:
        """``artifacts/``, made when first asked for."""
        self.folder.artifacts.mkdir(exist_ok=True)
        return self.folder.artifacts

    @property
    def checkpoint_dir(self) -> Path:
        """``checkpoint/``, made when first asked for."""
        self.folder.checkpoint.mkdir(exist_ok=True)
        return self.folder.checkpoint

    def identify(self, **fields: str) -> None:
        """Say what this run really used, where its spec has an ``identity``; what is not said is taken from the spec.

        A field that is not as the spec wants it makes the result invalid.
        """
        self._identity.update({name: str(value) for name, value in fields.items()})

    def diverged(self, message: str) -> NoReturn:
        """End the run as failed with kind ``diverged``."""
        raise Diverged(message)

    def finish(self, metrics: Mapping[str, Any] | None = None, *, failure: Failure | None = None) -> None:
        """Write the result, last, by rename. Without ``metrics``, the values at the highest steps are final.

        Once is enough. In a forked child it does nothing: the run is the parent's.

        Raises WindlassError for a metric that is no number.
        """
        if self._finished or os.getpid() != self._pid:
            return
        final = {name: value for name, (_, value) in self._last.items()} if metrics is None else metrics
        preempted = failure is not None and failure.kind is FailureKind.PREEMPTED
        result = Result(
            metrics={str(name): _as_float(name, value) for name, value in final.items()},
            artifacts=tuple(self._artifacts),
            failure=failure,
            info={"metrics": LOGGED} if metrics is None else {},
            status=ResultStatus.PREEMPTED if preempted else ResultStatus.COMPLETED,
            identity=self._identity,
            nonce="" if self._owner else job_nonce(),
        )
        data = json.dumps(result.to_dict(), ensure_ascii=False, indent=1).encode(errors="replace")
        parse_result(json.loads(data))
        self._finished = True
        if self._monitor is not None:
            self._monitor.stop()
        self._journal.close()
        if self._owner:
            self._capture.join(CAPTURE_S)
        try:
            write_atomic(self.folder.result_file, data)
            if self._owner:
                self._write_exit(failure)
        except OSError as error:
            tell(f"the result of run {self.id} could not be written: {error.strerror}")
        if self._owner:
            self._heartbeat.stop()
            atexit.unregister(self._at_exit)
            with contextlib.suppress(OSError):
                index.append(self.path.parent, [self.id], "ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        clean = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        self.finish(failure=None if clean or error is None else describe_failure(error))

    def _write_exit(self, failure: Failure | None, *, terminated: bool = False) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        message = ""
        if failure is not None and failure.message.startswith("KeyboardInterrupt"):
            message = "interrupted from the keyboard"
        elif terminated and self.folder.cancel_file.exists():
            message = self.folder.cancel_file.read_text(encoding="utf-8") or "asked to"
        self.folder.write_exit(
            Exit(
                code=None if terminated else exit_code(failure),
                signal=signal.SIGTERM if terminated else None,
                reason="cancel" if message else "exit",
                message=message,
                started=self._started,
                ended=time.time(),
                wall_s=time.monotonic() - self._began,
                cpu_s=usage.ru_utime + usage.ru_stime,
                peak_memory_bytes=usage.ru_maxrss * 1024,
            )
        )

    def _on_sigterm(self) -> None:
        """A script that asks for nothing else is on record as killed (or cancelled), before SIGTERM ends it."""
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        ):
            return

        def terminate(number: int, _: object) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if os.getpid() == self._pid and not self._finished:
                self._finished = True
                with contextlib.suppress(OSError):
                    self._journal.close()
                    self._write_exit(None, terminated=True)
            os.kill(os.getpid(), number)

        signal.signal(signal.SIGTERM, terminate)

    def _watch_for_a_crash(self) -> None:
        """Remember an exception that nobody catches; what the script installed is called as before."""
        before = sys.excepthook

        def remember(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self._crash = error
            before(kind, error, trace)

        sys.excepthook = remember

    def _at_exit(self) -> None:
        self.finish(failure=describe_failure(self._crash) if self._crash is not None else None)

    def _copy_in(self, source: Path) -> Path:
        target = self.artifacts_dir / source.name
        beside = self.artifacts_dir / f".{source.name}.{os.urandom(4).hex()}"
        if source.is_dir():
            shutil.copytree(source, beside)
            if target.exists():
                shutil.rmtree(target)
        else:
            shutil.copy2(source, beside)
        os.replace(beside, target)
        return target


def _as_float(name: Any, value: Any) -> float:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise WindlassError(f"metric {name!r} is {value!r}, which is no number", "Return a number.") from None


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _start_monitor(journal: Journal, every_s: float) -> Any:
    if every_s <= 0:
        return None
    from windlass.runs.monitor import Monitor

    return Monitor(journal, every_s)


def _capture_in_background(folder: RunFolder, source: Path) -> threading.Thread:
    from windlass.runs.capture import capture

    thread = threading.Thread(target=capture, args=(folder, source), name="windlass-capture", daemon=True)
    thread.start()
    return thread


def _plain(value: Any) -> Any:
    """Scalars and arrays of numpy and torch as Python values."""
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is no JSON value")
