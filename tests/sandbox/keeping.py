"""A caller at a level, as the tests use it, and a look at what a program has running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from sandbox.calling import Caller
from windlass.sandbox import Finished, Level

#: for what is the same whoever calls
BY_LEVEL = pytest.mark.parametrize("kept", [f"here-{level}" for level in Level], indirect=True)


@dataclass(frozen=True)
class Kept:
    """A caller and a level: ``kept.run(program, **limits)``."""

    caller: Caller
    level: Level
    kind: str

    @property
    def run(self) -> Callable[..., Finished]:
        return partial(self.caller.run, level=self.level)


def marked(marker: str) -> int:
    """How many threads there are of processes with ``marker`` among their arguments."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found += len(list((entry / "task").iterdir()))
            except OSError:
                continue
    return found
