"""Reading a panel: what files may look like, what is counted, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alphapanels import changed, long_rows, small_panel, write_panel, write_rows
from windlass.errors import DataError
from windlass.workloads.alpha.checks import examine
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.reading import Loaded, read_panel

PANEL = small_panel(days=70, names=12)
PANEL = changed(PANEL, borrow=np.where(np.isnan(PANEL.fields["cap"]), np.nan, 0.01))
ROWS = long_rows(PANEL)
PLAIN = ROWS.select("date", "instrument", "open", "high", "low", "close", "volume")
DAYS = [str(day) for day in PANEL.dates]


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Callable[..., Loaded]]:
    """Reads tables that are given as frames or as text."""

    def write(name: str, table: pl.DataFrame | str) -> Path:
        if isinstance(table, str):
            (tmp_path / f"{name}.csv").write_text(table)
            return tmp_path / f"{name}.csv"
        return write_rows(table, tmp_path / f"{name}.parquet")

    def read(data: pl.DataFrame | str, columns: Sequence[str] = (), **others: pl.DataFrame | str) -> Loaded:
        files = {name: write(name, table) for name, table in others.items()}
        return read_panel(write("data", data), **files, columns=columns)

    yield read


def edited(row: int, **values: object) -> pl.DataFrame:
    """``PLAIN`` as text with other values in one row (from 1)."""
    text = PLAIN.cast(pl.String)
    return text.with_columns(
        pl.when(pl.int_range(pl.len()) == row - 1).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


# --- what files may look like


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_written_panel_reads_back_to_the_same_digest(tmp_path: Path, suffix: str) -> None:
    loaded = read_panel(write_panel(PANEL, tmp_path / f"panel.{suffix}"))
    assert loaded.panel.digest == loaded.manifest.digest == PANEL.digest
    assert loaded.manifest.rows == len(ROWS)
    assert loaded.panel.group_names == PANEL.group_names


SPELLINGS = {
    "date": ["Date", "datetime", "TIMESTAMP", "day"],
    "instrument": ["Ticker", "symbol", "name", "asset", "code"],
    "open": ["Open", "o", "O"],
    "high": ["HIGH", "h"],
    "low": ["Low ", "l"],
    "close": ["Close", "C"],
    "volume": ["Volume", "v"],
}


@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_order_spelling_duplicates_and_format_never_change_the_digest(tmp_path: Path, data: st.DataObject) -> None:
    rows = ROWS
    repeated = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5), label="repeated")
    rows = pl.concat([rows, rows[repeated]]).sample(fraction=1, shuffle=True, seed=data.draw(st.integers(0, 999)))
    rows = rows.select(data.draw(st.permutations(rows.columns)))
    rows = rows.rename({name: data.draw(st.sampled_from(others)) for name, others in SPELLINGS.items()})
    dates = next(name for name in rows.columns if name.lower() in ("date", "datetime", "timestamp", "day"))
    written = data.draw(st.sampled_from(["date", "datetime", "%Y%m%d", "%Y/%m/%d", "%Y-%m-%dT%H:%M:%S+00:00"]))
    column = pl.col(dates)
    if written == "datetime":
        column = column.cast(pl.Datetime("ns")).dt.replace_time_zone("America/New_York")
    elif written != "date":
        column = column.cast(pl.Datetime).dt.strftime(written)
    suffix = data.draw(st.sampled_from(["csv", "tsv", "parquet"]))
    loaded = read_panel(write_rows(rows.with_columns(column), tmp_path / f"panel.{suffix}"))
    assert loaded.panel.digest == PANEL.digest
    assert loaded.manifest.duplicates == len(repeated)


def test_names_stay_text_and_unused_columns_are_said(read: Callable[..., Loaded]) -> None:
    rows = PLAIN.with_columns(
        pl.col("instrument").str.replace("N", "00"),
        pl.lit(3.5).alias("EPS Growth"),
        pl.lit(1.0).alias("Adj Close"),
        pl.lit(0.1).alias("returns"),
        pl.lit("x").alias("note"),
        pl.lit(1).alias("p/e"),
    )
    for table in (rows, rows.write_csv()):
        loaded = read(table, columns=["eps_growth"])
        assert loaded.panel.names[0] == "000000"
        assert list(loaded.panel.fields) == ["open", "high", "low", "close", "volume", "eps_growth"]
        assert loaded.manifest.ignored == ("adj_close", "returns", "note", "p/e")
        assert "eps_growth" in read(table).manifest.ignored  # whether it is a label, nobody but a person knows
        with pytest.raises(DataError, match="Did you mean 'eps_growth'"):
            read(table, columns=["eps_grwth"])


def test_other_columns_become_fields_or_not_whatever_the_format(read: Callable[..., Loaded]) -> None:
    rows = PLAIN.with_columns(
        flag=pl.col("close") > 20,
        nothing=pl.lit(None, pl.Float64),
        when=pl.col("date"),
        exact=pl.col("volume").cast(pl.Decimal(20, 2)),
        wide=pl.lit(7, pl.Int8),
    )
    asked = ["flag", "exact", "wide"]
    one, other = read(rows, columns=asked), read(rows.write_csv(), columns=asked)
    assert one.panel.digest == other.panel.digest
    assert one.manifest.ignored == other.manifest.ignored == ("nothing", "when")
    assert {"flag", "exact", "wide"} < set(one.panel.fields)


def test_text_files_may_have_a_mark_at_their_start_and_other_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "panel.CSV"
    path.write_bytes(b"\xef\xbb\xbf" + PLAIN.write_csv().replace("\n", "\r\n").encode())
    plain = write_rows(PLAIN, tmp_path / "panel.parquet")
    assert read_panel(path).panel.digest == read_panel(plain).panel.digest


def test_cells_without_a_value_may_be_written_in_many_ways(read: Callable[..., Loaded]) -> None:
    for word in ("", "NaN", "NA", "null", " n/a ", "-"):
        loaded = read(edited(5, high=word).write_csv())
        assert loaded.manifest.null_cells["high"] == 1
        assert np.isnan(loaded.panel.fields["high"]).sum() == PANEL.fields["high"].size - len(PLAIN) + 1


def test_a_panel_alone_has_every_priced_name_as_a_member(read: Callable[..., Loaded]) -> None:
    loaded = read(edited(5, close=None))
    np.testing.assert_array_equal(loaded.panel.member, ~np.isnan(loaded.panel.fields["close"]))
    assert loaded.panel.groups == {} and loaded.panel.borrow is None
    assert loaded.manifest.membership.snapshots == 0 and loaded.manifest.borrow_known is None


# --- what is counted


def test_every_defect_is_counted_and_dealt_with(read: Callable[..., Loaded]) -> None:
    start = read(PLAIN).manifest
    assert not (start.ohlc_violations or start.duplicates or start.unsorted or start.jumps or start.zero_volume)
    assert start.non_positive == {} and start.ends_early == 1 and start.holes == 3

    text = edited(1, low="9999", high="1").cast(pl.Float64, strict=False).select("low", "high")
    rows = PLAIN.with_columns(low=text["low"], high=text["high"])  # the first name's first day
    rows = rows.with_columns(
        open=pl.when(pl.int_range(pl.len()) == 30).then(-1.0).otherwise("open"),
        volume=pl.when(pl.int_range(pl.len()) == 31)
        .then(0)
        .when(pl.int_range(pl.len()) == 32)
        .then(-5.0)
        .otherwise("volume"),
    )
    last = pl.col("date") == pl.lit(DAYS[-1]).str.to_date()
    jump = (pl.col("instrument") == "N0000") & last
    rows = rows.with_columns(
        pl.when(jump).then(pl.col(name) * 2).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    )
    rows = pl.concat([rows[40:], rows[:40], rows[50:52]])
    loaded = read(rows)
    manifest = loaded.manifest
    assert manifest.ohlc_violations == 1
    assert manifest.non_positive == {"open": 1, "volume": 1}
    assert manifest.zero_volume == 1
    assert manifest.duplicates == 2
    assert manifest.unsorted > 0
    assert manifest.jumps == 1
    assert [(one.date, one.name) for one in manifest.largest_jumps] == [(DAYS[-1], "N0000")]
    assert manifest.largest_jumps[0].move == pytest.approx(1, abs=0.2)
    assert np.nanmin(loaded.panel.fields["open"]) > 0
    assert np.nanmin(loaded.panel.fields["volume"]) == 0
    for word in ("ohlc_violations: 1", "jumps: 1", "duplicates: 2", "holes: 3", "non_positive: 2"):
        assert any(note.startswith(word) for note in manifest.notes)


def test_nulls_are_counted_once_where_rows_repeat(read: Callable[..., Loaded]) -> None:
    rows = edited(5, high="")
    assert read(pl.concat([rows, rows[4:5]]).write_csv()).manifest.null_cells["high"] == 1


def test_unsorted_rows_are_those_after_a_later_day_of_their_name(read: Callable[..., Loaded]) -> None:
    assert read(PLAIN.sort("instrument", "date")).manifest.unsorted == 0
    order = list(range(len(PLAIN)))
    order[0], order[200] = order[200], order[0]
    assert 1 <= read(PLAIN[order]).manifest.unsorted <= 2


def test_a_jump_is_over_the_last_known_close(read: Callable[..., Loaded]) -> None:
    """A name that comes back from a hole, or has no close on the day before, is compared with its last close."""
    rows = PLAIN.filter((pl.col("instrument") != "N0000") | (pl.col("date").rank("dense") != 30))
    third = pl.col("date").rank("dense") > 30
    rows = rows.with_columns(
        pl.when(third & (pl.col("instrument") == "N0000"))
        .then(pl.col("close") / 2)
        .otherwise(pl.col("close"))
        .alias("close")
    )
    manifest = read(rows).manifest
    assert [(one.date, one.name) for one in manifest.largest_jumps] == [(DAYS[30], "N0000")]


def test_the_manifest_is_plain_json_without_folders(read: Callable[..., Loaded], tmp_path: Path) -> None:
    manifest = read(PLAIN, sectors="instrument,sector\nN0000,Energy\n").manifest
    text = json.dumps(manifest.to_dict())
    assert str(tmp_path) not in text
    assert [file.role for file in manifest.files] == ["data", "sectors"]
    assert all(len(file.sha256) == 64 and file.bytes for file in manifest.files)
    assert manifest.groups == {"sector": {"": 11, "Energy": 1}}


def test_a_panel_that_was_made_has_a_manifest_too() -> None:
    panel = small_panel(days=70)
    manifest = examine(panel)
    assert manifest.files == () and manifest.digest == panel.digest
    assert manifest.rows == len(long_rows(panel)) and manifest.holes == 3


def test_survivorship(read: Callable[..., Loaded]) -> None:
    assert read(PLAIN).manifest.survivorship == "none seen"  # N0002 ends early
    alive = read(PLAIN.filter(pl.col("instrument") != "N0002")).manifest
    assert alive.survivorship == "likely"
    assert any("go on to the last day" in note for note in alive.notes)
    snapshot = PLAIN.select("instrument").unique().write_csv() + "GONE1\nGONE2\n"
    dated = "\n".join(["instrument,date", *(f"{name},2020-01-01" for name in snapshot.split()[1:])])
    gone = read(PLAIN, membership=dated).manifest
    assert gone.survivorship == "likely" and gone.membership.without_prices == 2


# --- sectors, membership, borrow


def snapshots(*dated: tuple[str, str]) -> str:
    lines = [f"{name},{day}" for day, names in dated for name in names.split()]
    return "\n".join(["symbol,asof", *lines])


def members_on(panel: Panel, row: int) -> str:
    return " ".join(np.array(panel.names)[panel.member[row]])


def test_the_latest_snapshot_rules_from_its_date_on(read: Callable[..., Loaded]) -> None:
    first, second = DAYS[20], DAYS[40]
    table = snapshots((second, "N0000 N0007"), (first, "N0006 N0007"), ("2031-01-01", "N0008"))
    loaded = read(PLAIN, membership=table)
    assert members_on(loaded.panel, 0) == members_on(loaded.panel, 39) == "N0006 N0007"
    assert members_on(loaded.panel, 40) == members_on(loaded.panel, 69) == "N0000 N0007"
    found = loaded.manifest.membership
    assert (found.snapshots, found.first, found.least_a_day, found.never_members) == (3, first, 2, 9)
    assert any(
        note.startswith(f"days before the first snapshot of members ({first}): 20") for note in loaded.manifest.notes
    )


def test_between_two_days_of_the_panel_a_snapshot_rules_on_the_next(read: Callable[..., Loaded]) -> None:
    saturday = next(str(day + 1) for day in PANEL.dates[10:] if datetime.fromisoformat(str(day)).weekday() == 4)
    row = int(np.searchsorted(PANEL.dates, np.datetime64(saturday)))
    panel = read(PLAIN, membership=snapshots(("2019-12-31", "N0000 N0006"), (saturday, "N0007"))).panel
    assert members_on(panel, row - 1) == "N0000 N0006" and members_on(panel, row) == "N0007"


def test_a_member_has_a_close_on_the_day(read: Callable[..., Loaded]) -> None:
    panel = read(PLAIN, membership=snapshots(("2019-12-31", "N0001 N0003"))).panel
    assert members_on(panel, 0) == "N0003"  # N0001 is listed later
    assert members_on(panel, 35) == "N0001"  # the hole of N0003


def test_the_first_group_on_record_counts(read: Callable[..., Loaded]) -> None:
    later = "N0000,2020-03-01,Late\n"
    earlier = "N0000,2019-01-01,Early\nN0006,2019-01-01,Own\nN0007,2019-01-01,Own\n"
    membership = f"ticker,date,sector\n{later}{earlier}"
    sectors = "name,sector,industry\nN0006,Given,Small\nN0008,,\n"
    loaded = read(PLAIN, membership=membership, sectors=sectors)
    words = loaded.panel.group_names["sector"]
    found = {
        name: words[code]
        for name, code in zip(loaded.panel.names, loaded.panel.groups["sector"], strict=True)
        if code >= 0
    }
    assert found == {"N0000": "Early", "N0006": "Given", "N0007": "Own"}
    assert loaded.panel.group_names["industry"] == ("Small",)
    assert "subindustry" not in loaded.panel.groups


def test_a_group_does_not_depend_on_later_rows(read: Callable[..., Loaded]) -> None:
    moved = PLAIN.with_columns(
        sector=pl.when(pl.col("date").rank("dense") > 30).then(pl.lit("A")).otherwise(pl.lit("B"))
    )
    panel = read(moved.reverse()).panel
    assert panel.group_names["sector"] == ("B",)
    assert (panel.groups["sector"] == 0).all()


def test_borrow_rates_hold_from_their_date_on(read: Callable[..., Loaded]) -> None:
    table = f"ticker,rate,date\nN0000,0.02,{DAYS[50]}\nN0000,0.3,{DAYS[10]}\nN0006,0.05,2019-01-01\nN0007,,2019-01-01\n"
    loaded = read(PLAIN, borrow=table)
    borrow = loaded.panel.borrow
    assert borrow is not None
    assert np.isnan(borrow[:10, 0]).all() and (borrow[10:50, 0] == 0.3).all() and (borrow[50:, 0] == 0.02).all()
    assert (borrow[:, 6] == 0.05).all() and np.isnan(borrow[:, 7]).all()
    assert loaded.manifest.borrow_known == pytest.approx(130 / loaded.panel.member.sum())


def test_borrow_rates_without_dates_hold_always_and_go_before_the_panels_own(read: Callable[..., Loaded]) -> None:
    borrow = read(PLAIN.with_columns(borrow=pl.lit(0.5)), borrow="instrument,rate\nN0000,0.02\n").panel.borrow
    assert borrow is not None
    assert (borrow[:, 0] == 0.02).all() and np.isnan(borrow[:, 1:]).all()


def test_a_membership_file_goes_before_the_column(read: Callable[..., Loaded]) -> None:
    loaded = read(PLAIN.with_columns(member=pl.lit(False)), membership=snapshots(("2019-01-01", "N0000")))
    assert members_on(loaded.panel, 0) == "N0000"
    assert any("'member' is not used" in note for note in loaded.manifest.notes)


def test_what_is_known_on_a_day_does_not_change_with_later_rows(read: Callable[..., Loaded]) -> None:
    table = snapshots((DAYS[0], "N0000 N0006"), (DAYS[63], "N0007"))
    rates = f"ticker,rate,date\nN0000,0.02,{DAYS[5]}\nN0000,0.5,{DAYS[64]}\n"
    whole = read(PLAIN, membership=table, borrow=rates).panel
    part = read(PLAIN.filter(pl.col("date").rank("dense") <= 62), membership=table, borrow=rates).panel
    assert whole.head(62).digest == part.digest


# --- what is refused


def bad(rows: pl.DataFrame) -> str:
    return rows.write_csv()


INFINITE = edited(4, volume="inf")
REFUSED: dict[str, tuple[pl.DataFrame | str, str]] = {
    "no close": (PLAIN.rename({"close": "closs"}), "no column 'close'. Did you mean 'closs'?"),
    "one column a name": (
        "date," + ",".join(f"N{i}" for i in range(500)) + "\n1" + ",1" * 500,
        "n18, …. Wanted, one row a",
    ),
    "no name": (PLAIN.rename({"instrument": "tikcer"}), "no column 'instrument'. Did you mean 'tikcer'?"),
    "no date": (PLAIN.drop("date"), "no column 'date'"),
    "another separator": (PLAIN.write_csv(separator=";"), "Is ',' the separator of this file?"),
    "two columns of one name": (PLAIN.with_columns(pl.col("close").alias("CLOSE ")), "two columns 'close'"),
    "header alone": (PLAIN[:0].write_csv(), "a header and no rows"),
    "no rows": (PLAIN[:0], "no rows"),
    "empty file": ("", "is empty"),
    "one name": (PLAIN.filter(pl.col("instrument") == "N0000"), "one name (days: 70)"),
    "one day": (PLAIN.filter(pl.col("date") == pl.col("date").min()), "one day (names: 11)"),
    "one row": (PLAIN[:1], "one day (names: 1)"),
    "few days": (PLAIN.filter(pl.col("date").rank("dense") < 60), "59 days of 12 names, too few"),
    "few names": (PLAIN.filter(pl.col("instrument") > "N0002"), "70 days of 9 names, too few"),
    "all missing": (PLAIN.with_columns(pl.lit(None, pl.Float64).alias("close")), "'close' has no usable value"),
    "all missing in text": (PLAIN.with_columns(pl.lit("NaN").alias("open")).write_csv(), "'open' has no usable value"),
    "all zero": (PLAIN.with_columns(pl.lit(0.0).alias("close")), "'close' has no usable value"),
    "text in numbers": (bad(edited(7, close="12,5")), "row 7 has text where a number belongs: '12,5' ('close')"),
    "words in numbers": (edited(7, close="twelve"), "row 7 has text where a number belongs: 'twelve'"),
    "dates in numbers": (PLAIN.with_columns(pl.col("date").alias("open")), "the column 'open' holds Date"),
    "bad date": (bad(edited(9, date="2020-13-45")), "row 9 has no readable date: '2020-13-45'"),
    "ambiguous date": (bad(edited(9, date="01/02/2020")), "row 9 has no readable date"),
    "no date in a row": (edited(9, date=None), "row 9 has no readable date: None"),
    "numbers as dates": (PLAIN.with_columns(pl.lit(1.5).alias("date")), "the column 'date' holds Float64, not dates"),
    "no instrument": (edited(3, instrument=" "), "row 3 has no instrument"),
    "infinite": (INFINITE, "row 4 has an infinite 'volume'"),
    "infinite in text": (bad(INFINITE), "row 4 has an infinite 'volume'"),
    "infinite in another field": (
        PLAIN.with_columns(pl.lit(float("inf")).alias("cap")).write_csv(),
        "row 1 has an infinite 'cap'",
    ),
    "no members": (PLAIN.with_columns(member=pl.lit(0)), "is a member on any day"),
    "percentages of borrow": (PLAIN.with_columns(borrow=pl.lit(25.0)), "borrow rate of 25"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_panel_is_refused_with_its_reason(read: Callable[..., Loaded], case: str) -> None:
    table, words = REFUSED[case]
    with pytest.raises(DataError) as caught:
        read(table)
    assert words in str(caught.value)
    assert caught.value.next_step


def test_conflicting_rows_are_refused_with_the_first_three(read: Callable[..., Loaded]) -> None:
    others = PLAIN[:5].with_columns(pl.col("close") + 1)
    with pytest.raises(DataError) as caught:
        read(pl.concat([others, PLAIN]))
    message = caught.value.message
    assert message.count(DAYS[0]) == 3 and "N0000 (close " in message and "N0003" in message
    assert "N0004" not in message
    day_and_night = PLAIN.with_columns(pl.col("date").cast(pl.Datetime))
    again = day_and_night.with_columns(pl.col("date").dt.offset_by("6h"), pl.col("close") * 1.01)
    with pytest.raises(DataError, match="bars within a day"):
        read(pl.concat([day_and_night, again]))


FILES: dict[str, tuple[dict[str, str], str]] = {
    "other names": ({"sectors": "ticker,sector\nN0000.US,Energy\n"}, "names no instrument of the panel"),
    "two sectors": ({"sectors": "ticker,sector\nN0000,Energy\nN0000,Tech\n"}, "'N0000' is in 'Energy' and in 'Tech'"),
    "no sector": ({"sectors": "ticker,sektor\nN0000,Energy\n"}, "no column 'sector'. Did you mean 'sektor'?"),
    "members of other names": ({"membership": "ticker,asof\nX,2019-01-01\n"}, "names no instrument"),
    "members without dates": ({"membership": "ticker\nN0000\n"}, "no column 'date'"),
    "members on a bad date": ({"membership": "ticker,asof\nN0000,soon\n"}, "row 1 has no readable date: 'soon'"),
    "members that are gone": (
        {"membership": "ticker,asof\nX,2019-01-01\nN0000,2031-01-01\n"},
        "is a member on any day",
    ),
    "two rates": ({"borrow": "ticker,rate\nN0000,0.1\nN0000,0.2\n"}, "'N0000' has two rates: 0.1 and 0.2"),
    "a negative rate": ({"borrow": "ticker,rate\nN0000,-0.1\n"}, "borrow rate of -0.1"),
    "no rate": ({"borrow": "ticker,price\nN0000,0.1\n"}, "no column 'rate'"),
    "a word as rate": ({"borrow": "ticker,rate\nN0000,hard\n"}, "row 1 has text where a number belongs: 'hard'"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_beside_the_panel_is_refused_with_its_reason(read: Callable[..., Loaded], case: str) -> None:
    files, words = FILES[case]
    with pytest.raises(DataError) as caught:
        read(PLAIN, **files)
    assert words in str(caught.value)
    assert caught.value.next_step


def test_files_that_are_none(tmp_path: Path) -> None:
    data = write_rows(PLAIN, tmp_path / "data.parquet")
    broken, folder = tmp_path / "broken.parquet", tmp_path / "folder.csv"
    broken.write_bytes(b"PAR1 not really")
    folder.mkdir()
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,b\n1,2\n1,2,3,4\n")
    latin = tmp_path / "latin.csv"
    latin.write_bytes(PLAIN.write_csv().replace("N0000", "Ä").encode("latin-1"))
    for path, words in [
        (latin, "cannot be read as a table"),
        (tmp_path / "none.csv", "there is no file"),
        (tmp_path / "panel.xlsx", "neither .csv, .tsv nor .parquet"),
        (broken, "cannot be read as a table"),
        (folder, "cannot be read as a table"),
        (ragged, "cannot be read as a table"),
    ]:
        with pytest.raises(DataError, match=words) as caught:
            read_panel(path)
        assert caught.value.next_step
        with pytest.raises(DataError, match="borrow"):
            read_panel(data, borrow=path)


def test_a_panel_too_large_to_be_dense_is_refused(read: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, value in (("MOST_CELLS", 700), ("MOST_NAMES", 11)):
        with monkeypatch.context() as patch:
            patch.setattr(f"windlass.workloads.alpha.reading.{limit}", value)
            with pytest.raises(DataError, match="70 days of 12 names"):
                read(PLAIN)


def test_no_field_may_hide_what_expressions_compute(read: Callable[..., Loaded]) -> None:
    panel = read(PLAIN.with_columns(returns=pl.lit(1.0), adv=pl.lit(1.0), vwap=pl.lit(-1.0))).panel
    assert set(panel.fields) == {"open", "high", "low", "close", "volume", "vwap"}
    assert np.isnan(panel.fields["vwap"]).all()
    assert changed(panel, fields={"vwap": None}).digest == read(PLAIN).panel.digest
