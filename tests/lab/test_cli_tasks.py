"""``windlass tasks`` as a person meets it: from an event log to parts to train on, reports, JSON, mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from processes import windlass
from windlass.datasets.events import FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")


def inside(*args: object) -> Any:
    """A command in this process; errors are in ``exception``."""
    from typer.testing import CliRunner

    from windlass.cli.main import app

    return CliRunner().invoke(app, ["tasks", *map(str, args)], env={"COLUMNS": "160"})


def told(*args: object, code: int = 0) -> str:
    done = inside(*args)
    assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
    return str(done.stdout)


def data(*args: object, code: int = 0) -> Any:
    return json.loads(told(*args, "--json", code=code))


def refused(*args: object) -> str:
    done = inside(*args)
    assert done.exit_code == 1 and done.exception is not None, done.output
    return str(done.exception)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sums(count: int = 60, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "prompt": f"{i}+1=", "expected": f"{i + 1}"} for i in range(first, first + count)]


def event(kind: str, name: str, **more: Any) -> dict[str, Any]:
    tool = {"tool_name": "mail"} if kind == "request" else {}
    return {"type": f"tool.{kind}", "request_id": name, **tool, **more}


LOG = [
    event("request", "1", input={"to": "bob@example.com", "text": "hello"}, timestamp=10),
    event("response", "1", output="sent to bob@example.com", timestamp=10.5, verified=True),
    event("request", "2", input={"to": "eve@example.com"}, timestamp=11),
    event("response", "2", output="import os\nos._exit(0)", timestamp=12, verified=False),
    event("request", "3", input="what is new?", timestamp=13),
    event("response", "3", output="", timestamp=14),
    event("request", "4", input="who is there?", timestamp=15),
    "no json",
]


def test_from_a_log_to_tasks(tmp_path: Path) -> None:
    log, traces, clean, tasks = (
        tmp_path / name for name in ("log.jsonl", "traces.jsonl", "clean.jsonl", "tasks.jsonl")
    )
    write(log, *LOG)
    page = told("extract", log, traces)
    assert page.startswith(f"# 3 traces of 8 events in {traces}\n")
    assert "| mail | 3 | 3 | 0 | 0 | 1,000 ms |" in page
    assert "## Events left out: 2" in page and "| a request without a response | 1 | 7 |" in page
    assert f"windlass tasks clean {traces} clean.jsonl" in page

    page = told("clean", traces, clean)
    assert page.startswith(f"# 1 trace of 3 in {clean}\n") and "| email | 3 | 2 |" in page
    assert "## Reward hacking: 1 confirmed" in page and "| 2 | 2 | confirmed |" in page
    assert "tampers with the test: ends the process with success: os._exit()" in page
    assert "| reward hacking confirmed | 1 | 2 |" in page and "| empty output | 1 | 3 |" in page
    assert "bob" not in clean.read_text() and "[EMAIL_1]" in clean.read_text()
    dropped = read(tmp_path / "clean.dropped.jsonl")
    assert [(one["row"], one["reason"]) for one in dropped] == [(2, "reward hacking confirmed"), (3, "empty output")]
    assert "os._exit()" in dropped[0]["words"]

    page = told("from-traces", clean, tasks)
    assert page.startswith(f"# 1 task of 1 trace in {tasks}\n") and "Rewards from 0.85 to 0.85" in page
    (task,) = read(tasks)
    assert task["prompt"] == 'mail {"text":"hello","to":"[EMAIL_1]"}' and task["expected"] == "sent to [EMAIL_1]"
    assert task["verifier"] == {"kind": "recorded", "reward": 0.85}
    assert "| verified by | recorded 1 |" in told("check", tasks)


def test_the_same_as_json(tmp_path: Path) -> None:
    log, traces, clean, tasks = (
        tmp_path / name for name in ("log.jsonl", "traces.jsonl", "clean.jsonl", "tasks.jsonl")
    )
    write(log, *LOG)
    found = data("extract", log, traces)
    assert (found["traces"], found["events"], found["pairs"], found["spans"]) == (3, 8, 3, 0)
    assert found["dropped"] == {"a request without a response": 1, "no JSON object": 1}
    assert found["dropped_events"][1]["row"] == 8 and "no JSON" in found["dropped_events"][1]["words"]
    cleaned = data("clean", traces, clean)
    assert (cleaned["traces"], cleaned["kept"]) == (3, 1)
    assert cleaned["replaced"] == {"EMAIL": {"found": 3, "distinct": 2}}
    (hacked,) = cleaned["hacking"]
    assert (hacked["row"], hacked["signal"]) == (2, "confirmed") and hacked["score"] > 0.9
    made = data("from-traces", clean, tasks)
    assert made["tasks"] == 1 and made["dropped"] == {} and len(made["fingerprint"]) == 64
    assert data("check", tasks)["files"][0]["fingerprint"] == made["fingerprint"]


def test_check_tells_what_a_file_holds(tmp_path: Path) -> None:
    rows = [*sums(3), {"id": "x", "prompt": "Which?", "expected": "a", "verifier": {"kind": "choice"}}]
    file = write(tmp_path / "tasks.jsonl", *rows)
    (about,) = data("check", file)["files"]
    assert about["tasks"] == 4 and about["verifiers"] == {"the verifier of the training": 3, "choice": 1}
    assert about["prompt_characters"] == {"min": 4, "median": 4, "max": 6}
    assert "| characters of a prompt | 4 to 6, median 4 |" in told("check", file)


def test_check_lists_problems_with_their_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.jsonl", *sums(2), {"id": "q0", "promt": "x"}, *sums(2))
    message = refused("check", file)
    assert "3 problems" in message and "row 3: unknown key 'promt'. Did you mean 'prompt'?" in message
    assert "row 4: the same task as row 1" in message and message.endswith("windlass tasks check FILE")


def test_check_knows_the_verifiers(tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.jsonl", *sums(1), {"id": "x", "prompt": "p", "verifier": {"kind": "exakt"}})
    message = refused("check", file)
    assert "row 2: there is no verifier 'exakt'. Did you mean 'exact'?" in message


def test_check_finds_what_two_files_share(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", *sums(10))
    heldout = write(tmp_path / "heldout.jsonl", {"id": "z", "prompt": " 3+1= ", "expected": "5"}, *sums(2, first=20))
    page = told("check", train, heldout, code=1)
    assert "## 1 leak between the files" in page
    assert f"row 1 of {heldout} asks what row 4 of {train} asks, and expects something else" in page
    (leak,) = data("check", train, heldout, code=1)["leaks"]
    assert leak["contradicts"] is True and (leak["row"], leak["other_row"]) == (1, 4)
    assert "named twice" in refused("check", train, train)
    apart = write(tmp_path / "apart.jsonl", *sums(2, first=20))
    assert data("check", train, apart)["leaks"] == []


def test_a_split_is_of_content_and_leaks_nothing(tmp_path: Path) -> None:
    file, parts = write(tmp_path / "tasks.jsonl", *sums()), tmp_path / "parts"
    page = told("split", file, parts)
    assert page.startswith(f"# 60 tasks in {parts}\n")
    assert sorted(path.name for path in parts.iterdir()) == [
        *("heldout.jsonl", "split.json", "train.jsonl", "validation.jsonl"),
    ]
    names = ("train", "validation", "heldout")
    rows = {name: [row["id"] for row in read(parts / f"{name}.jsonl")] for name in names}
    assert sorted(id for ids in rows.values() for id in ids) == sorted(row["id"] for row in sums())
    assert data("check", *(parts / f"{name}.jsonl" for name in names))["leaks"] == []
    manifest = json.loads((parts / "split.json").read_text())
    assert manifest["source"] == data("check", file)["files"][0]["fingerprint"]
    assert {name: part["tasks"] for name, part in manifest["parts"].items()} == {n: len(r) for n, r in rows.items()}

    more = write(tmp_path / "more.jsonl", *sums(30, first=100)[::-1], *sums()[::-1])
    again = data("split", more, tmp_path / "again")
    assert again["shares"] == manifest["shares"] and sum(part["tasks"] for part in again["parts"].values()) == 90
    for name in names:
        assert set(rows[name]) <= {row["id"] for row in read(tmp_path / "again" / f"{name}.jsonl")}


SHARES = [
    ("train=0.8,heldout", "'heldout' is no part with its share"),
    ("train=0.8,heldout=x", "'heldout=x' is no part"),
    ("train=0.8,train=0.2", "'train=0.2' is no part"),
    ("train=0.8,../up=0.2", "'../up=0.2' is no part"),
    ("train=0.8,heldout=0.3", "add up to 1.1, not to 1"),
    ("train=1.5,heldout=-0.5", "the share of 'train' is 1.5"),
    ("train=0.999,heldout=0.001", "no task of 60 is in 'heldout'"),
]


@pytest.mark.parametrize(("shares", "words"), SHARES)
def test_shares_that_cannot_be_meant(tmp_path: Path, shares: str, words: str) -> None:
    file = write(tmp_path / "tasks.jsonl", *sums())
    assert words in refused("split", file, tmp_path / "parts", "--shares", shares)
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.jsonl"]


def test_a_split_never_mixes_with_another(tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.jsonl", *sums())
    told("split", file, tmp_path / "parts")
    assert "is there already" in refused("split", file, tmp_path / "parts", "--shares", "train=0.5,heldout=0.5")


def test_a_log_without_traces_tells_why(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", {"level": "info"}, {"level": "info"}, event("response", "1", output="x"))
    message = refused("extract", log, tmp_path / "traces.jsonl")
    assert "no trace in 3 events" in message and "2 x neither a request nor a response" in message
    assert "--field NAME=PATH" in message and not (tmp_path / "traces.jsonl").exists()


def test_fields_are_named(tmp_path: Path) -> None:
    call = {"method": "tools/call", "id": 3, "params": {"name": "calc", "arguments": {"a": 1}}}
    log = write(tmp_path / "log.jsonl", call, {"id": 3, "result": "2"})
    fields = ["kind=method", "request_id=id", "tool_name=params.name", "input=params.arguments"]
    options = [word for field in fields for word in ("--field", field)]
    assert data("extract", log, tmp_path / "traces.jsonl", *options)["traces"] == 1
    assert "Did you mean 'request_id'?" in refused("extract", log, tmp_path / "t", "--field", "requestid=id")
    assert "'id' names no field" in refused("extract", log, tmp_path / "t", "--field", "id")


def trace(name: str, output: str | None, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "toolName": "t",
        "toolInput": name,
        "toolOutput": output,
        "labels": {"taskOutcome": "fail"},
        **more,
    }


def test_lengths_are_chosen(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces.jsonl", trace("a", "ab"), trace("b", "abc" * 9), trace("c", "abcdef"))
    found = data("clean", traces, tmp_path / "clean.jsonl", "--shortest", "3", "--longest", "20")
    assert found["dropped"] == {"output too short": 1, "output too long": 1} and found["kept"] == 1


def test_nothing_that_is_left_is_a_failure(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces.jsonl", trace("a", None))
    assert "| empty output | 1 | 1 |" in told("clean", traces, tmp_path / "clean.jsonl", code=1)
    assert data("clean", traces, tmp_path / "clean.jsonl", code=1)["kept"] == 0
    assert "none of 1 trace makes a task" in refused("from-traces", traces, tmp_path / "tasks.jsonl")


def test_what_is_read_is_never_written_over(tmp_path: Path) -> None:
    file = write(tmp_path / "file.jsonl", trace("a", "x"))
    before = file.read_text()
    for command in ("extract", "clean", "from-traces"):
        assert "is what is read" in refused(command, file, tmp_path / "." / "file.jsonl")
    dropped = write(tmp_path / "x.dropped.jsonl", trace("a", "x"))
    assert "x.dropped.jsonl is what is read" in refused("clean", dropped, tmp_path / "x.jsonl")
    assert file.read_text() == dropped.read_text() == before


def test_results_that_cannot_be_written_are_told_before_the_work(tmp_path: Path) -> None:
    file = write(tmp_path / "file.jsonl", trace("a", "x"))
    for command in ("extract", "clean", "from-traces"):
        assert "there is no folder" in refused(command, file, tmp_path / "none" / "to.jsonl")
        assert "is a folder" in refused(command, file, tmp_path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    none, to = tmp_path / "none.jsonl", tmp_path / "to"
    for args in (
        ("check", none),
        ("split", none, to),
        ("extract", none, to),
        ("clean", none, to),
        ("from-traces", none, to),
    ):
        assert "there is no file" in refused(*args)


def test_help_shows_examples() -> None:
    for command in ("check", "split", "extract", "clean", "from-traces"):
        page = told(command, "--help")
        assert "Examples" in page and page.count(f"windlass tasks {command} ") >= 2


def test_the_page_shows_what_its_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (log,) = re.findall(r"^```json log.jsonl\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    Path("log.jsonl").write_text(log)
    shown = re.findall(r"^````console\n\$ windlass tasks ([^\n]*)\n(.*?)^````", PAGE, re.DOTALL | re.MULTILINE)
    assert [command.split()[0] for command, _ in shown] == ["extract", "clean", "from-traces"]
    for command, output in shown:
        assert told(*command.split()) == output
    (row,) = re.findall(r"One of them[^\n]*\n\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert row in Path("tasks.jsonl").read_text()


def test_the_page_has_every_field_of_events() -> None:
    told = {
        name: re.findall(r"`([^`]+)`", paths) for name, paths in re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", PAGE, re.M)
    }
    assert told == {name: list(paths) for name, paths in FIELDS.items()}


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.jsonl", *sums(1), "{")
    done = windlass("tasks", "check", str(file), cwd=tmp_path, code=1)
    assert done.stdout == ""
    assert "error: " in done.stderr and "row 2: no JSON" in done.stderr and "Traceback" not in done.stderr
