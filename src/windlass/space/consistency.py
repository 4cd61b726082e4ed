"""What contradicts itself in a study: names, conditions, rules, constraints, values of the baseline."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from windlass.errors import StudyError, nearest
from windlass.records.content import Path, flatten
from windlass.records.fields import Problem
from windlass.records.parameters import (
    BoolParameter,
    CategoricalParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    SetParameter,
)
from windlass.records.region import Condition, Constraint, Contains, Interval, OneOf, Region
from windlass.records.study import Study
from windlass.space.kinds import check_rule
from windlass.space.parameters import canonical_value, choice_index, describe, sizes
from windlass.space.rules import is_number, parse_rule

SURELY_MISSPELT = 0.9  #: how alike a fixed value's name and a parameter's may not be (difflib's ratio)


def contradictions(study: Study) -> list[Problem]:
    """Everything in a study that cannot be meant; empty where a Space can be made of it."""
    known = known_names(study)
    return [
        *_colliding_names(study),
        *_conditions(study),
        *_rules(study, known),
        *constraint_problems(study.constraints, known),
        *_baseline(study),
    ]


def known_names(study: Study) -> dict[str, Any]:
    """Flat name -> parameter of the space, or the baseline's fixed value."""
    return {**flatten(study.baseline), **study.space}


def parents_first(space: Mapping[str, Parameter]) -> list[str]:
    """The names so that a parameter comes after those that its ``when`` names; else in the order given.

    Raises StudyError on a circle of conditions.
    """
    done: dict[str, None] = {}

    def visit(name: str, below: tuple[str, ...]) -> None:
        if name in below:
            circle = " -> ".join((*below[below.index(name) :], name))
            raise StudyError(f"the conditions go in a circle: {circle}")
        if name in space and name not in done:
            region = space[name].when
            for parent in region.root if region is not None else ():
                visit(parent, (*below, name))
            done[name] = None

    for name in space:
        visit(name, ())
    return list(done)


def constraint_problems(constraints: Iterable[Constraint], known: Mapping[str, Any]) -> Iterator[Problem]:
    """Conditions on unknown names, and conditions that no value meets. ``known``: see :func:`known_names`."""
    for index, constraint in enumerate(constraints):
        kind = "forbid" if constraint.forbid is not None else "allow"
        yield from _region_problems(constraint.region, ("constraints", index, kind), known)


def _colliding_names(study: Study) -> Iterator[Problem]:
    """A name cannot be a value and a group at once."""
    fixed = {name for name, value in flatten(study.baseline).items() if value != {} and name not in study.space}
    for name in (*study.space, *sorted(fixed)):
        for group in (name[:i] for i, letter in enumerate(name) if letter == "."):
            if group in study.space:
                yield Problem(("space", group), f"is a parameter here, and the group of {name!r}; rename one of them")
            elif group in fixed:
                yield Problem(("baseline", *group.split(".")), f"is a value here, and a group in {name!r}")


def _conditions(study: Study) -> Iterator[Problem]:
    for name, parameter in study.space.items():
        if parameter.when is not None:
            yield from _region_problems(parameter.when, ("space", name, "when"), study.space)
    try:
        parents_first(study.space)
    except StudyError as error:
        yield Problem(("space",), error.message)


def _rules(study: Study, known: Mapping[str, Any]) -> Iterator[Problem]:
    for index, text in enumerate(study.rules):
        try:
            check_rule(parse_rule(text), known)
        except StudyError as error:
            yield Problem(("rules", index), error.message)


def _baseline(study: Study) -> Iterator[Problem]:
    for name, value in flatten(study.baseline).items():
        path: Path = ("baseline", *name.split("."))
        if name in study.space:
            try:
                canonical_value(study.space[name], value)
            except ValueError as error:
                yield Problem(path, str(error))
        elif near := difflib.get_close_matches(name, study.space, n=1, cutoff=SURELY_MISSPELT):
            yield Problem(path, f"{name!r} is no parameter of the space. Did you mean {near[0]!r}?")


def _region_problems(region: Region, path: Path, known: Mapping[str, Any]) -> Iterator[Problem]:
    for name, condition in region.root.items():
        if name not in known:
            yield Problem((*path, name), f"there is no parameter {name!r}.{nearest(name, known)}")
        elif misfit := _misfit(known[name], condition):
            yield Problem((*path, name), misfit)


def _misfit(parameter: Any, condition: Condition) -> str:
    """Why a condition cannot be meant for a parameter; empty where it can. A fixed value takes any condition."""
    match parameter, condition:
        case SetParameter(), Contains(contains=members):
            if wrong := _first_error(lambda member: choice_index(parameter.choices, member), members):
                return wrong
            most = sizes(parameter)[1]
            return f"a set of at most {most} never contains {len(members)}" if len(set(members)) > most else ""
        case SetParameter(), _:
            return "a condition on a set is written {contains: [...]}"
        case FloatParameter() | IntParameter() | CategoricalParameter() | BoolParameter(), Contains():
            return f"'contains' is for sets, and this is {describe(parameter)}"
        case FloatParameter() | IntParameter(), Interval():
            low = parameter.low if condition.min is None else max(parameter.low, condition.min)
            high = parameter.high if condition.max is None else min(parameter.high, condition.max)
            if isinstance(parameter, IntParameter):
                low, high = -(-low // 1), high // 1
            return f"no value meets this: it is {describe(parameter)}" if low > high else ""
        case FloatParameter(), OneOf():
            return "a condition on a float is an interval: {min: ..., max: ...}"
        case CategoricalParameter() | BoolParameter(), Interval():
            choices = getattr(parameter, "choices", (False, True))
            if not all(map(is_number, choices)):
                return f"an interval needs numbers, and this is {describe(parameter)}"
            return "" if any(map(condition.holds, choices)) else f"no value meets this: it is {describe(parameter)}"
        case IntParameter() | CategoricalParameter() | BoolParameter(), OneOf(root=values):
            return _first_error(lambda value: canonical_value(parameter, value), values)
    return ""


def _first_error(check: Any, values: Iterable[Any]) -> str:
    for value in values:
        try:
            check(value)
        except ValueError as error:
            return str(error)
    return ""
