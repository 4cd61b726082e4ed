"""Splits: a side follows from content alone, shares are kept, and what leaks between parts is found."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.datasets.splits import Item, held_out, leaks, split
from windlass.errors import DataError

SHARES = {"train": 0.8, "validation": 0.1, "heldout": 0.1}
CONTENTS = [f"What is {i} + {j}?" for i in range(100) for j in range(100)]


@given(st.lists(st.text()), st.lists(st.text()), st.floats(0, 1))
def test_rows_that_are_added_move_none_of_the_others(before: list[str], more: list[str], share: float) -> None:
    assert held_out(more + before, share)[len(more) :] == held_out(before, share)
    assert split(before + more, SHARES)[: len(before)] == split(before, SHARES)


@given(st.lists(st.sampled_from("abcdef")), st.floats(0, 1))
def test_duplicates_are_on_one_side(contents: list[str], share: float) -> None:
    sides = set(zip(contents, held_out(contents, share), strict=True))
    parts = set(zip(contents, split(contents, SHARES), strict=True))
    assert len(sides) == len(parts) == len(set(contents))


@given(st.lists(st.text()), st.floats(0, 1), st.floats(0, 1))
def test_what_is_held_out_stays_so_at_a_larger_share(contents: list[str], a: float, b: float) -> None:
    less, more = sorted((a, b))
    assert all(large for small, large in zip(held_out(contents, less), held_out(contents, more), strict=True) if small)


@given(st.lists(st.text()))
def test_a_share_of_nothing_and_of_all(contents: list[str]) -> None:
    assert not any(held_out(contents, 0)) and all(held_out(contents, 1))
    assert set(split(contents, {"all": 1.0, "none": 0.0})) <= {"all"}


@given(st.permutations(list(SHARES.items())))
def test_the_order_of_the_parts_does_not_matter(shares: list[tuple[str, float]]) -> None:
    assert split(CONTENTS[:200], dict(shares)) == split(CONTENTS[:200], SHARES)


def test_two_parts_hold_out_what_held_out_does() -> None:
    parts = split(CONTENTS, {"train": 0.7, "heldout": 0.3})
    assert [part == "heldout" for part in parts] == held_out(CONTENTS, 0.3)


def test_parts_have_their_share() -> None:
    parts = split(CONTENTS, SHARES)
    for name, share in SHARES.items():
        spread = math.sqrt(len(CONTENTS) * share * (1 - share))
        assert abs(parts.count(name) - share * len(CONTENTS)) < 4 * spread


def test_a_side_is_the_same_on_every_machine() -> None:
    parts = split([f"What is 0 + {i}?" for i in range(8)], {"train": 0.5, "heldout": 0.5})
    assert "".join(part[0] for part in parts) == "tththhht"  # by sha256sum: those below 8 are held out


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(DataError, match="the share to hold out is"):
        held_out(["a"], share)
    with pytest.raises(DataError, match="the share of 'b' is"):
        split(["a"], {"a": 0.5, "b": share})


def test_shares_that_do_not_add_up() -> None:
    with pytest.raises(DataError, match=r"train 0.8 \+ heldout 0.3 add up to 1.1, not to 1"):
        split(["a"], {"train": 0.8, "heldout": 0.3})
    with pytest.raises(DataError, match="at least one part"):
        split(["a"], {})
    assert split(["a"], dict.fromkeys(map(str, range(10)), 0.1))  # ten tenths are no 1 in binary


def test_leaks_name_both_rows_and_tell_contradictions() -> None:
    parts = {
        "train": [Item(1, "p", "1"), Item(2, "q", "2"), Item(3, "p", "1"), Item(4, "r", None)],
        "heldout": [Item(1, "q", "2"), Item(5, "p", "9"), Item(6, "r", "0"), Item(7, "s", "3")],
        "other": [Item(2, "s", "3")],
    }
    assert [str(leak) for leak in leaks(parts)] == [
        "row 1 of heldout asks what row 2 of train asks",
        "row 5 of heldout asks what row 1 of train asks, and expects something else",
        "row 6 of heldout asks what row 4 of train asks",
        "row 2 of other asks what row 7 of heldout asks",
    ]


@given(st.lists(st.text(max_size=3)))
def test_a_split_by_content_leaks_nothing(contents: list[str]) -> None:
    parts: dict[str, list[Item]] = {name: [] for name in SHARES}
    for row, (content, part) in enumerate(zip(contents, split(contents, SHARES), strict=True), 1):
        parts[part].append(Item(row, content, None))
    assert leaks(parts) == []


def test_a_split_of_a_split_needs_a_name_of_its_own() -> None:
    contents = [f"row {i}" for i in range(2000)]
    kept = [one for one, out in zip(contents, held_out(contents, 0.2), strict=True) if not out]
    assert not any(held_out(kept, 0.2))
    again = sum(held_out(kept, 0.2, within="training"))
    assert abs(again / len(kept) - 0.2) < 0.05
