"""The unsloth backend, without a GPU: every refusal of its preflight, and the process that it trains in.

unsloth cannot run here. The distributions, torch and nvidia-smi of these tests are made up, in folders of their own;
what trains is a stand-in for unsloth that gives transformers' model with PEFT's adapter. What unsloth itself does on a
GPU, nothing here shows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orpojobs import build_base, plan
from windlass.errors import Diverged, Preempted, PreflightError, WindlassError
from windlass.training import tensors
from windlass.training.orpo import probe, unsloth
from windlass.training.orpo.plan import ADAPTER, BudgetSpent
from windlass.training.orpo.tiers import GIB, Machine, Size

VERSIONS = {
    "unsloth": "2026.10.7",
    "unsloth_zoo": "2026.10.5",
    "torch": "2.13.0",
    "torchvision": "0.28.0",
    "triton": "3.6.0",
    "bitsandbytes": "0.49.0",
    "transformers": "5.17.0",
    "trl": "1.15.0",
    "peft": "0.21.2",
    "datasets": "4.8.5",
    "accelerate": "1.15.0",
    "safetensors": "0.8.0",
}
CAPS = ("trl<=1.15.0", "transformers<=5.17.0", "datasets<5 ; extra == 'huggingface'", "torch<1 ; extra == 'rocm'")
TORCH = """
__version__ = "2.13.0+cu128"
class version: cuda = "12.8"
class cuda:
    is_available = staticmethod(lambda: True)
    mem_get_info = staticmethod(lambda: (20 * 2**30, 24 * 2**30))
    get_device_name = staticmethod(lambda index: "RTX 4090")
    get_device_capability = staticmethod(lambda index: (8, 9))
"""
STAND_IN = """
print("unsloth prints on stdout")
import os
import peft, torch, transformers
class FastLanguageModel:
    @staticmethod
    def from_pretrained(model_name, max_seq_length, dtype, load_in_4bit):
        assert os.environ["UNSLOTH_RETURN_LOGITS"] == "1" and os.environ["UNSLOTH_DISABLE_STATISTICS"] == "1"
        assert os.path.dirname(os.environ["UNSLOTH_COMPILE_LOCATION"]) == os.getcwd()
        return transformers.AutoModelForCausalLM.from_pretrained(model_name, dtype=dtype), None
    @staticmethod
    def get_peft_model(model, r, lora_alpha, lora_dropout, bias, use_gradient_checkpointing, random_state):
        torch.manual_seed(random_state)
        config = peft.LoraConfig(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, bias=bias,
                                 target_modules="all-linear", task_type="CAUSAL_LM")
        return peft.get_peft_model(model, config)
"""


class Environment:
    """A Python that sees made-up distributions and modules before its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "made-up"
        self.folder.mkdir()
        self.python = str(folder / "python")
        Path(self.python).write_text(f'#!/bin/sh\nPYTHONPATH={self.folder} exec {sys.executable} "$@"\n')
        Path(self.python).chmod(0o755)

    def install(self, versions: Mapping[str, str], requires: tuple[str, ...] = CAPS) -> None:
        for name, version in versions.items():
            info = self.folder / f"{name}-{version}.dist-info"
            info.mkdir()
            wanted = "".join(f"Requires-Dist: {line}\n" for line in requires) if name == "unsloth" else ""
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wanted}")

    def module(self, name: str, source: str = "") -> None:
        (self.folder / f"{name}.py").write_text(source)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """One in which everything is as unsloth wants it."""
    made = Environment(tmp_path)
    made.install(VERSIONS)
    made.module("torch", TORCH)
    for name in probe.NATIVE:
        made.module(name)
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"))


def refusal(environment: Environment, base: Path, folder: Path) -> PreflightError:
    with pytest.raises(PreflightError) as refused:
        unsloth.probe(environment.python, base, folder)
    return refused.value


def test_an_environment_in_which_all_is_well_gives_its_gpu(
    environment: Environment, base: Path, tmp_path: Path
) -> None:
    environment.module("triton", "print('a library that prints on stdout')")
    assert unsloth.probe(environment.python, base, tmp_path) == Machine(
        device="cuda", name="RTX 4090", total=24 * GIB, free=20 * GIB, capability=(8, 9)
    )


