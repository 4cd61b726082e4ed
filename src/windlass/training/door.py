"""What the doors of trainings share: paths made absolute, parameters checked, fingerprints of the rows.

A door is read by the lab, and loads no training library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from windlass.records.options import check_parameters
from windlass.runs.source import file_digest, joint_digest


class Named(Protocol):
    """Options that name their files."""

    @property
    def data(self) -> str: ...
    @property
    def validation(self) -> str | None: ...


class Door:
    """Of the workloads ``orpo`` and ``rlvr``; see :class:`windlass.workloads.Workload`."""

    name: ClassVar[str]
    rows: ClassVar[str]  #: what a line of the data is

    def read_options(self, options: Mapping[str, Any]) -> Any:
        """The options as a model. Raises StudyError that names what is wrong."""
        raise NotImplementedError

    def parameter_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def read_rows(self, path: Path) -> Sequence[Any]:
        """Raises DataError that names the rows."""
        raise NotImplementedError

    def fingerprint(self, rows: Sequence[Any]) -> str:
        raise NotImplementedError

    def options(self, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """``model`` stays as it is where it names no folder: it may be on a hub."""
        options: dict[str, Any] = self.read_options(given).model_dump(mode="json", exclude_none=True)
        for name in {"data", "validation", "model"} & options.keys():
            path = (folder / Path(options[name]).expanduser()).resolve()
            if name != "model" or path.is_dir():
                options[name] = str(path)
        return options

    def check(self, parameters: Iterable[str]) -> None:
        check_parameters(self.name, "training", parameters, self.parameter_names())

    def data(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        read: Named = self.read_options(options)
        return tuple(path for path in (read.data, read.validation) if path is not None)

    def fingerprints(self, options: Mapping[str, Any]) -> dict[str, str]:
        return self.fingerprints_of([(Path(path), self.read_rows(Path(path))) for path in self.data(options)])

    def fingerprints_of(self, files: Sequence[tuple[Path, Sequence[Any]]]) -> dict[str, str]:
        """Of a file to learn from, and of one to judge by where there is one, with their rows.

        ``data`` is of the bytes of all files, for the order of the rows is part of a training; ``<rows>`` and
        ``validation_<rows>`` are of what the rows say.
        """
        parts = zip((self.rows, f"validation_{self.rows}"), files, strict=False)
        data = joint_digest([file_digest(path) for path, _ in files])
        return {"data": data, **{name: self.fingerprint(rows) for name, (_, rows) in parts}}
