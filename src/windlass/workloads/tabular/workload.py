"""What the lab knows about the workload: checks, defaults and fingerprints, without a training library.

trainer: {workload: tabular, options: {dataset: digits}}        # a usable study by itself
trainer: {workload: tabular, options: {data: churn.csv, target: churned}}
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import DataError, MissingExtra
from windlass.records.options import check_parameters
from windlass.runs.source import file_digest, joint_digest
from windlass.workloads.tabular.data import file_task
from windlass.workloads.tabular.spec import BUNDLED, FAMILIES, Options, Task, parameter_names, read_options


class Tabular:
    """The workload ``tabular``; see :class:`windlass.workloads.Workload`."""

    name = "tabular"
    function = "windlass.workloads.tabular.run:train"
    preload = ("windlass.workloads.tabular.run",)
    code = ("windlass.workloads.tabular.run",)

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        options = read_options(given)
        if options.data is not None:
            options = options.model_copy(update={"data": str((folder / Path(options.data).expanduser()).resolve())})
        return options.model_dump(mode="json", exclude_none=True)

    def defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        read = read_options(options)
        task = BUNDLED[read.dataset][0] if read.dataset is not None else file_task(read)
        space = default_space(task)
        if task == "classification" and read.data is not None:
            space["balanced"] = {"type": "bool"}
        objective = {"metric": "r2", "direction": "maximize", "scale": 0.01}
        if task == "classification":
            objective = {"metric": "log_loss", "direction": "minimize", "scale": 0.02}
        return {"space": space, "baseline": {"model": "boosting"}, "objectives": [objective]}

    def check(self, parameters: Iterable[str]) -> None:
        check_parameters(self.name, "data", parameters, parameter_names())

    def data(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        named = read_options(options).data
        return () if named is None else (named,)

    def fingerprints(self, options: Mapping[str, Any]) -> dict[str, str]:
        digests = []
        for path in _data_files(read_options(options)):
            try:
                digests.append(file_digest(path))
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}", "Check 'data' in the options.") from error
        return {"data": joint_digest(digests)}


WORKLOAD = Tabular()


def default_space(task: Task) -> dict[str, Any]:
    """All families of a task, in the study file's shape.

    The MLP's learning rates reach beyond what converges: where that is, is for the lab to find out.
    """

    def when(model: str, **more: str) -> dict[str, Any]:
        return {"when": {"model": model, **more}}

    def real(low: float, high: float, **rest: Any) -> dict[str, Any]:
        return {"type": "float", "low": low, "high": high, "log": True, **rest}

    def whole(low: int, high: int, *, log: bool = False, **rest: Any) -> dict[str, Any]:
        return {"type": "int", "low": low, "high": high, "log": log, **rest}

    linear = {"logistic.C": real(1e-3, 1e3, **when("logistic"))}
    if task == "regression":
        linear = {"ridge.alpha": real(1e-3, 1e4, **when("ridge"))}
    return {
        "model": {"type": "categorical", "choices": list(FAMILIES[task])},
        **linear,
        "svm.C": real(1e-2, 1e3, **when("svm")),
        "svm.kernel": {"type": "categorical", "choices": ["rbf", "linear"], **when("svm")},
        "svm.gamma": real(1e-5, 1.0, **when("svm", **{"svm.kernel": "rbf"})),
        "forest.trees": whole(20, 200, log=True, **when("forest")),
        "forest.depth": whole(2, 24, **when("forest")),
        "forest.min_leaf": whole(1, 20, log=True, **when("forest")),
        "forest.features": {"type": "float", "low": 0.05, "high": 1.0, **when("forest")},
        "boosting.learning_rate": real(0.01, 1.0, **when("boosting")),
        "boosting.iterations": whole(20, 120, log=True, **when("boosting")),
        "boosting.leaves": whole(4, 31, log=True, **when("boosting")),
        "boosting.min_leaf": whole(2, 50, log=True, **when("boosting")),
        "boosting.l2": real(1e-6, 10.0, **when("boosting")),
        "mlp.optimizer": {"type": "categorical", "choices": ["adam", "sgd"], **when("mlp")},
        "mlp.learning_rate": real(1e-4, 10.0, **when("mlp")),
        "mlp.width": whole(16, 256, log=True, **when("mlp")),
        "mlp.layers": whole(1, 2, **when("mlp")),
        "mlp.alpha": real(1e-6, 1.0, **when("mlp")),
        "mlp.batch": {"type": "categorical", "choices": [32, 64, 128], **when("mlp")},
    }


def _data_files(options: Options) -> list[Path]:
    """The files that hold the data. Finds scikit-learn's without importing it."""
    if options.data is not None:
        return [Path(options.data)]
    assert options.dataset is not None
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("the workload 'tabular' needs scikit-learn", "pip install 'windlass[tabular]'")
    folder = Path(next(iter(found.submodule_search_locations))) / "datasets" / "data"
    return [folder / name for name in BUNDLED[options.dataset][1]]
