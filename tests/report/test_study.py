"""A study's report, in every form and for every kind of history."""

from __future__ import annotations

import builtins
import json
import math
import re
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from studyruns import BEGAN, decided, diverged, draw, make_record, make_report, make_run, make_study, rejected
from windlass.errors import MissingExtra
from windlass.records.decision import StudyStatus
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.runs.folder import RunFolder
from windlass.runs.journal import Journal


def flat(text: str) -> str:
    return " ".join(text.split())


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, the text outside of scripts, the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.lasttag == "script" and self.cdata_elem == "script":
            self.scripts.append(data)
        elif self.cdata_elem is None:
            self.text += data

    @property
    def figures(self) -> list[dict[str, Any]]:
        data = json.loads(self.scripts[0])
        for figure in data["figures"]:
            for trace in figure["data"]:
                if isinstance(trace.get("text"), list):
                    trace["text"] = [data["texts"][i] for i in trace["text"]]
        figures: list[dict[str, Any]] = data["figures"]
        return figures


@pytest.fixture
def history() -> list[RunRecord]:
    """Forty runs of which four fail."""
    runs = [make_run(i, failure=diverged() if i % 10 == 5 else None) for i in range(1, 40)]
    return [*runs, make_run(40, failure=Failure(kind=FailureKind.TIMEOUT, message="ran past its limit of 60 s"))]


def test_the_headline_says_what_is_best_against_what_and_why_it_stopped(
    history: list[RunRecord], tmp_path: Path
) -> None:
    report = make_report(history, tmp_path)
    best, baseline = report.champion, history[0]
    assert best is not None and best.metrics["loss"].last == min(r.metrics["loss"].last for r in history if r.metrics)
    assert report.reference == ("baseline", baseline)
    for told in (report.summary(), report.markdown(), Page(report.html()).text):
        assert f"{best.metrics['loss'].last:.6g}" in told and f"{baseline.metrics['loss'].last:.6g}" in told
        assert "35 completed, 5 failed (4 diverged, 1 timeout)" in flat(told)
        assert "budget: 100 runs" in told and "the loss is NaN at step 3" in told
        assert f"windlass runs replay {best.id}" in told
        assert "40 of 100 runs" in told
    (gain,) = report.gains
    assert gain.verdict == "better" and gain.difference == best.metrics["loss"].last - baseline.metrics["loss"].last


def test_the_markdown_is_well_formed_and_tells_the_champions_config(history: list[RunRecord], tmp_path: Path) -> None:
    decisions = [decided(run, "explorer" if i else "baseline") for i, run in enumerate(history)]
    decisions += [
        rejected(41, "rejected by 'duplicate': run x has this config"),
        rejected(42, "rejected by 'a + b == 1': …"),
    ]
    report = make_report(history, tmp_path, decisions=decisions)
    text = report.markdown()
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<h1>") == 1 and html.count("<table>") >= 8
    columns = [len(row.split("<t")) for row in re.findall(r"<tr>(.*?)</tr>", html, re.S)]
    assert all(count > 1 for count in columns)
    assert report.champion is not None
    config = re.search(r"```yaml\n(.*?)```", text, re.S)
    import yaml

    assert config is not None and yaml.safe_load(config[1]) == report.champion.config
    assert [(r.rule, r.count) for r in report.rejections] == [("a + b == 1", 1), ("duplicate", 1)]
    assert "a + b == 1" in text and "| 42 | local | exploit |" in text
    assert f"(../../runs/{report.champion.id}/REPORT.md)" in text


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(history: list[RunRecord], tmp_path: Path) -> None:
    import base64
    import hashlib

    page = Page(make_report(history, tmp_path).html())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "base", "form")
        assert not any(name.startswith("on") or name == "src" for name in attributes), (tag, attributes)
        target = attributes.get("href") or "#"
        assert target.startswith(("#", "../../runs/")), target
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None and "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert len(page.scripts) == 3
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert '"showSendToCloud":true' not in page.scripts[2] and "showSendToCloud: false" in page.scripts[2]


def test_the_figures_hold_every_run(history: list[RunRecord], tmp_path: Path) -> None:
    page = Page(make_report(history, tmp_path).html())
    plots = [a for t, a in page.tags if t == "div" and a.get("class") == "plot"]
    figures = page.figures
    assert len(plots) == len(figures) == 2 + 6 + 1 + 1, (
        "history, timeline, six parameters, parallel coordinates, course"
    )
    drawn = figures[0]["data"]
    failed = next(trace for trace in drawn if trace.get("name") == "failed")
    assert len(failed["text"]) == 5 and history[39].id in failed["text"][-1]
    assert "failed: timeout" in failed["text"][-1]
    shown = {label for trace in drawn if trace.get("name") == "completed" for label in trace["text"]}
    assert all(any(run.id in label for label in shown) for run in history if run.status is Status.COMPLETED)
    assert any("linear.rate = " in label for label in shown), "parameters are in the hover text"
    assert [f["brush"] for f in figures].count(True) == 1


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)> | `x` [a](javascript:alert(1)) \u2028 &amp; %{x}"


