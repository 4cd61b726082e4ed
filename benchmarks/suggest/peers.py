"""Optuna, Ax and BoTorch, each as its own documentation has it used, with its own defaults."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from problems import METRIC, Outcome, Problem

from windlass.records.parameters import BoolParameter, CategoricalParameter, FloatParameter, IntParameter, Parameter

Values = Mapping[str, Any]


class OptunaStudy:
    """Define by run: a conditional parameter is suggested only when it is active. A failed run is told as FAIL.

    TPE is multivariate, and grouped where the space is conditional, as its warning asks for there.
    """

    def __init__(self, problem: Problem, seed: int, sampler: str) -> None:
        import optuna
        import torch  # noqa: F401 - what GPSampler would import with its first suggestion is not timed

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore")
        self.optuna, self.parameters = optuna, problem.space.parameters
        conditional = any(parameter.when is not None for parameter in self.parameters.values())
        samplers = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=conditional),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        }
        self.study = optuna.create_study(sampler=samplers[sampler]())
        self.trial: Any = None

    def ask(self) -> Values:
        self.trial = self.study.ask()
        values: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if parameter.when is None or parameter.when.contains(values):
                values[name] = self._suggest(name, parameter)
        return values

    def _suggest(self, name: str, parameter: Parameter) -> Any:
        match parameter:
            case FloatParameter(low=low, high=high, log=log):
                return self.trial.suggest_float(name, low, high, log=log)
            case IntParameter(low=low, high=high, log=log):
                return self.trial.suggest_int(name, low, high, log=log)
            case BoolParameter():
                return self.trial.suggest_categorical(name, (False, True))
            case CategoricalParameter(choices=choices):
                return self.trial.suggest_categorical(name, choices)
        raise ValueError(f"no way to suggest {parameter}")

    def _distribution(self, parameter: Parameter) -> Any:
        kinds = self.optuna.distributions
        match parameter:
            case FloatParameter(low=low, high=high, log=log):
                return kinds.FloatDistribution(low, high, log=log)
            case IntParameter(low=low, high=high, log=log):
                return kinds.IntDistribution(low, high, log=log)
            case CategoricalParameter(choices=choices):
                return kinds.CategoricalDistribution(choices)
        return kinds.CategoricalDistribution((False, True))

    def tell(self, values: Values, outcome: Outcome) -> None:
        state = self.optuna.trial.TrialState
        ended = state.FAIL if outcome.observed is None else state.COMPLETE
        if self.trial is not None:
            self.study.tell(self.trial, outcome.observed, state=ended)
            self.trial = None
            return
        kinds = {name: self._distribution(self.parameters[name]) for name in values}
        old = self.optuna.trial.create_trial(
            params=dict(values), distributions=kinds, value=outcome.observed, state=ended
        )
        self.study.add_trial(old)

    def recommend(self) -> Values | None:
        try:
            return dict(self.study.best_trial.params)
        except ValueError:  # nothing completed
            return None

    def notes(self) -> Mapping[str, Any]:
        return {}


class AxClient:
    """The Client with what it chooses by itself: the centre, Sobol, then BoTorch. A failed run is marked as failed.

    The space is flat, as in its tutorials: values of inactive parameters are made up and passed over.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        import torch  # noqa: F401
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        self.space = problem.space
        self.client = Client(random_seed=seed)
        configs: list[Any] = []
        for name, parameter in self.space.parameters.items():
            match parameter:
                case FloatParameter(low=low, high=high, log=log) | IntParameter(low=low, high=high, log=log):
                    scaling: Any = "log" if log else "linear"
                    configs.append(
                        RangeParameterConfig(
                            name=name, bounds=(low, high), parameter_type=parameter.type, scaling=scaling
                        )
                    )
                case BoolParameter():
                    configs.append(ChoiceParameterConfig(name=name, values=[False, True], parameter_type="bool"))
                case CategoricalParameter(choices=choices):
                    values: Any = list(choices)
                    configs.append(
                        ChoiceParameterConfig(name=name, values=values, parameter_type="str", is_ordered=False)
                    )
        self.client.configure_experiment(parameters=configs)
        self.client.configure_optimization(objective=f"-{METRIC}")
        self.trial: int | None = None

    def ask(self) -> Values:
        ((self.trial, values),) = self.client.get_next_trials(1).items()
        return dict(values)

    def tell(self, values: Values, outcome: Outcome) -> None:
        """Only the trial asked for last: told of older ones, the client would begin with its first phase again."""
        assert self.trial is not None
        if outcome.observed is None:
            self.client.mark_trial_failed(self.trial)
        else:
            self.client.complete_trial(self.trial, raw_data={METRIC: float(outcome.observed)})
        self.trial = None

    def recommend(self) -> Values | None:
        try:
            return self.space.active(dict(self.client.get_best_parameterization()[0]))
        except Exception:  # it raises several kinds where it has no best
            return None

    def notes(self) -> Mapping[str, Any]:
        return {}