def test_no_such_python(base: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"does not run: .*\[backend.env_missing\]"):
        unsloth.probe(str(tmp_path / "python"), base, tmp_path)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho 'no module named site' >&2; exit 1\n")
    silent.chmod(0o755)
    with pytest.raises(PreflightError, match=r"looked at: no module named site \[backend.env_missing\]"):
        unsloth.probe(str(silent), base, tmp_path)


def test_a_model_that_is_no_local_folder(environment: Environment, tmp_path: Path) -> None:
    assert refusal(environment, tmp_path / "missing", tmp_path).code == "backend.model_missing"
    (tmp_path / "config.json").write_text("{}")
    assert refusal(environment, tmp_path, tmp_path).code == "backend.model_missing"  # no tokenizer


def test_distributions_that_are_missing_or_beyond_the_caps_of_unsloth_are_all_listed(
    environment: Environment, base: Path, tmp_path: Path
) -> None:
    (environment.folder / "unsloth_zoo-2026.10.5.dist-info" / "METADATA").unlink()
    (environment.folder / "unsloth_zoo-2026.10.5.dist-info").rmdir()
    for name, version in (("trl", "1.16.0"), ("datasets", "5.2.0")):
        (environment.folder / f"{name}-{VERSIONS[name]}.dist-info").rename(
            environment.folder / f"{name}-{version}.dist-info"
        )
        metadata = environment.folder / f"{name}-{version}.dist-info" / "METADATA"
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    found = refusal(environment, base, tmp_path)
    assert found.code == "backend.env_mismatch"
    assert "unsloth_zoo is not installed" in found.message
    assert "trl is 1.16.0, unsloth wants trl<=1.15.0" in found.message
    assert "datasets is 5.2.0, unsloth wants datasets<5" in found.message
    assert "torch is" not in found.message  # an extra that nobody asked for
    assert "Use backend 'peft-trl-orpo' (same spec, same adapter format)" in found.next_step


def test_this_environment_has_no_unsloth(base: Path, tmp_path: Path) -> None:
    """Not made up: the real probe in the real environment of these tests."""
    with pytest.raises(PreflightError, match=r"unsloth is not installed.*\[backend.env_mismatch\]"):
        unsloth.probe(sys.executable, base, tmp_path)


@pytest.mark.parametrize(
    ("was", "now", "code", "words"),
    [
        (
            'cuda = "12.8"',
            "cuda = None",
            "backend.torch_cpu_build",
            "NVIDIA GPU; torch 2.13.0+cu128 has no CUDA",
        ),
        ("lambda: True", "lambda: False", "backend.no_cuda_device", "torch and the driver find none"),
        ("(8, 9)", "(6, 1)", "backend.gpu_too_old", "needs compute capability 7.0; RTX 4090 has 6.1"),
        ("class cuda:", "1 / 0", "backend.broken_native_dep", "torch does not load"),
    ],
)
def test_what_torch_says_of_itself_and_of_the_gpu(
    environment: Environment, base: Path, tmp_path: Path, was: str, now: str, code: str, words: str
) -> None:
    source = TORCH.partition("class cuda:")[0] + now if now == "1 / 0" else TORCH.replace(was, now)
    environment.module("torch", source)
    found = refusal(environment, base, tmp_path)
    assert found.code == code
    assert words in found.message


