"""A daily panel: dense arrays of days x instruments, with groups, membership and borrow rates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Dates = npt.NDArray[np.datetime64]
Floats = npt.NDArray[np.float64]
Int16s = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]

REQUIRED = ("open", "high", "low", "close", "volume")
PRICES = ("open", "high", "low", "close", "vwap")
LEVELS = ("sector", "industry", "subindustry")
UNKNOWN = -1  #: the group of a name without one


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """T days (rows, ascending) of N instruments (columns, sorted); NaN is a missing value. All arrays are read-only.

    Raises ValueError where shapes or orders do not fit.
    """

    dates: Dates  #: (T,), days, strictly ascending
    names: tuple[str, ...]  #: N of them, sorted
    fields: Mapping[str, Floats]  #: (T, N) each: ``open high low close volume``, and what else there is
    groups: Mapping[str, Int16s]  #: (N,) each: an index into ``group_names``, -1 where unknown
    group_names: Mapping[str, tuple[str, ...]]
    member: Bools  #: (T, N), in the universe on that day, known by that day's close
    borrow: Floats | None = None  #: (T, N), rate of a year (0.03 is 3 %), NaN where unknown
    _digests: dict[bool, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        dates = np.asarray(self.dates, dtype="datetime64[D]")
        if dates.ndim != 1 or not (dates[1:] > dates[:-1]).all():
            raise ValueError("a panel's dates are strictly ascending")
        if any(a >= b for a, b in zip(self.names, self.names[1:], strict=False)):
            raise ValueError("a panel's names are sorted, each once")
        if missing := [name for name in REQUIRED if name not in self.fields]:
            raise ValueError(f"a panel has {', '.join(REQUIRED)}; {', '.join(missing)} is missing")
        if self.groups.keys() != self.group_names.keys():
            raise ValueError("a panel's groups and their names do not fit")
        days, columns = (len(dates), len(self.names)), (len(self.names),)
        fields = {name: _held(values, np.float64, days, name) for name, values in self.fields.items()}
        groups = {name: _held(codes, np.int16, columns, name) for name, codes in self.groups.items()}
        object.__setattr__(self, "dates", _held(dates, "datetime64[D]", days[:1], "dates"))
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "group_names", dict(self.group_names))
        object.__setattr__(self, "member", _held(self.member, np.bool_, days, "member"))
        if self.borrow is not None:
            object.__setattr__(self, "borrow", _held(self.borrow, np.float64, days, "borrow"))

    @property
    def shape(self) -> tuple[int, int]:
        """T days and N instruments."""
        return len(self.dates), len(self.names)

    def head(self, rows: int) -> Panel:
        """The first ``rows`` days, as views; names that are listed later stay, without values.

        Raises ValueError where there are not so many.
        """
        if not 0 < rows <= len(self.dates):
            raise ValueError(f"the panel has {len(self.dates)} days, not {rows}")
        return Panel(
            dates=self.dates[:rows],
            names=self.names,
            fields={name: values[:rows] for name, values in self.fields.items()},
            groups=self.groups,
            group_names=self.group_names,
            member=self.member[:rows],
            borrow=None if self.borrow is None else self.borrow[:rows],
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hex digits: the same for the same values, whatever file they came from."""
        return self._hashed(whole=True)

    @property
    def market(self) -> str:
        """SHA-256 of days, names, prices and volumes alone: trials are counted by it, so that another column, another
        map of sectors or another membership of the same prices does not start the count anew."""
        return self._hashed(whole=False)

    def _hashed(self, *, whole: bool) -> str:
        if whole not in self._digests:
            self._digests[whole] = self._hash(whole)
        return self._digests[whole]

    def _hash(self, whole: bool) -> str:
        fields = sorted(self.fields) if whole else sorted(REQUIRED)
        groups = sorted(self.groups) if whole else []
        head = {
            "names": self.names,
            "fields": fields,
            "groups": {name: self.group_names[name] for name in groups},
            "days": len(self.dates),
            "borrow": whole and self.borrow is not None,
        }
        sha = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        sha.update(self.dates.astype("<i8").data)
        for name in groups:
            sha.update(self.groups[name].astype("<i2").data)
        if whole:
            sha.update(np.packbits(self.member).data)
        floats = [self.fields[name] for name in fields]
        for values in [*floats, self.borrow] if whole and self.borrow is not None else floats:
            one_zero = values + 0.0  # -0.0 becomes 0.0
            one_zero[np.isnan(one_zero)] = np.nan  # one bit pattern for all of them
            sha.update(one_zero.astype("<f8", copy=False).data)
        return sha.hexdigest()


def _held(
    values: npt.NDArray[np.generic], dtype: npt.DTypeLike, shape: tuple[int, ...], name: str
) -> npt.NDArray[np.generic]:
    """A read-only, C-contiguous view of ``values``; a copy only where the type or the order asks for one."""
    held = np.ascontiguousarray(values, dtype=dtype).view()
    if held.shape != shape:
        raise ValueError(f"{name} has shape {held.shape}; the panel needs {shape}")
    held.flags.writeable = False
    return held
