"""From a proposal to a config: laid over the baseline, validated, held to rules and constraints.

A violation rejects, always, with the rule named; nothing is warned about and then run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.errors import ConfigRejected, nearest
from windlass.records.content import flatten, nest
from windlass.records.run import RunRecord, Status
from windlass.records.study import Constraint, Study
from windlass.space.space import Space


class ConfigGenerator:
    """Makes configs for one study; ``constraints`` are added to the study's own."""

    def __init__(self, study: Study, constraints: Sequence[Constraint] = ()) -> None:
        self.study = study
        self.space = Space.of(study)
        self.constraints = (*study.constraints, *constraints)
        self._baseline = flatten(study.baseline)

    def generate(self, values: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The nested config of flat ``values`` laid over ``baseline`` (nested; the study's where None).

        Parameters that are not active are dropped. Equal choices give equal configs: an int stays an int, a float a
        float, a set has the order of its choices.

        Raises ConfigRejected; its ``rule`` is ``unknown``, ``missing``, ``range``, the rule's text or the
        constraint's name.
        """
        for name in values:
            if name not in self.space.codecs:
                hint = nearest(name, self.space.names)
                raise ConfigRejected(f"{name!r} is no parameter of the space.{hint}", "unknown")
        offered = {**(self._baseline if baseline is None else flatten(baseline)), **values}
        active: dict[str, Any] = {}
        for name, codec in self.space.codecs.items():
            if not self.space.active(name, active):
                continue
            if name not in offered:
                raise ConfigRejected(f"{name} is active and has no value, in the proposal or the baseline", "missing")
            try:
                active[name] = codec.canonical(offered[name])
            except ValueError as error:
                raise ConfigRejected(f"{name}: {error}", "range") from None
        flat = {n: v for n, v in offered.items() if n not in self.space.codecs}
        flat.update(active)
        self._hold_to_rules(flat)
        return nest(flat)

    def _hold_to_rules(self, flat: Mapping[str, Any]) -> None:
        for rule in self.space.rules:
            if not rule.holds(flat):
                shown = ", ".join(f"{name}={flat[name]!r}" for name in sorted(rule.names))
                raise ConfigRejected(f"the rule {rule.text!r} does not hold: {shown}", rule.text)
        for constraint in self.constraints:
            if constraint.rejects(flat):
                names = constraint.region.root if constraint.forbid else constraint.region.violated_by(flat)
                shown = ", ".join(f"{name}={flat[name]!r}" for name in names)
                where = "inside the forbidden" if constraint.forbid else "outside the allowed"
                because = f" ({constraint.reason})" if constraint.reason else ""
                raise ConfigRejected(f"{shown} is {where} region {constraint.name!r}{because}", constraint.name)


def best_baseline(study: Study, history: Sequence[RunRecord]) -> Mapping[str, Any]:
    """The config of the best completed run that keeps the guards (the earliest among equals), else the study's."""
    best, config = None, study.baseline
    for run in history:
        score = study.score(run.values) if run.status is Status.COMPLETED else None
        if score is not None and not study.broken_guards(run.values) and (best is None or score > best):
            best, config = score, run.config
    return config
