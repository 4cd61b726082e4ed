"""Study files: YAML or JSON text to a Study, with every mistake named by file, line and key; and back.

This module knows the schema alone. ``windlass.space.check`` adds what needs the space: rules, conditions, ranges.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, Tag, ValidationError

from windlass.errors import StudyError, nearest
from windlass.records.content import Path
from windlass.records.document import Document, dump_yaml
from windlass.records.fields import Problem
from windlass.records.parameters import PARAMETER_TYPES
from windlass.records.region import Interval
from windlass.records.study import Study

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class StudyFile(Document):
    """The text of a study, its data, and the line of each key.

    Raises StudyError on text that is no YAML or JSON.
    """

    def study(self) -> Study:
        """Raises StudyError that lists everything in which the data depart from the schema."""
        try:
            return Study.model_validate(self.data)
        except ValidationError as error:
            raise self.error(_problems(error, self.data)) from None

    def error(self, problems: Iterable[Problem]) -> StudyError:
        """One error for all ``problems``, each with its line, in the order of the file."""
        lines = sorted((self.line(problem.path), problem) for problem in problems)
        return _study_error([(f"{self.source}:{line}", problem) for line, problem in lines], self.source)


def study_error(problems: Iterable[Problem], source: str = "study") -> StudyError:
    """One error for all ``problems`` of a study that did not come from a text."""
    return _study_error([(source, problem) for problem in problems], f"the definition of {source}")


def parse_study(text: str, source: str = "study.yaml") -> Study:
    """The study that YAML or JSON text describes. ``source`` names the text in errors.

    Raises StudyError that lists all problems, each as ``file:line: path.to.key: what is wrong``.
    """
    return StudyFile(text, source).study()


def dump_study(study: Study) -> str:
    """YAML text that :func:`parse_study` reads back to an equal study; defaults are left out."""
    return dump_yaml(study.model_dump(mode="json", exclude_defaults=True))


def study_schema() -> dict[str, Any]:
    """The study file's JSON Schema (draft 2020-12), for editors.

    With yaml-language-server: ``# yaml-language-server: $schema=study.schema.json`` as a study file's first line.
    A workload has defaults for space and objectives; other trainers need both.
    """
    schema = Study.model_json_schema()
    _close(schema)
    schema["required"] = ["name", "trainer"]
    schema["if"] = {"properties": {"trainer": {"required": ["workload"]}}}
    schema["else"] = {"required": ["space", "objectives"]}
    return {"$schema": SCHEMA_DIALECT, **schema, "title": "Windlass study"}


def _close(schema: Any) -> None:
    """No keys besides those that match a pattern: pydantic refuses them, and its schema does not say so."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


def show_path(path: Path) -> str:
    """``space.lr.low``, ``objectives[0].metric``."""
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown


def _study_error(located: list[tuple[str, Problem]], edit: str) -> StudyError:
    """From (place, problem) pairs; ``edit`` says what to change."""
    lines = [f"{place}: {show_path(path)}: {text}" if path else f"{place}: {text}" for place, (path, text) in located]
    head = [] if len(lines) == 1 else [f"{edit}: {len(lines)} problems"]
    return StudyError("\n".join(head + lines), f"Edit {edit}")


def _problems(error: ValidationError, data: Any) -> list[Problem]:
    """pydantic's errors in words, at the keys of the data (pydantic's paths also hold the tags of unions)."""
    errors = [dict(one) for one in error.errors(include_url=False)]
    # a list whose items are all wrong counts as too short as well
    return [_problem(one, data) for one in errors if not (one["type"] == "too_short" and one["input"])]


