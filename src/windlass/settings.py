"""The only reader of environment variables and of ``windlass.toml``. Standard library only: jobs import it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from windlass.errors import NotFound, WindlassError, nearest

SETTINGS_FILE = "windlass.toml"
#: set for every job: the run folder it belongs to
RUN_DIR_VARIABLE = "WINDLASS_RUN_DIR"
#: set for every start of a job: what its result.json has to repeat as ``nonce``
NONCE_VARIABLE = "WINDLASS_NONCE"
#: names the lab folder where neither an argument nor a parent folder does
LAB_VARIABLE = "WINDLASS_LAB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``windlass.toml``; every key has a default."""

    database: str = "windlass.db"  #: a path relative to the lab, or an SQLAlchemy URL
    heartbeat_s: float = 10.0  #: between two signs of life of a script's own run
    lease_s: float = 45.0  #: without a sign of life for this long, such a run is lost
    system_metrics_s: float = 5.0  #: between two samples of CPU, memory and GPU; 0 switches them off


def load_settings(lab: Path) -> Settings:
    """Read ``windlass.toml`` of a lab; a lab without the file has the defaults.

    Raises WindlassError on a file that is not TOML, on unknown keys and on wrong types.
    """
    path = lab / SETTINGS_FILE
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WindlassError(f"{path}: {error}", f"Edit {path}, or remove it to have the defaults.") from error
    kinds = {f.name: type(f.default) for f in fields(Settings)}
    for key, value in data.items():
        if key not in kinds:
            raise WindlassError(f"{path}: unknown key {key!r}.{nearest(key, kinds)}", f"Known keys: {', '.join(kinds)}")
        if kinds[key] is float and isinstance(value, int) and not isinstance(value, bool):
            data[key] = float(value)
        elif type(value) is not kinds[key]:
            raise WindlassError(f"{path}: {key} must be a {kinds[key].__name__}, not {value!r}", f"Edit {path}")
    settings = Settings(**data)
    if not (0 < settings.heartbeat_s < settings.lease_s and settings.system_metrics_s >= 0):
        beat, lease, sample = settings.heartbeat_s, settings.lease_s, settings.system_metrics_s
        raise WindlassError(
            f"{path}: heartbeat_s = {beat:g}, lease_s = {lease:g}, system_metrics_s = {sample:g}; wanted"
            " 0 < heartbeat_s < lease_s and system_metrics_s >= 0",
            f"Edit {path}",
        )
    return settings


def is_lab(path: Path) -> bool:
    return (path / SETTINGS_FILE).is_file()


def find_lab(start: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The lab to use: ``$WINDLASS_LAB``, else the nearest folder upwards that holds ``windlass.toml``.

    Raises NotFound where there is none.
    """
    if named := environment.get(LAB_VARIABLE):
        return Path(named).expanduser().resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if is_lab(folder):
            return folder
    raise NotFound(f"no lab in {here} or above it", "windlass init lab && cd lab")


def job_run_dir(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The run folder of the job this process is part of, or None in a script of its own."""
    value = environment.get(RUN_DIR_VARIABLE)
    return Path(value) if value else None


def job_nonce(environment: Mapping[str, str] = os.environ) -> str:
    """What tells this start of the job from every other one; empty in a script of its own."""
    return environment.get(NONCE_VARIABLE, "")


def secret(variable: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The content of an environment variable that holds a key; None where it is not set."""
    return environment.get(variable) or None


def lay_out(lab: Path) -> None:
    """Make a lab's folders and a ``windlass.toml`` that shows the defaults; what is there stays as it is."""
    for folder in (lab / "runs", lab / "studies"):
        folder.mkdir(parents=True, exist_ok=True)
    path = lab / SETTINGS_FILE
    if not path.exists():
        defaults = "".join(f"# {f.name} = {f.default!r}\n".replace("'", '"') for f in fields(Settings))
        path.write_text(f"# A Windlass lab. Every key has a default:\n{defaults}", encoding="utf-8")
