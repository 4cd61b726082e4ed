"""The report of an alpha campaign and of an opened holdout, as Markdown and as a page."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from alphaartifacts import CAMPAIGN, OPENING, SIGNS, campaign_folder, manifest, opening_folder, write_json
from studyruns import make_run
from windlass.report.alpha import CampaignReport, alpha_headlines, alpha_page, alpha_sections
from windlass.report.alpha_campaign import COSTS, Daily, growth, read_daily
from windlass.report.alpha_setting import prices
from windlass.report.alpha_words import basis_points, money, part, plain, probability, two
from windlass.report.blocks import Drawing, Table
from windlass.report.run import run_report, run_summary
from windlass.runs.folder import RunFolder, read_json

WHOLE = [
    *("Verdict", "Top alphas", "Returns", "Costs", "Decay", "Luck", "All trials", "Robustness", "Optimizer", "Data"),
    "How this could be wrong",
]


def read(folder: RunFolder) -> CampaignReport:
    report = CampaignReport.read(folder)
    assert report is not None
    return report


def markdown(folder: RunFolder) -> str:
    return run_report(replace(make_run(1), id=folder.id), folder)


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, re.M)


def figures(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert found is not None
    drawn: list[dict[str, Any]] = json.loads(found[1])["figures"]
    return drawn


def seen(page: str) -> str:
    """The text of a page, outside of its scripts and styles."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.S)
    return unescape(re.sub(r"<[^>]+>", " ", bare))


def change_gate(folder: RunFolder, **changes: Any) -> None:
    path = folder.artifacts / "gate.json"
    write_json(path, {**read_json(path), **changes})


