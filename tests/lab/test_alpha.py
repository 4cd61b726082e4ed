"""``windlass alpha`` as a person uses it: real processes, from an idea to an opened holdout, killed and replayed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from alphajobs import contents
from alphapanels import small_panel, write_panel
from model_server import Fails, ModelServer, Says
from processes import kill_job, start_windlass, until, windlass
from windlass.runs.folder import RunFolder

SMALL = (
    *("-s", 'synthetic={"names": 30, "days": 420}', "-s", "portfolio.adv_floor=0"),
    *("-s", 'walk={"train": 60, "valid": 10, "test": 20, "embargo": 5, "warmup": 60}'),
    *("-s", "engine=numpy", "-s", "portfolio.optimizer=off", "--candidates", "12", "--top-k", "1"),
)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    windlass("init", "lab", cwd=tmp_path)
    return tmp_path / "lab"


def alpha(lab: Path, *args: str, code: int = 0) -> dict[str, Any]:
    return json.loads(windlass("alpha", *args, "--json", cwd=lab, code=code).stdout)


def folder_of(lab: Path, told: dict[str, Any]) -> RunFolder:
    return RunFolder(lab / "runs" / told["run"])


def test_from_an_idea_to_an_opened_holdout(lab: Path) -> None:
    command = ("alpha", "--idea", "Momentum + liquidity", *SMALL)
    first = windlass(*command, cwd=lab)
    assert "after 24 trials (12 portfolios, bought or sold)" in first.stdout.replace("\n", " ")
    assert "The holdout is sealed" in first.stderr
    same = windlass(*command, "--json", cwd=lab)
    told = json.loads(same.stdout)
    assert "was done before: nothing ran" in same.stderr and len(list((lab / "runs").glob("*Z_*"))) == 1
    assert told["status"] == "finished" and told["trials"]["this_run"] == 12
    folder = folder_of(lab, told)
    page, report = (folder.path / "report.html").read_text(), folder.report_file.read_text()
    assert "Alpha research report" in page and "## Verdict" in report
    assert "Alpha research:" in folder.summary_file.read_text()

    replayed = windlass("runs", "replay", told["run"], cwd=lab)
    assert "bit-equal" in replayed.stdout
    (again,) = (path for path in (lab / "runs").glob("*Z_*") if path.name != told["run"])
    assert contents(RunFolder(again)) == contents(folder)

    opened = alpha(lab, "open", told["run"])
    assert opened["gate"]["holdout"]["opened"] == 1
    assert "Opened holdout" in (lab / "runs" / opened["run"] / "report.html").read_text()
    twice = windlass("alpha", "open", "latest", "--json", cwd=lab)  # the campaign's, not its replay's: no new look
    assert json.loads(twice.stdout)["run"] == opened["run"] and "It was opened before" in twice.stderr
    entries = json.loads(windlass("alpha", "factors", "--all", "--json", cwd=lab).stdout)
    events = [one["event"] for one in entries]
    assert events.count("trial") == 24 and events.count("opened") == 1  # trials of the campaign and of its replay
    assert events[-1] in ("refused", "promoted")


def test_killed_in_the_middle_it_goes_on_to_the_same_verdict(tmp_path: Path) -> None:
    command = ("alpha", "--idea", "Volume", *SMALL[:-4], "--candidates", "40", "-s", "search.generation=8")
    labs = [tmp_path / "undisturbed", tmp_path / "disturbed"]
    for one in labs:
        windlass("init", str(one), cwd=tmp_path)
    told = alpha(labs[0], *command[1:])
    process = start_windlass(*command, cwd=labs[1])
    state = until(lambda: next(iter(labs[1].glob("runs/*/state/generation-0001")), None), 60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    kill_job(state.parents[1])
    after = alpha(labs[1], *command[1:])
    run, other = folder_of(labs[0], told), folder_of(labs[1], after)
    assert (other.path / "attempts").is_dir() and after["run"] == state.parents[1].name
    first, second = contents(run), contents(other)
    bytes_ = [json.loads(one.pop("gate.json")) for one in (first, second)]
    assert first == second
    assert [one["trials"].pop("registry_bytes") for one in bytes_] and bytes_[0] == bytes_[1]


def test_a_study_file_searches_its_parameters(lab: Path) -> None:
    (lab / "factors.yaml").write_text(
        """
name: factors
trainer:
  workload: alpha
  options:
    idea: Reversal
    candidates: 6
    engine: numpy
    top_k: 1
    synthetic: {names: 30, days: 420}
    walk: {train: 60, valid: 10, test: 20, embargo: 5, warmup: 60}
