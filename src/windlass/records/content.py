"""Identity is content: canonical JSON, digests, and the two shapes of a config.

A config is *nested* for people and trainers (``{"optimizer": {"lr": 0.1}}``) and *flat* for spaces and
search (``{"optimizer.lr": 0.1}``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: keys and list positions from a document's root
Path = tuple[str | int, ...]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text. NaN is an error."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` -> ``{"a": {"b": 1}}``, the inverse of :func:`flatten`.

    Raises ValueError where a name is both a value and a group (``a`` and ``a.b``).
    """
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, leaf = name.split(".")
        node = nested
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} is both a value and a group of values")
        if isinstance(node.get(leaf), dict):
            raise ValueError(f"{name!r} is both a value and a group of values")
        node[leaf] = value
    return nested