def test_markup_in_anything_a_user_controls_stays_text(tmp_path: Path) -> None:
    space = {"kind": {"type": "categorical", "choices": [EVIL, "plain"]}, "x": {"type": "float", "low": 0, "high": 1}}
    study = make_study(
        description=EVIL,
        space=space,
        objectives=[{"metric": EVIL, "direction": "maximize"}],
        guards=[{"metric": f"g{EVIL}", "min": 0}],
        constraints=[{"name": EVIL, "forbid": {"x": {"min": 2}}, "reason": EVIL}],
        tags={EVIL: EVIL},
    )
    metrics = {EVIL: MetricSummary.of(1.0), f"g{EVIL}": MetricSummary.of(1.0)}
    runs = [
        make_run(i, {"kind": EVIL if i % 2 else "plain", "x": i / 10}, metrics=metrics, fingerprints={EVIL: EVIL})
        for i in range(1, 8)
    ]
    runs.append(make_run(8, {"kind": EVIL, "x": 0.9}, id=f"8{EVIL}", failure=diverged(EVIL)))
    decisions = [*(decided(run, EVIL) for run in runs), rejected(9, f"rejected by '{EVIL}': {EVIL}")]
    record = make_record(study, stopped_because=EVIL)
    report = make_report(runs, tmp_path, study, decisions=decisions, record=record)
    page = Page(report.html())
    assert len(page.scripts) == 3, "no script ends early, none is added"
    assert {tag for tag, _ in page.tags}.isdisjoint({"img", "iframe"})
    assert "alert(1)" in page.text, "it is shown, as text"
    for figure in page.figures:
        for trace in figure["data"]:
            for label in trace.get("text") or []:
                assert "<script" not in label and "<img" not in label
        assert "<img" not in json.dumps(figure["layout"])
    rendered = MarkdownIt("commonmark").enable("table").render(report.markdown())
    assert "<script" not in rendered and "<img" not in rendered and 'javascript:alert(1)"' not in rendered
    assert len({row.count("<td") for row in re.findall(r"<tr>(.*?)</tr>", rendered, re.S)} - {0}) > 0
    assert "<script" in report.summary(), "a terminal has no markup to escape"


def test_no_run_yet(tmp_path: Path) -> None:
    study = make_study()
    report = make_report([], tmp_path, study, record=make_record(study, status=StudyStatus.ACTIVE, stopped_because=""))
    assert report.champion is None and report.reference is None and report.gains == ()
    assert "No run yet." in report.summary() and "windlass run bowl" in report.summary()
    assert "What was asked" in report.markdown()
    assert Page(report.html()).figures == []
    assert json.loads(json.dumps(report.to_dict()))["best"] is None


def test_all_runs_failed(tmp_path: Path) -> None:
    runs = [make_run(i, failure=diverged(f"NaN in run {i}")) for i in range(1, 8)]
    report = make_report(runs, tmp_path)
    for told in (report.summary(), report.markdown(), Page(report.html()).text):
        assert "No run has completed" in told and "NaN in run 1" in told
        assert f"windlass runs show {runs[0].id}" in told
    assert "What the parameters did" not in report.markdown()


def test_one_run(tmp_path: Path) -> None:
    report = make_report([make_run(1)], tmp_path)
    assert report.champion is not None and report.reference is not None
    assert "Nothing beat the baseline, run #1." in report.markdown()
    assert "compare" not in report.summary(), "there is nothing to compare with"
    assert len(Page(report.html()).figures) == 2, "history and timeline"


def test_no_run_keeps_the_guards(tmp_path: Path) -> None:
    study = make_study(guards=[{"metric": "size", "max": 0}, {"metric": "absent", "min": 0}])
    report = make_report([make_run(i) for i in range(1, 5)], tmp_path, study)
    assert report.champion is None and report.broken_guards == {"size": 4, "absent": 4}
    assert "No completed run keeps every guard" in report.summary()
    assert "breaks size, absent" in report.markdown()
    states = {t.get("name") for t in Page(report.html()).figures[0]["data"]}
    assert "guard broken" in states and "became best" not in states


def test_two_objectives_have_a_front_and_a_history_each(tmp_path: Path) -> None:
    objectives = [{"metric": "loss", "direction": "minimize"}, {"metric": "size", "direction": "maximize"}]
    study = make_study(objectives=objectives)
    report = make_report([make_run(i) for i in range(1, 30)], tmp_path, study)
    assert [h.metric for h in report.histories] == ["loss", "size"]
    assert len(report.tradeoffs[0].front) >= 2
    assert report.effects[0].target == "score" and report.effects[0].maximize
    assert {gain.metric for gain in report.gains} == {"loss", "size"}
    assert "runs that no other run beats in both" in report.markdown()
    Page(report.html())


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 0.0]
    runs = [make_run(i, metrics={"loss": MetricSummary.of(v)}) for i, v in enumerate(values, 1)]
    report = make_report(runs, tmp_path)
    assert report.champion is not None and report.champion.number == 4
    assert "NaN" in report.markdown()
    named = {t.get("name"): t for t in Page(report.html()).figures[0]["data"]}
    assert len(named["no finite value"]["text"]) == 3
    json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_without_a_baseline_the_first_completed_run_is_the_reference(tmp_path: Path) -> None:
    runs = [make_run(1, failure=diverged()), make_run(2), make_run(3)]
    report = make_report(runs, tmp_path, decisions=[decided(run) for run in runs])
    assert report.reference == ("first completed run", runs[1])


