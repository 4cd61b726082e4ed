"""A gate's policy from a file of its own, and what a policy names on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from windlass.errors import NotFound, StudyError, WindlassError
from windlass.records.fields import Problem
from windlass.records.gate import GatePolicy
from windlass.records.studyfile import StudyFile
from windlass.registry.evaluating import data_path, evaluator_fingerprint

#: the rest of a study; a policy's file is what would be its ``gate``
_STUDY = {
    "name": "policy",
    "trainer": {"command": ["none"]},
    "space": {"none": {"type": "bool"}},
    "objectives": [{"metric": "none", "direction": "maximize"}],
}


def load_policy(path: Path | str) -> tuple[GatePolicy, Path]:
    """The policy in a YAML or JSON file, and the folder that its paths are relative to.

    Raises NotFound where there is no file, StudyError with every problem, its line and the nearest right name.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no policy file {file}", "docs/study.md shows what a gate's policy is.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file} cannot be read: {error}", f"Check: file {file}") from error
    return _PolicyFile(text, str(file)).policy(), file.resolve().parent


def check_gate(policy: GatePolicy, folder: Path) -> dict[str, Path]:
    """The absolute path of each benchmark's data, by the benchmark's name.

    Raises StudyError that lists all data and all evaluators' modules that are not there.
    """
    data = {one.name: data_path(one, folder) for one in policy.benchmarks}
    problems = [f"benchmark {name!r}: there is no {path}" for name, path in data.items() if not path.exists()]
    for benchmark in policy.benchmarks:
        try:
            evaluator_fingerprint(benchmark, folder)
        except WindlassError as error:
            problems.append(error.message)
    if problems:
        raise StudyError("\n".join(problems), f"Paths of the gate are relative to {folder}.")
    return data


class _PolicyFile(StudyFile):
    """Read as the gate of a study, so that mistakes are told as a study's are."""

    def policy(self) -> GatePolicy:
        if self.data is None:
            raise self.error([Problem((), "is empty; a policy needs deployment and benchmarks")])
        self.data = {**_STUDY, "gate": self.data}
        gate = self.study().gate
        assert gate is not None
        return gate

    def error(self, problems: Iterable[Problem]) -> StudyError:
        """Without the ``gate`` that is not in the file."""
        return super().error(Problem(path[1:], message) for path, message in problems)
