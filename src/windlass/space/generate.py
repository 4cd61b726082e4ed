"""From a proposal to a config: merged over the baseline, validated, held against rules and constraints.

A violation rejects, always, and is named; nothing is corrected on the quiet. Parameters that are not active are
left out, numbers get their parameter's type, so equal configs have equal digests.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from windlass.errors import ConfigRejected, nearest
from windlass.records.content import flatten, nest
from windlass.records.ranking import ranked
from windlass.records.region import Condition, Constraint, Contains, Interval, OneOf, Region
from windlass.records.run import RunRecord
from windlass.records.study import Study
from windlass.records.studyfile import study_error
from windlass.space.consistency import constraint_problems, known_names
from windlass.space.parameters import canonical_value, describe
from windlass.space.space import Space


class ConfigGenerator:
    """Makes configs for one study. ``constraints`` are learned ones, held beside the study's own.

    Raises StudyError on a study that contradicts itself, and on constraints that cannot be meant for it.
    """

    def __init__(self, study: Study, constraints: Sequence[Constraint] = (), space: Space | None = None) -> None:
        self.study = study
        self.space = space or Space.of(study)
        if problems := list(constraint_problems(constraints, known_names(study))):
            raise study_error(problems, "the learned constraints")
        self.constraints = (*study.constraints, *constraints)

    def generate(self, values: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The nested config of flat ``values`` over the nested ``baseline`` (default: the study's).

        The config shares nothing with its inputs. Parameters that are not active are dropped, wherever they came from.

        Raises ConfigRejected; its ``rule`` is ``space`` for an unknown name, ``space.NAME`` for a missing or wrong
        value, the rule's text, or the constraint's name.
        """
        config = self._merge(values, self.study.baseline if baseline is None else baseline, complete=True)
        self._obey(config)
        try:
            return nest(config)
        except ValueError as error:
            raise ConfigRejected(f"the baseline does not fit the space: {error}", "space") from None

    @property
    def baseline_complete(self) -> bool:
        """Whether the study's baseline alone is a valid config."""
        try:
            self.generate({})
        except ConfigRejected:
            return False
        return True

    def check_baseline(self) -> None:
        """Raises ConfigRejected where the study's baseline breaks something, as far as it goes."""
        self._obey(self._merge({}, self.study.baseline, complete=False))

    def _merge(self, values: Mapping[str, Any], baseline: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
        """The flat config: fixed values, then the active parameters, canonical."""
        parameters = self.space.parameters
        for name in values:
            if name not in parameters:
                known = f"{nearest(name, parameters)} Known: {', '.join(parameters)}"
                raise ConfigRejected(f"unknown parameter {name!r}.{known}", "space")
        start = flatten(baseline)
        merged = {**start, **values}
        chosen: dict[str, Any] = {}
        for name, parameter in parameters.items():
            if parameter.when is not None and not parameter.when.contains(chosen):
                continue
            if name in merged:
                try:
                    chosen[name] = canonical_value(parameter, merged[name])
                except ValueError as error:
                    origin = "" if name in values else " (from the baseline)"
                    raise ConfigRejected(f"{name}{origin}: {error}", f"space.{name}") from None
            elif complete:
                message = f"{name} has no value, in the proposal or in the baseline; it is {describe(parameter)}"
                raise ConfigRejected(message, f"space.{name}")
        fixed = {
            name: copy.deepcopy(value)
            for name, value in start.items()
            if name not in parameters and not (value == {} and any(p.startswith(f"{name}.") for p in parameters))
        }
        return {**fixed, **{name: chosen[name] for name in self.study.space if name in chosen}}

    def _obey(self, config: Mapping[str, Any]) -> None:
        for rule in self.space.rules:
            try:
                if rule.holds(config):
                    continue
                broken = "does not hold"
            except ValueError as error:
                broken = f"cannot be evaluated ({error})"
            raise ConfigRejected(f"the rule `{rule.text}` {broken}: {_show(config, rule.names)}", rule.text)
        for constraint in self.constraints:
            if constraint.rejects(config):
                kind = "forbids" if constraint.forbid is not None else "allows only"
                reason = f"; {constraint.reason}" if constraint.reason else ""
                message = f"the constraint {constraint.name!r} {kind} {_show_region(constraint.region)}"
                raise ConfigRejected(f"{message}: {_show(config, constraint.region.root)}{reason}", constraint.name)


def best_baseline(study: Study, history: Sequence[RunRecord]) -> dict[str, Any]:
    """The study's baseline, with the parameters of the best completed run that keeps the guards.

    Best is ``Study.score``; ties go to the earlier number. Runs that are no valid config (any more) do not count.
    """
    best = ranked(study, history)
    generator = ConfigGenerator(study) if best else None
    for run in best:
        assert generator is not None
        values = {name: value for name, value in run.params.items() if name in study.space}
        try:
            generator.generate(values)
        except ConfigRejected:
            continue
        return nest(copy.deepcopy({**_without_groups(flatten(study.baseline), values), **values}))
    return copy.deepcopy(dict(study.baseline))


def _without_groups(flat: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty groups that ``names`` are about to fill."""
    return {key: value for key, value in flat.items() if value != {} or not any(n.startswith(f"{key}.") for n in names)}


def _show(config: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(f"{name}={config[name]!r}" for name in names if name in config)


def _show_region(region: Region) -> str:
    return ", ".join(f"{name} {_show_condition(condition)}" for name, condition in region.root.items())


def _show_condition(condition: Condition) -> str:
    match condition:
        case Interval(min=low, max=None):
            return f">= {low:g}"
        case Interval(min=None, max=high):
            return f"<= {high:g}"
        case Interval(min=low, max=high):
            return f"from {low:g} to {high:g}"
        case Contains(contains=members):
            return f"with {', '.join(map(repr, members))}"
        case OneOf(root=values):
            return f"in {list(values)!r}"
