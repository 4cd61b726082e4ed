"""Files of a folder that is not trusted: walked, taken over and hashed without ever following a link.

Every step starts from an open folder and a name in it, so a folder that turns into a link meanwhile leads nowhere.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from windlass.errors import DataError, NotFound
from windlass.records.checkpoint import FileEntry

#: called with the number of bytes read since the last call
OnBytes = Callable[[int], None]

BUFFER = 1 << 20  #: bytes
THREADS = 8
DEEPEST = 100  #: folders within folders
FICLONE = 0x40049409  #: ioctl of linux/fs.h: share all extents of another file
FULL = (errno.ENOSPC, errno.EDQUOT)
#: the file system, or who owns the file, allows no hard link
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe does not block
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INNER = _FOLDER | os.O_NOFOLLOW


class Found(NamedTuple):
    """Something that is no folder. ``folder`` is open only until the next one is asked for."""

    folder: int  #: descriptor
    name: str  #: in ``folder``
    path: str  #: posix, from where the walk began
    info: os.stat_result  #: of itself, where it is a link


def walk(source: Path, within: Path | None = None, deepest: int = DEEPEST) -> Iterator[Found]:
    """Everything at ``source`` that is no folder, sorted by name in each folder; a single file is found as its name.

    With ``within``, a folder above ``source``, no folder between the two may be a link.

    Raises NotFound where nothing is there, DataError for what cannot be read, for names that are not UTF-8, for a
    source outside of ``within``, for a folder in the place of which a link appears, and for more than ``deepest``
    folders within each other.
    """
    source = Path(os.path.abspath(source)) if within is None else source
    if not os.path.lexists(source):
        raise NotFound(f"{source} does not exist")
    with _reading(source), _parent(source, within) as parent:
        info = os.stat(source.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            with _open(source.name, _INNER, parent) as folder:
                yield from _walk(folder, "", deepest)
        else:
            yield Found(parent, source.name, _utf8(source.name), info)


def _walk(folder: int, prefix: str, deepest: int) -> Iterator[Found]:
    if prefix.count("/") > deepest:
        raise DataError(f"{prefix[:80]}… is nested deeper than {deepest} folders")
    for name in sorted(os.listdir(folder)):
        path = _utf8(prefix + name)
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            with _open(name, _INNER, folder) as inner:
                yield from _walk(inner, f"{path}/", deepest)
        else:
            yield Found(folder, name, path, info)


@contextmanager
def _parent(source: Path, within: Path | None) -> Iterator[int]:
    """The folder that ``source`` is in, open."""
    if within is None:
        with _open(source.parent, _FOLDER) as folder:
            yield folder
        return
    parts = source.relative_to(within).parts if source.is_relative_to(within) else ("..",)
    if not parts or ".." in parts:
        raise DataError(f"{source} lies outside of {within}")
    with _open(within, _FOLDER) as folder:
        for part in parts[:-1]:
            inner = os.open(part, _INNER, dir_fd=folder)
            os.dup2(inner, folder, inheritable=False)
            os.close(inner)
        yield folder


@contextmanager
def _open(name: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    fd = os.open(name, flags, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise DataError(f"{source}: {error.filename!r} is a symbolic link, or no folder") from error
        raise DataError(f"{source}: {error.filename!r} cannot be read: {error.strerror}") from error


def _utf8(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"the name {os.fsencode(path)!r} is not UTF-8") from None
    return path


def kind(info: os.stat_result) -> str:
    """What something that is no regular file is; an empty string for a file."""
    kinds = {
        stat.S_IFREG: "",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(info.st_mode), "a device")


def take_over(found: Found, target: Path, *, link: bool = True) -> None:
    """Make ``target`` hold the bytes of a regular file: by reflink, else (``link``) hard link, else copy.

    ``target`` is read-only; where it is a hard link, so is the source. Raises DataError where the source is not, or no
    longer, the file that was found, OSError where ``target`` cannot be written.
    """
    try:
        fd = os.open(found.name, _FILE, dir_fd=found.folder)
    except OSError as error:
        raise DataError(f"{found.path} cannot be read: {error.strerror}") from error
    with open(fd, "rb", buffering=0) as source:
        info = os.fstat(fd)
        if not os.path.samestat(info, found.info) or kind(info):
            raise DataError(f"{found.path} was replaced while it was read")
        if not _reflink(fd, target):
            if link and _hard_link(found, target):
                return
            with open(target, "xb", buffering=0) as copy:
                shutil.copyfileobj(source, copy, BUFFER)
    os.chmod(target, info.st_mode & 0o555)


def _reflink(fd: int, target: Path) -> bool:
    with open(target, "xb") as made:
        try:
            fcntl.ioctl(made, FICLONE, fd)
            return True
        except OSError as error:
            os.unlink(target)
            if error.errno in (*FULL, errno.EIO):
                raise
            return False


def _hard_link(found: Found, target: Path) -> bool:
    """Read-only at once: what cannot be made so, since it belongs to somebody else, is not linked."""
    try:
        os.link(found.name, target, src_dir_fd=found.folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    if not os.path.samestat(os.lstat(target), found.info):
        raise DataError(f"{found.path} was replaced while it was read")
    try:
        os.chmod(target, found.info.st_mode & 0o555)
    except PermissionError:
        os.unlink(target)
        return False
    return True


def hash_files(
    folder: Path, paths: Iterable[str], on_bytes: OnBytes | None = None, *, flush: bool = False
) -> list[FileEntry | OSError | DataError]:
    """Size and SHA-256 of each file, or why there is none; several files at a time.

    A file that changes while it is read is a DataError. ``flush`` also puts the files on the disk.
    """
    paths = list(paths)
    if not paths:
        return []
    turn, ended = threading.Lock(), threading.Event()

    def tell(count: int) -> None:
        if ended.is_set():
            raise InterruptedError
        if on_bytes is not None:
            with turn:
                on_bytes(count)

    def one(path: str) -> FileEntry | OSError | DataError:
        try:
            return _hash_file(folder, path, tell, flush)
        except (OSError, DataError) as error:
            return error

    with ThreadPoolExecutor(min(THREADS, len(paths), len(os.sched_getaffinity(0)))) as pool:
        try:
            return list(pool.map(one, paths))
        finally:
            ended.set()


def _hash_file(folder: Path, path: str, tell: OnBytes, flush: bool) -> FileEntry:
    with open(os.open(folder / path, _FILE), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        if words := kind(before):
            raise OSError(errno.EINVAL, f"it is {words}")
        sha256, size = hashlib.sha256(), 0
        buffer = memoryview(bytearray(min(BUFFER, before.st_size + 1)))
        while size <= before.st_size and (count := file.readinto(buffer)):
            sha256.update(buffer[:count])
            size += count
            tell(count)
        if flush:
            os.fsync(file.fileno())
        after = os.fstat(file.fileno())
    if (size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(f"{path} changed while it was read: something still writes it")
    return FileEntry(path=path, bytes=size, sha256=sha256.hexdigest())


def flush_folder(folder: Path) -> None:
    """Put the names of what is in it on the disk."""
    with _open(folder, _FOLDER) as fd:
        os.fsync(fd)


def delete(path: Path) -> None:
    """Whatever is there, if anything is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
