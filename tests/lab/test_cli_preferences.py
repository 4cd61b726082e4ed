"""``windlass preferences`` as a person meets it: words, exit codes, JSON, mistakes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from processes import start_windlass, windlass

PAIRS = [
    {"id": "q1", "prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"},
    {"id": "q2", "prompt": "Capital of France?", "chosen": "Paris", "rejected": "Lyon", "metadata": {"source": "Ada"}},
    {"id": "q3", "prompt": "Capital of Italy?", "chosen": "Rome", "rejected": "Milan"},
]


def inside(*args: object, answers: str | None = None) -> Any:
    """A command in this process; errors are in ``exception``."""
    from typer.testing import CliRunner

    from windlass.cli.main import app

    return CliRunner().invoke(app, ["preferences", *map(str, args)], input=answers, env={"COLUMNS": "160"})


def told(*args: object, code: int = 0, answers: str | None = None) -> str:
    """What a command says, results and talk."""
    done = inside(*args, answers=answers)
    assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
    return str(done.output)


def data(*args: object, code: int = 0) -> Any:
    done = inside(*args, "--json")
    assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
    return json.loads(done.stdout)


def refused(*args: object, answers: str | None = None) -> str:
    """The error's message and next step."""
    done = inside(*args, answers=answers)
    assert done.exit_code == 1 and done.exception is not None, done.output
    return str(done.exception)


