"""DECIDE: the director and the proposers. They see records and the space; they touch nothing."""

from windlass.agents.director import direct
from windlass.agents.proposers import PROPOSERS, Situation

__all__ = ["PROPOSERS", "Situation", "direct"]