class BoTorchLoop:
    """The loop of the tutorials: 8 Sobol points, then SingleTaskGP and qLogNEI; a failed run is passed over.

    Categories are one-hot, relaxed, and rounded.
    """

    FIRST = 8

    def __init__(self, problem: Problem, seed: int) -> None:
        import torch
        from scipy.stats import qmc

        warnings.simplefilter("ignore")
        self.torch, self.space, self.seed = torch, problem.space, seed
        self.widths = [
            len(one.choices) if isinstance(one, CategoricalParameter) else 1 for one in self.space.parameters.values()
        ]
        first = qmc.Sobol(self.space.dimensions, scramble=True, rng=np.random.default_rng(seed))
        self.first = first.random(256)
        self.points: list[npt.NDArray[np.float64]] = []
        self.configs: list[Values] = []
        self.observed: list[float | None] = []

    def _encode(self, values: Values) -> npt.NDArray[np.float64]:
        inner = self.space.encode(self.space.active(values))
        point: list[float] = []
        for (name, parameter), u in zip(self.space.parameters.items(), inner, strict=True):
            if isinstance(parameter, CategoricalParameter):
                point += [float(values.get(name) == choice) for choice in parameter.choices]
            else:
                point.append(float(u))
        return np.array(point)

    def _decode(self, point: npt.NDArray[np.float64]) -> Values:
        inner, start = [], 0
        for width in self.widths:
            one = point[start : start + width]
            inner.append((int(np.argmax(one)) + 0.5) / width if width > 1 else float(one[0]))
            start += width
        return self.space.decode(inner)

    def _model(self) -> tuple[Any, Any]:
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        done = [i for i, value in enumerate(self.observed) if value is not None]
        x = self.torch.tensor(np.array(self.points)[done], dtype=self.torch.double)
        y = -self.torch.tensor([self.observed[i] for i in done], dtype=self.torch.double)[:, None]
        model = SingleTaskGP(x, y)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return model, x

    def ask(self) -> Values:
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.optim import optimize_acqf
        from botorch.sampling import SobolQMCNormalSampler

        number, torch = len(self.observed), self.torch
        if number < self.FIRST or sum(value is not None for value in self.observed) < 3:
            return self.space.decode(self.first[number])
        torch.manual_seed(self.seed * 100_003 + number)
        model, x = self._model()
        acquisition = qLogNoisyExpectedImprovement(
            model, X_baseline=x, sampler=SobolQMCNormalSampler(torch.Size([128])), prune_baseline=True
        )
        bounds = torch.stack([torch.zeros(sum(self.widths)), torch.ones(sum(self.widths))]).double()
        point, _ = optimize_acqf(
            acquisition, bounds=bounds, q=1, num_restarts=4, raw_samples=128, options={"maxiter": 100}
        )
        return self._decode(point[0].numpy())

    def tell(self, values: Values, outcome: Outcome) -> None:
        self.points.append(self._encode(values))
        self.configs.append(values)
        self.observed.append(outcome.observed)

    def recommend(self) -> Values | None:
        """The config seen whose posterior mean is best."""
        done = [i for i, value in enumerate(self.observed) if value is not None]
        if len(done) < 3:
            return None
        model, x = self._model()
        with self.torch.no_grad():
            means = model.posterior(x).mean.squeeze(-1).numpy()
        return self.configs[done[int(np.argmax(means))]]

    def notes(self) -> Mapping[str, Any]:
        return {}
