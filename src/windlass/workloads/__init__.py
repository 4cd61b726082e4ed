"""ON WHAT: the built-in workloads, one folder each: ``workload.py`` is its door for the lab, another module the job's.

The door loads no training library.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from windlass.errors import StudyError, nearest
from windlass.records.content import flatten, nest
from windlass.records.region import same

#: workload name -> the module whose ``WORKLOAD`` it is
_DOORS = {
    "tabular": "windlass.workloads.tabular.workload",
    "alpha": "windlass.workloads.alpha.workload",
    "orpo": "windlass.training.orpo.workload",
    "rlvr": "windlass.training.rlvr.workload",
}


class Workload(Protocol):
    """What the lab knows about a workload. Its options reach the trainer as ``config["workload"]``."""

    name: str
    function: str  #: ``module:function``, the trainer
    preload: tuple[str, ...]  #: modules worth a study's ``trainer.preload``
    code: tuple[str, ...]  #: modules; the Python files in their folders are the trainer's code

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The options of a study file, checked and with paths made absolute (they are relative to ``folder``).

        Raises StudyError for wrong options.
        """

    def defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``space``, ``baseline`` and ``objectives``, in the study file's shape, for checked options.

        Raises DataError where the data cannot be read.
        """

    def check(self, parameters: Iterable[str]) -> None:
        """Raises StudyError for a flat parameter name that the trainer does not read."""

    def data(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The user's files that it trains on, absolute, for checked options; none where the data are bundled."""

    def fingerprints(self, options: Mapping[str, Any]) -> dict[str, str]:
        """``{"data": SHA-256 of the data's content}``. Raises DataError where it cannot be read."""


def workload(name: str) -> Workload:
    """Raises StudyError for an unknown name."""
    if name not in _DOORS:
        raise StudyError(f"there is no workload {name!r}.{nearest(name, _DOORS)}", f"Workloads: {', '.join(_DOORS)}")
    return cast(Workload, importlib.import_module(_DOORS[name]).WORKLOAD)


def workload_of(function: str | None) -> Workload | None:
    """The workload whose trainer a function is, or another job of whose it is (``further``)."""
    found = [name for name, door in _DOORS.items() if function and function.startswith(door.removesuffix("workload"))]
    chosen = workload(found[0]) if found else None
    if chosen is None or function not in (chosen.function, *getattr(chosen, "further", ())):
        return None
    return chosen


def complete(study: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Study data with its workload's defaults in the places that it leaves out; other studies as they are.

    ``space`` and ``objectives`` are the study's where it has them; the study's ``baseline`` goes over the default one.
    Defaults that the study's own space excludes are left out.

    Raises StudyError for wrong options and parameter names, DataError for data that cannot be used.
    """
    trainer = study.get("trainer")
    if not isinstance(trainer, Mapping) or not isinstance(trainer.get("workload"), str):
        return dict(study)
    chosen = workload(trainer["workload"])
    given = trainer.get("options") or {}
    if not isinstance(given, Mapping):
        raise StudyError(f"trainer.options is a mapping of names to values, not {given!r}")
    defaults = chosen.defaults(chosen.options(given, folder))
    own = study.get("space")
    fitting = _within(defaults["baseline"], own) if isinstance(own, Mapping) else defaults["baseline"]
    completed = {**defaults, "baseline": fitting, **study}
    if isinstance(completed["baseline"], Mapping):
        completed["baseline"] = _over(fitting, completed["baseline"])
        chosen.check(flatten(completed["baseline"]))
    if isinstance(completed["space"], Mapping):
        chosen.check(completed["space"])
    return completed


def _within(baseline: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values without those that a parameter of ``space``, as a study file has it, excludes."""
    return nest({name: value for name, value in flatten(baseline).items() if _admits(space.get(name), value)})


def _admits(parameter: Any, value: Any) -> bool:
    if not isinstance(parameter, Mapping):
        return True
    choices, low, high = (parameter.get(key) for key in ("choices", "low", "high"))
    if isinstance(choices, list):
        return any(same(value, choice) for choice in choices)
    numbers = all(isinstance(one, int | float) for one in (low, value, high))
    return not numbers or low <= value <= high


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both have a value, ``above``'s."""
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping):
            merged[name] = _over(below[name], above[name])
    return merged
