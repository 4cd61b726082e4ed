"""The import rules of docs/architecture.md: every import is read, and fresh processes show what they load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "windlass"

#: folder -> Windlass folders it may import, besides errors and itself
ALLOWED = {
    "errors": set(),
    "settings": set(),
    "records": set(),
    "space": {"records"},
    "runs": {"records", "settings"},
    "store": {"records"},
    "worldmodel": {"records", "space"},
    "history": {"records", "space"},
    "agents": {"records", "space"},
    "registry": {"records", "runs", "store"},
    "jobs": {"records", "runs", "store"},
    "loop": {"agents", "history", "worldmodel", "space", "jobs", "registry", "runs", "store", "records"},
    "report": {"records", "runs", "store"},
    "sandbox": set(),
    "verifiers": {"records", "sandbox"},
    "datasets": {"records"},
    "lab": {
        *("datasets", "verifiers", "sandbox", "training"),
        *("records", "space", "runs", "store", "worldmodel", "history", "agents", "registry", "jobs", "loop"),
        *("report", "workloads", "settings"),
    },
    "cli": {"lab", "report", "records", "datasets", "verifiers"},
    "api": {"lab", "report", "records"},
    "training": {"records", "runs", "datasets", "verifiers", "sandbox", "settings"},
    "workloads": {"records", "runs"},
}
THIRD_PARTY = {
    "records": {"pydantic", "pydantic_core", "yaml"},
    "errors": set(),
    "settings": set(),
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, with full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = [p for p in sorted(SOURCE.rglob("*.py")) if p.parent != SOURCE or p.stem in ("errors", "settings")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_folders_import_only_what_they_may(path: Path) -> None:
    here = room(path)
    assert here in ALLOWED, f"{here} is no room of the house"
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "windlass":
            there = rest.partition(".")[0]
            if there in (here, "errors", "__version__"):
                continue
            assert there in ALLOWED[here], f"{path.name}: {here} may not import {there}"
        elif here in THIRD_PARTY and top not in sys.stdlib_module_names:
            assert top in THIRD_PARTY[here], f"{path.name}: {here} may not import {top}"


def test_a_workloads_door_imports_records_alone() -> None:
    for path in SOURCE.glob("workloads/*/spec.py"):
        for name in imports(path):
            if name.startswith("windlass."):
                assert name.split(".")[1] in ("records", "errors"), f"{path}: {name}"


def fresh_process_modules(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_lab_never_imports_a_training_framework() -> None:
    loaded = fresh_process_modules("from windlass.lab import Lab, Planned, load_study")
    assert "windlass.lab.lab" in loaded
    assert not loaded & {"torch", "sklearn", "matplotlib", "plotly", "transformers"}


def test_a_language_model_costs_nothing_before_it_is_asked() -> None:
    model = "LanguageModel(model='openai:m')"
    loaded = fresh_process_modules(
        "import windlass.lab; from windlass.agents.language import LanguageModelAgent;"
        f" from windlass.records.deciding import LanguageModel; LanguageModelAgent({model}, 'key')"
    )
    assert "windlass.agents.endpoint" in loaded
    assert not loaded & {"pydantic_ai", "openai", "anthropic", "httpx2"}


def test_a_training_script_pays_only_for_its_side() -> None:
    loaded = fresh_process_modules("import windlass as wl; wl.start_run; wl.Run")
    assert "windlass.runs.sdk" in loaded
    assert not loaded & {"numpy", "polars", "pydantic", "sqlalchemy", "yaml", "scipy", "rich", "typer"}