def states(folder: Path) -> dict[str, str]:
    return {row["id"]: row["state"] for row in data("list", folder, "--limit", "1000")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return tmp_path / "pairs.jsonl"


@pytest.fixture
def folder(tmp_path: Path, file: Path) -> Path:
    told("import", file, "--to", tmp_path / "reader", "--by", "eve")
    return tmp_path / "reader"


def test_from_a_file_to_an_export(tmp_path: Path, file: Path) -> None:
    """Each command leads to the next one."""
    folder, out = tmp_path / "reader", tmp_path / "out"
    said = told("import", file, "--to", folder, "--by", "eve")
    assert f"3 new pairs in {folder}; 3 pending" in said and f"windlass preferences list {folder}" in said
    assert "0 new pairs" in told("import", file, "--to", folder) and states(folder) == dict.fromkeys(
        states(folder), "pending"
    )
    said = told("approve", folder, "q1", "q2", "--by", "ada")
    assert "2 pairs approved" in said and f"windlass preferences export {folder}" in said
    told("reject", folder, "q3", "--by", "ada", "--reason", "too easy")
    said = told("export", folder, out, "--split", "train=1")
    assert "Left out: 1 rejected" in said and f"windlass train orpo --data {out / 'train.jsonl'} --model" in said
    assert "2 pairs as exported, each approved" in told("verify", out)
    assert data("verify", out) == {
        "sound": True,
        "id": json.loads((out / "manifest.json").read_text())["id"],
        "rows": 2,
        "findings": [],
    }
    lineage = [json.loads(line) for line in (out / "lineage.jsonl").read_text().splitlines()]
    assert {row["id"]: (row["approved_by"], row["source"]) for row in lineage} == {
        "q1": ("ada", "pairs.jsonl"),
        "q2": ("ada", "Ada"),
    }


def test_pairs_are_listed_by_state(folder: Path) -> None:
    told("approve", folder, "q1", "--by", "ada")
    told("supersede", folder, "q2", "q3", "--by", "bob", "--reason", "typing error")
    lines = told("list", folder).splitlines()
    assert lines[0].split() == ["id", "state", "prompt", "by", "at", "(UTC)", "why"]
    assert lines[1].startswith("q1  approved    What is 2 + 2?      ada")
    assert lines[2].endswith("superseded by q3; typing error")
    assert lines[-1] == "1 pending, 1 approved, 1 superseded"
    (row,) = data("list", folder, "--state", "superseded")
    assert row.pop("at") > 0
    assert row == {
        **PAIRS[1],
        **{"state": "superseded", "source": "Ada", "by": "bob", "reason": "typing error", "instead": "q3"},
    }
    assert "No pair is rejected" in told("list", folder, "--state", "rejected")
    assert "Did you mean 'pending'?" in refused("list", folder, "--state", "pendig")
    assert len(data("list", folder, "-n", "2")) == 2 and "The first 2 of 3" in told("list", folder, "-n", "2")


def test_one_pair_is_shown_with_its_reviews(folder: Path) -> None:
    told("reject", folder, "q2", "--by", "ada", "--reason", "hm")
    told("approve", folder, "q2", "--by", "bob", "--reason", "looked again")
    said = told("show", folder, "q2")
    for words in ("# Pair q2", "## What it is", "## Prompt", "Capital of France?", "## Reviews", "looked again", "eve"):
        assert words in said, words
    found = data("show", folder, "q2")
    assert [(one["by"], one["state"]) for one in found["reviews"]] == [("ada", "rejected"), ("bob", "approved")]
    assert found["imported"]["file"] == "pairs.jsonl" and len(found["content"]) == 64
    assert "there is no pair 'q22'. Did you mean 'q2'?" in refused("show", folder, "q22")


def test_many_pairs_at_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("q1\n\n q2 \nq1\n")
    assert "2 pairs rejected" in told("reject", folder, "--from", tmp_path / "ids.txt", "--reason", "translated")
    assert "0 pairs rejected; 2 pairs were so before" in told(
        "reject", folder, "--from", "-", "--reason", "again", answers="q1\nq2\n"
    )
    assert "1 pair approved" in told("approve", folder, "--all")
    assert states(folder) == {"q1": "rejected", "q2": "rejected", "q3": "approved"}


def test_mistakes_are_told_with_the_next_step(folder: Path, file: Path, tmp_path: Path) -> None:
    log = (folder / "reviews.jsonl").read_bytes()
    assert "name the pairs in one way" in refused("approve", folder)
    assert "name the pairs in one way" in refused("approve", folder, "q1", "--all")
    assert "names no pairs" in refused("approve", folder, "--from", "-", answers="\n")
    assert "No such file" in refused("approve", folder, "--from", tmp_path / "none")
    assert "--reason" in refused("reject", folder, "q1")
    assert "'by'" in refused("approve", folder, "q1", "--by", "")
    assert "q1 cannot supersede itself" in refused("supersede", folder, "q1", "q1")
    assert "windlass preferences import FILE --to" in refused("list", tmp_path / "none")
    assert "windlass preferences approve FOLDER --all" in refused("export", folder, tmp_path / "out")
    assert "no part 'tarin'. Did you mean 'train'?" in refused("export", folder, tmp_path / "out", "--split", "tarin=1")
    assert "'train' is there twice" in refused("export", folder, tmp_path / "out", "--split", "train=1,train=0")
    assert "is no number" in refused("export", folder, tmp_path / "out", "--split", "train")
    assert "holds other things" in refused("import", file, "--to", tmp_path)
    assert (folder / "reviews.jsonl").read_bytes() == log


def test_what_is_superseded_stays_so(folder: Path) -> None:
    said = told("supersede", folder, "q1", "q3")
    assert "q1 is superseded by q3" in said and f"windlass preferences approve {folder} q3" in said
    assert "q1 was superseded by q3 before" in told("supersede", folder, "q1", "q3")
    assert "q1 is superseded" in refused("approve", folder, "q1", "--reason", "after all")


def test_a_further_column_is_kept_by_name(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected,score\np,a,b,0.5\n")
    args = ("import", tmp_path / "pairs.csv", "--to", tmp_path / "reader")
    assert "unknown column 'score'" in refused(*args) and not (tmp_path / "reader").exists()
    assert data(*args, "--metadata", "score")["new"] == 1
    (row,) = data("list", tmp_path / "reader")
    assert row["metadata"] == {"score": "0.5"}


#: what the session in docs/preferences.md begins with
ASKED = [
    ("q1", "What is the boiling point of water at sea level?", "100 °C.", "About 90 °C."),
    ("q2", "Name the capital of Australia.", "Canberra.", "Sydney."),
    ("q3", "How many legs has a spider?", "Eight.", "Six."),
    ("q4", "Translate 'good morning' into French.", "Bonjour.", "Bonsoir."),
    ("q5", "Who wrote 'Faust'?", "Goethe.", "Schiller."),
    ("q6", "What is 7 x 8?", "56", "54"),
    ("q7", "what is  7 X 8?", "56", "54"),
    ("q8", "Name a prime between 20 and 25.", "23", "21"),
    ("q9", "What is the largest planet?", "Jupiter.", "Saturn."),
    ("q10", "Which gas do plants take in?", "Carbon dioxide.", "Oxygen."),
]
BETTER = ("q4b", "Translate 'good morning' into French.", "Bonjour !", "Bonsoir.")
EXPORT_ID = re.compile(r"export [0-9a-f]{12}")  # who approved when is a part of it


def test_the_documentation_shows_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in (("pairs", ASKED), ("better", [BETTER])):
        keyed = [dict(zip(("id", "prompt", "chosen", "rejected"), row, strict=True)) for row in rows]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in keyed))
    page = (Path(__file__).parent.parent.parent / "docs" / "preferences.md").read_text()
    session = page.split("```\n")[1]
    for step in session.split("$ windlass preferences ")[1:]:
        command, *shown = step.splitlines()
        said = [line for line in told(*shlex.split(command)).splitlines() if "Next: " not in line]
        assert [EXPORT_ID.sub("", line) for line in said] == [EXPORT_ID.sub("", line) for line in shown], command
    text = Path("data/reader/train.jsonl").read_text()
    Path("data/reader/train.jsonl").write_text(text.replace("Sydney", "Perth"))
    changed = page.split("problem train.jsonl", 1)[1].partition("```")[0]
    assert told("verify", "data/reader", code=1) == f"problem train.jsonl{changed}"


