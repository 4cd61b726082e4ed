"""A run folder read into a record: also of a run that is waiting, running, lost, or not Windlass's own job."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from windlass.jobs.outcome import outcome
from windlass.jobs.stop import read_stop
from windlass.records.result import LOGGED, Result, mismatches, parse_artifact, parse_result
from windlass.records.run import Artifact, EarlyStop, Exit, Failure, MetricSummary, RunRecord, RunSpec, Status
from windlass.runs import attempts
from windlass.runs.attempts import Attempt
from windlass.runs.folder import RunFolder
from windlass.runs.lease import Holder, holder, read_lease
from windlass.runs.reader import read_journal, summarise

LARGEST_RESULT = 2**20  #: bytes
STDERR_TAIL = 2048  #: bytes


def collect(run: RunFolder | Path) -> RunRecord:
    """Everything a run folder says. Whatever the job left is data: the record says what is wrong with it.

    Raises NotFound where there is no readable spec.json, which the executor writes and no job should touch.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    while True:
        attempt = attempts.due(folder)
        record = _collect(folder, attempt)
        again = attempts.due(folder)
        if (again and again.number) == (attempt and attempt.number):  # else it was reopened, and its files moved
            return record


def _collect(folder: RunFolder, attempt: Attempt | None) -> RunRecord:
    if attempt is not None and attempts.waits(folder):
        return _waiting(folder, attempt)
    spec = folder.spec()
    held = holder(folder)  # first: a holder writes the exit before it goes
    exit = folder.exit()
    journal = read_journal(folder)
    lease = read_lease(folder)
    result, problem = read_result(folder, lease.nonce if lease is not None else "")
    if result is not None and result.failure is None and (wrong := mismatches(spec.identity, result)):
        result, problem = None, f"its result is not of this run: {'; '.join(map(str, wrong))}"
    status, failure = _status(folder, spec, held, exit, result, problem)
    stop = read_stop(folder) if exit is not None else None
    return RunRecord(
        **_of_spec(spec),
        status=status,
        attempt=max(journal.attempt, lease.attempt if lease is not None else 1),
        started=_started(folder, spec, exit),
        ended=_ended(folder, status, exit),
        failure=failure,
        stopped_early=stop if status is Status.STOPPED else None,
        metrics=final_metrics(summarise(journal), result),
        tags={**spec.tags, **journal.tags},
        artifacts=_artifacts(journal.artifacts, result),
        notes=_notes(journal.notes, journal.bad_lines, exit, stop, result),
        peak_memory_bytes=exit.peak_memory_bytes if exit is not None else 0,
        cpu_s=exit.cpu_s if exit is not None else 0.0,
    )


def _waiting(folder: RunFolder, attempt: Attempt) -> RunRecord:
    """A run that was reopened and not started again: what its earlier attempts logged."""
    spec, journal = folder.spec(), read_journal(folder)
    return RunRecord(
        **_of_spec(spec),
        status=Status.QUEUED,
        attempt=attempt.number,
        metrics=summarise(journal),
        tags={**spec.tags, **journal.tags},
        artifacts=_artifacts(journal.artifacts, None),
        notes=_notes(journal.notes, journal.bad_lines, None, None, None),
    )


def _of_spec(spec: RunSpec) -> dict[str, Any]:
    names = ("id", "name", "created", "study", "number", "config", "seed", "fingerprints", "lineage")
    return {name: getattr(spec, name) for name in names}


def read_result(folder: RunFolder, nonce: str = "") -> tuple[Result | None, str]:
    """The result from result.json, else from stdout; or None, and what is wrong with it.

    A file has to repeat the ``nonce`` of the start that it is to be the result of, where that had one; stdout, which is
    emptied before each start, need not. Over a result that the SDK made of what was logged goes what the job printed
    itself, where that is a result.
    """
    result, problem = _first_result(folder, nonce, folder.result_file, folder.stdout_file)
    if result is not None and result.info.get("metrics") == LOGGED and result.failure is None:
        printed, _ = _first_result(folder, nonce, folder.stdout_file)
        if printed is not None:
            said = {**result.identity, **printed.identity}
            return replace(printed, metrics={**result.metrics, **printed.metrics}, identity=said), ""
    return result, problem


