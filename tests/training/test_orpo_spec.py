"""What ORPO is told: names, defaults and ranges; and its door, which the lab opens without a training library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orpojobs import pairs, write
from windlass.datasets.preferences import fingerprint, read_pairs
from windlass.errors import DataError, StudyError
from windlass.lab.study import load_study
from windlass.registry.evaluating import training_fingerprint
from windlass.training.orpo.spec import Hyper, Options, read_config, read_options
from windlass.training.orpo.workload import WORKLOAD

NEEDED = {"data": "pairs.jsonl", "model": "base"}


def test_defaults_are_those_of_the_schema() -> None:
    assert Hyper().model_dump() == {
        "learning_rate": 3e-4,
        "batch": 2,
        "accumulation": 8,
        "rank": 16,
        "alpha": 32,
        "dropout": 0.05,
        "warmup": 0.1,
        "steps": 1000,
        "max_length": 2048,
        "beta": 0.1,
    }
    options = read_options(NEEDED)
    assert (options.backend, options.tier) == ("peft-trl-orpo", "consumer-gpu")
    assert (options.minutes, options.tokens) == (240, 2_000_000)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bakcend": "dry-run"}, "trainer.options.bakcend: unknown key. Did you mean 'backend'?"),
        ({"backend": "trl"}, "'trl' is not one of 'peft-trl-orpo', 'unsloth-orpo' or 'dry-run'"),
        ({"tier": "cpu"}, "not one of 'consumer-gpu', 'small-gpu' or 'cpu-experimental'"),
        ({"tokens": 0}, "trainer.options.tokens: input should be greater than 0, not 0"),
        ({"validation_share": 1.0}, "trainer.options.validation_share"),
        ({"backend": "unsloth-orpo"}, "give 'unsloth_python'"),
        ({"unsloth_python": "u/bin/python"}, "goes with backend 'unsloth-orpo', not with 'peft-trl-orpo'"),
        (
            {"backend": "unsloth-orpo", "unsloth_python": "p", "tier": "cpu-experimental"},
            "needs an NVIDIA GPU: tier consumer-gpu or small-gpu",
        ),
        ({"model": None}, "trainer.options.model: input should be a valid string, not None"),
    ],
)
def test_wrong_options_are_refused_by_name(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError) as refused:
        read_options({**NEEDED, **changed})
    assert words in str(refused.value)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(StudyError, match=r"trainer.options.model: is needed"):
        read_options({"data": "pairs.jsonl"})


@pytest.mark.parametrize("changed", [{"steps": 0}, {"dropout": 1.0}, {"learning_rate": float("nan")}, {"rank": 2.5}])
def test_wrong_parameters_are_refused_by_name(changed: dict[str, Any]) -> None:
    (name,) = changed
    with pytest.raises(StudyError, match=f"config.{name}: "):
        read_config({"workload": NEEDED, **changed})


def test_what_is_learned_depends_on_parameters_and_not_on_budgets() -> None:
    def learned(options: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
        return read_config({"workload": {**NEEDED, **(options or {})}, **changed}).learned

    assert learned() == learned(
        {"minutes": 5, "tokens": 7, "data": "elsewhere.jsonl", "model": "moved", "save_every": 3}
    )
    assert learned() != learned(dropout=0.1)
    assert learned() != learned({"backend": "dry-run"})
    assert learned() != learned({"validation_share": 0.3})
    with_file = {"validation": "v.jsonl"}
    assert learned(with_file) == learned({**with_file, "validation_share": 0.3})


def test_paths_are_relative_to_the_study_file_and_a_hub_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    options = WORKLOAD.options(NEEDED, tmp_path)
    assert options["data"] == str(tmp_path / "pairs.jsonl")
    assert options["model"] == str(tmp_path / "base")
    assert WORKLOAD.options({**NEEDED, "model": "org/name"}, tmp_path)["model"] == "org/name"
    assert "unsloth_python" not in options


def test_the_python_of_an_environment_is_not_what_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "python").symlink_to(sys.executable)
    given = {**NEEDED, "backend": "unsloth-orpo", "unsloth_python": "env/python"}
    assert WORKLOAD.options(given, tmp_path)["unsloth_python"] == str(tmp_path / "env" / "python")


def test_an_unknown_parameter_is_named_with_the_nearest() -> None:
    WORKLOAD.check(["learning_rate", "beta"])
    with pytest.raises(StudyError, match=r"reads no parameter 'learing_rate'\. Did you mean 'learning_rate'\?"):
        WORKLOAD.check(["learing_rate"])
    with pytest.raises(StudyError, match=r"Set it in trainer\.options: tokens"):
        WORKLOAD.check(["workload.tokens"])


@pytest.mark.parametrize(("backend", "metric"), [("peft-trl-orpo", "accuracy"), ("dry-run", "planned_tokens")])
def test_a_study_is_complete_with_its_options_alone(tmp_path: Path, backend: str, metric: str) -> None:
    write(tmp_path / "pairs.jsonl", pairs(3))
    trainer = {"workload": "orpo", "options": {**NEEDED, "backend": backend}}
    (tmp_path / "study.yaml").write_text(json.dumps({"name": "s", "trainer": trainer}))
    study = load_study(tmp_path / "study.yaml")
    assert [objective.metric for objective in study.objectives] == [metric]
    assert set(study.space) == {"learning_rate", "beta", "rank"}
    assert set(study.space) <= set(Hyper.model_fields)


def test_the_fingerprint_of_the_data_knows_the_order_and_that_of_the_pairs_does_not(tmp_path: Path) -> None:
    rows = pairs(4)
    one, other = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows[::-1])
    first, second = (WORKLOAD.fingerprints({**NEEDED, "data": str(path)}) for path in (one, other))
    assert first["pairs"] == second["pairs"] == fingerprint(read_pairs(one))
    assert first["data"] != second["data"]
    options = {**NEEDED, "data": str(one), "validation": str(other)}
    assert WORKLOAD.fingerprints(options)["data"] == training_fingerprint(map(Path, WORKLOAD.data(options)))


def test_data_that_cannot_be_read_are_refused_with_their_rows(tmp_path: Path) -> None:
    rows = pairs(3)
    rows[2]["chosen"] = rows[2]["rejected"]
    path = write(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(DataError, match="row 3"):
        WORKLOAD.fingerprints({**NEEDED, "data": str(path)})


def test_the_door_loads_no_training_library() -> None:
    code = "import windlass.training.orpo.workload, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "windlass.training.orpo.spec" in loaded
    assert not {"torch", "transformers", "trl", "peft", "datasets", "numpy"} & set(loaded)


def test_what_a_result_repeats() -> None:
    options = read_options({**NEEDED, "profile": "reader", "family": "llama"}).model_dump()
    assert WORKLOAD.identity(options) == {"backend": "peft-trl-orpo", "profile": "reader", "family": "llama"}
    assert set(WORKLOAD.identity(options)) <= set(Options.model_fields)
