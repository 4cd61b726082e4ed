"""Who takes part in a study."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from loop.simulation import STUDY, Simulation
from windlass.agents import CRITICS, PROPOSERS, Council
from windlass.errors import StudyError
from windlass.records.study import Study


def council(*without: str) -> Council:
    return Council.of(Study.model_validate({**STUDY, "agents": {"without": without}}))


@pytest.mark.parametrize(
    ("without", "told"),
    [
        (["bayesain"], "no agent 'bayesain'. Did you mean 'bayesian'"),
        (["explorer"], "the explorer has to stay"),
        (["novelty"], "novelty cannot stay out"),
        (["feasibility", "novelty"], "feasibility and novelty cannot stay out"),
    ],
)
def test_nobody_who_is_needed_stays_out(without: Sequence[str], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        council(*without)


def test_who_is_left_can_decide() -> None:
    """The smallest council there is: nothing is known yet, and then something fails."""
    rest = [name for name in (*PROPOSERS, *CRITICS) if name not in ("explorer", "feasibility", "novelty")]
    simulation = Simulation(agents={"without": rest})
    assert list(simulation.council.proposers) == ["explorer"]
    for _ in range(12):
        assert any(decision.run_id for decision in simulation.cycle())
