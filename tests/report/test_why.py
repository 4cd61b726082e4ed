"""The story of one decision: every part of it, for every fate."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from markdown_it import MarkdownIt

from studyruns import (
    BEGAN,
    argued_history,
    decided,
    diverged,
    forecast_of,
    make_run,
    make_study,
    tallied,
    vetoed,
    voted,
)
from windlass.records.decision import Approval, Decision, Incident, Outcome, Risk, Stance
from windlass.records.ranking import standings
from windlass.records.run import EarlyStop, RunRecord, Status
from windlass.report.why import Explained

STUDY = make_study()


def story_of(number: int, **fields: Any) -> Explained:
    """Of one decision of a history; the best run before it is the best of those with smaller numbers."""
    runs, decisions, _ = argued_history(40)
    decision = decisions[number - 1]
    run = next((run for run in runs if run.id == decision.run_id), None)
    ranked = standings(STUDY, [r for r in runs if (r.number or 0) < number])
    now = standings(STUDY, runs)
    place = next((i for i, s in enumerate(now, 1) if run in s.runs), None)
    values: dict[str, Any] = {
        "study": STUDY,
        "decision": decision,
        "run": run,
        "approval": None,
        "before": ranked[0].run if ranked else None,
        "standing": now[place - 1] if place else None,
        "siblings": [],
        "place": place,
        "places": len(now),
    }
    return Explained(**{**values, **fields})


def titles(explained: Explained) -> list[str]:
    return [section.title for section in explained.sections()]


def section(explained: Explained, title: str) -> str:
    """One section's Markdown."""
    return explained.markdown().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_a_good_run_is_told_from_strategy_to_meaning() -> None:
    explained = story_of(11)
    assert titles(explained) == [
        *("In short", "Strategy", "Proposal", "Forecast", "Votes", "Decision", "Outcome"),
        *("Whether the forecast held", "What it meant", "Next"),
    ]
    text = explained.markdown()
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<h1>") == 1 and html.count("<table>") >= 7
    run = explained.run
    assert run is not None and explained.new_best
    for part in (
        run.id,
        "explore",
        "By explorer",
        "| world | approve |",
        "cost | abstain | –",
        "Risk",
        "low",
        "a new best",
    ):
        assert part in text, part
    assert "It beat the best known when it was decided" in text and "place 1 of" in text
    assert f"windlass runs compare {explained.before.id if explained.before else ''} {run.id}" in text
    assert json.loads(json.dumps(explained.to_dict(), allow_nan=False))["new_best"] is True


def test_the_proposal_shows_what_it_changes_against_the_best_then() -> None:
    explained = story_of(6)
    before, run = explained.before, explained.run
    assert before is not None and run is not None
    changed = explained.to_dict()["changes"]
    assert {one["parameter"] for one in changed} == {
        name for name in STUDY.space if before.params.get(name) != run.params.get(name)
    }
    told = section(explained, "Proposal")
    assert f"best then, #{before.number}" in told
    for one in changed:
        assert f"`{one['parameter']}`" in told
        if one["before"] is None:
            assert "inactive" in told


def test_the_first_run_has_nothing_to_be_compared_with() -> None:
    explained = story_of(2, before=None)
    assert "No run had a result yet" in section(explained, "Proposal")
    assert "first result that counts" in section(explained, "What it meant") and explained.new_best


def test_a_vetoed_proposal_says_who_changed_what_and_has_no_outcome() -> None:
    explained = story_of(20)
    assert explained.decision.outcome is Outcome.REJECTED
    assert "Outcome" not in titles(explained) and "Whether the forecast held" not in titles(explained)
    told = section(explained, "Decision")
    assert "| failure_risk | approved | rejected |" in told and "Rejected by 'failure_risk'" in told
    assert "66 % of their weight" in told
    assert "feasibility | reject | 0.80" in section(explained, "Votes")
    assert "it was not run" in section(explained, "In short")
    assert "a proposal that was not run" in explained.title
    assert explained.to_dict()["run"] is None and explained.new_best is None


def test_the_forecast_is_checked_number_by_number() -> None:
    run = make_run(5, {"model": "tree", "tree.depth": 5, "bias": True, "augment": [], "noise": 0.1})  # loss 0.15
    for mean, verdict in ((0.15, "inside 50 %"), (0.05, "inside 90 %"), (0.5, "below 90 %"), (-0.3, "above 90 %")):
        decision = replace(decided(run), forecast=forecast_of(mean))
        explained = story_of(6, decision=decision, run=run)
        row = next(line for line in section(explained, "Whether the forecast held").splitlines() if "`loss`" in line)
        assert row.endswith(f"| {verdict} |")
        (loss, _) = explained.to_dict()["forecast_held"]
        assert loss["of"] == "loss" and loss["within50"] == (verdict == "inside 50 %")
    assert [check.name for check in explained.checks] == ["loss", "duration"]


def test_a_failure_is_held_against_its_probability_by_kind() -> None:
    run = make_run(5, failure=diverged())
    explained = story_of(
        6, decision=replace(decided(run), forecast=forecast_of(0.2, fails=0.4)), run=run, standing=None
    )
    told = section(explained, "Whether the forecast held")
    assert "gave a failure 40 %; it failed (diverged). Of this kind it gave 30 %." in told
    assert "no place in the ranking: it did not complete" in section(explained, "What it meant")
    assert "the loss is NaN at step 3" in section(explained, "Outcome")
    assert "diverged 30 %, timeout 10 %" in section(explained, "Forecast")


