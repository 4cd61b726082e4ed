"""The commands about what is kept, as a person meets them: words, exit codes, JSON, mistakes, interrupts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from keepinglab import Snapshot, add_run, gate_of, make_lab, policy
from processes import ARGV, ENVIRONMENT, processes_of, start_windlass, until, windlass


def inside(lab: Path, *args: str, answers: str | None = None) -> Any:
    """A command in this process; errors are in ``exception``."""
    from typer.testing import CliRunner

    from windlass.cli.main import app

    return CliRunner().invoke(app, [*args, "--lab", str(lab)], input=answers, env={"COLUMNS": "160"})


def told(lab: Path, *args: str, code: int = 0) -> str:
    """What a command says, results and talk."""
    done = inside(lab, *args)
    assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
    return str(done.output)


def data(lab: Path, *args: str, code: int = 0) -> Any:
    done = inside(lab, *args, "--json")
    assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
    return json.loads(done.stdout)


def refused(lab: Path, *args: str) -> str:
    """The error's message and next step."""
    done = inside(lab, *args)
    assert done.exit_code == 1 and done.exception is not None, done.output
    return str(done.exception)


def add(lab: Path, right: float, **model: Any) -> str:
    """A registered checkpoint's id."""
    return str(data(lab, "checkpoints", "register", add_run(lab, right, **model))["id"])


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab where a checkpoint that has half of the examples right was promoted, and then one with 70 %."""
    lab = make_lab(tmp_path_factory.mktemp("keeping"))
    for right in (0.5, 0.7):
        inside(lab, "promote", "reader", add(lab, right), "--policy", str(gate_of(lab)))
    return lab


@pytest.fixture(scope="module")
def snapshot(half: Path) -> Snapshot:
    return Snapshot(half.parent)


@pytest.fixture
def lab(half: Path, snapshot: Snapshot) -> Iterator[Path]:
    """To change: it is put back afterwards."""
    yield half
    snapshot.restore()


def ids(lab: Path) -> dict[float, str]:
    return {one["config"]["right"]: one["id"] for one in data(lab, "checkpoints", "list")}


EMPTY = [
    (["checkpoints", "list"], "windlass checkpoints register RUN"),
    (["checkpoints", "verify"], "windlass checkpoints register RUN"),
    (["checkpoints", "gc"], "nothing to delete"),
    (["evaluations", "list"], "windlass evaluate ID"),
    (["deployments", "list"], "windlass promote NAME ID"),
    (["audit", "show"], "windlass checkpoints register RUN"),
    (["audit", "verify"], "windlass checkpoints register RUN"),
]


def test_an_empty_lab_says_what_to_do(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    for command, hint in EMPTY:
        assert hint in told(lab, *command), command
    for command in (["checkpoints", "list"], ["evaluations", "list"], ["deployments", "list"], ["audit", "show"]):
        assert data(lab, *command) == []


UNKNOWN = [
    (["checkpoints", "list", "--deployment", "raeder"], "Did you mean 'reader'?"),
    (["checkpoints", "list", "--stage", "champoin"], "Did you mean 'champion'?"),
    (["checkpoints", "list", "--study", "digits"], "no study 'digits'"),
    (["deployments", "show", "raeder"], "Did you mean 'reader'?"),
    (["deployments", "watch", "raeder", "--once"], "Did you mean 'reader'?"),
    (["deployments", "route", "raeder", "key"], "Did you mean 'reader'?"),
    (["rollback", "raeder"], "Did you mean 'reader'?"),
    (["rollback", "reader", "--to", "zzz"], "no checkpoint 'zzz'"),
    (["audit", "show", "--deployment", "raeder"], "Did you mean 'reader'?"),
    (["audit", "verify", "--expect", "12"], "'12' is no anchor"),
    (["checkpoints", "show", "zzz"], "windlass checkpoints list"),
    (["checkpoints", "register", "zzz"], "windlass runs list"),
    (["checkpoints", "lineage", "raeder"], "Did you mean 'reader'?"),
    (["evaluations", "show", "zzz"], "windlass evaluations list"),
    (["evaluate", "zzz"], "windlass checkpoints list"),
    (["promote", "reader", "zzz"], "windlass checkpoints list"),
]


@pytest.mark.parametrize(("command", "hint"), UNKNOWN, ids=[" ".join(command) for command, _ in UNKNOWN])
def test_an_unknown_name_is_told_with_the_nearest(half: Path, command: list[str], hint: str) -> None:
    assert hint in refused(half, *command)


def test_a_lab_of_its_own_is_told_what_the_policy_lacks(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    one = add(lab, 0.5)
    assert "--policy" in refused(lab, "promote", "reader", one)
    assert "there is no policy file" in refused(lab, "promote", "reader", one, "--policy", "none.yaml")
    assert "'reader', not 'writer'" in refused(lab, "promote", "writer", one, "--policy", str(gate_of(lab)))
    bad = tmp_path / "bad.yaml"
    bad.write_text(gate_of(lab).read_text().replace("direction: maximize", "direction: maximise"))
    assert "'maximize'" in refused(lab, "promote", "reader", one, "--policy", str(bad))


def test_a_promotion_says_who_serves_and_shows_each_comparison(lab: Path) -> None:
    better = add(lab, 0.9)
    done = inside(lab, "promote", "reader", better)
    assert done.exit_code == 0 and done.stdout.startswith(f"# reader: {better} serves\n")
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("| heldout correct |")]
    for cell in ("better", "passed", "200", "0.7", "0.9", "+0.2"):
        assert f" {cell} " in row, row
    assert "windlass deployments show reader" in done.stdout
    assert f"evaluated {better} on heldout: correct 0.9 over 200 examples" in " ".join(done.stderr.split())
    again = inside(lab, "promote", "reader", better)
    assert again.exit_code == 0 and "serves; nothing has changed" in again.stdout
    assert data(lab, "deployments", "show", "reader")["champion"] == better
    assert len(data(lab, "deployments", "show", "reader")["tenures"]) == 3


def test_a_refusal_exits_with_3_and_says_why_and_what_next(lab: Path) -> None:
    champion = ids(lab)[0.7]
    worse, close = add(lab, 0.4), add(lab, 0.71)
    kept = inside(lab, "promote", "reader", worse)
    assert kept.exit_code == 3 and f"{champion} stays" in kept.stdout and "| broken |" in kept.stdout
    unclear = data(lab, "promote", "reader", close, code=3)
    assert unclear["verdict"]["ruling"] == "inconclusive" and unclear["stage"] == "evaluated"
    assert "## Next" in inside(lab, "promote", "reader", close).stdout
    assert data(lab, "deployments", "show", "reader")["champion"] == champion
    assert windlass("promote", "reader", worse, cwd=lab, code=3).stderr.count("Traceback") == 0


def test_a_failed_evaluation_leads_to_its_run(lab: Path) -> None:
    broken = add(lab, 0.9, does="fail")
    said = refused(lab, "promote", "reader", broken)
    assert "the model cannot be loaded" in said
    assert inside(lab, *said.splitlines()[-1].removeprefix("windlass ").split()).exit_code == 0


def test_checkpoints_are_listed_by_where_they_stand(half: Path) -> None:
    old, new = ids(half)[0.5], ids(half)[0.7]
    lines = told(half, "checkpoints", "list").splitlines()
    assert lines[1].startswith(f"{new}  champion of reader") and lines[2].startswith(f"{old}  retired from reader")
    assert "right 0.7" in lines[1] and "heldout: correct 0.7" in lines[1]
    assert [one["id"] for one in data(half, "checkpoints", "list", "--stage", "retired")] == [old]
    assert [one["id"] for one in data(half, "checkpoints", "list", "--deployment", "reader", "-n", "1")] == [new]
    assert "windlass checkpoints list" in told(half, "checkpoints", "list", "--stage", "canary")


def test_one_checkpoint_is_shown_compared_and_exported(half: Path, tmp_path: Path) -> None:
    old, new = ids(half)[0.5], ids(half)[0.7]
    shown = told(half, "checkpoints", "show", new[:6])
    for title in ("What it is", "1 file, 14 B", "Config", "Newest evaluations", "Newest verdicts on it", "Next"):
        assert f"## {title}\n" in shown, title
    as_data = data(half, "checkpoints", "show", new)
    assert (Path(as_data["path"]) / as_data["manifest"][0]["path"]).read_text() == '{"right": 0.7}'
    difference = told(half, "checkpoints", "diff", old, new)
    assert "| right | `0.5` | `0.7` |" in difference and "model.json" in difference
    assert "is one checkpoint" in told(half, "checkpoints", "diff", old, old)
    assert data(half, "checkpoints", "diff", old, new)["config"][0]["name"] == "right"
    told(half, "checkpoints", "export", new, str(tmp_path / "model"))
    assert (tmp_path / "model" / "model.json").read_text() == '{"right": 0.7}'
    assert "exists" in refused(half, "checkpoints", "export", new, str(tmp_path / "model"))


def test_lineage_as_text_data_and_figure(half: Path, tmp_path: Path) -> None:
    new = ids(half)[0.7]
    drawing = tmp_path / "lineage.svg"
    assert f"checkpoint {new}" in told(half, "checkpoints", "lineage", "reader", "--figure", str(drawing))
    assert drawing.read_text().startswith("<svg") and new in drawing.read_text()
    kinds = {node["kind"] for node in data(half, "checkpoints", "lineage", new)["nodes"]}
    assert {"run", "checkpoint", "evaluation", "verdict", "deployment"} <= kinds
    assert inside(half, "checkpoints", "lineage", new, "--figure", "lineage.png").exit_code == 2
    assert new in told(half, "checkpoints", "card", new)


def test_an_evaluation_is_shown_with_its_scores(lab: Path) -> None:
    new = ids(lab)[0.7]
    (one,) = data(lab, "evaluations", "list", "--checkpoint", new)
    shown = told(lab, "evaluations", "show", one["id"][:6])
    assert "id,correct\ne0,1\n" in shown and "| correct | 0.7 |" in shown and one["data"] in shown
    (scores,) = data(lab, "evaluations", "show", one["id"])["files"]
    assert len(Path(scores).read_text().splitlines()) == 201
    assert "Nothing was missing" in told(lab, "evaluate", new)
    (again,) = data(lab, "evaluate", new, "--again", "--benchmark", "heldout")
    assert again["id"] != one["id"] and again["means"] == one["means"]
    assert "'heldout'" in refused(lab, "evaluate", new, "--benchmark", "held-out")


def test_an_imported_evaluation_stays_marked(lab: Path) -> None:
    new = ids(lab)[0.7]
    (one,) = data(lab, "evaluations", "list", "--checkpoint", new)
    given = {
        **{"checkpoint": new, "benchmark": "heldout", "data_sha256": one["data"], "evaluator": "their harness"},
        **{"source": "a partner", "made_at": "2026-03-01T12:00:00Z"},
        "examples": [{"id": f"e{i}", "scores": {"correct": i % 2}} for i in range(4)],
    }
    file = lab / "theirs.json"
    file.write_text(json.dumps(given))
    assert "imported from a partner" in told(lab, "evaluations", "import", str(file))
    assert "imported: a partner" in told(lab, "evaluations", "list")
    file.write_text(json.dumps({**given, "sorce": 1}))
    assert "Did you mean 'source'?" in refused(lab, "evaluations", "import", str(file))


def test_a_flipped_byte_is_named(lab: Path) -> None:
    old, new = ids(lab)[0.5], ids(lab)[0.7]
    assert "2 checkpoints of 28 B" in told(lab, "checkpoints", "verify")
    file = next((lab / "blobs" / "sha256").glob(f"{old}*")) / "files" / "model.json"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b"5", b"6"))
    assert f"damaged checkpoint {old}: files/model.json was altered" in told(lab, "checkpoints", "verify", code=1)
    assert [one["where"] for one in data(lab, "checkpoints", "verify", old, code=1)] == [f"checkpoint {old}"]
    assert "1 checkpoint of 14 B" in told(lab, "checkpoints", "verify", new, new)
    assert "model.json" in told(lab, "audit", "verify", code=1)
    assert "files were not read" in told(lab, "audit", "verify", "--no-bytes")


def test_a_damaged_pointer_is_found_and_written_again(lab: Path) -> None:
    pointer = lab / "deployments" / "reader.json"
    before = pointer.read_text()
    pointer.write_text("{")
    assert "reader.json is damaged" in told(lab, "audit", "verify", "--no-bytes", code=1)
    told(lab, "deployments", "show", "reader")
    assert pointer.read_text() == before and data(lab, "audit", "verify")["sound"]
    pointer.write_text(before.replace('"sequence": ', '"sequence": 9'))
    assert "not settled" in told(lab, "deployments", "show", "reader"), "of a later log: shown, and left alone"


def test_the_log_verifies_against_an_anchor_and_names_what_was_done_to_it(lab: Path) -> None:
    sound = data(lab, "audit", "verify")
    assert sound["sound"] and inside(lab, "audit", "verify").stdout.strip() == sound["anchor"]
    assert data(lab, "audit", "verify", "--expect", sound["anchor"])["sound"]
    told(lab, "promote", "reader", add(lab, 0.9))
    assert data(lab, "audit", "verify", "--expect", sound["anchor"])["sound"], "what came later changes nothing"
    sequence, _, digest = sound["anchor"].partition(":")
    other = f"{sequence}:{digest[::-1]}"
    assert f"entry {sequence}" in told(lab, "audit", "verify", "--no-bytes", "--expect", other, code=1)
    copy = lab / "registry.jsonl"
    copy.write_text(copy.read_text().replace('"ruling":"promote"', '"ruling":"keep"', 1))
    assert "registry.jsonl" in told(lab, "audit", "verify", "--no-bytes", code=1)


def test_the_log_in_words(lab: Path) -> None:
    old, new = ids(lab)[0.5], ids(lab)[0.7]
    lines = told(lab, "audit", "show").splitlines()
    assert lines[0].split() == ["at", "(UTC)", "who", "what"] and len(lines) == 1 + len(data(lab, "audit", "show"))
    words = "\n".join(lines)
    for said in (
        f"registered checkpoint {old}, 14 B, from run ",
        f"evaluated {old} on heldout: correct 0.5 over 200 examples",
        f"judged {new} for reader against {old}: promote",
        f"{new} serves as reader in place of {old}",
    ):
        assert said in words, said
    told(lab, "rollback", "reader", "--reason", "wrong answers")
    assert "wrong answers" in told(lab, "audit", "show", "--deployment", "reader")
    assert len(told(lab, "audit", "show", "--last", "2").splitlines()) == 3
    apart = add(lab, 0.3)
    assert [entry["kind"] for entry in data(lab, "audit", "show", "--checkpoint", apart)] == ["registered"]
    about = [entry["kind"] for entry in data(lab, "audit", "show", "--checkpoint", old)]
    assert {"registered", "evaluated", "judged", "promoted", "planned", "stepped"} == set(about)


def test_a_rollback_is_planned_executed_and_rolled_forward(lab: Path) -> None:
    old, new = ids(lab)[0.5], ids(lab)[0.7]
    before = data(lab, "audit", "verify")["anchor"]
    plan = told(lab, "rollback", "reader", "--plan", "--reason", "wrong answers")
    assert f"| from | `{new}` |" in plan and f"| to | `{old}` |" in plan and "wrong answers" in plan
    assert [step for step in ("freeze", "verify", "smoke", "switch", "monitor") if f"| {step} |" not in plan] == []
    assert data(lab, "audit", "verify")["anchor"] == before, "a plan changes nothing"
    done = inside(lab, "rollback", "reader")
    assert done.exit_code == 0 and done.stdout == f"{old} serves as reader\n"
    steps = re.findall(r"^  (\w+) +(started|done)", done.stderr, re.MULTILINE)
    assert steps == [(s, w) for s in ("freeze", "verify", "smoke", "switch", "monitor") for w in ("started", "done")]
    forward = data(lab, "rollback", "reader", "--forward")
    assert forward["target"] == new and set(forward["steps"].values()) == {"done"}
    assert json.loads((lab / "deployments" / "reader.json").read_text())["checkpoint"] == new
    assert inside(lab, "rollback", "reader", "--forward", "--to", old).exit_code == 2


def interrupt_rollback(lab: Path) -> None:
    """Ctrl-C while the smoke evaluation runs."""
    evaluator = lab.parent / "evaluate.py"
    swift = evaluator.read_text()
    evaluator.write_text(swift.replace('if does == "hang":', "if True:"))
    going = start_windlass("rollback", "reader", cwd=lab)
    until(lambda: processes_of_evaluator(lab), 60)
    going.send_signal(signal.SIGINT)
    assert "windlass rollback reader" in going.communicate(timeout=60)[1] and going.returncode == 130
    evaluator.write_text(swift)


def test_a_rollback_that_was_interrupted_is_shown_and_goes_on(lab: Path) -> None:
    old = ids(lab)[0.5]
    interrupt_rollback(lab)
    assert "frozen" in told(lab, "deployments", "show", "reader") + told(lab, "deployments", "list")
    assert "interrupted" in told(lab, "rollback", "reader", "--plan")
    done = inside(lab, "rollback", "reader")
    assert done.exit_code == 0 and "was not finished; it goes on now" in done.stderr
    assert data(lab, "deployments", "show", "reader")["champion"] == old
    assert until(lambda: not processes_of_evaluator(lab), 20) is not False


def test_a_rollback_that_was_interrupted_can_be_abandoned(lab: Path) -> None:
    serving = data(lab, "deployments", "show", "reader")["champion"]
    assert "no rollback of reader is under way" in refused(lab, "rollback", "reader", "--abandon")
    interrupt_rollback(lab)
    assert f"{serving} goes on serving as reader" in told(lab, "rollback", "reader", "--abandon")
    shown = data(lab, "deployments", "show", "reader")
    assert (shown["champion"], shown["frozen"]) == (serving, None)


def processes_of_evaluator(lab: Path) -> list[int]:
    return [pid for pid in processes_of(lab) if b"evaluate.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_rollback_to_what_is_unfit_is_undone(lab: Path) -> None:
    (lab.parent / "evaluate.py").write_text("raise SystemExit('the evaluator is broken')")
    done = inside(lab, "rollback", "reader")
    assert done.exit_code == 1 and "undone" in done.stderr and "the evaluator is broken" in done.stderr
    assert f"{ids(lab)[0.7]} goes on serving as reader" in done.stderr


def test_gc_shows_what_would_go_and_deletes_with_yes_alone(lab: Path) -> None:
    apart = add(lab, 0.3)
    planned = told(lab, "checkpoints", "gc")
    assert f"{apart}  checkpoint" in planned and "Nothing was deleted" in planned and ids(lab)[0.7] in planned
    assert data(lab, "checkpoints", "gc")["deleted"] is False
    told(lab, "checkpoints", "verify", apart)
    assert "1 folder deleted" in told(lab, "checkpoints", "gc", "--yes")
    assert f"{apart}  removed" in told(lab, "checkpoints", "list")
    assert "were removed" in refused(lab, "checkpoints", "export", apart, str(lab / "model"))
    assert "were removed" in refused(lab, "promote", "reader", apart)
    assert "nothing to delete" in told(lab, "checkpoints", "gc", "--yes")


# Serving -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary(lab: Path) -> Iterator[tuple[Path, str, str]]:
    """A lab, its champion, and a challenger that answers half of the keys."""
    gate_of(lab).write_text(yaml.safe_dump(policy(canary={"shares": [0.5], "worse": 0.2, "failed": 0.3})))
    challenger = add(lab, 0.9)
    told(lab, "promote", "reader", challenger, "--policy", str(gate_of(lab)))
    yield lab, ids(lab)[0.7], challenger


def outcomes(name: str, checkpoint: str, share: float, count: int = 400) -> str:
    """JSON lines; ``share`` of the answers accepted."""
    answers = [
        {"checkpoint": checkpoint, "key": f"{name}{i}", "outcome": "accepted" if i % 10 < 10 * share else "rejected"}
        for i in range(count)
    ]
    return "".join(f"{json.dumps(answer)}\n" for answer in answers)


def observe(lab: Path, answers: str) -> Any:
    return inside(lab, "deployments", "observe", "reader", "-", answers=answers)


def test_the_same_key_goes_the_same_way(canary: tuple[Path, str, str]) -> None:
    lab, champion, challenger = canary
    routes = [data(lab, "deployments", "route", "reader", f"key {i % 8}") for i in range(16)]
    assert routes[:8] == routes[8:] and {route["checkpoint"] for route in routes} == {champion, challenger}
    line = told(lab, "deployments", "route", "reader", "key 0")
    assert line.startswith(f"{routes[0]['checkpoint']} as {routes[0]['role']}: {routes[0]['path']}")


def test_what_is_observed_is_counted_and_acted_on(canary: tuple[Path, str, str]) -> None:
    lab, champion, challenger = canary
    shown = told(lab, "deployments", "show", "reader")
    assert f"| challenger | {challenger} (canary 50 %) |" in shown and "no answers yet" in shown
    good = observe(lab, outcomes("a", champion, 0.9))
    assert good.exit_code == 0 and "400 answers are on record" in good.stderr and not good.stdout
    assert "| champion | 400 | 90.0 % (86.7…92.6) |" in told(lab, "deployments", "show", "reader")
    bad = observe(lab, outcomes("b", challenger, 0.3))
    assert f"{challenger} is rolled back from reader" in bad.stdout
    answers = {row["checkpoint"]: row for row in data(lab, "deployments", "show", "reader")["answers"]}
    assert answers[challenger]["rejected"] == 280 and answers[challenger]["n"] == 400
    assert answers[challenger]["accepted_interval"][0] < 0.3 < answers[challenger]["accepted_interval"][1]
    assert data(lab, "checkpoints", "list", "--stage", "rolled_back")[0]["id"] == challenger


def test_a_wrong_answer_is_refused_whole_with_its_line(canary: tuple[Path, str, str]) -> None:
    lab, champion, _ = canary
    right = json.dumps({"checkpoint": champion, "outcome": "accepted"})
    for wrong, words in (
        (
            f'{{"checkpoint": "{champion}", "outcome": "acepted"}}',
            "line 2: there is no outcome 'acepted'. Did you mean",
        ),
        (f'{{"checkpoint": "{champion}", "outcme": "accepted"}}', "line 2: an answer has no 'outcme'. Did you mean"),
        ('{"checkpoint": "zzz", "outcome": "accepted"}', "line 2: no checkpoint 'zzz'"),
        (f'{{"checkpoint": "{champion}"}}', "line 2: an answer without outcome"),
        ("[]", "line 2: an answer is a JSON object"),
        ("accepted", "line 2 is no JSON"),
    ):
        done = observe(lab, f"{right}\n{wrong}\n")
        assert done.exit_code == 1 and "0 answers are on record" in done.stderr
        assert words in str(done.exception)
    retired = ids(lab)[0.5]
    assert "retired" in refused(lab, *f"deployments observe reader --checkpoint {retired} --outcome accepted".split())
    assert inside(lab, "deployments", "observe", "reader").exit_code == 2
    assert inside(lab, "deployments", "observe", "reader", "-", "--outcome", "accepted").exit_code == 2
    assert data(lab, "deployments", "show", "reader")["answers"] == []
    told(lab, *f"deployments observe reader --checkpoint {champion} --outcome timed_out --key 7".split())
    assert data(lab, "deployments", "show", "reader")["answers"][0]["timed_out"] == 1


def test_a_stream_of_answers_is_recorded_as_it_comes(canary: tuple[Path, str, str]) -> None:
    lab, champion, _ = canary
    file = lab / "deployments" / "reader.outcomes.jsonl"
    command = [*ARGV, "deployments", "observe", "reader", "-"]
    with subprocess.Popen(command, cwd=lab, env=ENVIRONMENT, stdin=subprocess.PIPE, text=True) as observing:
        assert observing.stdin is not None
        for count, line in enumerate(outcomes("a", champion, 1.0, 2).splitlines(keepends=True), start=1):
            observing.stdin.write(line)
            observing.stdin.flush()
            until(lambda lines=count: file.exists() and len(file.read_text().splitlines()) == lines, 60)
        observing.stdin.write(outcomes("b", champion, 1.0, 1).rstrip())  # its end is the end of the input
        observing.stdin.close()
        assert observing.wait(60) == 0
    assert len(file.read_text().splitlines()) == 3


def test_watching_acts_on_what_others_write_until_ctrl_c(canary: tuple[Path, str, str]) -> None:
    lab, champion, challenger = canary
    assert "0 answers" in told(lab, "deployments", "watch", "reader", "--once")
    watching = start_windlass("deployments", "watch", "reader", cwd=lab)
    file = lab / "deployments" / "reader.outcomes.jsonl"
    for checkpoint, role, share in ((champion, "champion", 0.9), (challenger, "canary", 0.3)):
        with file.open("a") as log:
            for line in outcomes(role, checkpoint, share).splitlines():
                log.write(json.dumps({**json.loads(line), "role": role, "at": time.time()}) + "\n")
    assert watching.stdout is not None
    assert f"{challenger} is rolled" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, talk = watching.communicate(timeout=60)
    assert watching.returncode == 0 and f"reader: {champion} serves; 800 answers" in talk


def test_a_driven_study_tells_what_it_keeps(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    driven = inside(lab, "run", str(lab.parent / "study.yaml"), "--json")
    events = [json.loads(line) for line in driven.stdout.splitlines()]
    kept = [one["event"] for one in events if one["event"] in ("registered", "evaluated", "judged", "advanced")]
    assert kept[:4] == ["registered", "evaluated", "judged", "advanced"]
    (serves,) = [one["champion"] for one in data(lab, "deployments", "list")]
    assert [one["checkpoint"] for one in events if one["event"] == "advanced"][-1] == serves
    assert "windlass deployments show reader" in told(lab, "run", "readers")


# On a terminal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 100])
def test_a_verdict_fits_the_terminal_and_nothing_is_cut(
    half: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    from io import StringIO

    from rich.console import Console

    from windlass.cli import blocks
    from windlass.cli.keeping import comparison_cells, verdict_sections
    from windlass.lab import Lab

    with Lab(half) as opened:
        verdict = opened.keeping.state.verdicts_of("reader")[-1]
    written = StringIO()
    monkeypatch.setattr(blocks, "stdout", Console(file=written, force_terminal=True, width=width))
    monkeypatch.setattr(blocks, "Console", lambda **given: Console(**given, file=written, color_system=None))
    blocks.out_sections("reader", verdict_sections(verdict, ["windlass deployments show reader"]))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for word in " ".join(comparison_cells(verdict.comparisons[0])).split():
        assert any(word in line for line in lines), word


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, windlass.cli.main; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "windlass.cli.deployments" in loaded
    assert not loaded & {"numpy", "polars", "scipy", "sqlalchemy", "windlass.lab.keeping", "windlass.loop.driver"}
