"""The report's sections on deciding: their data, their text and their figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from studyruns import (
    BEGAN,
    NOISY_TREE,
    RATE_TOO_HIGH,
    argued_history,
    decided,
    draw,
    forecast_of,
    lessons_of,
    make_record,
    make_report,
    make_run,
    make_study,
    vetoed,
    voted,
)
from windlass.records.decision import Approval, Exchange, Incident, Mode, Outcome, Stance
from windlass.records.lessons import LearnedConstraint
from windlass.records.region import Constraint, Region
from windlass.records.run import EarlyStop, MetricSummary, Status
from windlass.report.deciding import BINS, course, critic_parts, overridden, proposer_parts
from windlass.report.figures import State, pareto_front
from windlass.report.forecasts import failure_forecasts, metric_forecasts
from windlass.report.learned import region_over_runs
from windlass.report.study import StudyReport
from windlass.worldmodel.calibration import Outcome as Came
from windlass.worldmodel.calibration import calibration


@pytest.fixture(scope="module")
def argued(tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    runs, decisions, lessons = argued_history(60)
    by_id = {run.id: run for run in runs}
    pairs = [
        (d.forecast, Came(failed=run.failure is not None, metrics={} if run.failure else run.values))
        for d in decisions
        if (run := by_id.get(d.run_id or "")) is not None and d.forecast is not None
    ]
    return make_report(
        runs, tmp_path_factory.mktemp("argued"), decisions=decisions, lessons=lessons, calibration=calibration(pairs)
    )


def section(report: StudyReport, title: str) -> str:
    return report.markdown().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def figure(report: StudyReport, title: str) -> list[dict[str, Any]]:
    """The figures of one section, as plotly gets them."""
    from windlass.report.blocks import Drawing
    from windlass.report.story import story

    found = next((s for s in story(report) if s.title == title), None)
    return [json.loads(b.draw().to_json()) for b in (found.blocks if found else ()) if isinstance(b, Drawing)]


def test_every_section_on_deciding_is_there_and_well_formed(argued: StudyReport) -> None:
    text = argued.markdown()
    html = MarkdownIt("commonmark").enable("table").render(text)
    for title in (
        *("What was learned", "How it was decided", "Forecasts against outcomes", "Credit of the agents"),
        "Votes and overrides",
    ):
        assert f"<h2>{title}</h2>" in html
        assert section(argued, title).strip()
    argued.html()
    data = json.loads(json.dumps(argued.to_dict(), allow_nan=False))
    assert data["calibration"]["runs"] == len(argued.runs) and set(data["credit"]) == {"bayesian", "explorer", "world"}
    assert [one["purity"] for one in data["constraints"]] == [1.0, 1.0]


def test_without_anything_on_deciding_the_sections_are_not_there(tmp_path: Path) -> None:
    text = make_report([make_run(1)], tmp_path).markdown()
    for title in ("learned", "decided", "Forecasts", "Credit", "Votes", "Trade-off"):
        assert f"## {title}" not in text and f"{title}\n" not in text


def test_modes_follow_each_other_without_a_gap_and_every_proposal_is_in_one_bar(argued: StudyReport) -> None:
    data = argued.course
    assert data is not None
    assert [(s.mode, s.first, s.last) for s in data.spans] == [
        *((Mode.EXPLORE, 1, 12), (Mode.EXPLOIT, 13, 29), (Mode.RECOVER, 30, 31), (Mode.EXPLOIT, 32, 60)),
    ]
    assert data.slots.sum() == 60 and len(data.slots) <= BINS
    assert data.slots[:, data.proposers.index("baseline")].sum() == 1
    assert data.stagnant.any() and data.since.max() > 9
    assert "| #30 to #31 | recover |" in section(argued, "How it was decided")
    (drawn,) = figure(argued, "How it was decided")
    names = [trace["name"] for trace in drawn["data"]]
    assert {"explore", "recover", "bayesian", "settled runs since an improvement", "stagnant"} <= set(names)


@given(st.lists(st.sampled_from(list(Mode)), min_size=1, max_size=200))
def test_spans_and_bars_cover_every_decision_once(modes: list[Mode]) -> None:
    first = decided(make_run(1))
    decisions = [replace(first, number=i, cycle=(i + 1) // 2, mode=mode) for i, mode in enumerate(modes, 1)]
    data = course(decisions)
    assert data is not None
    assert [n for s in data.spans for n in range(s.first, s.last + 1)] == [d.number for d in decisions]
    assert data.slots.sum() == len(modes) and len(data.slots) <= BINS
    assert np.isnan(data.since).all(), "old logs have no such number"


def test_forecasts_meet_what_came(argued: StudyReport) -> None:
    (loss,) = argued.forecasts
    completed = [run for run in argued.runs if run.status is Status.COMPLETED]
    known = [run for run in completed if run.number != 1]
    assert [point.id for point in loss.points] == [run.id for run in known], "the first forecast knew nothing"
    np.testing.assert_allclose(loss.actual, [run.values["loss"] for run in known])
    inside = float(((loss.low <= loss.actual) & (loss.actual <= loss.high)).mean())
    told = section(argued, "Forecasts against outcomes")
    assert "| loss |" in told and "They know more than that share." in told
    assert argued.calibration is not None
    coverage = argued.calibration.metrics["loss"].share90
    assert coverage is not None and abs(coverage - inside) < 0.05
    failures = argued.failure_forecasts
    assert failures is not None and failures.failed.sum() == sum(
        r.status is Status.FAILED for r in argued.runs if r.number != 1
    )
    points, fails = figure(argued, "Forecasts against outcomes")
    assert sum(len(t["text"]) for t in points["data"] if "error_y" in t) == len(known)
    assert {t["name"] for t in fails["data"]} == {"completed", "failed"}


def test_forecasts_without_knowledge_or_without_failures_are_no_figure() -> None:
    run = make_run(2)
    blind = replace(decided(run), forecast=forecast_of(0.2, known=0))
    assert metric_forecasts(make_study(), "loss", [blind], [run]) is None
    seeing = replace(blind, forecast=forecast_of(0.2, known=3))
    assert metric_forecasts(make_study(), "loss", [seeing], [run]) is not None
    assert failure_forecasts(make_study(), [seeing], [run]) is None
    assert metric_forecasts(make_study(), "size", [seeing], [run]) is None, "it was not forecast"


def test_failure_forecasts_that_know_nothing_are_said_to(tmp_path: Path) -> None:
    runs, decisions, _ = argued_history(30)
    wrong = [
        (forecast_of(0.2, fails=0.95 if not run.failure else 0.05), Came(failed=bool(run.failure), metrics={}))
        for run in runs
    ]
    report = make_report(runs, tmp_path, decisions=decisions, calibration=calibration(wrong))
    assert "They know no more than that share." in section(report, "Forecasts against outcomes")


def test_proposers_are_counted_by_what_became_of_their_proposals(argued: StudyReport) -> None:
    parts = {part.name: part for part in argued.proposers}
    assert sum(part.proposals for part in parts.values()) == 60
    assert sum(part.ran for part in parts.values()) == len(argued.runs)
    assert sum(part.failed for part in parts.values()) == sum(run.failure is not None for run in argued.runs)
    told = section(argued, "Credit of the agents")
    assert "| bayesian |" in told and "| 4 | 0.64 | 0.51 … 0.77 |" in told and "| world |" in told


def test_a_person_can_make_a_waiting_proposal_count_as_approved() -> None:
    run = make_run(1)
    waiting = replace(decided(run), outcome=Outcome.WAITING)
    answer = Approval(study="bowl", number=1, approved=True, reason="yes", by="ada", at=BEGAN)
    (part,) = proposer_parts([waiting], [run], [answer], {})
    assert (part.approved, part.ran) == (1, 1)
    (part,) = proposer_parts([waiting], [], [replace(answer, approved=False)], {})
    assert (part.approved, part.ran) == (0, 0)


def test_votes_and_overrides_are_summed_up(argued: StudyReport) -> None:
    critics = {critic.name: critic for critic in critic_parts(argued.decisions, {})}
    assert critics["feasibility"].stances[Stance.REJECT] == 6 and critics["feasibility"].against == 6
    assert critics["cost"].stances[Stance.ABSTAIN] == 54 and critics["cost"].active == 6
    (rule,) = overridden(argued.decisions)
    assert (rule.rule, rule.count, rule.example.number) == ("failure_risk", 6, 10)
    told = section(argued, "Votes and overrides")
    assert "54 approved, 6 rejected" in told and "one mind about 54 of them" in told
    assert "| failure_risk | approved | rejected | 6 | #10 |" in told


def test_answers_incidents_and_language_models_are_told(tmp_path: Path) -> None:
    runs = [make_run(1), make_run(2)]
    exchange = Exchange(agent="model", model="m", request="0", reply=None, error="timeout", input_tokens=7, money=0.25)
    incident = Incident(agent="world", message="LinAlgError: singular")
    decisions = [replace(decided(run), incidents=(incident,), exchanges=(exchange,)) for run in runs]
    decisions.append(replace(decided(make_run(3)), outcome=Outcome.WAITING))
    answers = [Approval(study="bowl", number=3, approved=False, reason="no money", by="ada", at=BEGAN)]
    report = make_report(runs, tmp_path, decisions=decisions, approvals=answers)
    told = section(report, "Votes and overrides")
    assert "| #3 | rejected | ada | no money |" in told
    assert "| world | 2 | #1 | LinAlgError: singular |" in told
    assert "2 requests, 2 without a usable reply, 14 tokens, 0.5 in money" in told
    assert "rejected by ada: no money" in section(report, "Decisions")


def test_learned_constraints_lie_over_the_runs_they_were_learned_from(argued: StudyReport) -> None:
    rate, tree = argued.regions
    for drawn, constraint in ((rate, RATE_TOO_HIGH), (tree, NOISY_TREE)):
        inside = []
        for i, _ in enumerate(drawn.points):
            lanes = [lane for lane in (drawn.x, drawn.y) if lane is not None]
            inside.append(all(any(lo <= lane.positions[i] <= hi for lo, hi in lane.bands) for lane in lanes))
        by_id = {run.id: run for run in argued.runs}
        assert inside == [constraint.rejects(by_id[point.id].params) for point in drawn.points]
    assert rate.y is None and tree.y is not None
    assert len(rate.points) == sum("linear.rate" in run.params for run in argued.runs), "where the parameter is active"
    told = section(argued, "What was learned")
    assert "linear.rate ≥ 0.1" in told and "model is tree and noise ≥ 0.8" in told
    assert "run 7 completed inside" in told and "leave nothing together" in told and "| model is tree | +1.5 |" in told
    drawings = figure(argued, "What was learned")
    assert [len(d["layout"].get("shapes", [])) for d in drawings] == [1, 1, 1], (
        "two regions, and the zero of the patterns"
    )


@given(
    st.floats(1e-4, 1) | st.none(),
    st.floats(1e-4, 1) | st.none(),
    st.lists(st.floats(1e-4, 1), min_size=1, max_size=20),
)
def test_a_shaded_interval_holds_just_the_values_inside(
    low: float | None, high: float | None, rates: list[float]
) -> None:
    if low is None and high is None:
        low = 0.01
    if low is not None and high is not None and low > high:
        low, high = high, low
    region = Region.model_validate({"linear.rate": {"min": low, "max": high}})
    runs = [make_run(i, {**draw(1), "model": "linear", "linear.rate": rate}) for i, rate in enumerate(rates, 1)]
    learned = LearnedConstraint(
        constraint=Constraint(name="c", forbid=region), kinds={}, failed=(), survived=(), purity=1, bound=1, base_rate=0
    )
    drawn = region_over_runs(make_study(), learned, runs)
    assert drawn is not None
    ((start, end),) = drawn.x.bands
    for place, rate in zip(drawn.x.positions, rates, strict=True):
        if region.contains({"linear.rate": rate}):
            assert start <= place <= end
        elif not any(end_ is not None and abs(math.log10(rate / end_)) < 0.1 for end_ in (low, high)):
            assert not start <= place <= end


def test_a_region_that_cannot_be_drawn_is_in_the_table_alone(tmp_path: Path) -> None:
    runs = [make_run(i) for i in range(1, 8)]
    lessons = lessons_of(runs)
    gone = Constraint(name="gone", forbid=Region.model_validate({"absent": {"min": 1}}))
    lessons = replace(lessons, constraints=(replace(lessons.constraints[0], constraint=gone),))
    report = make_report(runs, tmp_path, lessons=lessons)
    assert report.regions == () and "absent ≥ 1" in section(report, "What was learned")


def test_repeats_stand_with_their_mean_and_its_error(tmp_path: Path) -> None:
    base = make_run(1)
    loss = base.metrics["loss"].last
    again = make_run(
        2, base.params, seed=1, fingerprints=base.fingerprints, metrics={"loss": MetricSummary.of(loss + 0.02)}
    )
    other = make_run(3, {**base.params, "noise": 0.1}, metrics={"loss": MetricSummary.of(loss + 0.005)})
    report = make_report([base, again, other], tmp_path)
    told = section(report, "Best runs")
    assert "| 2 |" in told and f"{loss + 0.01:.6g}" in told and "± 0.1" in told
    assert "Between runs of one config the score differs by" in section(report, "Champion")
    alone = make_report([base, other], tmp_path)
    assert "±" not in section(alone, "Best runs") and "how much of its lead is luck" in section(alone, "Champion")


def test_several_objectives_have_a_front_and_a_hypervolume(tmp_path: Path) -> None:
    names = ("loss", "size", "cost")
    study = make_study(objectives=[{"metric": name, "direction": "minimize"} for name in names])
    rng = np.random.default_rng(1)
    runs = [
        make_run(i, metrics={name: MetricSummary.of(float(v)) for name, v in zip(names, rng.random(3), strict=True)})
        for i in range(1, 31)
    ]
    front = pareto_front(study, runs)
    for run in runs:
        beaten = any(
            all(o.values[n] <= run.values[n] for n in names) and any(o.values[n] < run.values[n] for n in names)
            for o in runs
        )
        assert (run in front) != beaten
    volumes = np.linspace(0, 1, 30)
    report = make_report(runs, tmp_path, study, hypervolumes=volumes, record=make_record(study))
    told = section(report, "Trade-off")
    assert f"{len(front)} of 30 runs are on the front" in told and "hypervolume   ▁" in told and "champion" in told
    assert len(figure(report, "Trade-off")) == 3 + 1, "three pairs, and the hypervolume"
    assert report.to_dict()["hypervolume"] == 1.0


def test_runs_stopped_early_are_told_and_drawn_apart(tmp_path: Path) -> None:
    stop = EarlyStop(metric="train_loss", step=4, value=2.5, rule="median", reason="worse than half")
    metrics = {"train_loss": MetricSummary(last=2.5, min=2.5, max=3, step=4, count=5)}
    runs = [make_run(1), make_run(2), make_run(3, status=Status.STOPPED, stopped_early=stop, metrics=metrics)]
    study = make_study(early_stopping={"metric": "train_loss", "direction": "minimize"})
    report = make_report(runs, tmp_path, study)
    told = section(report, "Learning curves")
    assert (
        "no hope: 1 of 3 runs (rule 'median' on train_loss, minimize)." in told
        and "| 4 | 2.5 |" in told
        and "worse than half" in told
    )
    assert "2 completed, 1 stopped" in report.summary()
    assert [p.state for p in report.histories[0].points][-1] is State.STOPPED
    names = {trace["name"] for trace in figure(report, "How it went")[0]["data"]}
    assert "stopped early" in names
    assert "stopped early at step 4" in section(report, "Decisions")
    report.html()


def test_rejections_by_rule_and_waiting_are_told_apart(tmp_path: Path) -> None:
    runs = [make_run(1)]
    waiting = replace(decided(make_run(2)), outcome=Outcome.WAITING, verdict="autonomy is manual")
    veto = vetoed(replace(decided(make_run(3)), votes=voted(Stance.REJECT)))
    report = make_report(runs, tmp_path, decisions=[decided(runs[0]), waiting, veto])
    assert [(r.rule, r.count) for r in report.rejections] == [("failure_risk", 1)]
    assert "waits for a person: autonomy is manual" in section(report, "Decisions")
