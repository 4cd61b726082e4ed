"""docs/study.md: its examples are studies, its transcript is what comes out, and it leaves no key out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from windlass.errors import StudyError
from windlass.records import deciding, parameters, region
from windlass.records import study as records
from windlass.records.study import Study
from windlass.records.studyfile import StudyFile, parse_study
from windlass.space.check import check_study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

PAGE = (Path(__file__).parents[2] / "docs" / "study.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def completed(example: str) -> Study:
    """An example with the keys that it lacks from the page's first one."""
    whole: dict[str, Any] = {**StudyFile(EXAMPLES[0]).data, **StudyFile(example).data}
    return Study.model_validate(whole)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split(":")[0])
def test_an_example_is_a_usable_study_with_configs(example: str) -> None:
    study = completed(example)
    assert check_study(study) == []
    space, generator = Space.of(study), ConfigGenerator(study)
    values = space.repair(space.decode([0.3] * space.dimensions))
    assert generator.generate(values)


def test_the_first_example_is_a_whole_study() -> None:
    assert parse_study(EXAMPLES[0]).name == "first"


def test_the_transcript_is_real() -> None:
    text = (
        EXAMPLES[0]
        .replace("trainer:", "\ntrainer:")
        .replace("learning_rate: {type: float, low: 1e-5, high:", "lr: {type: float, low: 1e-5, hihg:")
        .replace("objectives:", "\nobjectives:")
        .replace("minimize", "maximise")
    )
    with pytest.raises(StudyError) as caught:
        parse_study(text)
    shown = re.findall(r"```\n(study.yaml: .*?)\n```", PAGE, re.DOTALL)[0]
    assert str(caught.value) == shown


def test_every_key_is_on_the_page() -> None:
    homes = [*(vars(module).values() for module in (records, parameters, region, deciding))]
    models = [m for home in homes for m in home if isinstance(m, type) and issubclass(m, BaseModel)]
    keys = {key for model in models for key in model.model_fields if key not in ("root",)}
    missing = {key for key in keys if not re.search(rf"\b{key}\b", PAGE)}
    assert not missing