def test_a_gpu_that_the_driver_lists_and_torch_cannot_use(
    environment: Environment, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.module("torch", TORCH.replace("lambda: True", "lambda: False"))
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA RTX 4090 (UUID: GPU-1)'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = refusal(environment, base, tmp_path)
    assert found.code == "backend.torch_cuda_mismatch"
    assert "GPU 0: NVIDIA RTX 4090" in found.message


def test_libraries_that_do_not_load_are_all_named(environment: Environment, base: Path, tmp_path: Path) -> None:
    environment.module("torchvision", "raise ImportError('operators do not load')")
    environment.module("bitsandbytes", "import os; os.abort()")
    found = refusal(environment, base, tmp_path)
    assert found.code == "backend.broken_native_dep"
    assert "torchvision: ImportError: operators do not load" in found.message
    assert "bitsandbytes: " in found.message
    assert "triton" not in found.message


def test_the_memory_of_the_gpu_is_held_against_the_estimate() -> None:
    size = Size(
        parameters=8_000_000_000, trainable=40_000_000, layers=32, hidden=4096, vocabulary=128_256, context=8192
    )
    short = unsloth.vram_needed(size, four_bit=True, sequences=4, tokens=1024)
    whole = unsloth.vram_needed(size, four_bit=False, sequences=4, tokens=1024)
    assert whole - short == pytest.approx(8e9 * (2 - 0.6) * unsloth.MARGIN)
    assert unsloth.vram_needed(size, four_bit=True, sequences=8, tokens=1024) > short
    machine = Machine(device="cuda", name="RTX 4090", total=24 * GIB, free=22 * GIB, capability=(8, 9))
    unsloth.check_memory(machine, short)
    with pytest.raises(PreflightError, match=r"RTX 4090 has 22.0 of 24.0 GiB free \[backend.insufficient_vram\]"):
        unsloth.check_memory(machine, whole)


def test_the_codes_of_the_documentation_are_those_of_the_code() -> None:
    source = Path(unsloth.__file__).read_text()
    table, code = source.split('"""', 2)[1:]
    listed = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| backend.")}
    raised = {word for word in code.replace('"', " ").replace(",", " ").split() if word.startswith("backend.")}
    assert listed == raised | {"backend.insufficient_vram"}


def test_what_the_worker_needs_of_windlass_runs_on_the_standard_library_and_torch() -> None:
    modules = "worker, windlass.training.orpo.loss, windlass.training.state, windlass.training.models"
    code = f"import windlass.training.orpo.{modules}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "windlass.training.orpo.plan" in loaded
    assert not {"pydantic", "yaml", "scipy", "polars", "sqlalchemy"} & set(loaded)


@pytest.mark.slow
def test_a_training_in_another_environment_is_preempted_and_goes_on(tmp_path: Path, base: Path) -> None:
    environment = Environment(tmp_path)
    environment.module("unsloth", STAND_IN)
    made = plan(tmp_path, base)
    (tmp_path / "scratch").mkdir()
    told: list[tuple[int, float]] = []
    before = signal.getsignal(signal.SIGTERM)

    def tell(step: int, metrics: Mapping[str, float]) -> None:
        told.append((step, metrics["train_loss"]))
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)  # passed on to the process that trains

    with pytest.raises(Preempted, match=r"asked to end after step \d+ of 11; the state is saved"):
        unsloth.train(environment.python, made, tell)
    assert signal.getsignal(signal.SIGTERM) is before
    last = told[-1][0]
    assert 3 <= last < made.steps
    trained = unsloth.train(environment.python, made, lambda step, metrics: told.append((step, metrics["train_loss"])))
    assert [step for step, _ in told] == list(range(1, made.steps + 1))
    assert trained.steps == made.steps
    assert [tuple(point[:2]) for point in trained.curve] == told
    assert trained.digest_before != trained.digest_after
    assert len(trained.before) == len(trained.after) == len(made.held_out)
    assert tensors.load(made.adapter / ADAPTER)


def failed(kind: str, message: str, code: str = "") -> str:
    return json.dumps({"failed": {"kind": kind, "message": message, "code": code, "next_step": ""}})


@pytest.mark.parametrize(
    ("said", "code", "raised", "words"),
    [
        (failed("Diverged", "loss is nan"), 1, Diverged, "nan"),
        (failed("BudgetSpent", "the minutes ended"), 1, BudgetSpent, "minutes"),
        (failed("MemoryError", "CUDA out of memory"), 1, MemoryError, "CUDA"),
        (failed("PreflightError", "no model", "model.missing"), 3, PreflightError, r"no model \[model.missing\]"),
        (failed("KeyError", "KeyError: 1"), 1, WindlassError, "KeyError: 1"),
        ("", 0, WindlassError, "exit code 0 and no outcome"),
        ('{"trained": {}', 1, WindlassError, "exit code 1 and no outcome"),
    ],
)
def test_what_the_process_says_last_is_raised(
    tmp_path: Path, base: Path, said: str, code: int, raised: type[BaseException], words: str
) -> None:
    python = tmp_path / "python"
    line = f"echo '{said}'" if said.endswith("}}") else f"printf '{said}'"
    python.write_text(f"#!/bin/sh\n{line}\nexit {code}\n")
    python.chmod(0o755)
    made = plan(tmp_path, base)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(raised, match=words):
        unsloth.train(str(python), made, lambda *_: None)


def test_a_process_that_is_killed_has_no_outcome(tmp_path: Path, base: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(WindlassError, match="ended with signal 9 and no outcome"):
        unsloth.train(str(python), plan(tmp_path, base), lambda *_: None)
