"""Policy files are told what is wrong with them as study files are; what a policy names has to be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from windlass.errors import NotFound, StudyError
from windlass.lab.policy import check_gate, load_policy
from windlass.lab.study import load_study

POLICY = """\
deployment: reader
benchmarks:
  - name: heldout
    data: held/out.csv
    command: python score.py --fast
    options: {id: patient, least: 3}
    metric: accuracy
    direction: maximize
    guards: [{metric: loss, direction: minimize, margin: 0.1}]
  - {name: speed, data: ~/speed, function: "timing:time", metric: s, direction: minimize, require: no_worse, margin: 1}
challengers: 12
"""


def write(folder: Path, text: str = POLICY) -> Path:
    path = folder / "gate.yaml"
    path.write_text(text)
    return path


def test_a_policy_has_a_file_of_its_own(tmp_path: Path) -> None:
    policy, folder = load_policy(write(tmp_path))
    assert folder == tmp_path
    assert (policy.deployment, policy.challengers) == ("reader", 12)
    heldout, speed = policy.benchmarks
    assert heldout.command == ("python", "score.py", "--fast")
    assert heldout.options == {"id": "patient", "least": 3}
    assert speed.function == "timing:time"


def edited(old: str, new: str) -> str:
    assert POLICY.count(old) == 1, old
    return POLICY.replace(old, new)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (edited("deployment", "deploymnet"), "1: deploymnet:", "unknown key 'deploymnet'. Did you mean 'deployment'?"),
        (edited("data: held", "dta: held"), "4: benchmarks[0].dta:", "unknown key 'dta'. Did you mean 'data'?"),
        (edited("data: held/out.csv\n    ", ""), "3: benchmarks[0].data:", "is missing; required here: name, data"),
        (
            edited("direction: maximize", "direction: maximise"),
            "8: benchmarks[0].direction:",
            "Did you mean 'maximize'?",
        ),
        (edited("{metric: loss", "{metrik: loss"), "9: benchmarks[0].guards[0].metrik:", "Did you mean 'metric'?"),
        (
            edited("name: speed", "name: heldout"),
            "10: benchmarks[1].name:",
            "a benchmark above is named 'heldout'",
        ),
        (edited("least: 3", "least: [3]"), "6: benchmarks[0].options.least:", "must be text, a number, true or false"),
        (edited("challengers: 12", "challengers: few"), "11: challengers:", "must be a whole number, not 'few'"),
        (edited("  - name: heldout", "   - name: heldout"), "4:", "no YAML"),
        ("", "1:", "is empty; a policy needs deployment and benchmarks"),
        ("[1]", "1:", "must be a mapping of key: value"),
    ],
)
def test_mistakes_are_told_with_line_key_and_nearest_name(tmp_path: Path, text: str, place: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_policy(write(tmp_path, text))
    told = [line for line in str(caught.value).splitlines() if line.startswith(f"{tmp_path / 'gate.yaml'}:{place}")]
    assert any(words in line for line in told), str(caught.value)
    assert "gate." not in str(caught.value).replace("gate.yaml", "")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = edited("data: held", "dta: held").replace("direction: maximize", "direction: up")
    with pytest.raises(StudyError, match=r"gate\.yaml: 3 problems"):
        load_policy(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no policy file"):
        load_policy(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"deployment: caf\xe9")
    with pytest.raises(StudyError, match="cannot be read"):
        load_policy(tmp_path / "latin.yaml")


def test_what_a_policy_names_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    policy, folder = load_policy(write(tmp_path))
    with pytest.raises(StudyError) as caught:
        check_gate(policy, folder)
    message = str(caught.value)
    assert f"benchmark 'heldout': there is no {tmp_path / 'held' / 'out.csv'}" in message
    assert f"benchmark 'speed': there is no {tmp_path / 'home' / 'speed'}" in message
    assert f"benchmark 'speed': no module 'timing' in {tmp_path}" in message
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "out.csv").write_text("id,x\n")
    (tmp_path / "home" / "speed").mkdir(parents=True)
    (tmp_path / "timing.py").write_text("def time(config, run): ...\n")
    assert check_gate(policy, folder) == {
        "heldout": tmp_path / "held" / "out.csv",
        "speed": tmp_path / "home" / "speed",
    }


def test_the_gate_of_a_study_is_checked_with_the_study(tmp_path: Path) -> None:
    study = (
        "name: gated\ntrainer: {command: python train.py}\nspace: {x: {type: bool}}\n"
        "objectives: [{metric: loss, direction: minimize}]\ngate:\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(study + "".join(f"  {line}\n" for line in POLICY.splitlines()))
    gate = load_study(path).gate
    assert gate == load_policy(write(tmp_path))[0]
    path.write_text(path.read_text().replace("metric: loss, direction: minimize, margin", "metrik: loss, margin"))
    with pytest.raises(StudyError, match=r"study.yaml:14: gate.benchmarks\[0\].guards\[0\].metrik: unknown key"):
        load_study(path)