def curve(root: Path, run: RunRecord, values: list[float]) -> RunRecord:
    """Write a real journal of the run, and sum it up in its record."""
    from dataclasses import replace

    from windlass.runs.reader import summaries

    folder = RunFolder(root / run.id)
    folder.path.mkdir(parents=True)
    journal = Journal(folder.journal_file)
    for step, value in enumerate(values):
        journal.metrics({"train_loss": value}, step)
    journal.close()
    return replace(run, metrics={**run.metrics, **summaries(folder)})


def test_learning_curves_come_from_journals_with_their_spikes(tmp_path: Path) -> None:
    smooth = [1 / (1 + step) for step in range(5000)]
    spiked = [*smooth[:2500], 77.0, *smooth[2501:]]
    runs = [
        curve(tmp_path, make_run(1), smooth),
        curve(tmp_path, make_run(2), spiked),
        curve(tmp_path, make_run(3, failure=diverged()), [1.0, 10.0, math.nan]),
    ]
    (curves,) = make_report(runs, tmp_path).curves
    assert curves.metric == "train_loss" and [c.point.number for c in curves.curves] == [1, 2, 3]
    assert all(len(c.steps) <= 202 for c in curves.curves)
    assert curves.curves[1].values.max() == 77.0
    assert curves.curves[2].diverged_at == 2.0
    report = make_report(runs, tmp_path)
    assert "Learning curves" in report.markdown() and "▁" in report.markdown()
    names = {t.get("name") for t in Page(report.html()).figures[-2]["data"]}
    assert {"completed", "failed"} <= names


def test_a_run_folder_that_is_gone_costs_its_curve_alone(tmp_path: Path) -> None:
    metrics = {"loss": MetricSummary(last=1.0, min=1.0, max=2.0, step=9, count=10)}
    report = make_report([make_run(1, metrics=metrics)], tmp_path)
    assert report.curves == () and "Champion" in report.markdown()


def test_the_same_data_give_the_same_files(history: list[RunRecord], tmp_path: Path) -> None:
    first, second = (
        make_report(history, tmp_path),
        make_report(
            history[::-1],
            tmp_path,
            decisions=[decided(run, "explorer" if i else "baseline") for i, run in enumerate(history)],
        ),
    )
    assert first.markdown() == second.markdown() and first.html() == second.html()


def test_two_thousand_runs_stay_small_and_fast(tmp_path: Path) -> None:
    runs = [make_run(i, failure=diverged() if i % 9 == 0 else None) for i in range(1, 2001)]
    report = make_report(runs, tmp_path)
    began = time.process_time()
    html, markdown, summary = report.html(), report.markdown(), report.summary()
    assert time.process_time() - began < 10
    assert len(html.encode()) < 8e6
    assert len(markdown) < 400_000 and len(summary.splitlines()) < 40
    assert "The last 500 of 2000 decisions" in html


def test_without_plotly_there_is_text_and_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "plotly":
            raise ImportError("No module named 'plotly'")
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    report = make_report([make_run(i) for i in range(1, 9)], tmp_path)
    assert report.markdown() and report.summary()
    with pytest.raises(MissingExtra) as caught:
        report.html()
    assert "pip install 'windlass[report]'" in str(caught.value)


def test_running_and_cancelled_runs_are_told_apart(tmp_path: Path) -> None:
    runs = [
        make_run(1),
        make_run(2, status=Status.RUNNING, ended=None, metrics={}),
        make_run(3, status=Status.CANCELLED, metrics={}),
        make_run(4, draw(4), status=Status.PENDING, started=None, ended=None, metrics={}),
    ]
    report = make_report(runs, tmp_path)
    assert "1 pending, 1 running, 1 completed, 1 cancelled" in report.markdown()
    assert [bar.open for bar in report.timeline.bars] == [False, True, False]
    assert report.timeline.bars[0].start == BEGAN
    Page(report.html())


def test_figure_data_cannot_end_their_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a figure lets raw markup through."""
    from windlass.report import canvas

    monkeypatch.setattr(canvas, "text", lambda label: label)
    study = make_study(objectives=[{"metric": "</script><script>x", "direction": "minimize"}])
    runs = [make_run(i, metrics={"</script><script>x": MetricSummary.of(i)}) for i in range(1, 4)]
    page = Page(make_report(runs, tmp_path, study).html())
    assert len(page.scripts) == 3 and "</script><script>x" in json.dumps(page.figures)
