"""Telemetry off, threads within the job's share, and a fingerprint that holds what changes bits and nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from windlass.training import environment

torch = pytest.importorskip("torch")

#: three processes that have torch and nothing else: what each has after its ``pin``
ASK = """
import json, os, sys
import torch
from windlass.training import environment

def found(threads):
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry, send_telemetry
    send_telemetry("topic", library_name="trl")
    return {
        "threads": threads, "torch_threads": torch.get_num_threads(), "offline": constants.is_offline_mode(),
        "silent": constants.HF_HUB_DISABLE_TELEMETRY and _telemetry._TELEMETRY_THREAD is None,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "environment": {name: os.environ.get(name) for name in environment.QUIET},
        "loaded": sorted(sys.modules.keys() & {"transformers", "trl", "datasets"}),
    }

def at_first():
    return found(environment.pin())

def late():
    import huggingface_hub.constants
    return found(environment.pin(1))

def with_hub():
    return found(environment.pin(4, hub=True))

for case in (at_first, late, with_hub):
    if os.fork() == 0:
        print(json.dumps(case()), flush=True)
        os._exit(0)
    os.wait()
"""


def test_telemetry_threads_and_determinism() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DISABLE_TEL", "DO_NOT"))}
    env |= {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(environment.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    at_first, late, with_hub = map(json.loads, done.stdout.splitlines())
    for found in (at_first, late, with_hub):
        assert found["silent"] and found["deterministic"]
        assert found["environment"] == environment.QUIET
        assert found["threads"] == found["torch_threads"]
        assert found["loaded"] == []
    assert [found["offline"] for found in (at_first, late, with_hub)] == [True, True, False]
    # as the job's environment says, and never more than that
    assert [found["threads"] for found in (at_first, late, with_hub)] == [2, 1, 2]


@pytest.mark.parametrize(
    ("parameters", "cores", "concurrent", "threads"),
    [(1_000_000, 64, 1, 1), (4_999_999, 8, 1, 1), (5_000_000, 8, 1, 8), (10**9, 8, 3, 2), (10**9, 2, 4, 1)],
)
def test_threads_for_a_model(parameters: int, cores: int, concurrent: int, threads: int) -> None:
    assert environment.threads_for(parameters, cores, concurrent) == threads


@pytest.fixture
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_fingerprint_holds_versions_threads_and_cpu(threads: None) -> None:
    torch.set_num_threads(1)
    found = environment.fingerprint()
    assert found["torch"] == torch.__version__ and found["threads"] == "1"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert {type(value) for value in found.values()} == {str}
    everything = json.dumps(found)
    for private in (socket.gethostname(), str(Path.home()), sys.prefix, os.getcwd()):
        assert private == "/" or private not in everything
    assert environment.digest(found) == environment.digest(environment.fingerprint())
    torch.set_num_threads(2)
    assert environment.digest(environment.fingerprint()) != environment.digest(found)


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "LIBRARIES", ("torch", "no-such-library"))
    assert "no-such-library" not in environment.fingerprint()


def test_the_fingerprint_of_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.1\necho 580.1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    found = environment.fingerprint()
    assert (found["gpu"], found["gpu_driver"]) == ("GPU 0, GPU 1", "580.1")
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.fingerprint()["gpu_driver"] == "unknown"


def test_it_is_written_as_json(tmp_path: Path) -> None:
    written = environment.write(tmp_path / "environment.json")
    assert json.loads((tmp_path / "environment.json").read_bytes()) == written == environment.fingerprint()
