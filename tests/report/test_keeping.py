"""The gate in a study's report: who was judged, what was found, what came to serve."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from markdown_it import MarkdownIt

from keptlines import POLICY, Line, compared
from studyruns import make_report, make_run
from windlass.records.verdict import Ruling
from windlass.report.blocks import Section
from windlass.report.keeping import RULINGS, GateHistory, Looks, draw_looks, gate, looks
from windlass.report.markdown import render


def history(line: Line, **fields: object) -> GateHistory:
    state = line.state
    return replace(
        GateHistory(
            study=line.study,
            policy=line.policy,
            verdicts=state.verdicts_of("reader"),
            deployment=state.deployments.get("reader"),
            checkpoints=state.checkpoints,
        ),
        **fields,  # type: ignore[arg-type]
    )


def judged(*found: tuple[Ruling, float]) -> tuple[Line, list[str]]:
    """A first champion of accuracy 0.9, and challengers; those that the gate promotes serve."""
    line = Line()
    made = [line.generation(1, benchmarks=1)]
    for number, (ruling, delta) in enumerate(found, 2):
        serving = line.state.deployments["reader"].champion
        before = line.state.evaluations_of(serving or "")[-1].means["accuracy"]
        made.append(line.register(number))
        line.evaluate(made[-1], mean=before + delta)
        verdict = line.judge(made[-1], ruling, delta)
        if ruling is Ruling.PROMOTE:
            line.serve(verdict)
    return line, made


def only(line: Line) -> Looks:
    (found,) = looks(history(line))
    return found


def text_of(line: Line) -> str:
    return render("Gate", [Section("Gate", list(gate(history(line))))])


def test_champions_step_up_where_a_challenger_came_to_serve() -> None:
    line, _ = judged((Ruling.PROMOTE, 0.02), (Ruling.INCONCLUSIVE, 0.004), (Ruling.PROMOTE, 0.03))
    data = only(line)
    assert data.served.tolist() == [True, True, False, True]
    np.testing.assert_allclose(data.champion, [np.nan, 0.87, 0.89, 0.89])
    np.testing.assert_allclose(data.challenger, [0.87, 0.89, 0.894, 0.92], err_msg="the first is known from the second")
    np.testing.assert_allclose(data.delta, [np.nan, 0.02, 0.004, 0.03])
    assert data.names == ("#1", "#2", "#3", "#4")
    assert (data.low[1:] < data.delta[1:]).all() and (data.delta[1:] < data.high[1:]).all()


def test_a_mean_that_nothing_was_compared_with_is_not_guessed_after_a_rollback() -> None:
    line, made = judged((Ruling.PROMOTE, 0.02))
    line.roll_back(made[0])
    line.evaluate(third := line.register(3), mean=0.95)
    line.judge(third, Ruling.KEEP, 0.01)
    first, second, last = line.state.verdicts_of("reader")
    (data,) = looks(history(line, verdicts=[first, replace(second, comparisons=()), last]))
    assert data.served.tolist() == [True, True, False]
    assert np.isnan(data.challenger[1]), "what was compared next is not what came to serve then"


def test_the_figure_has_the_colours_of_the_rulings_the_threshold_and_the_steps() -> None:
    line, _ = judged((Ruling.PROMOTE, 0.02), (Ruling.KEEP, -0.03), (Ruling.INCONCLUSIVE, 0.0), (Ruling.KEEP, 0.001))
    drawn = json.loads(draw_looks(only(line)).to_json())
    traces = {(trace["name"], trace.get("yaxis", "y")): trace for trace in drawn["data"]}
    assert {name for name, _ in traces} == {"what served", "needed", *map(str, Ruling)}
    for ruling in Ruling:
        assert traces[str(ruling), "y"]["marker"]["color"] == RULINGS[ruling]
        assert len(traces[str(ruling), "y"]["text"]) == {Ruling.PROMOTE: 2, Ruling.KEEP: 2}.get(ruling, 1)
    assert drawn["layout"]["annotations"][0]["text"] == "nothing served"
    assert drawn["layout"]["xaxis"]["ticktext"] == ["#1", "#2", "#3", "#4", "#5"]


def test_one_that_is_better_and_held_back_by_something_else_is_hollow() -> None:
    line, _ = judged()
    line.evaluate(made := line.register(2))
    line.judge(made, Ruling.KEEP, comparisons=(compared(Ruling.PROMOTE, 0.03, 0.87),))
    data = only(line)
    assert data.held.tolist() == [False, True]
    drawn = json.loads(draw_looks(data).to_json())
    (symbols,) = (t["marker"]["symbol"] for t in drawn["data"] if t["name"] == "keep" and "error_y" in t)
    assert symbols == ["circle-open"]


def test_the_table_has_every_verdict_with_its_numbers_and_its_reason() -> None:
    line, made = judged((Ruling.PROMOTE, 0.02), (Ruling.KEEP, -0.03))
    text = text_of(line)
    assert "Verdicts for deployment reader: 2 promote, 1 keep." in text and f"{made[1]} serves" in text
    rows = [row for row in text.splitlines() if row.startswith("| #")]
    assert [row.split(" | ")[3] for row in rows] == ["promote, served", "promote, served", "keep"]
    assert "+0.02 (0.008 … 0.032) | 0.005 | reading: accuracy is +0.020 better" in rows[1]
    assert f"`{line.state.checkpoints[made[2]].run}`" in rows[2]


def test_a_challenger_of_another_study_has_its_name() -> None:
    line, _ = judged((Ruling.PROMOTE, 0.02))
    line.study = "letters"
    line.evaluate(made := line.register(3))
    line.judge(made, Ruling.KEEP, -0.03)
    (data,) = looks(history(line, study="digits"))
    assert data.names == ("#1", "#2", "letters #3")


def test_many_challengers_are_numbered_by_the_axis() -> None:
    line, _ = judged(*[(Ruling.INCONCLUSIVE, 0.001)] * 20)
    assert "tickvals" not in json.loads(draw_looks(only(line)).to_json())["layout"]["xaxis"]


def test_without_verdicts_there_are_words_and_no_figure() -> None:
    (block,) = gate(GateHistory(study="digits", policy=POLICY))
    assert "No challenger was judged for deployment reader yet." in str(block)
    line = Line()
    line.judge(line.register(1), Ruling.INCONCLUSIVE, comparisons=(), reasons=("reading: no evaluation.",))
    assert looks(history(line)) == ()
    assert "reading: no evaluation." in text_of(line) and "Nothing serves yet." in text_of(line)


def test_a_study_report_has_the_section_where_there_is_a_gate(tmp_path: Path) -> None:
    line, made = judged((Ruling.PROMOTE, 0.02))
    without = make_report([make_run(1), make_run(2)], tmp_path)
    report = replace(without, gate=history(line))
    assert "## Gate" not in without.markdown() and without.to_dict()["gate"] is None
    html = MarkdownIt("commonmark").enable("table").render(report.markdown())
    assert "<h2>Gate</h2>" in html
    assert "and the improvement over what served" in report.html()
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))["gate"]
    assert data["champion"] == made[1] and [one["served"] for one in data["verdicts"]] == [True, True]
