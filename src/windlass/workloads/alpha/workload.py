"""What the lab knows about the workload: checks, defaults and fingerprints, without an engine.

trainer: {workload: alpha, options: {idea: Momentum + liquidity}}        # a usable study by itself, on synthetic data
trainer: {workload: alpha, options: {idea: Reversal, data: panel.parquet, sectors: sectors.csv}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from windlass.errors import DataError
from windlass.records.content import digest, flatten, nest
from windlass.records.options import check_parameters
from windlass.runs.source import file_digest, joint_digest
from windlass.workloads.alpha.spec import Config, Options, parameter_names, read_options

FILES = ("data", "sectors", "membership", "borrow")


class Alpha:
    """The workload ``alpha``; see :class:`windlass.workloads.Workload`."""

    name = "alpha"
    function = "windlass.workloads.alpha.run:search"
    #: jobs of runs that belong to no study, with the same code and data
    further = (
        "windlass.workloads.alpha.opening:open_holdout",
        "windlass.workloads.alpha.calibration:measure_gate",
    )
    preload = ("windlass.workloads.alpha.run",)
    code = (
        function,
        *(
            f"windlass.workloads.alpha.{room}"
            for room in ("language", "engine", "evaluation", "optimizer", "gate", "search")
        ),
    )

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        options: dict[str, Any] = read_options(given).model_dump(mode="json", exclude_none=True)
        for name in FILES:
            if name in options:
                options[name] = str((folder / Path(options[name]).expanduser()).resolve())
        return options

    def defaults(self, options: Mapping[str, Any]) -> dict[str, Any]:
        read = read_options(options)
        space: dict[str, Any] = {
            "search.variation": {"type": "float", "low": 0.2, "high": 0.8},
            "search.novelty": {"type": "float", "low": 0.1, "high": 2.0, "log": True},
            "portfolio.holding": {"type": "int", "low": 1, "high": 21, "log": True},
        }
        metric, scale = ("icir", 0.05) if read.mode == "p0" else ("net_ir", 0.1)
        objective = {"metric": metric, "direction": "maximize", "scale": scale}
        usual = flatten(Config().model_dump(mode="json"))
        baseline = nest({name: usual[name] for name in space})
        return {"space": space, "baseline": baseline, "objectives": [objective]}

    def check(self, parameters: Iterable[str]) -> None:
        check_parameters(self.name, "campaign", parameters, parameter_names())

    def data(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(path) for path in files(read_options(options)))

    def fingerprints(self, options: Mapping[str, Any]) -> dict[str, str]:
        read = read_options(options)
        if read.data is None:
            return {"data": digest(read.synthetic.model_dump(mode="json"))}
        digests = []
        for path in files(read):
            try:
                digests.append(file_digest(path))
            except OSError as error:
                raise DataError(
                    f"{path} cannot be read: {error.strerror}", "Check the paths in the options."
                ) from error
        return {"data": joint_digest(digests)}


def files(options: Options) -> list[Path]:
    """What the panel is read from; none where it is synthetic."""
    return [Path(path) for name in FILES if (path := getattr(options, name)) is not None]


WORKLOAD = Alpha()
