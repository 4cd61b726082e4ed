"""A campaign from an idea to its files, an opened holdout, and what they promise: counts, bytes, a sealed holdout."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alphajobs import WALK, config_of, contents, gate_of, opened, ran, spec_of
from alphapanels import write_panel
from windlass.errors import DataError, StudyError
from windlass.runs.folder import RunFolder
from windlass.workloads.alpha import judging
from windlass.workloads.alpha import run as job
from windlass.workloads.alpha.artifacts import METRICS
from windlass.workloads.alpha.campaign import Campaign
from windlass.workloads.alpha.evaluation.backtest import evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.gate.hac import hac_t
from windlass.workloads.alpha.ledger import LEDGER_FILE, Judged, Ledger, Opened, Trial
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.synthetic import PLANTED, synthetic_panel

EVERYTHING = {
    *("data_manifest.json", "alpha_metrics.csv", "sota_alphas.json", "gate.json", "trials.parquet", "placebo.parquet"),
    *("decay_analysis.csv", "cost_sensitivity.csv", "cost_sensitivity_break_even.csv", "capacity.csv"),
    *("ablation_results.csv", "alpha_correlation.csv", "cpcv.csv", "optimizer.csv", "optimizer_daily.csv"),
}
STRONG = {"synthetic": {"names": 60, "days": 900, "seed": 1, "ic": 0.06}, "candidates": 12}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return ran(tmp_path_factory.mktemp("lab"), spec_of(1, config_of()))


@pytest.fixture(scope="module")
def strong(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A campaign that is told the formula of a strong planted signal."""
    root = tmp_path_factory.mktemp("strong")
    told = {**STRONG, "expressions": [{"expression": f"rank({PLANTED})"}]}
    return ran(root, spec_of(1, config_of(told)))


def rows(folder: RunFolder, name: str) -> list[dict[str, str]]:
    with (folder.artifacts / name).open(newline="") as file:
        return list(csv.DictReader(file))


def ledger(folder: RunFolder) -> Ledger:
    return Ledger(folder.path.parent / LEDGER_FILE)


# Files ----------------------------------------------------------------------------------------------------------------


def test_it_leaves_every_file(done: RunFolder) -> None:
    left = contents(done).keys()
    named = {row["alpha_id"] for row in json.loads((done.artifacts / "sota_alphas.json").read_text())}
    assert {f"daily/{name}_oos_daily.csv" for name in named} <= left
    assert {name for name in left if not name.startswith("daily/")} == EVERYTHING
    assert rows(done, "alpha_metrics.csv")[0].keys() == set(METRICS)


def test_all_trials_are_in_the_table_best_first(done: RunFolder) -> None:
    table = rows(done, "alpha_metrics.csv")
    ratios = [float(row["information_ratio"]) for row in table if row["information_ratio"]]
    assert len(table) == 16 and ratios == sorted(ratios, reverse=True)
    series = pl.read_parquet(done.artifacts / "trials.parquet")
    assert set(series.columns) == {"date", *(row["expr_hash"] for row in table)}


def test_costs_add_up_on_every_day(done: RunFolder) -> None:
    files = sorted((done.artifacts / "daily").glob("*_oos_daily.csv"))
    assert files
    for path in files:
        daily = pl.read_csv(path)
        left = daily["gross"] - daily["linear"] - daily["spread"] - daily["impact"] - daily["borrow"]
        assert (left - daily["net"]).abs().max() <= 1e-12


def test_the_registry_has_every_trial_with_its_lineage(done: RunFolder) -> None:
    trials = [one for one in ledger(done).read() if isinstance(one, Trial)]
    assert [one.hash for one in trials] == list(dict.fromkeys(one.hash for one in trials)) and len(trials) == 16
    later = [one for one in trials if one.proposer in ("mutation", "crossover", "jitter")]
    assert later and all(set(one.parents) <= {one.hash for one in trials} for one in later)


@pytest.mark.parametrize("mode", ["p0", "p1"])
def test_lesser_modes_promote_nothing(tmp_path: Path, mode: str) -> None:
    folder = ran(tmp_path, spec_of(1, config_of({"mode": mode, "candidates": 8})))
    gate = gate_of(folder)
    assert gate["verdicts"] == [] and f"Mode {mode} promotes nothing" in gate["words"]
    assert (folder.artifacts / "daily").exists() == (mode == "p1")
    assert "ablation_results.csv" not in contents(folder)


# Same again -----------------------------------------------------------------------------------------------------------


