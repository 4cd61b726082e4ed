"""ORPO by unsloth, which lives in an environment of its own: its caps on trl, transformers and datasets exclude ours.

    machine = probe(python, folder)         what that environment has; refuses with one of the codes below
    check_memory(machine, ...)
    trained = train(python, plan, tell)     the training, in a process of that Python

There is no falling back: where unsloth cannot run, nothing is trained. The codes, in the order of the checks:

| code | what is wrong |
|---|---|
| backend.env_missing | there is no such Python, or the probe did not come to its end |
| backend.model_missing | the base model or its tokenizer is no local folder |
| backend.env_mismatch | a distribution is missing or not as unsloth's metadata asks for; or Python is older than 3.11 |
| backend.torch_cpu_build | torch was built without CUDA |
| backend.torch_cuda_mismatch | the driver lists a GPU, and torch cannot use it |
| backend.no_cuda_device | there is no GPU |
| backend.gpu_too_old | compute capability below 7.0 |
| backend.broken_native_dep | torch, torchvision, triton or bitsandbytes does not load |
| backend.insufficient_vram | less free memory than the estimate |

What was tested: the probe and every code against made-up distributions, and the process with its messages, signals and
outcome with a stand-in for unsloth on a CPU. **No training has been run with unsloth itself on a GPU.**
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from windlass.errors import Diverged, Preempted, PreflightError, WindlassError
from windlass.runs.folder import write_atomic
from windlass.training.orpo.plan import BudgetSpent, Plan, Tell, Trained
from windlass.training.orpo.tiers import GIB, Machine, Size

CAPABILITY = (7, 0)  #: unsloth's requirements: https://unsloth.ai/docs/get-started/fine-tuning-for-beginners
PYTHON = (3, 11)  #: what Windlass needs
MARGIN = 1.2  #: on the estimate; a rule of thumb, not measured
OTHERWISE = (
    "Use backend 'peft-trl-orpo' (same spec, same adapter format), or install the GPU environment:"
    " python -m venv unsloth-env && unsloth-env/bin/pip install unsloth"
)
PROBE_S = 600  #: importing four large libraries from a cold disk
ENTRY = "import sys; sys.path.append(sys.argv[1]); from windlass.training.orpo.worker import main; main(sys.argv[2])"
_RAISED: Mapping[str, type[WindlassError]] = {error.__name__: error for error in (Diverged, Preempted, BudgetSpent)}


def probe(python: str, model: Path, scratch: Path) -> Machine:
    """The GPU of the environment of ``python``. ``model`` is the base's folder, ``scratch`` the probe's directory.

    Raises PreflightError with one of the codes above, ``backend.insufficient_vram`` excepted.
    """
    if not model.is_dir() or not (model / "config.json").is_file() or not list(model.glob("tokenizer*")):
        raise PreflightError(
            "backend.model_missing",
            f"unsloth-orpo loads a local folder with a model and its tokenizer, which {model} is not",
            f"ls {model}",
        )
    found = _ask(python, scratch)
    if tuple(found["python"]) < PYTHON:
        version = ".".join(map(str, found["python"]))
        _refuse("backend.env_mismatch", f"{python} is Python {version}; Windlass needs 3.11 or newer there")
    if found["misfits"]:
        _refuse("backend.env_mismatch", f"the environment of {python} does not fit: {'; '.join(found['misfits'])}")
    device, listed = found["device"], found["listed"]
    if "error" in device:
        _refuse("backend.broken_native_dep", f"torch does not load in the environment of {python}: {device['error']}")
    if device["cuda"] is None:
        _refuse("backend.torch_cpu_build", f"unsloth-orpo needs an NVIDIA GPU; torch {device['torch']} has no CUDA")
    if not device["available"] and listed:
        _refuse(
            "backend.torch_cuda_mismatch",
            f"the driver lists {'; '.join(listed)}, but torch {device['torch']} (CUDA {device['cuda']}) cannot use it:"
            " driver and CUDA version do not fit, or CUDA_VISIBLE_DEVICES hides it",
        )
    if not device["available"]:
        _refuse("backend.no_cuda_device", "unsloth-orpo needs an NVIDIA GPU; torch and the driver find none")
    has = (device["capability"][0], device["capability"][1])
    if has < CAPABILITY:
        _refuse(
            "backend.gpu_too_old",
            f"unsloth-orpo needs compute capability {CAPABILITY[0]}.{CAPABILITY[1]};"
            f" {device['name']} has {has[0]}.{has[1]}",
        )
    if found["broken"]:
        _refuse("backend.broken_native_dep", f"in the environment of {python}: {'; '.join(found['broken'])}")
    return Machine(
        device="cuda", name=device["name"], total=int(device["total"]), free=int(device["free"]), capability=has
    )


def vram_needed(size: Size, *, four_bit: bool, sequences: int, tokens: int) -> int:
    """Bytes of the GPU's memory, an estimate: base, adapter, activations; a fifth more to be on the safe side.

    Weights: 0.6 bytes each in 4 bits (with the scales), 2 in bfloat16. Adapter: 16 a weight (float32 with gradient and
    AdamW's two moments). Activations of ``sequences`` rows of ``tokens``: what each layer was given, 2 bytes each (the
    rest is computed anew), and the logits with their gradient, 4 bytes each.
    """
    weights = size.parameters * (0.6 if four_bit else 2)
    activations = sequences * tokens * (size.layers * size.hidden * 2 + size.vocabulary * 2 * 4)
    return int((weights + size.trainable * 16 + activations) * MARGIN)


def check_memory(machine: Machine, needed: int) -> None:
    """Raises PreflightError ``backend.insufficient_vram``."""
    if needed > machine.free:
        raise PreflightError(
            "backend.insufficient_vram",
            f"the training needs about {needed / GIB:.1f} GiB of the GPU's memory; {machine.name} has"
            f" {machine.free / GIB:.1f} of {machine.total / GIB:.1f} GiB free",
            "Lower batch (and raise accumulation), max_length or rank; tier small-gpu loads the base in 4 bits.",
        )


def train(python: str, plan: Plan, tell: Tell) -> Trained:
    """Run a plan in a process of ``python``; its metrics come to ``tell``, and its stderr goes to this process's.

    SIGTERM and SIGINT are passed on: the process saves its state after its step, and ends.

    Raises what the training raised there: Preempted, Diverged, BudgetSpent, PreflightError, MemoryError, and
    WindlassError for anything else.
    """
    scratch = Path(plan.scratch)
    path = scratch / "plan.json"
    write_atomic(path, json.dumps(plan.to_dict(), ensure_ascii=False).encode())
    process = subprocess.Popen(
        [python, "-c", ENTRY, str(_windlass_alone(scratch)), str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=_environment(scratch),
        cwd=scratch,
        text=True,
    )
    trained: Trained | None = None
    with process, _passing_on_signals(process):
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):  # it was killed while it wrote
                break
            message = json.loads(line)
            if "metrics" in message:
                tell(message["step"], message["metrics"])
            elif "trained" in message:
                trained = Trained(**message["trained"])
            elif "failed" in message:
                raise _as_raised(message["failed"])
    if trained is None or process.returncode:
        raise WindlassError(
            f"the process of unsloth ended with {_how(process.returncode)} and no outcome; its last words are on stderr"
        )
    return trained


def _ask(python: str, scratch: Path) -> dict[str, Any]:
    source = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [python, "-c", source],
            capture_output=True,
            text=True,
            env=_environment(scratch),
            cwd=scratch,
            timeout=PROBE_S,
            check=False,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError) as error:
        _refuse("backend.env_missing", f"the Python of unsloth-orpo, {python}, does not run: {error}")
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        _refuse("backend.env_missing", f"the environment of {python} could not be looked at: {last}")
    return found


def _refuse(code: str, message: str) -> NoReturn:
    raise PreflightError(code, message, OTHERWISE)


def _environment(scratch: Path) -> dict[str, str]:
    """Of a process in the other environment: nothing of this one's Python, and no telemetry."""
    own = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {
        **{name: value for name, value in os.environ.items() if name not in own},
        "UNSLOTH_COMPILE_LOCATION": str(scratch / "unsloth_compiled_cache"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "UNSLOTH_RETURN_LOGITS": "1",  # ORPO's loss is made of them
    }


def _windlass_alone(scratch: Path) -> Path:
    """A folder that holds this package and none of its neighbours, which are of another environment."""
    folder = scratch / "path"
    folder.mkdir(exist_ok=True)
    link = folder / "windlass"
    if not link.is_symlink():
        link.symlink_to(Path(__file__).resolve().parents[2], target_is_directory=True)
    return folder


@contextmanager
def _passing_on_signals(process: subprocess.Popen[str]) -> Iterator[None]:
    def pass_on(number: int, _: object) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_raised(failed: Mapping[str, str]) -> BaseException:
    kind, message, next_step = failed["kind"], failed["message"], failed["next_step"]
    if kind == "MemoryError":
        return MemoryError(message)
    if kind == "PreflightError":
        return PreflightError(failed["code"], message, next_step)
    return _RAISED.get(kind, WindlassError)(message, next_step)


def _how(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
