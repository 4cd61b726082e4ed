"""Everything that can be wrong with a study beyond its schema."""

from __future__ import annotations

from windlass.errors import ConfigRejected
from windlass.records.fields import Problem
from windlass.records.study import Study
from windlass.space.consistency import contradictions
from windlass.space.generate import ConfigGenerator


def check_study(study: Study) -> list[Problem]:
    """Everything in a study that cannot be meant: unknown names, conditions that no value meets, rules that cannot
    be read, a baseline outside the space or against the rules. Empty for a usable study."""
    if problems := contradictions(study):
        return problems
    try:
        ConfigGenerator(study).check_baseline()
    except ConfigRejected as rejection:
        return [Problem(("baseline",), rejection.message)]
    return []
