"""The README does what it says: its study, its trainer and its Python run for real; its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from processes import ENVIRONMENT, windlass

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def block(first_line: str) -> str:
    return next(text for _, text in BLOCKS if text.startswith(first_line))


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_study_the_trainer_and_the_python_of_the_readme_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(block("# train.py"))
    study = block("# study.yaml").replace("command: python", f"command: {sys.executable}")
    (tmp_path / "study.yaml").write_text(study)
    windlass("init", "lab", cwd=tmp_path)
    windlass("run", "../study.yaml", "--cycles", "2", cwd=tmp_path / "lab")
    listed = windlass("runs", "search", "metrics.accuracy > 0.9", cwd=tmp_path / "lab").stdout
    assert listed.count("completed") >= 2
    python = block("import windlass as wl").replace('"lab"', f'"{tmp_path / "lab"}"')
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "by-hand" in windlass("runs", "list", cwd=tmp_path / "lab").stdout


def test_commands_of_the_readme_exist() -> None:
    from typer.testing import CliRunner

    from windlass.cli.main import app

    for command in sorted(set(re.findall(r"windlass ((?:runs|studies) \w+|init|run|reindex|doctor)\b", README))):
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, command
