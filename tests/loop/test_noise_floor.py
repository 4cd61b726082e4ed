"""The baseline runs more than once, and what does not exceed its spread is no win."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from loop.simulation import Simulation
from windlass.records.ranking import NoiseFloor, noise_floor, standings

BASELINE = {"x": 0.0, "y": 0.0, "kind": "b"}


def noisy(config: Mapping[str, Any], seed: int) -> float:
    far = (config["x"] + 0.5) ** 2 + (config["y"] - 0.3) ** 2 + (config["kind"] == "a")
    return float(far) + random.Random(f"{seed}/{config['x']}").gauss(0.0, 0.05)


def study(**changes: Any) -> Simulation:
    return Simulation(noisy, **{"baseline": BASELINE, "baseline_runs": 3, **changes})


def run(simulation: Simulation, cycles: int) -> None:
    for _ in range(cycles):
        simulation.cycle()


def test_the_baseline_runs_first_and_again_with_seeds_of_its_own() -> None:
    simulation = study()
    run(simulation, 5)
    made = [(d.proposal.proposer, d.config == BASELINE, d.seed) for d in simulation.decided]
    assert made[:3] == [("baseline", True, 1), ("baseline", True, 2), ("baseline", True, 3)]
    assert all(proposer != "baseline" and not same for proposer, same, _ in made[3:])
    assert [d.proposal.repeats for d in simulation.decided[1:3]] == [simulation.decided[0].run_id] * 2


def test_several_slots_at_once_give_the_baseline_one_of_them_a_cycle() -> None:
    simulation = study()
    for _ in range(4):
        simulation.cycle(slots=2)
    made = [d.proposal.proposer for d in simulation.decided]
    assert made.count("baseline") == 3 and [made[i] for i in (0, 2, 4)] == ["baseline"] * 3


def test_one_run_of_the_baseline_is_still_the_default() -> None:
    simulation = Simulation(noisy, baseline=BASELINE)
    run(simulation, 4)
    assert [d.proposal.proposer for d in simulation.decided].count("baseline") == 1
    assert noise_floor(simulation.study, simulation.runs.values()) is None


def test_the_floor_is_the_spread_of_the_baselines_runs_alone() -> None:
    simulation = study()
    run(simulation, 6)
    floor = noise_floor(simulation.study, simulation.runs.values())
    assert floor is not None and len(floor.runs) == 3
    losses = [run.values["loss"] for run in floor.runs]
    mean = -sum(losses) / 3
    assert floor.mean == pytest.approx(mean)
    assert floor.sd == pytest.approx(math.sqrt(sum((-one - mean) ** 2 for one in losses) / 2))
    for standing in standings(simulation.study, simulation.runs.values()):
        assert floor.won(standing) == (standing.mean > floor.mean + 2 * floor.sd)


def test_without_noise_any_gain_is_a_win_and_none_is_none() -> None:
    floor = NoiseFloor(runs=(), mean=1.0, sd=0.0)
    assert floor.sigmas(1.0) == 0 and floor.sigmas(1.1) == math.inf and floor.sigmas(0.9) == -math.inf


def test_the_baseline_cannot_run_more_often_than_any_config_may() -> None:
    with pytest.raises(ValidationError, match="runs 4 times"):
        study(baseline_runs=4)
