"""RunFolder owns the names on disk: read this class to know what a run folder holds."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import DuplicateId, NotFound
from windlass.records.run import Exit, RunSpec
from windlass.settings import NONCE_VARIABLE, RUN_DIR_VARIABLE


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Write beside, then rename: a reader sees the old content or the new, never half of it.

    ``durable`` adds fsync, against power loss; a kill of the process needs none.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Put a file, or the names that are in a folder, on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_json(path: Path) -> Any:
    """The parsed file, or None where it does not exist or holds no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


class RunFolder:
    """One run on disk. Every property is a path; nothing is created by naming it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def spec_file(self) -> Path:
        """What was asked (RunSpec); 0600."""
        return self.path / "spec.json"

    @property
    def config_file(self) -> Path:
        """The same config, for people and trainers; 0600."""
        return self.path / "config.yaml"

    @property
    def journal_file(self) -> Path:
        """What happened: one JSON line an event, appended by the job."""
        return self.path / "journal.jsonl"

    @property
    def lease_file(self) -> Path:
        """Who answers for this run: host, boot id, pid, start time; touched as heartbeat by scripts of their own."""
        return self.path / "lease.json"

    @property
    def environment_file(self) -> Path:
        """Host, Python, packages, git commit and whether it was dirty."""
        return self.path / "environment.json"

    @property
    def git_diff_file(self) -> Path:
        return self.path / "git.diff"

    @property
    def stdout_file(self) -> Path:
        return self.path / "stdout.log"

    @property
    def stderr_file(self) -> Path:
        return self.path / "stderr.log"

    @property
    def exit_file(self) -> Path:
        """How the process ended (Exit); written by its supervisor."""
        return self.path / "exit.json"

    @property
    def job_environment(self) -> dict[str, str]:
        """What tells the job's processes which run they belong to."""
        return {RUN_DIR_VARIABLE: str(self.path)}

    def start_environment(self, nonce: str) -> dict[str, str]:
        """The same, and what tells this start from every other one: the job's result.json repeats it."""
        return {**self.job_environment, NONCE_VARIABLE: nonce}

    @property
    def cancel_file(self) -> Path:
        """That someone asked to end the job, and why; written before the signal is sent."""
        return self.path / "cancel.txt"

    @property
    def stop_file(self) -> Path:
        """That the lab asked to end the job early, and why (EarlyStop); written before the signal is sent."""
        return self.path / "stop.json"

    @property
    def result_file(self) -> Path:
        """The job's result (Result); written last, by rename."""
        return self.path / "result.json"

    @property
    def metrics_file(self) -> Path:
        """The metric history, compacted from the journal after the run."""
        return self.path / "metrics.parquet"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def state(self) -> Path:
        """What a new attempt goes on from, written by the trainer; a run that leaves one can be resumed."""
        return self.path / "state"

    @property
    def attempt_file(self) -> Path:
        """That a later attempt is due, and what it goes on from (Attempt)."""
        return self.path / "attempt.json"

    def attempt_folder(self, number: int) -> Path:
        """What an attempt left that is not the last one: its lease, exit, result and output."""
        return self.path / "attempts" / str(number)

    @property
    def summary_file(self) -> Path:
        return self.path / "SUMMARY.md"

    @property
    def report_file(self) -> Path:
        return self.path / "REPORT.md"

    def create(self, spec: RunSpec) -> bool:
        """Make the folder with ``spec.json`` and ``config.yaml``; False where it is there: the first spec stays.

        The folder appears whole: it is filled under a hidden name and renamed.

        Raises DuplicateId where the folder holds the spec of another run.
        """
        if self.spec_file.exists():
            there = self.spec()
            if (there.config, there.seed, there.number) != (spec.config, spec.seed, spec.number):
                raise DuplicateId(f"run {self.id} exists with another spec", f"windlass runs show {self.id}")
            return False
        hidden = self.path.with_name(f".{self.id}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            hidden.mkdir(parents=True)
            for file, text in (
                (self.spec_file, json.dumps(spec.to_dict(), ensure_ascii=False, indent=1)),
                (self.config_file, "\n".join(_yaml_lines(spec.config, 0)) + "\n"),
            ):
                fd = os.open(hidden / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(fd, "w", encoding="utf-8") as written:
                    written.write(text)
            os.rename(hidden, self.path)
        except BaseException as error:
            for left in (hidden / self.spec_file.name, hidden / self.config_file.name):
                left.unlink(missing_ok=True)
            if hidden.is_dir():
                hidden.rmdir()
            if (
                isinstance(error, OSError)
                and error.errno in (errno.EEXIST, errno.ENOTEMPTY)
                and self.spec_file.exists()
            ):
                return self.create(spec)  # another process was first
            raise
        return True

    def spec(self) -> RunSpec:
        """Raises NotFound where there is no readable spec."""
        data = read_json(self.spec_file)
        if data is None:
            raise NotFound(f"{self.path} has no readable spec.json", "windlass runs list")
        try:
            return RunSpec.from_dict(data)
        except (TypeError, ValueError, AttributeError) as error:
            raise NotFound(f"{self.spec_file} is not a Windlass spec: {error}", "windlass runs list") from error

    def exit(self) -> Exit | None:
        data = read_json(self.exit_file)
        return Exit.from_dict(data) if isinstance(data, dict) and "code" in data else None

    def write_exit(self, exit: Exit) -> None:
        write_atomic(self.exit_file, json.dumps(exit.to_dict()).encode())


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_NOT_TEXT = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"])


def _yaml_lines(config: Mapping[str, Any], depth: int) -> Iterator[str]:
    """A config as YAML 1.1 and 1.2 both read it, with flow values at the leaves; without a library, for the SDK."""
    if not config and not depth:
        yield "{}"
    for key, value in config.items():
        head = "  " * depth + _yaml_text(key) + ":"
        if isinstance(value, Mapping) and value:
            yield head
            yield from _yaml_lines(value, depth + 1)
        else:
            yield f"{head} {_yaml_leaf(value)}"


def _yaml_leaf(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml_leaf, value))}]"
    if isinstance(value, str):
        return _yaml_text(value)
    if isinstance(value, float):
        text = repr(value)
        special = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
        return special.get(text, text.replace("e", ".0e") if "e" in text and "." not in text else text)
    return json.dumps(value, ensure_ascii=False)


def _yaml_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