def test_a_run_stopped_early_shows_why() -> None:
    stop = EarlyStop(
        metric="loss", step=4, value=2.5, rule="median", reason="worse than 5 of 5", evidence={"median": 1.0}
    )
    run = make_run(5, status=Status.STOPPED, stopped_early=stop)
    explained = story_of(6, run=run, decision=replace(decided(run), forecast=forecast_of(0.2)), standing=None)
    assert "Stopped early by the rule 'median' at step 4: worse than 5 of 5." in section(explained, "Outcome")
    assert "Whether the forecast held" not in titles(explained), "nobody knows how it would have ended"
    assert explained.to_dict()["run"]["stopped_early"]["step"] == 4


def waiting_decision(run: RunRecord) -> Decision:
    return replace(
        decided(run),
        outcome=Outcome.WAITING,
        verdict="waits for a person: autonomy is semi and the risk is high",
        risk=Risk.HIGH,
        forecast=forecast_of(0.2),
        votes=voted(Stance.APPROVE, Stance.REJECT),
        tally=tallied(Stance.REVISE, 0.0, agreement=0.5),
    )


def test_what_waits_is_told_with_the_commands_that_answer_it() -> None:
    decision = waiting_decision(make_run(6))
    explained = story_of(6, decision=decision, run=None, standing=None)
    text = explained.markdown()
    assert "it waits for a person" in text and "windlass approvals approve 'bowl#6' --reason" in text
    request = explained.request()
    assert request.title == "bowl#6"
    shown = Explained.markdown(replace(explained, decision=replace(decision, votes=())))
    assert "best then" in shown


def test_a_persons_answer_is_part_of_the_story() -> None:
    run = make_run(6)
    decision = waiting_decision(run)
    yes = Approval(study="bowl", number=6, approved=True, reason="worth it", by="ada", at=BEGAN)
    approved = story_of(6, decision=decision, run=run, approval=yes)
    assert "ada approved it on 2025-10-09" in section(approved, "Decision") and "worth it" in section(
        approved, "In short"
    )
    no = story_of(
        6, decision=decision, run=None, standing=None, approval=replace(yes, approved=False, reason="too long")
    )
    assert "ada rejected it: too long" in section(no, "In short") and "approvals approve" not in no.markdown()


def test_evidence_of_the_strategy_comes_from_the_first_decision_of_its_cycle() -> None:
    first = replace(
        decided(make_run(5)),
        cycle=6,
        evidence={"best_run": make_run(3).id, "shares": {"bayesian": {"share": 0.9}}, "slots": 2},
        incidents=(Incident(agent="language model", message="no reply within 60 s"),),
    )
    explained = story_of(6, siblings=[first])
    told = section(explained, "Strategy")
    assert f"(../../runs/{make_run(3).id}/REPORT.md)" in told and "| shares, bayesian | share 0.9 |" in told
    assert "language model could not do its part in this cycle: no reply within 60 s" in section(explained, "Decision")
    assert "| #5 | explorer | approved |" in section(explained, "Cycle 6")


def test_repeats_say_what_they_repeat_and_where_their_config_stands() -> None:
    first, again = make_run(4), make_run(7, make_run(4).params, seed=1, fingerprints=make_run(4).fingerprints)
    again = replace(again, metrics={**again.metrics, "loss": replace(again.metrics["loss"], last=0.7)})
    decision = decided(again)
    decision = replace(decision, seed=1, proposal=replace(decision.proposal, repeats=first.id))
    (standing,) = standings(STUDY, [first, again])
    explained = story_of(6, decision=decision, run=again, before=first, standing=standing, place=1, places=1)
    assert f"It repeats run {first.id} with seed 1." in section(explained, "Proposal")
    assert "Its config is that of the best run known then, #4." in section(explained, "Proposal")
    assert "2 runs (#4, #7)" in section(explained, "What it meant") and "±" in section(explained, "What it meant")


def test_text_of_agents_stays_text() -> None:
    evil = "<script>alert(1)</script> [x](javascript:1) | `"
    run = make_run(6)
    decision = decided(run, evil)
    decision = replace(
        decision,
        strategy=evil,
        verdict=evil,
        proposal=replace(decision.proposal, reason=evil, evidence={evil: evil, "more": {evil: [evil]}}),
        votes=tuple(replace(vote, reason=evil, evidence={evil: evil}) for vote in voted(Stance.APPROVE)),
    )
    rendered = MarkdownIt("commonmark").enable("table").render(story_of(6, decision=decision, run=run).markdown())
    assert "<script" not in rendered and 'href="javascript' not in rendered
    json.dumps(story_of(6, decision=decision).to_dict(), allow_nan=False)


def test_a_decision_from_before_forecasts_and_votes_can_be_told() -> None:
    run = make_run(3)
    plain = decided(run)
    assert titles(story_of(6, decision=plain, run=run, before=None)) == [
        *("In short", "Strategy", "Proposal", "Decision", "Outcome", "What it meant", "Next"),
    ]
    assert titles(story_of(6, decision=vetoed(plain), run=None, standing=None, before=None))
