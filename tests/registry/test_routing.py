"""Who answers: the same key the same checkpoint, and a growing share that nobody falls out of."""

from __future__ import annotations

import gc
import json
import os
import threading
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processes import open_files
from windlass.errors import NotFound, StoreError
from windlass.records.deployment import Role
from windlass.registry.pointer import Pointer, write_pointer
from windlass.registry.routing import Route, Router

KEYS = [f"user-{i}" for i in range(20_000)]
SHARES = st.floats(0, 1)


def data(role: str | None = None, share: float = 0.0, digest: str = "2" * 64, sequence: int = 1) -> Pointer:
    challenger: Any = None
    if role:
        challenger = {"checkpoint": "b" * 12, "digest": digest, "path": "/b", "role": role, "share": share}
    return {
        "deployment": "reader",
        "checkpoint": "a" * 12,
        "digest": "1" * 64,
        "path": "/a",
        "since": 1.0,
        "sequence": sequence,
        "challenger": challenger,
        "previous": [],
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reader.json"


def put(path: Path, pointer: Pointer) -> None:
    """Moved into place, without the wait for the disk."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(pointer))
    os.replace(beside, path)


def chosen(path: Path, pointer: Pointer) -> set[str]:
    """The keys that the canary serves."""
    put(path, pointer)
    router = Router(path)
    return {key for key in KEYS if router.route(key).role is Role.CANARY}


def test_the_champion_answers_where_nobody_challenges(path: Path) -> None:
    write_pointer(path, data())
    champion = Route(checkpoint="a" * 12, digest="1" * 64, path="/a", role=Role.CHAMPION)
    assert Router(path).route("k") == champion


def test_a_canary_gets_its_share_of_keys(path: Path) -> None:
    for share in (0.01, 0.2, 0.5):
        expected = share * len(KEYS)
        assert len(chosen(path, data("canary", share))) == pytest.approx(expected, abs=5 * expected**0.5)
    assert chosen(path, data("canary", 0.0)) == set()
    assert chosen(path, data("canary", 1.0)) == set(KEYS)
    put(path, data("canary", 1.0))
    assert Router(path).route("k") == Route(checkpoint="b" * 12, digest="2" * 64, path="/b", role=Role.CANARY)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.tuples(SHARES, SHARES).map(sorted))
def test_a_key_in_the_canary_stays_while_the_share_grows(
    tmp_path_factory: pytest.TempPathFactory, key: str, shares: list[float]
) -> None:
    path = tmp_path_factory.mktemp("grow") / "reader.json"
    router, roles = Router(path), []
    for share in shares:
        put(path, data("canary", share))
        roles.append(router.route(key).role)
        assert roles[-1] is router.route(key).role
    assert roles != [Role.CANARY, Role.CHAMPION]


def test_every_challenger_draws_anew(path: Path) -> None:
    first, second = (chosen(path, data("canary", 0.2, digest=digit * 64)) for digit in "23")
    assert len(first & second) == pytest.approx(0.04 * len(KEYS), rel=0.2)
    other = data("canary", 0.2)
    other["deployment"] = "writer"
    assert len(first & chosen(path, other)) == pytest.approx(0.04 * len(KEYS), rel=0.2)


def test_the_draw_is_as_documented(path: Path) -> None:
    """Any program can make it."""
    put(path, data("canary", 0.3))
    router = Router(path)
    for key in KEYS[:200]:
        drawn = blake2b(b"reader\0" + b"2" * 64 + b"\0" + key.encode(), digest_size=8).digest()
        assert (router.route(key).role is Role.CANARY) == (int.from_bytes(drawn, "big") < 0.3 * 2**64)


def test_text_and_its_bytes_are_one_key(path: Path) -> None:
    put(path, data("canary", 0.5))
    router = Router(path)
    for key in ("", "ключ", "k\0", *KEYS[:50]):
        assert router.route(key) == router.route(key.encode())
    router.route("\ud800")


def test_a_shadow_answers_beside_the_champion(path: Path) -> None:
    put(path, data("shadow"))
    route = Router(path).route("k")
    assert (route.role, route.path) == (Role.CHAMPION, "/a")
    assert route.shadow == Route(checkpoint="b" * 12, digest="2" * 64, path="/b", role=Role.SHADOW)


def test_a_pointer_that_moved_is_read_again(path: Path) -> None:
    router = Router(path)
    with pytest.raises(NotFound, match="nothing serves as 'reader'"):
        router.route("k")
    put(path, data("canary", 1.0))
    assert router.route("k").role is Role.CANARY
    put(path, data())
    assert router.route("k").role is Role.CHAMPION


def test_two_moves_at_once_to_a_file_of_the_same_size_and_time_are_noticed(path: Path) -> None:
    """A file system gives a freed inode's number to the next file; the one that was read is not free."""
    router = Router(path)
    put(path, data("canary", 0.0))
    assert router.route("k").role is Role.CHAMPION
    before = os.stat(path)
    for share in (0.5, 1.0):
        put(path, data("canary", share))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(path).st_size == before.st_size
    assert router.route("k").role is Role.CANARY


@pytest.mark.parametrize("content", ["", "{", "[1]", json.dumps({**data(), "path": None})])
def test_a_damaged_pointer_is_an_error_after_a_good_one_too(path: Path, content: str) -> None:
    put(path, data())
    router = Router(path)
    router.route("k")
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged"):
            router.route("k")
    path.unlink()
    with pytest.raises(NotFound):
        router.route("k")
    put(path, data())
    assert router.route("k").path == "/a"


def test_it_holds_one_file_open_however_often_the_pointer_moves(path: Path) -> None:
    router = Router(path)
    for number in range(50):
        put(path, data(sequence=number))
        router.route("k")
    gc.collect()
    assert len([target for target in open_files().values() if target.startswith(str(path.parent))]) == 1


def test_threads_get_whole_answers_while_the_pointer_moves(path: Path) -> None:
    versions = [data(), data("canary", 1.0), data("shadow"), data("canary", 0.5)]
    put(path, versions[0])
    router, stop, wrong = Router(path), threading.Event(), []

    def ask() -> None:
        try:
            while not stop.is_set():
                route = router.route("k")
                if (route.checkpoint, route.path) not in (("a" * 12, "/a"), ("b" * 12, "/b")):
                    wrong.append(route)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        put(path, versions[number % 4])
    put(path, data("canary", 1.0))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert router.route("k").role is Role.CANARY
