"""The command line as a person meets it: help, errors in words, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processes import make_lab, windlass
from trainers import quadratic_study

COMMANDS = [
    ["init"],
    ["run"],
    ["reindex"],
    ["doctor"],
    *(["runs", name] for name in ("list", "show", "search", "compare", "replay", "cancel")),
    *(["studies", name] for name in ("list", "check", "report", "schema", "example")),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    made = make_lab(folder / "lab", quadratic_study(folder, budget={"runs": 4}))
    windlass("run", "study.yaml", cwd=made)
    return made


def test_every_help_page_opens_with_two_examples(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from windlass.cli.main import app

    for command in COMMANDS:
        page = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "140", "TERM": "dumb"})
        assert page.exit_code == 0
        examples = page.stdout.partition("Examples")[2].partition("Options")[0]
        assert examples.count("windlass ") >= 2, command


def test_an_empty_lab_has_helpful_lines(tmp_path: Path) -> None:
    told = windlass("runs", "list", cwd=tmp_path, code=1)
    assert "no lab in" in told.stderr and "windlass init" in told.stderr
    windlass("init", "lab", cwd=tmp_path)
    nothing = windlass("runs", "list", cwd=tmp_path / "lab")
    assert "No runs yet" in nothing.stderr and "windlass run study.yaml" in nothing.stderr
    assert windlass("runs", "list", "--json", cwd=tmp_path / "lab").stdout.strip() == "[]"
    assert "No studies yet" in windlass("studies", "list", cwd=tmp_path / "lab").stderr


def test_the_example_study_is_valid(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(windlass("studies", "example", cwd=tmp_path).stdout)
    assert "is a valid study" in windlass("studies", "check", "study.yaml", cwd=tmp_path).stdout


def test_a_mistaken_study_file_names_line_and_nearest_name(tmp_path: Path) -> None:
    windlass("init", "lab", cwd=tmp_path)
    (tmp_path / "bad.yaml").write_text(
        "name: bad\ntrainer: {comand: 'python train.py'}\nspace:\n  x: {type: float, low: 0, hihg: 1}\n"
        "objectives:\n  - {metric: loss, direction: minimise}\n"
    )
    told = windlass("run", "bad.yaml", "--lab", "lab", cwd=tmp_path, code=1).stderr
    for part in ("bad.yaml:2", "'command'", "bad.yaml:4", "'high'", "bad.yaml:6", "minimize"):
        assert part in told, told
    assert "Traceback" not in told


def test_misspelt_options_and_commands_are_refused_with_the_nearest(lab: Path) -> None:
    assert "--cycles" in windlass("run", "study.yaml", "--cycels", "3", cwd=lab, code=2).stderr
    assert "list" in windlass("runs", "lsit", cwd=lab, code=2).stderr


def test_search_show_compare_replay_report(lab: Path) -> None:
    runs = json.loads(
        windlass("runs", "search", "metrics.loss < 100", "--order-by", "metrics.loss", "--json", cwd=lab).stdout
    )
    assert len(runs) == 4 and runs[0]["metrics"]["loss"]["last"] <= runs[3]["metrics"]["loss"]["last"]
    shown = windlass("runs", "show", runs[0]["id"][-10:], cwd=lab).stdout
    assert runs[0]["id"] in shown and "loss" in shown
    compared = json.loads(windlass("runs", "compare", runs[0]["id"], runs[1]["id"], "--json", cwd=lab).stdout)
    assert json.dumps(compared).count("loss")
    assert "bit-equal" in windlass("runs", "replay", runs[0]["id"], cwd=lab).stdout
    told = windlass("studies", "report", "quadratic", cwd=lab)
    assert runs[0]["id"] in told.stdout
    assert {"REPORT.md", "report.html"} <= {p.name for p in (lab / "studies" / "quadratic").iterdir()}
    assert windlass("doctor", cwd=lab).returncode == 0


def test_a_search_error_points_at_the_token(lab: Path) -> None:
    told = windlass("runs", "search", "metrics.loss >> 3", cwd=lab, code=1).stderr.splitlines()
    expression = next(i for i, line in enumerate(told) if "metrics.loss >> 3" in line)
    assert told[expression + 1].index("^") == told[expression].index("> 3")


def test_a_replay_that_drifts_exits_with_3(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 1})
    script = tmp_path / "quadratic.py"
    made = make_lab(tmp_path / "lab", study)
    windlass("run", "study.yaml", cwd=made)
    script.write_text(script.read_text().replace("x * x + y * y}}", "x * x + y * y + 1}}"))
    drifted = windlass("runs", "replay", "latest", cwd=made, code=3)
    assert "drift" in drifted.stdout


def test_unknown_runs_and_studies_are_told_with_the_next_command(lab: Path) -> None:
    assert "windlass runs list" in windlass("runs", "show", "zzz", cwd=lab, code=1).stderr
    assert "quadratic" in windlass("studies", "report", "quadratik", cwd=lab, code=1).stderr


def test_json_events_of_a_run_are_one_line_each(lab: Path) -> None:
    lines = windlass("run", "quadratic", "--json", cwd=lab).stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["stopped"]
