"""From a study file to a Study that is checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from windlass.errors import NotFound, StudyError
from windlass.records.study import Study
from windlass.records.studyfile import StudyFile
from windlass.space.check import check_study
from windlass.workloads import complete


def load_study(path: Path | str) -> Study:
    """Read a study file; a workload's defaults fill in space, baseline and objectives that it leaves out.

    Raises NotFound where there is no file, StudyError with every problem, its line and the nearest right name.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"there is no study file {file}", f"A study to start from: windlass studies example > {file.name}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file} cannot be read: {error}", f"Check: file {file}") from error
    document = StudyFile(text, str(file))
    if isinstance(document.data, Mapping):
        document.data = complete(document.data, file.resolve().parent)
    study = document.study()
    if problems := check_study(study):
        raise document.error(problems)
    return study
