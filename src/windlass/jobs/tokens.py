"""How many tokens a job has used, as its journal says it. Standard library only: shims import this module."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

CHUNK = 2**20  #: bytes read at a time; a longer line is no event
#: a line of the journal that logs the metric ``tokens``
_TOKENS = re.compile(rb'"metrics":\s*\{[^\n]*?"tokens":\s*(-?[0-9][0-9.eE+\-]*)')


class TokenCount:
    """The highest value of the metric ``tokens`` in what a journal gains from now on."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._offset = 0  #: behind the last whole line
        self._most = 0.0
        with contextlib.suppress(OSError):
            self._offset = journal.stat().st_size

    def look(self) -> float:
        """Reads what is new, which costs one ``stat`` where that is nothing."""
        with contextlib.suppress(OSError):
            if os.stat(self._journal).st_size > self._offset:
                self._read()
        return self._most

    def _read(self) -> None:
        with open(self._journal, "rb") as file:
            file.seek(self._offset)
            while data := file.read(CHUNK):
                whole = data.rfind(b"\n") + 1
                if not whole and len(data) < CHUNK:
                    return  # half a line: it is read when it is whole
                self._offset += whole or len(data)
                file.seek(self._offset)
                for number in _TOKENS.findall(data[:whole]):
                    with contextlib.suppress(ValueError):
                        self._most = max(self._most, float(number))
