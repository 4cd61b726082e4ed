"""The commands about verifiers, as a person meets them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from processes import windlass
from verifying import needs_sandbox
from windlass.cli.main import app
from windlass.verifiers import KINDS

NUMERIC = '{"kind": "numeric"}'


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [{"id": f"sum-{i}", "prompt": f"{i} + 30 =", "expected": i + 30} for i in range(1, 9)]
    rows.append({"id": "capital", "prompt": "Capital of France?", "expected": "Paris", "verifier": {"kind": "exact"}})
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*args: Any, code: int = 0, input: str | None = None) -> Any:
    done = CliRunner().invoke(app, ["verifiers", *map(str, args)], input=input, env={"COLUMNS": "200"})
    assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
    return done


def refused(*args: Any) -> str:
    return str(run(*args, code=1).exception)


def test_kinds_are_listed_with_their_options() -> None:
    told = run("list").stdout
    assert all(f"`{kind}`" in told for kind in KINDS)
    listed = {one["kind"]: one for one in json.loads(run("list", "--json").stdout)}
    assert list(listed) == list(KINDS)
    assert {one["name"] for one in listed["numeric"]["options"]} == {"after", "tag", "absolute", "relative", "which"}
    assert all(one["what"] for one in listed.values())


def test_one_kind_is_told_with_what_its_options_do() -> None:
    told = run("list", "gym").stdout
    assert "required" in told and "as in chain_sum" in told
    assert "Did you mean 'choice'?" in refused("list", "choise")


def test_a_good_verifier_passes_its_audit(tasks: Path) -> None:
    told = run("audit", tasks, "--verifier", NUMERIC).stdout
    assert told.startswith("9 of 9 tasks, floor 0.1") and told.rstrip().endswith("The verifier can be trained on.")
    data = json.loads(run("audit", tasks, "--verifier", NUMERIC, "--json", "--most", 3).stdout)
    assert data["ok"] is True and data["tasks"] == 3


def test_a_verifier_that_can_be_fooled_fails_its_audit_with_exit_code_1(tasks: Path) -> None:
    fooled = '{"kind": "regex", "pattern": ".*"}'
    assert "problem: junk 'Lorem ipsum" in run("audit", tasks, "--verifier", fooled, code=1).stdout
    assert json.loads(run("audit", tasks, "--verifier", fooled, "--json", code=1).stdout)["ok"] is False


def test_a_completion_can_be_tried(tasks: Path) -> None:
    done = run("try", tasks, "sum-2", "2 + 30 = 32", "--verifier", NUMERIC)
    assert done.stdout == "1\n" and "the number is '32'" in done.stderr
    assert run("try", tasks, "capital", "-", input="Rome\n").stdout == "0\n"
    assert json.loads(run("try", tasks, "capital", "Rome", "--json").stdout) == {
        "task": "capital",
        "score": 0.0,
        "reason": "the answer is 'Rome', not 'Paris'",
    }


def test_a_completion_that_cannot_be_judged_has_no_score(tasks: Path) -> None:
    tasks.write_text('{"id": "seen", "prompt": "p", "expected": "a", "verifier": {"kind": "recorded", "reward": 1}}')
    assert run("try", tasks, "seen", "b").stdout == "no score\n"


def test_the_verifier_may_be_in_a_file(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "numeric.json").write_text(NUMERIC)
    assert run("try", tasks, "sum-2", "32", "--verifier", tmp_path / "numeric.json").stdout == "1\n"


@pytest.mark.parametrize(
    ("verifier", "message"),
    [
        ('{"kind": "numric"}', "Did you mean 'numeric'?"),
        ('{"kind": "numeric"', "--verifier: no JSON"),
        ("numeric", "'numeric' is no JSON object and no file"),
        ('{"kind": "numeric", "absolut": 1}', "unknown option 'absolut'. Did you mean 'absolute'?"),
    ],
)
def test_a_verifier_that_cannot_be_used_is_refused(tasks: Path, verifier: str, message: str) -> None:
    assert message in refused("audit", tasks, "--verifier", verifier)


def test_what_is_not_there_is_refused(tasks: Path) -> None:
    assert "Did you mean 'sum-1'?" in refused("try", tasks, "sum1", "31", "--verifier", NUMERIC)
    assert "task 'sum-1' has no verifier" in refused("audit", tasks)
    assert "no file" in refused("audit", tasks.with_name("other.jsonl"))


def test_functions_beside_the_working_directory_are_found(tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text("def right(completion, task):\n    return completion == str(task.expected)\n")
    done = windlass(
        *("verifiers", "try", "tasks.jsonl", "sum-2", "32", "--verifier"),
        '{"kind": "function", "function": "my_rules:right"}',
        cwd=tmp_path,
    )
    assert done.stdout == "1\n"


PAGE = (Path(__file__).parents[2] / "docs" / "verifiers.md").read_text(encoding="utf-8")
TOLD = re.findall(r"^```console\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@needs_sandbox
def test_the_page_shows_what_the_commands_say(tmp_path: Path) -> None:
    for name, text in re.findall(r"^```\w+ (\S+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(text)
    rows = (tmp_path / "tasks.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "sums.jsonl").write_text("".join(row for row in rows if "sum-" in row))
    commands = [
        one for block in TOLD for one in re.findall(r"^\$ windlass (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]
    assert len(commands) == 5
    for command, output in commands:
        done = windlass(*shlex.split(command), cwd=tmp_path, code=None)
        said = done.stdout + done.stderr
        assert timeless(said) == timeless(output), command


def timeless(text: str) -> str:
    return re.sub(r"latency .*", "latency", text)


def test_every_kind_is_on_the_page() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE, flags=re.MULTILINE)
    assert set(KINDS) <= set(re.findall(r"`(\w+)`", " ".join(rows)))
