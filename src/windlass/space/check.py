"""What is wrong with a study as a whole: names, conditions, rules and values that the schema alone cannot judge."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from windlass.errors import ConfigRejected, StudyError, nearest
from windlass.records.content import Path, flatten, nest
from windlass.records.study import Problem, Region, Study
from windlass.space.generate import ConfigGenerator
from windlass.space.parameters import codec
from windlass.space.rules import RuleSyntaxError, parse_rule
from windlass.space.space import activation_order

SURELY_MISSPELT = 0.9  #: how alike a fixed value's name and a parameter's may not be (difflib's ratio)


def check_study(study: Study) -> list[Problem]:
    """All problems, each with the path of its key in the study file; empty where the study can be run."""
    problems = [*_names(study), *_conditions(study), *_rules(study), *_baseline(study)]
    return problems or list(_whole_baseline(study))


def _names(study: Study) -> Iterator[Problem]:
    """A name cannot be a value and a group at once."""
    fixed = {name for name in flatten(study.baseline) if name not in study.space}
    for name in (*study.space, *fixed):
        for other in study.space:
            if other.startswith(f"{name}."):
                place: Path = ("space", name) if name in study.space else ("baseline", *name.split("."))
                yield Problem(place, f"is a value here and a group in {other!r}")


def _conditions(study: Study) -> Iterator[Problem]:
    known = [*study.space, *flatten(study.baseline)]
    for name, parameter in study.space.items():
        if parameter.when is not None:
            yield from _region(study, parameter.when, ("space", name, "when"), list(study.space))
    for i, constraint in enumerate(study.constraints):
        kind = "forbid" if constraint.forbid else "allow"
        yield from _region(study, constraint.region, ("constraints", i, kind), known)
    try:
        activation_order({name: p.when for name, p in study.space.items()})
    except StudyError as error:
        yield Problem(("space",), error.message)


def _region(study: Study, region: Region, path: Path, known: list[str]) -> Iterator[Problem]:
    for name, condition in region.root.items():
        if name not in known:
            yield Problem((*path, name), f"there is no parameter {name!r}.{nearest(name, known)}")
        elif name in study.space and (misfit := codec(study.space[name]).misfit(condition)):
            yield Problem((*path, name), misfit)


def _rules(study: Study) -> Iterator[Problem]:
    known = {**study.space, **flatten(study.baseline)}
    for i, text in enumerate(study.rules):
        try:
            rule = parse_rule(text)
        except RuleSyntaxError as error:
            yield Problem(("rules", i), f"{error}\n    {text}\n    {' ' * error.column}^")
            continue
        for name in sorted(rule.names - known.keys()):
            yield Problem(("rules", i), f"there is no parameter {name!r} in {text!r}.{nearest(name, known)}")


def _baseline(study: Study) -> Iterator[Problem]:
    for name, value in flatten(study.baseline).items():
        if name in study.space:
            try:
                codec(study.space[name]).canonical(value)
            except ValueError as error:
                yield Problem(("baseline", *name.split(".")), str(error))
        elif near := difflib.get_close_matches(name, study.space, n=1, cutoff=SURELY_MISSPELT):
            yield Problem(
                ("baseline", *name.split(".")), f"{name!r} is no parameter of the space. Did you mean {near[0]!r}?"
            )
    try:
        nest(flatten(study.baseline))
    except ValueError as error:
        yield Problem(("baseline",), str(error))


def _whole_baseline(study: Study) -> Iterator[Problem]:
    """A complete baseline has to keep the rules and constraints; an incomplete one is completed by proposals."""
    try:
        ConfigGenerator(study).generate({})
    except ConfigRejected as rejection:
        if rejection.rule != "missing":
            yield Problem(("baseline",), rejection.message)
