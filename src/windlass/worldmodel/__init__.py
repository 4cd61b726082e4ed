"""PREDICT: mean and spread, chance of failure and cost of a config before it runs; what to try next."""

from windlass.worldmodel.calibration import Calibration, Coverage, Outcome, calibration, caution
from windlass.worldmodel.gp import GaussianProcess
from windlass.worldmodel.model import Suggestion, WorldModel, initial_points
from windlass.worldmodel.pareto import expected_hypervolume_improvement, hypervolume, pareto_front
from windlass.worldmodel.trials import Trial, trials_of

__all__ = [
    "Calibration",
    "Coverage",
    "GaussianProcess",
    "Outcome",
    "Suggestion",
    "Trial",
    "WorldModel",
    "calibration",
    "caution",
    "expected_hypervolume_improvement",
    "hypervolume",
    "initial_points",
    "pareto_front",
    "trials_of",
]
