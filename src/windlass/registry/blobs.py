"""Bytes that are kept: named by their content, read-only, and whole or not there.

    <root>/<digest>/manifest.json    path, size and SHA-256 of every file
    <root>/<digest>/files/...        the files

A folder is filled under a hidden name, hashed, flushed to the disk, and then renamed: a kill at any instant leaves a
hidden folder, which ``clear_leftovers`` removes.

No second copy is made where that can be helped: a file is shared by reflink where the file system can, else by hard
link, else copied. A hard link is a second name of the run's own file, which becomes read-only in the run folder, too.
Whoever writes to it all the same (root, or a process that had it open) changes what is kept; nothing prevents that, and
``verify`` finds it. Deleting the run folder takes nothing away.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from windlass.errors import DataError, LabBusy, NotFound, StateError, StoreError
from windlass.records.checkpoint import FileEntry, Manifest
from windlass.registry.files import (
    DEEPEST,
    FULL,
    Found,
    OnBytes,
    delete,
    flush_folder,
    hash_files,
    kind,
    take_over,
    walk,
)
from windlass.runs.folder import write_atomic

MANIFEST, FILES = "manifest.json", "files"
LOCK_FILE = ".lock"
_STAGING, _REMOVED = ".staging", ".removed"
_HIDDEN = re.compile(r"\.(staging|removed)-\d+-[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12  #: digits of a digest, in words


class Blobs:
    """``root`` is made when the first bytes are added. Any number of processes may add at a time."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    # Reading -----------------------------------------------------------------------------------------------------

    def folder(self, digest: str) -> Path:
        """Where ``digest`` is or would be. Raises NotFound for what is no digest: 64 hex digits."""
        if not _DIGEST.fullmatch(digest):
            raise NotFound(f"{digest!r} is no SHA-256 digest", "windlass checkpoints list")
        return self.root / digest

    def files(self, digest: str) -> Path:
        """The folder with the files themselves. Raises NotFound for what is no digest."""
        return self.folder(digest) / FILES

    def digests(self) -> list[str]:
        """Everything that is kept, sorted."""
        return sorted(name for name in self._names() if _DIGEST.fullmatch(name))

    def leftovers(self) -> list[str]:
        """Hidden folders under ``root``: of whoever is adding now, and of whoever was killed."""
        return sorted(name for name in self._names() if _HIDDEN.fullmatch(name))

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.root)
        except FileNotFoundError:
            return []

    def manifest(self, digest: str) -> Manifest:
        """Raises NotFound where nothing is kept under ``digest``, DataError where its manifest is not the one."""
        folder = self.folder(digest)
        if not os.path.lexists(folder):
            raise NotFound(f"{folder} is missing", "windlass checkpoints list")
        file = folder / MANIFEST
        try:
            manifest = Manifest.from_dict(json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            why = error.strerror if isinstance(error, OSError) else f"it is no manifest: {error}"
            raise DataError(f"{file} cannot be read: {why}", "windlass audit verify") from error
        if manifest.digest != digest:
            raise DataError(
                f"{file} was altered: its digest is {manifest.digest[:_SHOWN]}, not {digest[:_SHOWN]}",
                "windlass audit verify",
            )
        return manifest

    def verify(self, digest: str, on_bytes: OnBytes | None = None) -> tuple[str, ...]:
        """Read everything again. What is wrong, in words that name each file; nothing where all is intact.

        ``on_bytes`` is called by one thread at a time. Raises NotFound for what is no digest.
        """
        folder = self.folder(digest)
        try:
            manifest = self.manifest(digest)
            there = {found.path: found.info for found in walk(folder, deepest=DEEPEST + 1)}
        except (NotFound, DataError) as error:
            return (error.message,)
        expected = {f"{FILES}/{file.path}": file for file in manifest.files}
        wrong = {path: "was not there when it was kept" for path in there if path not in (*expected, MANIFEST)}
        wrong |= {path: f"is missing: {_measure(expected[path])}" for path in expected if path not in there}
        wrong |= {path: f"is {what}, no file" for path in expected if path in there and (what := kind(there[path]))}
        sound = [path for path in expected if path not in wrong]
        for path, now in zip(sound, hash_files(folder, sound, on_bytes), strict=True):
            if words := _change(expected[path], now):
                wrong[path] = words
        return tuple(f"{path if path.isprintable() else repr(path)} {wrong[path]}" for path in sorted(wrong))

    # Changing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def adding(self) -> Iterator[None]:
        """While this is open, nothing is collected or cleared away, by any process.

        Whoever adds bytes and then enters them in the log holds it around both: in between, they look like nobody's.
        """
        with self._lock(fcntl.LOCK_SH):
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """While this is open, nothing is added. Raises LabBusy where something is being added now."""
        with self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        with _storing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(fd, how)
            except BlockingIOError:
                raise LabBusy(
                    f"a checkpoint or scores are being added to {self.root}", "Wait for it, then repeat."
                ) from None
            except OSError as error:
                raise StoreError(f"cannot lock {self.root}: {error.strerror}", f"df {self.root}") from error
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child may have the descriptor, too
            os.close(fd)

    def add(
        self,
        source: Path,
        on_bytes: OnBytes | None = None,
        *,
        within: Path | None = None,
        check: Callable[[Manifest], None] | None = None,
    ) -> Manifest:
        """Keep a file, or all files of a folder (empty folders do not count). The same bytes again change nothing.

        What is kept under their digest is read again; should it be damaged, these bytes take its place. ``on_bytes``
        is called by one thread at a time. With ``within``, no folder between it and ``source`` may be a link. What
        ``check`` raises keeps the bytes from being kept.

        Raises NotFound where there is no ``source``; DataError, with the path, for a symbolic link, socket, pipe or
        device anywhere in it, a name that is not UTF-8, an empty folder, a source outside of ``within``, a file that
        cannot be read or that still changes; StoreError where the disk is full or fails. Nothing is kept then.
        """
        with self.adding(), _storing(self.root, f"while {source} was being added"), self._staging() as staging:
            paths = _fill(staging / FILES, walk(source, within), source)
            manifest = Manifest.of(map(_sound, hash_files(staging / FILES, paths, on_bytes, flush=True)))
            if check is not None:
                check(manifest)
            text = json.dumps(manifest.to_dict(), ensure_ascii=False, indent=1)
            write_atomic(staging / MANIFEST, text.encode(), mode=0o444, durable=True)
            for folder, _, _ in os.walk(staging):
                flush_folder(Path(folder))
            self._publish(staging, manifest.digest)
        return manifest

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        staging = self._hidden(_STAGING)
        try:
            staging.mkdir()
            yield staging
        finally:
            delete(staging)

    def _hidden(self, purpose: str) -> Path:
        return self.root / f"{purpose}-{os.getpid()}-{os.urandom(4).hex()}"

    def _publish(self, staging: Path, digest: str) -> None:
        target = self.folder(digest)
        try:
            os.rename(staging, target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            if not self.verify(digest):
                return
            damaged = self._hidden(_REMOVED)
            os.rename(target, damaged)
            os.rename(staging, target)
            delete(damaged)
        flush_folder(self.root)

    def export(self, digest: str, target: Path, on_bytes: OnBytes | None = None) -> Manifest:
        """Copy the files to a new folder ``target``, to change as one likes; it appears whole, and every byte checked.

        Raises NotFound where nothing is kept under ``digest``, StateError where ``target`` exists, DataError where
        the bytes are not those that were kept, StoreError where ``target`` cannot be written.
        """
        manifest, target = self.manifest(digest), Path(os.path.abspath(target))
        if os.path.lexists(target):
            raise StateError(f"{target} exists; an export makes a new folder", f"Name another one, or: ls {target}")
        beside = target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        with _storing(target.parent, f"while {digest[:_SHOWN]} was being exported"):
            try:
                paths = _fill(beside, walk(self.files(digest)), self.files(digest), link=False)
                read = [_sound(one) for one in hash_files(beside, paths, on_bytes)]
                if Manifest.of(read) != manifest:
                    raise DataError(
                        f"{digest[:_SHOWN]} is damaged: {'; '.join(self.verify(digest))}", "windlass audit verify"
                    )
                os.rename(beside, target)
            finally:
                delete(beside)
        return manifest

    def remove(self, name: str) -> None:
        """Take a digest's bytes away, all at once as everybody else sees it; or delete a leftover.

        Nothing happens where there are none. Inside ``collecting()`` only: whoever adds the same bytes now would be
        told that they are kept. Raises NotFound for what is neither.
        """
        hidden = self.root / name
        with _storing(self.root), suppress(FileNotFoundError):
            if not _HIDDEN.fullmatch(name):
                hidden = self._hidden(_REMOVED)
                os.rename(self.folder(name), hidden)
            delete(hidden)

    def clear_leftovers(self) -> int:
        """Delete what killed processes left, and say how many folders that was; none while anybody is adding."""
        if not self.leftovers():
            return 0
        try:
            with self.collecting(), _storing(self.root):
                names = self.leftovers()
                for name in names:
                    delete(self.root / name)
                return len(names)
        except LabBusy:
            return 0


def _fill(folder: Path, source: Iterator[Found], name: Path, *, link: bool = True) -> list[str]:
    """Take over everything that is found; the paths. Raises DataError for what is no file, and where there is none."""
    folder.mkdir(parents=True)
    paths = []
    for found in source:
        if what := kind(found.info):
            raise DataError(f"{name}: {found.path!r} is {what}; only files and folders are kept", f"ls -la {name}")
        target = folder / found.path
        target.parent.mkdir(parents=True, exist_ok=True)
        take_over(found, target, link=link)
        if not link:
            os.chmod(target, found.info.st_mode & 0o777 | 0o600)
        paths.append(found.path)
    if not paths:
        raise DataError(f"{name} has no file in it", f"ls -laR {name}")
    return paths


def _sound(read: FileEntry | OSError | DataError) -> FileEntry:
    if isinstance(read, FileEntry):
        return read
    raise read


def _change(was: FileEntry, now: FileEntry | OSError | DataError) -> str:
    """What happened to a file, in words; an empty string for nothing."""
    if isinstance(now, OSError):
        return f"cannot be read: {now.strerror}"
    if isinstance(now, DataError):
        return "changes while it is read"
    if (now.bytes, now.sha256) == (was.bytes, was.sha256):
        return ""
    how = "altered" if now.bytes == was.bytes else "truncated" if now.bytes < was.bytes else "extended"
    return f"was {how}: {_measure(now)}, not {_measure(was)}"


def _measure(file: FileEntry) -> str:
    return f"{file.bytes:,} bytes with SHA-256 {file.sha256[:_SHOWN]}"


@contextmanager
def _storing(root: Path, when: str = "") -> Iterator[None]:
    """What keeps ``root`` from being written, as a StoreError."""
    try:
        yield
    except OSError as error:
        what = f"{root} cannot be written {when}".rstrip()
        if error.errno in FULL:
            raise StoreError(
                f"{what}: {error.strerror}, {_free(root)}",
                "windlass checkpoints gc shows what nothing refers to; free space, then repeat.",
            ) from error
        raise StoreError(f"{what}: {error.strerror}", f"ls -ld {root}; df {root}") from error


def _free(root: Path) -> str:
    """The free bytes of a file system, in words."""
    try:
        found = os.statvfs(root)
    except OSError:
        return "free bytes unknown"
    return f"{found.f_bavail * found.f_frsize:,} bytes are free"