def _first_result(folder: RunFolder, nonce: str, *files: Path) -> tuple[Result | None, str]:
    for file in files:
        try:
            with open(file, "rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                data = opened.read(LARGEST_RESULT + 1) if size <= LARGEST_RESULT else b""
        except FileNotFoundError:
            continue
        except OSError as error:
            return None, f"{file.name} cannot be read: {error.strerror}"
        if size > LARGEST_RESULT:
            return None, f"{file.name} is {size:,} bytes: a result is one JSON object of at most 1 MiB; log to stderr"
        if not data.strip():
            break
        try:
            result = _parse(data.decode())
            strange = _not_of_this_start(result.nonce, nonce, needed=file == folder.result_file)
            return (None, f"{file.name} {strange}") if strange else (result, "")
        except UnicodeDecodeError as error:
            return None, f"{file.name} is not UTF-8: {error.reason} at byte {error.start}"
        except (ValueError, RecursionError) as error:
            return None, f"{file.name} is no result: {error}"
    return None, "there is no result: nothing on stdout, and no result.json"


def _not_of_this_start(given: str, nonce: str, *, needed: bool) -> str:
    """What is wrong with the nonce of a result; empty where nothing is."""
    if given == nonce or not nonce or not (given or needed):
        return ""
    if not given:
        return "has no nonce: a result that is a file repeats $WINDLASS_NONCE, as 'nonce'"
    return f"has the nonce {given[:40]!r}, which is not that of this start: $WINDLASS_NONCE was {nonce!r}"


def _parse(text: str) -> Result:
    try:
        data, end = json.JSONDecoder().raw_decode(text.lstrip())
    except json.JSONDecodeError as error:
        line = error.doc.splitlines()[error.lineno - 1] if error.doc.splitlines() else ""
        raise ValueError(f"not JSON at line {error.lineno}: {line[:80]!r}") from None
    if rest := text.lstrip()[end:].strip():
        raise ValueError(f"it goes on after one JSON value: {rest[:80]!r}")
    json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return parse_result(data)


def final_metrics(journaled: Mapping[str, MetricSummary], result: Result | None) -> dict[str, MetricSummary]:
    """The journal's summaries, with the result's values as the last ones."""
    metrics = dict(journaled)
    for name, value in (result.metrics if result is not None else {}).items():
        known = metrics.get(name)
        if known is None:
            metrics[name] = MetricSummary.of(value)
        else:
            seen = [number for number in (known.min, known.max, value) if number == number] or [value]
            metrics[name] = replace(known, last=value, min=min(seen), max=max(seen))
    return metrics


def _status(
    folder: RunFolder, spec: RunSpec, held: Holder, exit: Exit | None, result: Result | None, problem: str
) -> tuple[Status, Failure | None]:
    if exit is None and held is Holder.NONE:
        return Status.QUEUED, None
    if exit is None and held is Holder.ALIVE:
        return Status.RUNNING, None
    clean = exit is not None and exit.code == 0 and result is not None
    return outcome(spec, exit, result, problem, "" if clean else _tail(folder.stderr_file))


def _tail(file: Path) -> str:
    try:
        with open(file, "rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - STDERR_TAIL))
            return opened.read(STDERR_TAIL).decode(errors="replace")
    except OSError:
        return ""


def _started(folder: RunFolder, spec: RunSpec, exit: Exit | None) -> float | None:
    if exit is not None:
        return exit.started
    lease = read_lease(folder)
    if lease is None:
        return None
    return spec.created if lease.heartbeat else _changed(folder.lease_file)


def _ended(folder: RunFolder, status: Status, exit: Exit | None) -> float | None:
    """Of a lost run, the last sign of life."""
    if not status.terminal:
        return None
    if exit is not None:
        return exit.ended
    return max(map(_changed, (folder.lease_file, folder.journal_file, folder.stdout_file, folder.stderr_file)))


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _artifacts(journaled: Iterable[Mapping[str, Any]], result: Result | None) -> tuple[Artifact, ...]:
    """By path; what was said last counts. What the journal says wrongly is left out."""
    found: dict[str, Artifact] = {}
    for data in journaled:
        try:
            artifact = parse_artifact(data)
        except (TypeError, ValueError):
            continue
        found[artifact.path] = artifact
    for artifact in result.artifacts if result is not None else ():
        found[artifact.path] = artifact
    return tuple(found.values())


def _notes(
    journaled: Iterable[str], bad_lines: int, exit: Exit | None, stop: EarlyStop | None, result: Result | None
) -> tuple[str, ...]:
    notes = [*journaled, *(result.notes if result is not None else ())]
    if exit is not None and exit.reason == "cancel" and exit.message:
        notes.append(f"cancelled: {exit.message}")
    if exit is not None and stop is not None and exit.reason != "stop":
        notes.append(f"was to be stopped early, and had ended before: {stop.reason}")
    if bad_lines:
        notes.append(f"{bad_lines} lines of journal.jsonl are no events")
    return tuple(dict.fromkeys(notes))