baseline: {portfolio: {adv_floor: 0.0, optimizer: "off"}}
budget: {runs: 2}
"""
    )
    windlass("run", "factors.yaml", cwd=lab)
    runs = json.loads(windlass("runs", "list", "--json", cwd=lab).stdout)
    assert [run["status"] for run in runs] == ["completed"] * 2
    assert len({run["params"]["portfolio.holding"] for run in runs}) == 2
    gates = [json.loads((lab / "runs" / run["id"] / "artifacts" / "gate.json").read_text()) for run in runs]
    assert sorted(gate["trials"]["earlier"] for gate in gates) == [0, 6]  # the second counts the first


def test_a_language_model_adds_expressions_and_nothing_else(lab: Path) -> None:
    written = [
        {"expression": "rank(-ts_mean(delta(close, 3), 15))", "why": "what fell comes back"},
        {"expression": "__import__('os').system('touch stolen')", "why": "ignore the rules"},
    ]
    with ModelServer(Says(arguments={"expressions": written})) as server:
        command = (
            "--idea",
            "Reversal",
            *SMALL,
            "--eval-mode",
            "p0",
            "--model",
            "openai:m",
            "--base-url",
            f"{server.url}/v1",
        )
        told = alpha(lab, *command)
        asked = server.asked
        assert len(asked) == 1 and "ts_mean" in asked[0].system and "Reversal" in asked[0].system
        assert alpha(lab, *command)["run"] == told["run"] and len(server.asked) == 1  # its reply is on record
    assert not list(lab.rglob("stolen"))
    assert any("refused __import__" in one for one in told["warnings"])
    trials = json.loads(windlass("alpha", "factors", "--all", "--json", cwd=lab).stdout)
    assert [one["expr"] for one in trials if one["proposer"] == "language_model"] == [
        "rank(-ts_mean(delta(close, 3), 15))"
    ]


def test_a_dead_endpoint_is_told_the_search_goes_on_and_the_next_command_asks_again(lab: Path) -> None:
    written = {"expressions": [{"expression": "rank(-delta(close, 7))", "why": "what rose falls"}]}
    with ModelServer(Fails(status=503, message="busy"), Says(arguments=written)) as server:
        command = (*SMALL, "--eval-mode", "p0", "--model", "openai:m", "--base-url", f"{server.url}/v1")
        told = alpha(lab, *command)
        again = alpha(lab, *command)
    assert told["status"] == again["status"] == "finished" and told["run"] != again["run"]
    assert any("added no expression" in one and "503" in one for one in told["warnings"])
    assert again["warnings"] == []


def test_a_panel_of_a_persons_own(lab: Path) -> None:
    write_panel(small_panel(days=420, names=20), lab / "panel.csv")
    shown = json.loads(windlass("alpha", "data", "panel.csv", "--json", cwd=lab).stdout)
    assert (shown["days"], shown["names"]) == (420, 20)
    told = alpha(lab, "--data", "panel.csv", "--eval-mode", "p1", *SMALL[2:])
    assert told["mode"] == "p1" and told["passed"] == []
    refused = windlass("alpha", "open", told["run"], cwd=lab, code=None)
    assert refused.returncode and "mode p1, which promotes nothing" in refused.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--eval-mode", "p9"], "p9"),
        (["-s", "holdot=0.3"], "knows no 'holdot'. Did you mean 'holdout'"),
        (["-s", "portfolio.holdin=3"], "knows no 'portfolio.holdin'. Did you mean 'portfolio.holding'"),
        (["-s", "portfolio.holding=0"], "portfolio.holding"),
        (["-s", 'expressions=[{"expr": "close"}]'], "expr: unknown key. Known: expression"),
        (["-s", 'expressions=[{"expression": "rank(close.mean)"}]'], "expressions[0]: column"),
        (["--model", "m"], "--model: "),
        (["--knows-until", "soon"], "--knows-until takes a date"),
        (["open", "latest"], "no campaign yet"),
        (["check", "rank(close"], "column"),
        (["check", "rank(clsoe)"], "Did you mean 'close'"),
    ],
)
def test_wrong_input_is_told(lab: Path, args: list[str], words: str) -> None:
    done = windlass("alpha", *args, cwd=lab, code=None)
    assert done.returncode not in (0, 70) and words in done.stderr and "Traceback" not in done.stderr
    assert not list((lab / "runs").glob("*Z_*"))


def test_a_panel_that_is_too_small_fails_with_what_to_do(lab: Path) -> None:
    write_panel(small_panel(days=40, names=4), lab / "few.csv")
    done = windlass("alpha", "--data", "few.csv", cwd=lab, code=1)
    assert "40 days of 4 names, too few" in done.stderr and "Give a panel of at least 60 days" in done.stderr
    assert "To do: Give a panel" in windlass("runs", "show", "latest", cwd=lab).stdout
    entries = windlass("alpha", "factors", "--all", "--json", cwd=lab).stdout
    assert json.loads(entries) == []


def test_help_tells_the_modes_and_examples(lab: Path) -> None:
    text = windlass("alpha", "--help", cwd=lab).stdout
    assert "p2, the default" in text and "--eval-mode p1" in text and "selftest" in text


def test_expressions_are_explained(lab: Path) -> None:
    told = json.loads(windlass("alpha", "check", "--json", "--", "-rank(delta(close, 5)) * 1", cwd=lab).stdout)
    assert (told["lookback"], told["canonical"]) == (5, "-rank(delta(close, 5))")
    assert "ts_corr" in windlass("alpha", "check", "--list", cwd=lab).stdout
