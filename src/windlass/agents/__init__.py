"""DECIDE: director, proposers, critics, panel and supervisor. They see records, the space and the world model; they
touch nothing.
"""

from windlass.agents.council import Council
from windlass.agents.critics import CRITICS, review_all
from windlass.agents.director import direct
from windlass.agents.language import LanguageModelAgent
from windlass.agents.proposers import PROPOSERS
from windlass.agents.situation import Critic, Proposer, Situation, World
from windlass.agents.supervisor import check

__all__ = [
    "CRITICS",
    "PROPOSERS",
    "Council",
    "Critic",
    "LanguageModelAgent",
    "Proposer",
    "Situation",
    "World",
    "check",
    "direct",
    "review_all",
]
