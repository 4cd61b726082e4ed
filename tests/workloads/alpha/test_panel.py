"""The panel: what it holds, its head, its digest."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanels import changed, small_panel
from windlass.workloads.alpha.panel import Panel


def test_arrays_are_dense_and_cannot_be_changed() -> None:
    panel = small_panel(fields={"vwap": np.asfortranarray(np.ones((120, 12)))})
    assert panel.shape == (120, 12)
    for values in (*panel.fields.values(), *panel.groups.values(), panel.member, panel.dates):
        assert values.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            values[0] = values[1]


def test_it_travels_to_another_process() -> None:
    panel = small_panel()
    assert pickle.loads(pickle.dumps(panel)).digest == panel.digest


def test_the_caller_may_go_on_with_its_array() -> None:
    close = np.ones((120, 12))
    small_panel(fields={"close": close})
    close[0] = 2.0


@given(st.integers(1, 120))
def test_the_head_is_the_same_panel_with_fewer_days(rows: int) -> None:
    panel = small_panel(borrow=np.full((120, 12), 0.01))
    head = panel.head(rows)
    assert head.shape == (rows, 12)
    assert head.names == panel.names
    for name, values in panel.fields.items():
        assert np.shares_memory(head.fields[name], values)
        np.testing.assert_array_equal(head.fields[name], values[:rows])
    np.testing.assert_array_equal(head.member, panel.member[:rows])
    assert head.borrow is not None and head.borrow.shape == (rows, 12)
    assert head.groups["sector"] is not None and (head.groups["sector"] == panel.groups["sector"]).all()
    assert (head.digest == panel.digest) == (rows == 120)


@pytest.mark.parametrize("rows", [0, -1, 121])
def test_a_head_of_days_that_do_not_exist_is_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="120 days"):
        small_panel().head(rows)


def _with_a_cell(name: str, value: float) -> Panel:
    values = np.array(small_panel().fields[name])
    values[7, 7] = value
    return small_panel(fields={name: values})


def test_any_change_of_the_content_changes_the_digest() -> None:
    panel = small_panel()
    member, sector = np.array(panel.member), np.array(panel.groups["sector"])
    member[3, 0] ^= True
    sector[0] = -1
    others = [
        _with_a_cell("close", 1.25),
        _with_a_cell("volume", np.nan),
        _with_a_cell("cap", 0.0),
        small_panel(member=member),
        small_panel(groups={"sector": sector}),
        small_panel(group_names={**panel.group_names, "sector": ("a", "b", "c")}),
        small_panel(dates=panel.dates + 1),
        changed(panel, names=tuple(f"M{i:04d}" for i in range(12))),
        small_panel(fields={"cap": None}),
        small_panel(fields={"cap": None, "size": panel.fields["cap"]}),
        small_panel(borrow=np.full((120, 12), np.nan)),
        small_panel(borrow=np.zeros((120, 12))),
    ]
    digests = [panel.digest, *(other.digest for other in others)]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)


def test_the_digest_is_of_values_not_of_bits() -> None:
    odd_nan = np.array([0xFFF8000000000001], dtype=np.uint64).view(np.float64)[0]
    assert _with_a_cell("cap", odd_nan).digest == _with_a_cell("cap", np.nan).digest
    assert _with_a_cell("volume", -0.0).digest == _with_a_cell("volume", 0.0).digest
    panel = small_panel()
    backwards = dict(reversed(panel.fields.items()))
    assert changed(panel, fields=backwards).digest == panel.digest == small_panel().digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dates": small_panel().dates[::-1]}, "strictly ascending"),
        ({"names": ("N0000",) * 12}, "sorted"),
        ({"fields": {"close": None}}, "close is missing"),
        ({"fields": {"cap": np.ones((120, 11))}}, "cap has shape"),
        ({"member": np.ones((119, 12), bool)}, "member has shape"),
        ({"borrow": np.ones((12, 120))}, "borrow has shape"),
        ({"group_names": {}}, "do not fit"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(small_panel(), **change)
