"""Which checkpoint answers a request: read from the pointer alone, without the registry.

A canary's keys are drawn by hash: the same key always gets the same checkpoint, while the share grows those who are in
it stay, and each challenger draws anew, so that it is not the same people who try every one of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from windlass.records.deployment import Role
from windlass.registry.pointer import parse_pointer, unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who answers. Its checkpoint and role go into the outcome."""

    checkpoint: str
    digest: str
    path: str  #: the folder with the checkpoint's files
    role: Role
    shadow: Route | None = None  #: who answers, too, without anybody seeing it


class Router:
    """Answers for one deployment. Threads may share it.

    The pointer is read again when its file is another one, or has changed. One that is gone or damaged is an error,
    even where a good one was read before: it is moved by rename, so it never looks like that while all is well.

    A key is in the canary where BLAKE2b of ``<deployment> NUL <challenger's digest> NUL <key>``, 8 bytes long and read
    as a big-endian number, is less than share * 2**64.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.fspath(path)
        self._table: _Table | None = None

    def route(self, key: str | bytes) -> Route:
        """Raises NotFound where nothing serves, StoreError where the pointer cannot be read."""
        table = self._table
        try:
            stat = os.stat(self._file)
        except OSError as error:
            raise unreadable(self._path, error) from None
        if table is None or table.stamp != (stat.st_ino, stat.st_mtime_ns, stat.st_size):
            table = self._table = _Table(self._path)
        if table.canary is None:
            return table.champion
        name = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        drawn = int.from_bytes(blake2b(table.salt + name, digest_size=8).digest())
        return table.canary if drawn < table.below else table.champion


class _Table:
    """What one version of the pointer says. Its file stays open, so that no other one gets its inode's number."""

    __slots__ = ("_fd", "below", "canary", "champion", "salt", "stamp")

    def __init__(self, path: Path) -> None:
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stat = os.fstat(self._fd)
            text = os.pread(self._fd, stat.st_size, 0)
        except OSError as error:
            raise unreadable(path, error) from None
        pointer = parse_pointer(text, path)
        self.stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        self.canary: Route | None = None
        self.salt, self.below = b"", 0
        shadow: Route | None = None
        if (challenger := pointer["challenger"]) is not None:
            role, digest = Role(challenger["role"]), challenger["digest"]
            route = Route(checkpoint=challenger["checkpoint"], digest=digest, path=challenger["path"], role=role)
            if role is Role.SHADOW:
                shadow = route
            else:
                self.canary = route
                self.salt = f"{pointer['deployment']}\0{digest}\0".encode()
                self.below = int(challenger["share"] * 2**64)
        self.champion = Route(
            checkpoint=pointer["checkpoint"],
            digest=pointer["digest"],
            path=pointer["path"],
            role=Role.CHAMPION,
            shadow=shadow,
        )

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
