"""What a program uses while it runs: its processes, as /proc shows them, and the folder it may write to.

A supervisor looks at both many times a second, while the program does what it can to hide.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # `typing` is not loaded: it would cost every program milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
BLOCK = 512  #: the unit of ``st_blocks``
DEEPEST = 64  #: folders inside folders that are followed

#: of /proc/PID/stat, counted from behind the name in brackets (see proc(5))
CPU_TICKS = slice(11, 15)  #: own and waited-for children's, in user and in kernel mode
PROCESS_GROUP, SESSION, THREADS, ADDRESS_SPACE, RESIDENT = 2, 3, 17, 20, 21


class Hidden(Exception):
    """The program has put something where it cannot be counted; the message says what."""


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``. Of a subreaper this holds those whose parent has gone, too."""
    found = _children(pid)
    for child in found:  # grows while it is walked
        found += _children(child)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb", buffering=0) as file:
                found += map(int, file.read().split())
    except OSError:  # it has gone
        pass
    return found


def processes(pids: Iterable[int]) -> tuple[int, float, int]:
    """(threads, CPU seconds, resident bytes) of processes together. Shared pages count once for each."""
    threads = ticks = pages = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            threads += int(fields[THREADS])
            ticks += sum(map(int, fields[CPU_TICKS]))
            pages += int(fields[RESIDENT])
    return threads, ticks / TICKS_A_SECOND, pages * PAGE


def _stat(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def proportional_bytes(pids: Iterable[int]) -> int:
    """Resident bytes with every shared page divided among its users: true, and dearer to ask for."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        except (OSError, StopIteration):
            total += processes((pid,))[2]
    return total


def groups_of_session(session: int) -> set[int]:
    """The process groups of a session; a session without processes has none."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    found = (fields for fields in map(_stat, pids) if fields)
    return {int(fields[PROCESS_GROUP]) for fields in found if int(fields[SESSION]) == session and fields[0] != b"Z"}


def threads_of_user(user: int) -> int:
    """How many threads a user has on this machine, as far as /proc shows them."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    total += os.stat(f"/proc/{name}/task").st_nlink - 2
            except OSError:
                continue
    return total


def folder(path: str, most: int) -> tuple[int, int]:
    """(files and folders, bytes on disk) below ``path``; counting ends soon after ``most`` names.

    :raises Hidden: folders lie too deep to be followed
    """
    count = size = 0
    waiting = [(os.open(path, os.O_RDONLY | os.O_DIRECTORY), [""])]
    try:
        while waiting and count <= most:
            fd, names = waiting[-1]
            if not names:
                os.close(fd)
                waiting.pop()
                continue
            inner = _open_folder(fd, names.pop())
            if inner is None:
                continue
            inside: list[str] = []
            waiting.append((inner, inside))
            if len(waiting) > DEEPEST:
                raise Hidden(f"folders inside folders, {DEEPEST} deep")
            with os.scandir(inner) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        break
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    size += status.st_blocks * BLOCK
                    if stat.S_ISDIR(status.st_mode):
                        inside.append(entry.name)
    finally:
        for fd, _ in waiting:
            os.close(fd)
    return count, size


def _open_folder(parent: int, name: str) -> int | None:
    """A folder for reading, opened up first where its mode forbids that; None where it has gone."""
    try:
        return os.open(name or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except PermissionError:
        pass
    except OSError:
        return None
    try:  # by its descriptor: whatever takes the name's place meanwhile is not what is opened up
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError:
        return None
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(fd)


def deleted_but_open(pids: Iterable[int]) -> int:
    """Bytes on disk of files that have lost their last name while a process holds them open.

    :raises Hidden: a process does not let its open files be seen
    """
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                for fd in os.listdir(f"/proc/{pid}/task/{task}/fd"):
                    status = os.stat(f"/proc/{pid}/task/{task}/fd/{fd}")
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                        sizes[status.st_dev, status.st_ino] = status.st_blocks * BLOCK
        except PermissionError as error:
            fields = _stat(pid)
            if fields and int(fields[ADDRESS_SPACE]):  # else it is ending: it has no memory, and belongs to root
                raise Hidden("its open files") from error
        except (FileNotFoundError, ProcessLookupError):
            continue
    return sum(sizes.values())


def remove(path: str) -> None:
    """Remove a folder of any depth and any modes; nothing writes to it any more.

    What lies two levels down is moved up before it is looked into, so that no path grows.
    """
    while entries := _entries(path):
        for above in entries:
            if _unlinked(above):
                continue
            os.chmod(above.path, 0o700)
            for entry in _entries(above.path):
                if not _unlinked(entry):
                    os.chmod(entry.path, 0o700)
                    os.rename(entry.path, f"{path}/{os.urandom(16).hex()}")
            os.rmdir(above.path)
    os.rmdir(path)


def _entries(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return list(entries)


def _unlinked(entry: os.DirEntry[str]) -> bool:
    """Whether an entry was a file or a link, which is gone now; a folder stays."""
    if entry.is_dir(follow_symlinks=False):
        return False
    os.unlink(entry.path)
    return True