def test_two_processes_make_one_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [{"id": f"{name}{i}", "prompt": f"{name} {i}", "chosen": "yes", "rejected": "no"} for i in range(200)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = [start_windlass("preferences", "import", f"{one}.jsonl", "--to", "reader", cwd=tmp_path) for one in "ab"]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(states(tmp_path / "reader")) == 400


def test_pairs_that_look_alike_are_told(folder: Path, tmp_path: Path) -> None:
    more = [
        {"id": "r1", "prompt": "what is  2 + 2?", "chosen": "4", "rejected": "5"},
        {"id": "r2", "prompt": "Capital of Italy?", "chosen": "Milan", "rejected": "Rome"},
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in more))
    said = told("import", tmp_path / "more.jsonl", "--to", folder)
    assert "note: r1: the same pair as q1 but for white space or case" in said
    assert "note: r2: contradicts q3" in said
    assert "note" not in told("import", tmp_path / "more.jsonl", "--to", folder)
    told("approve", folder, "--all")
    assert "r2: contradicts q3" in refused("export", folder, tmp_path / "out", "--split", "train=1")
    told("reject", folder, "r2", "--reason", "Rome it is")
    assert "1 pair like another" in told("export", folder, tmp_path / "out", "--split", "train=1")
    assert "note    train.jsonl row" in told("verify", tmp_path / "out")


def test_an_export_that_was_changed_exits_with_1(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told("approve", folder, "--all")
    assert data("export", folder, out, "--split", "train=1")["rows"] == 3
    text = (out / "train.jsonl").read_text()
    (out / "train.jsonl").write_text(text.replace("Paris", "Lille"))
    said = told("verify", out, code=1)
    assert "problem train.jsonl row" in said and "is not as" in said and "Lille" not in said
    found = data("verify", out, code=1)
    assert not found["sound"] and {"file", "lineage"} <= {one["kind"] for one in found["findings"]}
    (out / "train.jsonl").write_text(text * 30)
    assert "more; all of them with --json" in told("verify", out, code=1)
    assert "there is no folder" in refused("verify", tmp_path / "none")
    assert windlass("preferences", "verify", str(out), cwd=tmp_path, code=1).stderr == ""


def test_a_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    row = {"id": "a\x1b[31m", "prompt": "\x1b]0;title\x07p", "chosen": "x\x1b[2J", "rejected": "[bold]y[/bold]"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    told("import", tmp_path / "pairs.jsonl", "--to", tmp_path / "reader", "--source", "\x1bs")
    told("approve", tmp_path / "reader", "--all", "--by", "\x1bx", "--reason", "\x1bz")
    said = told("list", tmp_path / "reader") + told("show", tmp_path / "reader", "a\x1b[31m")
    assert "\x1b" not in said and "\x07" not in said and "[bold]y[/bold]" in said


def test_every_command_has_help_with_examples() -> None:
    for command in ("import", "list", "show", "approve", "reject", "supersede", "export", "verify"):
        said = told(command, "--help")
        assert said.count(f"windlass preferences {command} ") >= 2, command


def test_errors_are_words_without_texts_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(
        '{"prompt": "sk-secret", "chosne": "sk-secret", "rejected": "sk-secret"}\n' * 2
    )
    said = windlass("preferences", "import", "pairs.jsonl", "--to", "reader", cwd=tmp_path, code=1)
    assert "row 1: unknown key 'chosne'. Did you mean 'chosen'?; no 'chosen'" in said.stderr
    assert "sk-secret" not in said.stderr and said.stdout == "" and "Traceback" not in said.stderr
