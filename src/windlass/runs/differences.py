"""What differs between two runs' configs, and between the surroundings they ran in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from windlass.records.content import flatten
from windlass.records.result import encode_number
from windlass.runs.folder import RunFolder, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One name whose value differs; an absent value is None."""

    name: str
    a: Any
    b: Any
    kind: Literal["added", "removed", "changed"]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "a": _json(self.a), "b": _json(self.b), "kind": self.kind}


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Differences of two flat mappings, by name; 1 and 1.0 are equal, 1 and true are not, NaN equals NaN."""
    found = [Change(name=n, a=a[n], b=b[n], kind="changed") for n in a.keys() & b.keys() if not _same(a[n], b[n])]
    found += [Change(name=n, a=a[n], b=None, kind="removed") for n in a.keys() - b.keys()]
    found += [Change(name=n, a=None, b=b[n], kind="added") for n in b.keys() - a.keys()]
    return tuple(sorted(found, key=lambda change: change.name))


def environment_changes(folder_a: RunFolder, folder_b: RunFolder) -> tuple[Change, ...]:
    """Differences of two run folders' ``environment.json``: code commit, packages, Python, host; and of ``git.diff``.

    A run without the file is one change named ``environment``: what is not on record cannot be called equal.
    """
    seen_a, seen_b = read_json(folder_a.environment_file), read_json(folder_b.environment_file)
    if not isinstance(seen_a, dict) or not isinstance(seen_b, dict):
        if not isinstance(seen_a, dict) and not isinstance(seen_b, dict):
            return ()
        words = ["recorded" if isinstance(seen, dict) else "not recorded" for seen in (seen_a, seen_b)]
        return (Change(name="environment", a=words[0], b=words[1], kind="changed"),)
    return changes(_surroundings(seen_a, folder_a), _surroundings(seen_b, folder_b))


def _surroundings(recorded: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Without ``argv``, which names the run's own folder."""
    flat = flatten({name: value for name, value in recorded.items() if name != "argv"})
    with suppress(OSError):
        flat["git.diff"] = "sha256 " + hashlib.sha256(folder.git_diff_file.read_bytes()).hexdigest()[:12]
    return flat


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, bool) != isinstance(y, bool):
        return False
    return bool(x == y) or (isinstance(x, float) and isinstance(y, float) and x != x and y != y)


def _json(value: Any) -> Any:
    return encode_number(value) if isinstance(value, float) else value
