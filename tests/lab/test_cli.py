"""The command line as a person meets it: help, errors in words, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from processes import make_lab, start_windlass, until, windlass
from trainers import quadratic_study

COMMANDS = [
    ["init"],
    ["run"],
    ["reindex"],
    ["doctor"],
    ["why"],
    *([name] for name in ("evaluate", "promote", "rollback")),
    ["approvals"],
    *(["approvals", name] for name in ("approve", "reject")),
    *(["runs", name] for name in ("list", "show", "search", "compare", "replay", "resume", "cancel")),
    *(["studies", name] for name in ("list", "check", "report", "retrace", "schema", "example")),
    *(["checkpoints", name] for name in ("list", "show", "diff", "lineage", "verify", "export", "register")),
    *(["checkpoints", name] for name in ("card", "gc")),
    *(["evaluations", name] for name in ("list", "show", "import")),
    *(["deployments", name] for name in ("list", "show", "watch", "route", "observe")),
    *(["audit", name] for name in ("verify", "show")),
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


def inside(folder: Path, *args: str) -> Any:
    """A command in this process: as the command line runs it, but for how it tells errors."""
    from typer.testing import CliRunner

    from windlass.cli.main import app

    return CliRunner().invoke(app, [*args, "--lab", str(folder)])


def test_why_tells_the_story_of_a_run(lab: Path) -> None:
    told = windlass("why", "quadratic#4", cwd=lab).stdout
    titles = ("In short", "Strategy", "Proposal", "Forecast", "Votes", "Decision", "Outcome", "What it meant", "Next")
    for title in titles:
        assert f"## {title}\n" in told, title
    as_data = json.loads(inside(lab, "why", "quadratic#4", "--json").stdout)
    assert as_data["number"] == 4 and as_data["run"]["status"] == "completed"
    assert as_data["decision"]["votes"] and as_data["decision"]["run_id"] in told
    by_id = inside(lab, "why", as_data["run"]["id"][-10:]).stdout
    assert by_id.startswith("# Why #4 of study quadratic")


def test_why_knows_what_it_does_not_know(lab: Path) -> None:
    told = windlass("why", "quadratik#1", cwd=lab, code=1).stderr
    assert "Did you mean 'quadratic'?" in told and "Traceback" not in told
    assert "no decision #99; it has #1 to #4" in str(inside(lab, "why", "quadratic#99").exception)
    assert "windlass runs list" in str(inside(lab, "why", "zzz").exception)


def test_the_story_fits_a_terminal_of_a_hundred_columns(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered as a terminal would show it; commands alone may be longer, so that they can be copied."""
    from io import StringIO

    from rich.console import Console

    from windlass.cli import blocks
    from windlass.lab import Lab

    written = StringIO()
    with Lab(lab) as opened:
        explained = opened.explain("quadratic#4")
    monkeypatch.setattr(blocks, "stdout", Console(file=written, force_terminal=True, width=100))
    monkeypatch.setattr(blocks, "Console", lambda **given: Console(**given, file=written, color_system=None))
    blocks.out_sections(explained.title, explained.sections())
    lines = written.getvalue().splitlines()
    assert {"Votes", "Outcome"} <= {line.strip() for line in lines}
    assert max(len(line) for line in lines if not line.startswith("  windlass ")) <= 100
    assert any(line.startswith("  windlass runs show") for line in lines)


def test_a_study_retraces_to_the_bit_and_a_changed_log_is_told(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    made = make_lab(tmp_path / "lab", quadratic_study(tmp_path, budget={"runs": 6}))
    windlass("run", "study.yaml", cwd=made)
    assert "come out the same, to the bit" in inside(made, "studies", "retrace", "quadratic").stdout
    with closing(sqlite3.connect(made / "windlass.db")) as database, database:
        (text,) = database.execute("select body from decisions where number = 5").fetchone()
        data = json.loads(text)
        data["seen"] = 99
        database.execute("update decisions set body = ? where number = 5", (json.dumps(data),))
    told = windlass("studies", "retrace", "quadratic", cwd=made, code=3).stdout.splitlines()
    assert len(told) == 2 and "#5 seen: 99 in the log, 4 now" in told[0] and told[1].startswith("1 of ")
    cycle = told[0].partition(":")[0].removeprefix("cycle ")
    alone = inside(made, "studies", "retrace", "quadratic", "--cycle", cycle, "--json")
    assert alone.exit_code == 3 and [one["same"] for one in json.loads(alone.stdout)] == [False]
    assert "has no cycle 99" in str(inside(made, "studies", "retrace", "quadratic", "--cycle", "99").exception)


def test_what_waits_is_approved_or_rejected_while_the_study_goes_on(tmp_path: Path) -> None:
    study = quadratic_study(tmp_path, budget={"runs": 2, "concurrent": 2}, autonomy="manual")
    made = make_lab(tmp_path / "lab", study)
    assert "Nothing waits" in windlass("approvals", cwd=made).stderr
    driving = start_windlass("run", "study.yaml", "--json", cwd=made)

    def waiting() -> list[int]:
        return [one["number"] for one in json.loads(inside(made, "approvals", "--json").stdout)]

    def answer(verb: str, number: int, reason: str) -> Any:
        return inside(made, "approvals", verb, f"quadratic#{number}", "--reason", reason)

    first, second = until(lambda: len(found := waiting()) == 2 and found, 60)
    listed = windlass("approvals", cwd=made).stdout
    assert f"## quadratic#{first}" in listed and "proposed by" in listed and "It fails with a probability" in listed
    assert inside(made, "approvals", "approve", f"quadratic#{first}").exit_code == 2, "a reason is needed"
    assert inside(made, "approvals", "approve", f"quadratic#{first}", "--reason", " ").exit_code == 2
    assert answer("approve", first, "go on").stdout == f"approved quadratic#{first}\n"
    assert answer("reject", second, "not that").exit_code == 0
    assert "not that" in str(answer("approve", second, "after all").exception), "it is answered"
    (third,) = until(lambda: len(found := waiting()) == 1 and found, 60)
    assert answer("approve", third, "fine").exit_code == 0
    output, _ = driving.communicate(timeout=120)
    assert driving.returncode == 0
    events = [json.loads(line) for line in output.splitlines()]
    told = [(e["number"], e["approved"], e["reason"]) for e in events if e["event"] == "answered"]
    assert sorted(told) == [(first, True, "go on"), (second, False, "not that"), (third, True, "fine")]
    assert any(e["event"] == "waiting" and first in e["numbers"] for e in events)
    assert "not that" in inside(made, "why", f"quadratic#{second}").stdout
    assert "was rejected already" in str(answer("approve", second, "late").exception)