def _problem(error: dict[str, Any], data: Any) -> Problem:
    location, kind, value, context = error["loc"], error["type"], error.get("input"), error.get("ctx", {})
    path = _path_in(data, location, keep_last=kind == "missing")
    match kind:
        case "problem":
            return Problem(_path_in(data, location, keep_last=True), context["text"])
        case "missing":
            return Problem(path, f"is missing; {_needs(location)}")
        case "extra_forbidden":
            known = _keys_at(location[:-1])
            text = f"unknown key {location[-1]!r}.{nearest(str(location[-1]), known)} Known: {', '.join(known)}"
        case "union_tag_invalid":
            path = (*path, "type")
            chosen = str(context["tag"])
            text = f"unknown type {chosen!r}.{nearest(chosen, PARAMETER_TYPES)} Types: {', '.join(PARAMETER_TYPES)}"
        case "union_tag_not_found":
            text = _type_is_missing(value)
        case "literal_error":
            allowed = context["expected"]
            names = [name.strip("'") for name in allowed.replace(" or ", ", ").split(", ")]
            text = f"must be {allowed}, not {value!r}.{nearest(str(value), names)}"
        case "bool_type":
            text = f"must be true or false, not {value!r}"
        case "greater_than":
            text = f"must be above {context['gt']:g}, not {value!r}"
        case "greater_than_equal":
            text = f"must be at least {context['ge']:g}, not {value!r}"
        case "tuple_type" if "one_of" in location:
            text = f"must be a value, a list of values, {{min: ..., max: ...}} or {{contains: [...]}}, not {value!r}"
        case "tuple_type":
            text = f"must be a list, as in [a, b], not {value!r}"
        case "mapping_type" | "dict_type" | "model_type" | "model_attributes_type":
            text = f"must be a mapping of key: value, not {'empty' if value is None else repr(value)}"
        case "too_short" | "string_too_short":
            text = "must not be empty"
        case _:
            text = str(error["msg"]).removeprefix("Value error, ")
    return Problem(path, text)


def _path_in(data: Any, location: tuple[str | int, ...], *, keep_last: bool) -> Path:
    """``location`` without the steps that are not in the data."""
    path: list[str | int] = []
    for i, step in enumerate(location):
        inside = (
            step in data if isinstance(data, Mapping) else isinstance(data, (list, tuple)) and isinstance(step, int)
        )
        if inside:
            data = data[step]
            path.append(step)
        elif keep_last and i == len(location) - 1:
            path.append(step)
    return tuple(path)


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """The keys that the model at a pydantic location knows."""
    model = _annotation_at(location)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [*model.model_fields, *(["contains"] if model is Interval else [])]


def _needs(location: tuple[str | int, ...]) -> str:
    model = _annotation_at(location[:-1])
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return "required"
    field = model.model_fields.get(str(location[-1]))
    if field is not None and get_origin(field.annotation) is Literal:
        return "write " + " or ".join(map(str, get_args(field.annotation)))
    required = [name for name, one in model.model_fields.items() if one.is_required()]
    return f"required here: {', '.join(required)}"


def _annotation_at(location: tuple[str | int, ...]) -> Any:
    annotation: Any = Study
    for step in location:
        annotation = _descend(annotation, step)
    return _bare(annotation)


def _bare(annotation: Any) -> Any:
    """Without Annotated, Optional and RootModel around it."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, type) and issubclass(annotation, RootModel):
            annotation = annotation.model_fields["root"].annotation
        elif get_origin(annotation) in (Union, types.UnionType):
            members = [one for one in get_args(annotation) if one is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        else:
            return annotation


def _descend(annotation: Any, step: str | int) -> Any:
    annotation = _bare(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        tagged = [one for one in get_args(annotation) if Tag(str(step)) in get_args(one)[1:]]
        return tagged[0] if tagged else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return field.annotation if field is not None else None
    inner = [one for one in get_args(annotation) if one is not Ellipsis]
    return inner[-1] if inner else None


def _type_is_missing(value: Any) -> str:
    if not isinstance(value, Mapping):
        return f"must be a mapping with a type, as in {{type: float, low: 0, high: 1}}, not {value!r}"
    if "choices" in value:
        guess = (
            "set" if {"min_size", "max_size"} & value.keys() else "categorical (one of the choices) or set (several)"
        )
    elif "low" in value or "high" in value:
        whole = all(isinstance(value.get(end), int) for end in ("low", "high"))
        guess = "int or float" if whole else "float"
    else:
        guess = ", ".join(PARAMETER_TYPES)
    return f"has no type; add type: {guess}"
