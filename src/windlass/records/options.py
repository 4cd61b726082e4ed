"""What the specs of workloads share: strict models, read with errors that name the key, and the nearest right one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.errors import StudyError, nearest


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_Model = TypeVar("_Model", bound=BaseModel)


def read(model: type[_Model], given: Mapping[str, Any], where: str) -> _Model:
    """Raises StudyError that lists everything wrong, each with its key under ``where``."""
    for name, value in given.items():
        if isinstance(value, bool) and name in model.model_fields and model.model_fields[name].annotation is not bool:
            raise StudyError(f"{where}.{name}: must not be {str(value).lower()}")  # it would pass as 1
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise StudyError("\n".join(_explain(dict(item), model, where) for item in error.errors())) from None


def _explain(error: dict[str, Any], model: type[BaseModel], where: str) -> str:
    path, given = error["loc"], error["input"]
    place = ".".join([where, *map(str, path)])
    if error["type"] == "extra_forbidden":
        known = _fields(model, path[:-1])
        return f"{place}: unknown key.{nearest(str(path[-1]), known)} Known: {', '.join(known)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "literal_error":
        message = f"{given!r} is not one of {error['ctx']['expected']}"
    elif error["type"] == "missing":
        message = "is needed"
    elif path and error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {given!r}"
    return f"{place}: {message}"


def parameter_names(model: type[BaseModel]) -> tuple[str, ...]:
    """All flat names of a run's config, the options of its workload apart."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        group: Any = field.annotation
        if name == "workload":
            continue
        names += [f"{name}.{leaf}" for leaf in group.model_fields] if _is_model(group) else [name]
    return tuple(names)


def check_parameters(workload: str, options_of: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raises StudyError for a flat name that no run of a workload reads; ``options_of``: what its options are of."""
    for name in names:
        if name.startswith("workload."):
            raise StudyError(
                f"{name!r} is an option of the {options_of}, the same for all runs, and no parameter",
                f"Set it in trainer.options: {name.removeprefix('workload.')}",
            )
        if name not in known:
            raise StudyError(
                f"workload {workload!r} reads no parameter {name!r}.{nearest(name, known)}",
                f"Parameters: {', '.join(known)}",
            )


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fields(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys of the model that lies at ``path``."""
    for step in path:
        if isinstance(step, int):
            continue  # a place in a list; its model was taken with the list
        inner: Any = model.model_fields[step].annotation
        model = next((kind for kind in (inner, *get_args(inner)) if _is_model(kind)), model)
    return list(model.model_fields)
