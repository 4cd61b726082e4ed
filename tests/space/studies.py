"""Studies for the tests of space: from their YAML, and random ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from windlass.records.study import Study
from windlass.records.studyfile import StudyFile
from windlass.space.check import check_study

HEAD = """\
name: s
trainer: {command: x}
objectives: [{metric: loss, direction: minimize}]
"""


def study(text: str) -> Study:
    """A usable study from the keys that differ from ``HEAD``; its lines count from 1."""
    file = StudyFile(text + "\n" + HEAD, "s.yaml")
    made = file.study()
    if problems := check_study(made):
        raise file.error(problems)
    return made


CHOICES = ("svm", "mlp", "", 0, 1, 2.5, -3)


@st.composite
def parameters(draw: st.DrawFn, *, floats: bool = True, small: bool = False) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["float", "int", "categorical", "bool", "set"] if floats else ["int", "categorical", "set"])
    )
    log = draw(st.booleans())
    if kind == "float":
        low = draw(st.floats(1e-9, 1e9) if log else st.floats(-1e9, 1e9))
        return {"type": kind, "log": log, "low": low, "high": low + draw(st.floats(1e-3, 1e9)) + abs(low) * 1e-3}
    if kind == "int":
        low = draw(st.integers(1, 2**39) if log else st.integers(-(2**39), 2**39))
        low = draw(st.integers(1, 3)) if small else low
        return {"type": kind, "log": log, "low": low, "high": low + draw(st.integers(1, 3 if small else 2**39))}
    if kind == "bool":
        return {"type": kind}
    choices = draw(st.lists(st.sampled_from(CHOICES), min_size=1, max_size=4, unique=True))
    if kind == "categorical":
        return {"type": kind, "choices": choices}
    least = draw(st.integers(0, len(choices)))
    return {"type": kind, "choices": choices, "min_size": least, "max_size": draw(st.integers(least, len(choices)))}


@st.composite
def conditions(draw: st.DrawFn, parent: dict[str, Any]) -> Any:
    """A condition that fits the parent."""
    if parent["type"] in ("float", "int"):
        low, high = parent["low"], parent["high"]
        middle = draw(st.integers(low, high)) if parent["type"] == "int" else draw(st.floats(low, high))
        kinds = [{"min": middle}, {"max": middle}, {"min": low, "max": middle}]
        return draw(st.sampled_from(kinds + ([middle, [middle, low]] if parent["type"] == "int" else [])))
    if parent["type"] == "bool":
        return draw(st.booleans())
    chosen = draw(st.lists(st.sampled_from(parent["choices"]), min_size=1, max_size=3, unique=True))
    if parent["type"] == "categorical":
        return draw(st.sampled_from([chosen, chosen[0]]))
    return {"contains": chosen[: max(1, parent["max_size"])]}


@st.composite
def spaces(draw: st.DrawFn, *, floats: bool = True, small: bool = False) -> Study:
    """Up to 5 parameters; each may be conditional on earlier ones; listed in any order."""
    names = draw(st.permutations(["a", "b", "group.c", "group.d", "e-f"]))[: draw(st.integers(1, 5))]
    space: dict[str, Any] = {}
    for name in names:
        parameter = draw(parameters(floats=floats, small=small))
        fit = [n for n, p in space.items() if p["type"] != "set" or p["max_size"] > 0]
        for parent in draw(st.lists(st.sampled_from(fit), max_size=2, unique=True)) if fit else []:
            parameter.setdefault("when", {})[parent] = draw(conditions(space[parent]))
        space[name] = parameter
    return Study.model_validate(
        {
            "name": "s",
            "trainer": {"command": "x"},
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "space": {name: space[name] for name in draw(st.permutations(names))},
        }
    )