def test_the_verdict_comes_first_with_the_trial_count_and_what_failed(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    text = markdown(folder)
    assert headings(text)[: len(WHOLE) + 1] == ["Ending", *WHOLE]
    verdict = text[text.index("## Verdict") : text.index("## Top alphas")]
    assert "Nothing promoted: 400 trials, both signs." in verdict
    assert "60 expressions tried and 140 of earlier runs on this data: 400 trials counted, both signs" in verdict
    assert "Best in-sample: A001, rank(ts\\_mean" in verdict or "Best in-sample: A001, rank(ts_mean" in verdict
    assert (
        "| max-t p over the search | failed | 0.254 | &lt; 0.05 | max-t p 0.254 over 400 trials, not below 0.05 |"
        in verdict
    )
    assert "| likeness to what is kept | passed | 0.12 | &lt; 0.7 |" in verdict and "| not judged | – |" in verdict
    assert "is sealed: no run has opened it" in verdict
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") >= 20 and html.count("<h1>") == 1


def test_the_summary_has_the_headlines_and_other_runs_have_none(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    summary = run_summary(make_run(1), folder)
    for line in alpha_headlines(read(folder)):
        assert line[:40].partition("*")[0] in summary
    assert "400 trials counted" in summary and "survivorship is likely" in summary
    other = RunFolder(tmp_path / "other")
    assert "trials" not in run_summary(make_run(1), other)
    assert not set(WHOLE) & set(headings(run_report(make_run(1), other)))


@pytest.mark.parametrize("gate", [None, "{", "[]", '{"mode": "p2"}', '{"accuracy": 1, "trials": 3}'])
def test_a_run_without_a_campaigns_gate_is_no_campaign(gate: str | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.artifacts.mkdir()
    if gate is not None:
        (folder.artifacts / "gate.json").write_text(gate)
    assert CampaignReport.read(folder) is None


def test_promoted_and_provisional_alphas_are_named_with_their_reason(tmp_path: Path) -> None:
    told = markdown(campaign_folder(tmp_path / "a", grade="A"))
    assert "A001: Promoted, grade A: it holds." in told and "A promotion can be luck" in told
    waiting = campaign_folder(tmp_path / "b", grade="provisional")
    assert "A001: Provisional after 400 trials: the holdout decides." in markdown(waiting)
    assert [one.alpha_id for one in read(waiting).provisional] == ["A001"] and not read(waiting).promoted


def test_costs_add_up_and_the_report_says_so(tmp_path: Path) -> None:
    report = read(campaign_folder(tmp_path))
    assert [one.alpha_id for one in report.daily] == ["A001", "A002", "A003", "A004"]
    for one in report.daily:
        parts = one.attribution()
        assert one.adds_up
        assert math.isclose(parts["gross"] - sum(parts[name] for name in COSTS), parts["net"], abs_tol=1e-12)
    (costs,) = (section for section in alpha_sections(report) if section.title == "Costs")
    table = next(block for block in costs.blocks if isinstance(block, Table))
    for row in table.rows:
        gross, *taken, net = (float(cell) for cell in row[1:7])
        assert abs(gross - sum(taken) - net) <= 0.3, "six roundings of 0.05"
    text = markdown(RunFolder(report.artifacts.parent))
    assert "is net within 1e-12 on each of 1,500 days" in text and "WARNING: gross" not in text


@pytest.mark.parametrize("cell", ["0.001", "", "nan"])
def test_a_day_that_does_not_add_up_is_told(cell: str, tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    path = folder.artifacts / "daily" / "A002_oos_daily.csv"
    lines = path.read_text().splitlines()
    column = lines[0].split(",").index("net")
    cells = lines[17].split(",")
    cells[column] = cell
    lines[17] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    text = markdown(folder)
    assert "WARNING: gross minus the costs is not net within 1e-12 on every day of A002." in text


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=60))
def test_drawdown_is_the_fall_from_the_highest_wealth_so_far(net: list[float]) -> None:
    series = np.array(net)
    nothing = np.zeros(len(net))
    one = Daily("A", ("",) * len(net), series, dict.fromkeys(COSTS, nothing), series, nothing)
    wealth, peak, falls = 1.0, 1.0, []
    for value in net:
        wealth *= 1 + value
        peak = max(peak, wealth)
        falls.append(wealth / peak - 1)
    assert np.allclose(one.drawdown(), falls, atol=1e-12) and one.drawdown().max() <= 0
    assert math.isclose(growth(series)[-1], wealth - 1, abs_tol=1e-12)


def test_the_page_has_every_figure_and_loads_nothing(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    report = read(folder)
    page = alpha_page(replace(make_run(1), id=CAMPAIGN), report)
    drawings = [b for section in alpha_sections(report) for b in section.blocks if isinstance(b, Drawing)]
    assert len(figures(page)) == len(drawings) == 13
    assert all(drawing.caption for drawing in drawings)
    names = [{trace.get("name") for trace in figure["data"]} for figure in figures(page)]
    assert {"A001, net", "A004, net"} <= names[0] and {"gross", *COSTS, "net"} == names[1]
    assert f"<title>{CAMPAIGN} · alpha research report</title>" in page
    assert re.findall(r'(?:src|href)="([^"#][^"]*)"', re.sub(r"<script.*?</script>", "", page, flags=re.S)) == []
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and "default-src 'none'" in policy[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy[1]
    assert len(scripts) == 2
    told = " ".join(seen(page).split())
    for words in ("trials counted 400", "holdout sealed 2016-09-01 to 2018-02-07", "WARNING: survivorship"):
        assert words in told


def test_the_same_artifacts_give_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        folder = campaign_folder(tmp_path / name)
        pages.append((markdown(folder), alpha_page(make_run(1), read(folder))))
    assert pages[0] == pages[1]


def test_the_null_distributions_stand_with_what_was_observed(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    gate = read_json(folder.artifacts / "gate.json")
    beaten = sum(value >= gate["placebo"]["observed_max"] for value in gate["placebo"]["null"])
    text = markdown(folder)
    assert f"{beaten:,} reach the observed 1.090: p {gate['placebo']['p']:.3f}" in text
    assert f"would exceed {gate['max_t']['critical']:.2f} in 5 % of samples" in text
    assert "^ observed 3.1" in text and "^ observed 1.09" in text
    assert "| deflated Sharpe | 0.281 |" in text and "| SPA p, consistent | 0.030 |" in text
    luck = [
        figure for figure in figures(alpha_page(make_run(1), read(folder))) if len(figure["layout"].get("shapes", ()))
    ]
    assert [shape["x0"] for figure in luck for shape in figure["layout"]["shapes"]] == [
        *(3.1, gate["max_t"]["critical"]),
        1.09,
    ]


def test_the_tables_of_a_closer_look(tmp_path: Path) -> None:
    report = read(campaign_folder(tmp_path))
    text = markdown(RunFolder(report.artifacts.parent))
    net = float(report.top[0]["net_ir"])
    assert f"| `A001` | {net:.2f} | {net + 0.21:.2f} | {net - 0.08:.2f} | {net + 0.1:.2f} | {net - 0.3:.2f} |" in text
    assert "| net Sharpe | all controls | without sector | without beta | without volatility target |" in text
    assert "| net Sharpe at a capital of | 1 M | 3 M | 10 M |" in text and "| 42 M |" in text
    assert "| 2 x | 3 x | break-even, bp |" in text
    assert "99.00" not in text, "a split is no path"
    pairs = {(row["a"], row["b"]): float(row["correlation"]) for row in report.table("alpha_correlation.csv")}
    row = next(line for line in text.splitlines() if line.startswith("| `A001` | 1.00 |"))
    others = " | ".join(f"{pairs['A001', other]:.2f}" for other in ("A002", "A003", "A004"))
    assert row == f"| `A001` | 1.00 | {others} |"
    assert f"at most {max(map(abs, pairs.values())):.2f} between two of them" in text


def test_what_is_sold_has_its_information_coefficients_turned(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    report = read(folder)
    raw = {row["alpha_id"]: row for row in report.trials}
    for row, sign in zip(report.top, SIGNS, strict=True):
        assert float(row["rank_ic"]) == sign * float(raw[row["alpha_id"]]["rank_ic"])
        assert float(row["ic_hac_t"]) == sign * float(raw[row["alpha_id"]]["ic_hac_t"])
        assert row["net_ir"] == raw[row["alpha_id"]]["net_ir"]
    assert "| `A003` | - | `zscore(close / ts_max(high, 60))` |" in markdown(folder)
    decay = next(figure for figure in figures(alpha_page(make_run(1), report)) if "Decay" in str(figure["layout"]))
    lines = {trace["name"]: trace["marker"]["symbol"] for trace in decay["data"]}
    assert list(lines) == ["A001", "A002", "A003", "A004"]
    assert all(symbols[0] == "circle" and symbols[-1] == "circle-open" for symbols in lines.values())
    sketch = [line for line in markdown(folder).splitlines() if "rank IC by lag" in line]
    assert len(sketch) == 4 and all(line.split("lag ")[1][0] == "█" for line in sketch), "all decay from above 0"


def test_the_optimizers_constraints_and_advice(tmp_path: Path) -> None:
    text = markdown(campaign_folder(tmp_path))
    assert "30 rebalances of the constrained portfolio: 28 solved, 2 infeasible." in text
    assert "| turnover | 28 | 93.3 % | 10.0 |" in text and "| box | 14 | 46.7 % | 4.0 |" in text
    assert "- 2015-03-30 and 1 later rebalance: feasible with turnover 0.2 -&gt; 0.2451" in text
    assert prices({"binding": "sector Consumer Staples 1e-05; no view 0.2 (1 names: A)"}) == {
        "sector Consumer Staples": 1e-5,
        "no view": 0.2,
    }
    assert prices({"binding": ""}) == prices({}) == {}


def test_the_data_are_told_with_their_faults(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    text = markdown(folder)
    assert "WARNING: survivorship is likely" in text and "| `null_cells` | 27 |" in text
    assert "| 2015-07-20 | `EBAY` | -57.0 % |" in text and "19 dated snapshots; 442 a day on average" in text
    clean = manifest(ohlc_violations=0, null_cells={}, jumps=0, zero_volume=0, survivorship="none seen", notes=[])
    write_json(
        folder.artifacts / "data_manifest.json", {**clean, "files": [], "largest_jumps": [], "borrow_known": 0.5}
    )
    text = markdown(folder)
    assert "No guard was hit" in text and "survivorship" not in text
    assert "synthetic: made by the generator" in text and "known for 50.0 % of days" in text


def test_an_opened_holdout_stands_beside_the_development_days(tmp_path: Path) -> None:
    campaign = read(campaign_folder(tmp_path))
    folder = opening_folder(tmp_path)
    report = read(folder)
    assert report.is_opening and report.campaign is not None and report.campaign.run_id == CAMPAIGN
    text = markdown(folder)
    assert headings(text)[1:3] == ["Verdict", "Holdout"]
    then, now = campaign.top[0], report.holdout[0]
    assert f"| `A001` | {float(then['gross_ir']):.2f} -&gt; {float(now['gross_ir']):.2f} |" in text
    assert f"(../{CAMPAIGN}/REPORT.md)" in text and "has been opened once on this data" in text
    assert "| holdout t | failed | -0.31 | &gt; 1.645 |" in text
    assert "WARNING: survivorship" in text, "of the campaign's data"
    page = alpha_page(replace(make_run(1), id=OPENING), report)
    assert f"holdout net Sharpe {float(now['net_ir']):.2f} HAC t -0.31;" in " ".join(seen(page).split())
    assert f'href="../{CAMPAIGN}/REPORT.md"' in page and "opened holdout of an alpha campaign" in page


def test_every_further_opening_is_told_to_say_less(tmp_path: Path) -> None:
    text = markdown(campaign_folder(tmp_path, opened=3))
    assert "has been opened 3 times on this data; each opening after the first makes it say less" in text
    assert "The holdout was opened 3 times" in text


@pytest.mark.parametrize("campaign", ["../secret", OPENING, 7, "20260101T000000Z_gone_0123456789"])
def test_an_opening_whose_campaign_is_not_there_is_told_alone(campaign: Any, tmp_path: Path) -> None:
    folder = opening_folder(tmp_path / "runs")
    other = RunFolder(tmp_path / "secret")
    other.artifacts.mkdir(parents=True)
    write_json(other.artifacts / "gate.json", read_json(folder.artifacts / "gate.json"))
    spec = read_json(folder.spec_file)
    write_json(folder.spec_file, {**spec, "config": {"campaign": campaign}})
    assert read(folder).campaign is None
    assert "holdout t -0.31" in markdown(folder)


def test_a_mode_without_portfolios_has_ranks_alone(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path, mode="p0")
    text = markdown(folder)
    assert headings(text)[1:6] == ["Verdict", "Top alphas", "All trials", "Data", "How this could be wrong"]
    assert "| alpha | IC | rank IC | t of IC, HAC |\n" in text and "best rank IC" in text and "Mode p0" in text
    assert len(figures(alpha_page(make_run(1), read(folder)))) == 1


FILES = [
    *("alpha_metrics.csv", "decay_analysis.csv", "cost_sensitivity.csv", "cost_sensitivity_break_even.csv"),
    *("capacity.csv", "ablation_results.csv", "alpha_correlation.csv", "cpcv.csv", "optimizer.csv"),
    *("optimizer_daily.csv", "data_manifest.json", "daily/A001_oos_daily.csv"),
]


@pytest.mark.parametrize("left", [None, "", "x,y\n1\n"])
def test_a_file_that_is_missing_or_of_no_use_costs_its_part_alone(left: str | None, tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    whole = markdown(folder)
    for name in FILES:
        path = folder.artifacts / name
        content = path.read_bytes()
        path.unlink() if left is None else path.write_text(left)
        text = markdown(folder)
        assert text != whole and headings(text)[1] == "Verdict" and "400 trials counted" in text, name
        path.write_bytes(content)
    assert markdown(folder) == whole
    for name in FILES:
        (folder.artifacts / name).write_text(left or "")
    assert "400 trials counted" in markdown(folder)
    assert "Nothing promoted" in alpha_page(make_run(1), read(folder))


def test_what_an_expression_says_is_text(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    hostile = "</script><img src=x onerror=alert(1)> | `a` [b](javascript:c)"
    gate = read_json(folder.artifacts / "gate.json")
    gate["verdicts"][0] |= {"words": hostile, "expression": hostile}
    change_gate(folder, words=hostile, best={**gate["best"], "expression": hostile}, verdicts=gate["verdicts"])
    page = alpha_page(make_run(1), read(folder))
    assert "<img" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert len(re.findall(r"</script>", page)) == 3
    html = MarkdownIt("commonmark").enable("table").render(markdown(folder))
    assert "<img" not in html and "javascript:" not in "".join(re.findall(r'href="([^"]*)"', html))


def test_thousands_of_trials_stay_small(tmp_path: Path) -> None:
    folder = campaign_folder(tmp_path)
    path = folder.artifacts / "alpha_metrics.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows * 80]) + "\n")
    assert len(read(folder).trials) == 4800
    text = markdown(folder)
    assert "All 4,800 expressions" in text and len(text) < 30_000


def test_daily_files_without_a_day_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "A_oos_daily.csv"
    path.write_text("date,gross,net\n")
    assert read_daily("A", path) is None and read_daily("A", tmp_path / "none.csv") is None


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (two(1.005), "1.00"),
        (two(math.nan), "–"),
        (probability(0.0301), "0.030"),
        (probability(0.0002), "< 0.001"),
        (basis_points(0.00123), "12.3"),
        (part(-0.4512), "-45.1 %"),
        (money(12.5e6), "12.5 M"),
        (money(3e9), "3 bn"),
        (money(950.0), "950"),
        (plain(True), "true"),
        (plain(None), "–"),
        (plain(0.05), "0.050"),
        (plain(2e-9), "2e-09"),
    ],
)
def test_numbers_are_written_for_a_quant(written: str, words: str) -> None:
    assert written == words
