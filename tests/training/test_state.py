"""Saved states: whole after every kill, verified, refused for another training; optimizers to the bit."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from windlass.errors import PreflightError, StateError
from windlass.training import state as state_module
from windlass.training import tensors as tensors_module
from windlass.training.state import Saved, TrainingState, flatten, unflatten
from windlass.training.tensors import digest

torch = pytest.importorskip("torch")

IDENTITY = {"data": "d1", "config": "c1", "base": "b1", "code": "0.1.0", "world_size": "1"}


def content(step: int) -> dict[str, Any]:
    return {"weight": torch.full((50, 20), float(step)), "step": torch.tensor(step), "bits": torch.ones(3).bfloat16()}


def save(folder: Path, *steps: int, identity: dict[str, str] = IDENTITY) -> None:
    state = TrainingState(folder, identity)
    for step in steps:
        state.save(step, content(step), {"losses": [step / 7, float("inf")], "seen": {10: step, 9: "ä"}})


def load(folder: Path, identity: dict[str, str] = IDENTITY) -> Saved:
    saved = TrainingState(folder, identity).load()
    assert saved is not None
    return saved


def check(saved: Saved) -> int:
    """The step of a state that holds exactly what was saved at this step."""
    assert digest(saved.tensors) == digest(content(saved.step))
    assert saved.numbers == {"losses": [saved.step / 7, float("inf")], "seen": {"10": saved.step, "9": "ä"}}
    return saved.step


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_loaded_before_the_first_save(tmp_path: Path) -> None:
    assert TrainingState(tmp_path / "state", IDENTITY).load() is None
    assert not (tmp_path / "state").exists()


def test_the_last_of_two_that_are_kept_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 5)
    assert check(load(tmp_path)) == 5
    save(tmp_path, 7, 9, 11)
    assert check(load(tmp_path)) == 11
    assert names(tmp_path) == ["00000003", "00000004"]
    save(tmp_path, 11)  # the same step once more, by an attempt that was asked to end at once
    assert check(load(tmp_path)) == 11


def test_every_difference_of_identity_is_listed(tmp_path: Path) -> None:
    save(tmp_path, 3)
    now = {"data": "d2", "config": "c1", "base": "b1", "world_size": "2", "prompt": "p"}
    with pytest.raises(PreflightError) as refused:
        load(tmp_path, now)
    assert refused.value.code == "resume.changed" and refused.value.exit_code == 3
    assert refused.value.message.split(": ", 1)[1] == (
        "code was 0.1.0, is not given; data was d1, is d2; prompt was not given, is p; world_size was 1, is 2"
        " [resume.changed]"
    )
    assert names(tmp_path) == ["00000001"]


# Damage --------------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    shutil.copy(path.parent.parent / "00000001" / path.name, path)


@pytest.mark.parametrize("file", [state_module.TENSORS, state_module.MANIFEST])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_newest_falls_back_to_the_one_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str, damage: Callable[[Path], object]
) -> None:
    save(tmp_path, 5, 7)
    damage(tmp_path / "00000002" / file)
    assert check(load(tmp_path)) == 5
    assert "a saved state is passed over: " in capfd.readouterr().err


def test_files_of_another_save_are_noticed(tmp_path: Path) -> None:
    save(tmp_path, 5, 7)
    swap(tmp_path / "00000002" / state_module.TENSORS)
    assert check(load(tmp_path)) == 5
    swap(tmp_path / "00000002" / state_module.MANIFEST)  # now the folder is a copy of the first
    assert check(load(tmp_path)) == 5


def test_a_damaged_save_is_not_one_of_the_two_that_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 5, 7)
    flip(tmp_path / "00000002" / state_module.TENSORS)
    state = TrainingState(tmp_path, IDENTITY)
    assert state.load() is not None
    state.save(6, content(6), {})
    assert names(tmp_path) == ["00000001", "00000003"]


def test_where_nothing_can_be_read_the_training_does_not_begin_anew(tmp_path: Path) -> None:
    save(tmp_path, 5, 7)
    for path in tmp_path.iterdir():
        cut(path / state_module.TENSORS)
    with pytest.raises(PreflightError, match="none of the 2 saved states") as refused:
        load(tmp_path)
    assert refused.value.code == "resume.damaged"


# Full disk -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs privileges")
    try:
        save(disk / "state", 1, 2)
        state = TrainingState(disk / "state", IDENTITY)
        with pytest.raises(StateError, match=r"step 3 could not be saved: .*No space left on device.*; .*2 stays"):
            state.save(3, {"large": torch.zeros(100_000)}, {})
        assert names(disk / "state") == ["00000001", "00000002"] and check(load(disk / "state")) == 2
        state.save(3, content(3), {})
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("call", ["fsync", "rename", "replace"])
def test_a_write_that_fails_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    save(tmp_path, 1, 2)
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(os, call, full)
        with pytest.raises(StateError, match="No space left on device"):
            save(tmp_path, 3)
    assert names(tmp_path) == ["00000001", "00000002"] and check(load(tmp_path)) == 2


def test_numbers_that_are_no_json_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        TrainingState(tmp_path, IDENTITY).save(1, {}, {"rng": object()})
    assert names(tmp_path) == []


# Kills ---------------------------------------------------------------------------------------------------------------


def killed(mode: str, folder: Path, *more: object) -> list[Any]:
    """What a process of its own says that kills children of its own while they save."""
    done = subprocess.run(
        [sys.executable, __file__, mode, str(folder), *map(str, more)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_kill_between_any_two_lines_leaves_a_loadable_state(tmp_path: Path) -> None:
    found = killed("lines", tmp_path)
    steps = [step for _, step, _ in found]
    assert {step for _, step, _ in found} == {2, 3}
    assert steps == sorted(steps)  # one line makes the new state count
    assert {where.split(":")[0] for where, _, _ in found} == {"state.py", "tensors.py"} and len(found) > 40
    # the next save takes the next number, and clears up
    kept = {2: ["00000002", "00000003"], 3: ["00000003", "00000004"]}
    assert all(after == kept[step] for _, step, after in found)


def test_a_kill_at_any_moment_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    found = killed("moments", tmp_path, 25)
    assert len(found) == 25
    assert all(said <= step <= said + 1 for said, step in found), found


def kill_between_lines(folder: Path) -> None:
    """For each line of the code that saves: a child that is killed before it; what is loaded then; what is left."""
    save(folder / "before", 1, 2)
    number, alive = 0, False
    while not alive:
        number += 1
        here = folder / str(number)
        shutil.copytree(folder / "before", here)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            trace_until(number, writing)
            save(here, 3)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            where = pipe.read()
        alive = os.waitpid(child, 0)[1] == 0
        step = check(load(here))
        if not alive:
            save(here, 4)
            assert check(load(here)) == 4
            print(json.dumps([where, step, names(here)]))
        shutil.rmtree(here)


def trace_until(number: int, tell: int) -> None:
    """SIGKILL for this process before the so many-th line of the code that saves; a line of a loop counts once."""
    files = {state_module.__file__, tensors_module.__file__}
    seen = set()

    def line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and frame.f_back is not None:
            seen.add((frame.f_lineno, frame.f_back.f_code, frame.f_back.f_lineno))
            if len(seen) == number:
                os.write(tell, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        return line

    sys.settrace(lambda frame, event, _: line if frame.f_code.co_filename in files else None)


def kill_at_moments(folder: Path, kills: int) -> None:
    """A child saves in a loop and says so; after each kill, the next one goes on."""
    rng, step = random.Random(7), 0
    for _ in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            for later in range(step + 1, 10**6):
                save(folder, later)
                os.write(writing, later.to_bytes(4, "little"))
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read(4 * rng.randint(1, 3))
            time.sleep(rng.random() * 0.005)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            last = int.from_bytes((said + pipe.read())[-4:], "little")
        step = check(load(folder))
        print(json.dumps([last, step]))


# Trees ---------------------------------------------------------------------------------------------------------------


def trained(optimizer: Callable[..., Any]) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    groups = [{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[2].parameters()}]
    made = optimizer(groups)
    steps(model, made, 3)
    return model, made


def steps(model: Any, optimizer: Any, count: int) -> None:
    data = torch.linspace(-1, 1, 12).reshape(3, 4)
    for _ in range(count):
        optimizer.zero_grad()
        model(data).square().sum().backward()
        optimizer.step()


OPTIMIZERS = {
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1),
    "AdamW amsgrad fused": lambda groups: torch.optim.AdamW(groups, lr=1e-3, amsgrad=True, fused=True),
    "Adam, lr a tensor": lambda groups: torch.optim.Adam(groups, lr=torch.tensor(1e-3)),
    "SGD with momentum": lambda groups: torch.optim.SGD(groups, lr=1e-3, momentum=0.9),
    "Adafactor": lambda groups: torch.optim.Adafactor(groups),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_to_the_bit(tmp_path: Path, name: str) -> None:
    model, optimizer = trained(OPTIMIZERS[name])
    tree = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    tensors, rest = flatten(tree)
    TrainingState(tmp_path, IDENTITY).save(3, tensors, {"rest": rest})
    saved = load(tmp_path)
    again = unflatten(saved.tensors, saved.numbers["rest"])
    assert_equal(again["optimizer"], tree["optimizer"])

    other, fresh = trained(OPTIMIZERS[name])
    steps(other, fresh, 5)  # somewhere else
    other.load_state_dict(again["model"])
    fresh.load_state_dict(again["optimizer"])
    steps(model, optimizer, 4)
    steps(other, fresh, 4)
    assert digest(other.state_dict()) == digest(model.state_dict())


def assert_equal(left: Any, right: Any) -> None:
    """Of one type, one shape and one content, to the bit."""
    if isinstance(left, torch.Tensor):
        assert digest({"t": left}) == digest({"t": right})
        return
    assert (dict if isinstance(right, dict) else type(right)) is type(left)
    if isinstance(left, dict):
        assert list(left) == list(right)
        left, right = list(left.values()), list(right.values())
    if isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    else:
        assert left == right


def test_what_is_neither_a_tensor_nor_json_is_named() -> None:
    with pytest.raises(TypeError, match=r"state\.groups\.0\.hook holds builtin_function_or_method"):
        flatten({"groups": [{"hook": print}]})


def test_a_scheduler_and_random_states_fit_too(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    optimizer.step()
    scheduler.step()
    tree = {"scheduler": scheduler.state_dict(), "rng": torch.get_rng_state(), "python": random.Random(1).getstate()}
    tensors, rest = flatten(tree, "at")
    TrainingState(tmp_path, IDENTITY).save(1, tensors, {"rest": rest})
    saved = load(tmp_path)
    again = unflatten(saved.tensors, saved.numbers["rest"])
    assert_equal(again, tree)
    random.Random().setstate(again["python"])


if __name__ == "__main__":
    import safetensors.torch  # noqa: F401  once, before the forks

    os.fsync = lambda fd: None  # type: ignore[assignment, misc]  against power loss; a kill needs none
    gc.freeze()
    work, *arguments = sys.argv[1:]
    if work == "lines":
        kill_between_lines(Path(arguments[0]))
    else:
        kill_at_moments(Path(arguments[0]), int(arguments[1]))
