"""Digests and files of named tensors."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.errors import NotFound, WindlassError
from windlass.training.tensors import digest, finite, load, save

torch = pytest.importorskip("torch")

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


def some() -> dict[str, object]:
    return {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(7), "empty": torch.empty(0, 4)}


def test_a_digest_is_of_name_dtype_shape_and_bytes() -> None:
    bytes_of_b = struct.pack("<6f", *range(6))
    content = b"a|torch.int64|()|" + struct.pack("<q", 7) + b"b|torch.float32|(2, 3)|" + bytes_of_b
    assert digest(some()) == hashlib.sha256(content + b"empty|torch.float32|(0, 4)|").hexdigest()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_change_of_content_changes_the_digest(dtype: object) -> None:
    whole = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    same = digest({"w": whole})
    assert digest({"w": whole.t().contiguous().t()}) == same  # another layout in memory
    assert digest({"w": whole.clone().requires_grad_(whole.is_floating_point())}) == same
    other = whole.clone()
    other[1, 2] = 0
    others = [{"w": other}, {"v": whole}, {"w": whole.reshape(3, 2)}, {"w": whole.double().cfloat()}, {}]
    assert same not in map(digest, others)


def test_order_does_not_matter_and_nan_is_content() -> None:
    pair = {"x": torch.tensor([float("nan")]), "y": torch.tensor([-0.0])}
    assert digest(pair) == digest(dict(reversed(pair.items())))
    assert digest(pair) != digest({**pair, "y": torch.tensor([0.0])})


def test_finite_names_what_is_not() -> None:
    good = {"w": torch.ones(3), "n": torch.tensor([2**62]), "empty": torch.empty(0), "flag": torch.tensor(True)}
    bad = {"z": torch.tensor([1.0, float("nan")]), "h": torch.tensor(float("-inf"), dtype=torch.bfloat16)}
    eight = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    assert finite(good) == []
    assert finite({**bad, **good, "e": eight, "c": torch.tensor([complex(0, float("inf"))])}) == ["c", "e", "h", "z"]


@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtype: object, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"t{index}.weight": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for index, shape in enumerate(shapes)
    }
    path = tmp_path_factory.mktemp("tensors") / "t.safetensors"
    save(path, tensors)
    loaded = load(path)
    assert digest(loaded) == digest(tensors)
    assert list(path.parent.iterdir()) == [path]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    metadata = {f"key{index}": f"ä{index}" for index in range(8)}
    for number in range(6):
        save(tmp_path / f"{number}", some(), dict(reversed(metadata.items())) if number % 2 else metadata)
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    header = contents.pop()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"] == metadata
    assert digest(load(tmp_path / "0")) == digest(some())


def test_tied_weights_views_and_gradients_are_saved_whole(tmp_path: Path) -> None:
    table = torch.nn.Embedding(5, 2)
    base = torch.arange(10.0)
    tensors = {
        "embed": table.weight,
        "head": table.weight,
        "left": base[:4],
        "right": base[4:],
        "t": base.view(2, 5).t(),
    }
    save(tmp_path / "t", tensors, {"format": "pt"})
    assert digest(load(tmp_path / "t")) == digest(tensors)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "t", some())
    before = (tmp_path / "t").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WindlassError, match=r"t could not be written: .*No space left on device"):
        save(tmp_path / "t", {"other": torch.ones(3)})
    assert (tmp_path / "t").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_missing_and_a_damaged_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load(tmp_path / "t")
    save(tmp_path / "t", some())
    data = (tmp_path / "t").read_bytes()
    for damaged in (b"", data[:7], data[:-1], b"\xff" * len(data), b"\x80\x02cpickle"):
        (tmp_path / "t").write_bytes(damaged)
        with pytest.raises(WindlassError, match="no readable safetensors file"):
            load(tmp_path / "t")