def test_a_replay_gives_the_same_bytes_whatever_was_tried_in_between(tmp_path: Path) -> None:
    first = ran(tmp_path, spec_of(1, config_of()))
    ran(tmp_path, spec_of(2, config_of({"candidates": 8}), seed=9))
    again = ran(tmp_path, spec_of(3, config_of(), lineage={"replay_of": first.id}))
    assert contents(again) == contents(first)
    assert gate_of(again)["trials"]["earlier"] == 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the campaign's own code runs after it."""


@pytest.mark.parametrize("evaluated", [1, 8, 13])
def test_a_campaign_that_is_killed_goes_on_to_the_same_bytes(
    tmp_path: Path, done: RunFolder, evaluated: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, count, trial = spec_of(1, config_of()), 0, Campaign.trial

    def killing(self: Campaign, candidate: Any) -> Any:
        nonlocal count
        count += 1
        if count == evaluated + 1:
            raise Killed
        return trial(self, candidate)

    monkeypatch.setattr(Campaign, "trial", killing)
    with pytest.raises(Killed):
        ran(tmp_path, spec)
    monkeypatch.undo()
    again = ran(tmp_path, spec)
    assert {**contents(again), "gate.json": b""} == {**contents(done), "gate.json": b""}
    first, second = gate_of(done), gate_of(again)
    assert first["trials"].pop("registry_bytes") <= second["trials"].pop("registry_bytes")
    assert first == second


# Counting -------------------------------------------------------------------------------------------------------------


def test_trials_of_earlier_runs_on_the_same_panel_count(tmp_path: Path) -> None:
    first = ran(tmp_path, spec_of(1, config_of()))
    second = ran(tmp_path, spec_of(2, config_of(), seed=5))
    both = {one.hash for one in ledger(first).trials(gate_of(first)["market"])}
    trials = gate_of(second)["trials"]
    assert (trials["this_run"], trials["earlier"]) == (16, len(both) - 16)
    assert trials["counted"] == 2 * len(both)
    shutil.rmtree(first.path)
    third = ran(tmp_path, spec_of(3, config_of(), seed=5))  # evaluates again what is gone
    assert gate_of(third)["trials"]["earlier"] == trials["earlier"]
    assert f"{trials['earlier']} earlier trials were evaluated again" in third.journal_file.read_text()
    assert gate_of(third)["max_t"] == gate_of(second)["max_t"]


def test_more_trials_make_the_gate_stricter(tmp_path: Path) -> None:
    few = ran(tmp_path, spec_of(1, config_of({"candidates": 4})))
    ran(tmp_path, spec_of(2, config_of({"candidates": 40}), seed=5))
    same = ran(tmp_path, spec_of(3, config_of({"candidates": 4})))
    assert gate_of(same)["max_t"]["critical"] > gate_of(few)["max_t"]["critical"]
    assert gate_of(same)["best"] == gate_of(few)["best"]


def test_trials_on_a_panel_that_is_nearly_the_same_are_told(tmp_path: Path) -> None:
    ran(tmp_path, spec_of(1, config_of({"candidates": 4})))
    other = ran(tmp_path, spec_of(2, config_of({"candidates": 4, "synthetic": {"names": 30, "days": 419, "seed": 3}})))
    assert gate_of(other)["trials"]["earlier"] == 0
    assert "days in common" in gate_of(other)["overlaps"][0] and "4 trials" in gate_of(other)["overlaps"][0]


# The holdout ----------------------------------------------------------------------------------------------------------


def test_no_price_of_the_holdout_reaches_a_campaign(tmp_path: Path) -> None:
    panel = synthetic_panel(30, 420, seed=3)
    times = job.prepared(job.read_config(config_of()))[2]
    changed = {name: values.copy() for name, values in panel.fields.items()}
    for values in changed.values():
        values[times.dev.stop :] *= np.random.default_rng(0).uniform(0.5, 2.0, values[times.dev.stop :].shape)
    other = Panel(panel.dates, panel.names, changed, panel.groups, panel.group_names, panel.member, panel.borrow)
    left = []
    for number, one in enumerate((panel, other)):
        (tmp_path / str(number)).mkdir()
        write_panel(one, tmp_path / str(number) / "panel.parquet")
        config = config_of({"data": str(tmp_path / str(number) / "panel.parquet"), "candidates": 8})
        left.append(contents(ran(tmp_path / str(number), spec_of(1, config))))
    told = ("gate.json", "data_manifest.json")  # they name the whole panel's digest
    assert {k: v for k, v in left[0].items() if k not in told} == {k: v for k, v in left[1].items() if k not in told}
    assert left[0]["data_manifest.json"] != left[1]["data_manifest.json"]


def test_a_strong_signal_is_promoted_and_kept(strong: RunFolder) -> None:
    gate = gate_of(strong)
    assert "provisional" in [one["grade"] for one in gate["verdicts"]]
    told = opened(strong.path.parent, 2, strong)
    after = gate_of(told)
    assert after["holdout"]["opened"] == 1 and {one["grade"] for one in after["verdicts"]} & {"A", "B"}
    assert " promoted, with the holdout opened once by now: " in after["words"]
    kept = ledger(strong).kept()
    assert {one.run for one in kept} == {strong.id}
    assert rows(told, "holdout_metrics.csv")[0]["holdout_t"]
    # another campaign that finds the same is told that it is kept already
    likewise = {"expression": f"rank(ts_mean({PLANTED}, 2))"}
    later = ran(strong.path.parent, spec_of(3, config_of({**STRONG, "candidates": 1, "expressions": [likewise]})))
    (verdict,) = gate_of(later)["verdicts"]
    assert verdict["grade"] == "none"
    assert next(one for one in verdict["clauses"] if one["name"] == "correlation")["passed"] is False


def test_what_a_fixed_basket_of_drifting_names_earns_is_no_timing() -> None:
    config = job.read_config(config_of())
    panel, _, times = job.prepared(config)
    drift = np.linspace(-0.01, 0.01, len(panel.names))
    noise = np.random.default_rng(0).normal(0, 0.02, panel.shape)
    market = Market.of(panel, config).with_forward(noise + drift)
    campaign = Campaign(panel, times, config, 0, market=market)
    static = np.tile(np.arange(len(panel.names), dtype=float), (len(panel.dates), 1))
    found = evaluate(static, market, times, config, keep_weights=True)
    assert hac_t(found.base) > 5 and abs(judging._timing(campaign, found)) < 3


def test_every_opening_is_entered_first_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ran(tmp_path, spec_of(1, config_of({"candidates": 6})))
    assert gate_of(opened(tmp_path, 2, folder))["holdout"]["opened"] == 1
    second = opened(tmp_path, 3, folder)
    gate = gate_of(second)
    assert gate["holdout"]["opened"] == 2 and "opened 2 times" in gate["words"]
    assert not {one["grade"] for one in gate["verdicts"]} & {"A", "B", "provisional"}
    replayed = opened(tmp_path, 4, folder, lineage={"replay_of": second.id})
    assert contents(replayed) == contents(second)

    def broken(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr("windlass.workloads.alpha.opening.evaluate", broken)
    with pytest.raises(Killed):
        opened(tmp_path, 5, folder)
    events = ledger(folder).read()
    assert sum(isinstance(one, Opened) for one in events) == 4  # the one that came to nothing, too
    assert all(one.standing == "refused" for one in events if isinstance(one, Judged))
    later = ran(tmp_path, spec_of(6, config_of({"candidates": 6}), seed=2))
    assert gate_of(later)["holdout"]["opened"] == 4


def test_an_opening_that_is_killed_goes_on_as_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ran(tmp_path, spec_of(1, config_of({"candidates": 6})))

    def broken(*_: Any, **__: Any) -> None:
        raise Killed

    for place in ("opening.evaluate", "opening.json_file"):
        monkeypatch.setattr(f"windlass.workloads.alpha.{place}", broken)
        with pytest.raises(Killed):
            opened(tmp_path, 2, folder)
        monkeypatch.undo()
    assert gate_of(opened(tmp_path, 2, folder))["holdout"]["opened"] == 1
    events = ledger(folder).read()
    assert sum(isinstance(one, Opened) for one in events) == 1
    assert sum(isinstance(one, Judged) and one.standing == "refused" for one in events) == 1


def test_days_that_another_campaign_searched_are_no_holdout(strong: RunFolder, tmp_path: Path) -> None:
    told = {**STRONG, "expressions": [{"expression": f"rank({PLANTED})"}]}
    ran(tmp_path, spec_of(1, config_of({**STRONG, "candidates": 3, "holdout": 0.15})))
    later = ran(tmp_path, spec_of(2, config_of(told)))
    assert gate_of(later)["holdout"]["searched"] == 3 and gate_of(strong)["holdout"]["searched"] == 0
    verdicts = gate_of(opened(tmp_path, 3, later))["verdicts"]
    assert {one["grade"] for one in verdicts} == {"none"}
    assert "3 trials of other campaigns saw days of this holdout" in verdicts[0]["words"]


def test_another_column_does_not_start_the_count_anew(tmp_path: Path) -> None:
    panel = synthetic_panel(30, 420, seed=3)
    junk = Panel(
        panel.dates,
        panel.names,
        {**panel.fields, "junk": panel.fields["close"] * 2},
        {},
        {},
        panel.member,
    )
    told = []
    for number, one in enumerate((panel, junk), start=1):
        write_panel(one, tmp_path / f"{number}.parquet")
        config = config_of({"data": str(tmp_path / f"{number}.parquet"), "candidates": 4})
        told.append(gate_of(ran(tmp_path, spec_of(number, config, seed=number))))
    assert told[0]["data"] != told[1]["data"] and told[0]["market"] == told[1]["market"]
    assert told[1]["trials"]["earlier"] and told[1]["overlaps"] == []


def test_what_was_promoted_since_counts_when_a_holdout_is_opened(tmp_path: Path) -> None:
    told = [{"expression": f"rank(ts_mean({PLANTED}, {days}))"} for days in (2, 3)]
    made = [
        ran(tmp_path, spec_of(number, config_of({**STRONG, "candidates": 1, "expressions": [one]})))
        for number, one in enumerate(told, start=1)
    ]
    first, second = (gate_of(opened(tmp_path, 2 + number, one))["verdicts"][0] for number, one in enumerate(made, 1))
    assert first["grade"] in ("A", "B") and second["grade"] == "none"
    assert "correlation" in second["words"]
    shutil.rmtree(made[0].path)  # its series are made again
    again = ran(tmp_path, spec_of(9, config_of({**STRONG, "candidates": 1, "expressions": [told[0]]}), seed=1))
    assert gate_of(again)["verdicts"][0]["grade"] == "none"


def test_a_campaign_whose_returns_come_out_otherwise_is_not_opened(tmp_path: Path) -> None:
    folder = ran(tmp_path, spec_of(1, config_of({"candidates": 4})))
    file = folder.artifacts / "trials.parquet"
    frame = pl.read_parquet(file)
    frame.with_columns(pl.exclude("date") * 1.5).write_parquet(file)
    with pytest.raises(DataError, match="does not give the returns that the campaign left"):
        opened(tmp_path, 2, folder)
    assert not ledger(folder).openings(gate_of(folder)["market"])


def test_the_holdout_of_another_panel_is_refused(tmp_path: Path) -> None:
    folder = ran(tmp_path, spec_of(1, config_of({"candidates": 4})))
    gate = gate_of(folder)
    (folder.artifacts / "gate.json").write_text(json.dumps({**gate, "data": "0" * 64}))
    with pytest.raises(DataError, match="the campaign was on 000000000000"):
        opened(tmp_path, 2, folder)
    assert not ledger(folder).openings(gate["market"])


# Bad input ------------------------------------------------------------------------------------------------------------


def test_expressions_of_a_model_that_may_have_seen_the_days_are_told(tmp_path: Path) -> None:
    written = {"expression": "rank(-delta(close, 5))", "by": "openai:m", "at": "2026-01-01"}
    for number, until in enumerate(("2013-06-30", "2030-01-01", None)):
        said = {**written, "knows_until": until}
        folder = ran(tmp_path, spec_of(number, config_of({"candidates": 2, "expressions": [said]}), seed=number))
        notes = [line for line in folder.journal_file.read_text().splitlines() if "may have seen" in line]
        assert bool(notes) == (until != "2013-06-30")
        assert "language_model" in {row["proposer"] for row in rows(folder, "alpha_metrics.csv")}


def test_what_a_model_wrote_for_another_panel_is_left_out(tmp_path: Path) -> None:
    wrong = [{"expression": text, "by": "openai:m"} for text in ("rank(earnings)", "group_rank(close, continent)")]
    folder = ran(tmp_path, spec_of(1, config_of({"candidates": 3, "expressions": wrong})))
    assert folder.journal_file.read_text().count("is left out: ") == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"expressions": [{"expression": "rank(clse)"}]}, Exception, "no field 'clse'"),
        ({"expressions": [{"expression": "rank(close.mean)"}]}, Exception, "column"),
        ({"synthetic": {"names": 30, "days": 420, "seeds": 1}}, StudyError, "Did you mean 'seed'"),
        ({"mode": "p3"}, StudyError, "p3"),
        ({"walk": {**WALK, "train": 252}}, DataError, "the panel has 420 days"),
        ({"sectors": "sectors.csv"}, StudyError, "goes with 'data'"),
        ({"expressions": [{"expression": "rank(close)", "knows_until": "06/2024"}]}, StudyError, "knows_until"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ran(tmp_path, spec_of(1, config_of(options)))


def test_names_that_cannot_be_traded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ever held a position"):
        ran(tmp_path, spec_of(1, config_of({"candidates": 3}, portfolio={"adv_floor": 1e18})))


def test_a_panel_that_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the panel changed since this run was decided"):
        ran(tmp_path, spec_of(1, config_of(), fingerprints={"data": "0" * 64}))
