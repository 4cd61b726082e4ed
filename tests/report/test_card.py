"""The model card: what is on record, that it is complete, and that nothing is made up."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from keptlines import POLICY, Line, compared, generations
from studyruns import decided, make_run
from windlass.records.audit import ChangeKind
from windlass.records.decision import Approval
from windlass.records.evaluation import Leakage
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Finding, Ruling
from windlass.report.card import Card

TITLES = (
    *("What it is", "Intended use", "Where it comes from", "What it was trained on", "Evaluations", "Verdict"),
    *("What the gate could not see", "Service", "To verify"),
)


def section(card: Card, title: str) -> str:
    return card.markdown().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def served() -> Card:
    """Judged on weak and doubtful evidence, served, and rolled back."""
    line, made = generations(2)
    third = line.register(3, made[1])
    line.evaluate(third, leakage=Leakage(overlap=None, words="unknown: train.csv cannot be read"), notes=("said 0.99",))
    line.evaluate(third, "recall", imported="their harness 2.1", leakage=Leakage(overlap=4, examples=500))
    left_out = line.evaluate(third, "safety")
    few = compared(Ruling.INCONCLUSIVE, 0.001, 0.9, role="slice", group="language=de", n=83, more=120)
    rare = replace(few, group="language=(rest)", n=9, finding=Finding.UNTESTED, more=None)
    least = replace(few, group="", role="least", champion=0.8, low=0.08, finding=Finding.PASSED)
    guard = compared(Ruling.PROMOTE, 0.001, 0.011, metric="toxicity", role="guard", threshold=-0.01, detectable=None)
    used = [e.id for e in line.state.evaluations_of(third) if e is not left_out]
    line.serve(
        line.judge(
            third,
            comparisons=(compared(Ruling.PROMOTE, 0.021, 0.89), guard, few, rare, least),
            evaluations=tuple(one for one in used if one != left_out.id),
        )
    )
    line.roll_back(made[1])
    return line.card(third)


def test_a_card_is_well_formed_and_has_every_section(served: Card) -> None:
    text = served.markdown()
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(TITLES)
    assert html.count("<h2>") == len(TITLES)
    assert all(section(served, title).strip() for title in TITLES)


def test_a_card_is_the_same_every_time_and_names_the_entry_it_follows(served: Card) -> None:
    assert served.markdown() == replace(served).markdown()
    text = section(served, "To verify")
    assert f"entry {served.sequence}, whose hash is {served.hash}" in text
    assert f"windlass audit verify --expect {served.sequence}:{served.hash[:12]}\n" in text
    assert f"windlass checkpoints verify {served.checkpoint.id}\n" in text


def test_it_says_what_it_is_and_where_it_comes_from(served: Card) -> None:
    checkpoint = served.checkpoint
    identity, origin = section(served, "What it is"), section(served, "Where it comes from")
    assert f"`{checkpoint.digest}`" in identity and "(1,300,000 bytes)" in identity
    assert "rolled back from reader" in identity
    for value in (*checkpoint.fingerprints.values(), checkpoint.run, checkpoint.parent, "digits, decision #3"):
        assert str(value) in origin
    assert "model:\n  depth: 3" in origin and f"windlass why {checkpoint.run}" in origin
    assert section(served, "Intended use").strip() == "In the words of study digits: Reads handwritten digits on forms."


def test_why_it_was_run_is_the_decisions_reason(served: Card) -> None:
    decision = decided(make_run(3))
    answer = Approval(study="bowl", number=3, approved=True, by="ada", reason="looks right", at=1.0)
    text = section(replace(served, decision=decision, approval=answer), "Where it comes from")
    assert "Proposed by explorer to explore: a point of the sequence. ada approved it: looks right" in text
    assert "Why it was run is not on record." in section(served, "Where it comes from")


def test_what_is_not_on_record_is_said_to_be_so() -> None:
    line = Line()
    bare = replace(line.run(1, fingerprints={}, config={}, metrics={}), study=None, number=None)
    made = line.register(1, run=bare)
    card = line.card(made, description="")
    for title, words in {
        "Intended use": "The description of its study is not on record.",
        "What it was trained on": "Its data is not on record.",
        "Evaluations": "None on record.",
        "Verdict": "a verdict on it is not on record",
        "What the gate could not see": "There is no verdict: nothing about it was tested.",
        "Service": "It never served.",
    }.items():
        assert words in section(card, title)
    origin = section(card, "Where it comes from")
    for name in ("data", "config", "code", "environment"):
        assert f"| {name} fingerprint | not on record |" in origin
    assert "| study | not on record |" in origin and "windlass why" not in origin


def test_evaluations_come_with_their_leakage_and_their_source(served: Card) -> None:
    text = section(served, "Evaluations")
    rows = {row.split(" | ")[1]: row for row in text.splitlines() if row.startswith("| `")}
    assert "| unknown |" in rows["reading"] and "accuracy 0.9, toxicity 0.011" in rows["reading"]
    assert "| 4 of 500 | imported from their harness 2.1 |" in rows["recall"]
    assert "| 0 of 500 |" in rows["safety"]
    assert "unknown: train.csv cannot be read" in text


def test_the_verdict_has_every_comparison(served: Card) -> None:
    text = section(served, "Verdict")
    assert text.strip().startswith("Promote: for deployment reader, against ")
    assert "| reading | `accuracy` | better: passed | 500 | 0.89 | 0.911 | +0.021 | 0.009 … 0.033 (99.5 %) |" in text
    assert "| more than 0.005 | 0.0004 | 86 % |" in text
    assert "| reading | `toxicity` | guard: passed |" in text and "slice in language=de: open | 83 |" in text
    assert "| least: passed | 83 | limit 0.8 | 0.901 |" in text
    assert "challenger number 3 on these benchmarks, judged at a one-sided level of 0.0025 of alpha 0.05" in text


@pytest.mark.parametrize(
    "words",
    [
        "recall: the policy names no slices",
        "recall: hits: on record, and nothing was decided by it.",
        "Not part of the verdict: safety (",
        "The policy asks for neither shadow nor canary",
        "reading accuracy: with 500 examples, improvements of less than 0.018 are found with less than the policy's "
        "power of 80 %.",
        "reading toxicity: that it is worse by up to 0.011 is not ruled out.",
        "reading accuracy in language=de: 83 examples, and 200 are asked of the whole benchmark.",
        "reading accuracy in language=(rest): 9 examples, too few to show anything",
        "reading accuracy in language=de: left open; about 120 more examples would settle it.",
        "whether its examples were trained on is unknown.",
        "4 of 500 examples were trained on.",
        "its scores were made elsewhere and imported",
        "old at the verdict; up to 30 d 00 h is allowed.",
        "old at the verdict; the policy sets no limit.",
        ": said 0.99",
    ],
)
def test_every_limit_is_named(served: Card, words: str) -> None:
    assert words in section(served, "What the gate could not see")


def test_a_limit_that_is_not_there_is_not_named() -> None:
    policy = POLICY.model_dump()
    (benchmark, _) = policy["benchmarks"]
    line = Line(GatePolicy.model_validate({**policy, "benchmarks": [benchmark], "shadow": {}}))
    first = line.register(1)
    line.evaluate(first)
    line.serve(line.judge(first))
    second = line.register(2)
    line.evaluate(second)
    sure = compared(Ruling.PROMOTE, 0.1, 0.85, detectable=None, n=5000)
    guard = replace(sure, role="guard", metric="toxicity", low=0.001)
    line.judge(second, comparisons=(sure, guard), stages=("shadow",))
    (only,) = [row for row in section(line.card(second), "What the gate could not see").splitlines() if row]
    assert "old at the verdict; up to 30 d 00 h is allowed" in only
    assert "Nothing served when it was judged" in section(line.card(first), "What the gate could not see")


def test_service_and_rollback_are_told(served: Card) -> None:
    text = section(served, "Service")
    ((_, tenure),) = served.tenures
    assert tenure.until is not None and tenure.because in text
    (rollback,) = served.rollbacks
    assert f"Rollback {rollback.id} of reader" in text and "answers were rejected more often" in text
    assert "switch done" in text and "- smoke: smoke went well" in text


def test_the_verdict_of_a_card_is_the_one_that_let_it_serve() -> None:
    line, made = generations(1)
    let = line.card(made[0]).verdict
    line.evaluate(made[0], "safety")
    other = line.register(2)
    line.evaluate(other)
    line.serve(line.judge(other))
    later = line.judge(made[0], Ruling.KEEP)
    card = line.card(made[0])
    assert card.verdict == let and later.id in {one.id for one in card.verdicts}
    assert "Other verdicts on it:" in section(card, "Verdict")
    assert "| keep |" in section(card, "Verdict")


def test_bytes_that_are_gone_and_runs_that_gave_the_same_are_named() -> None:
    line = Line()
    made = line.register(1)
    line.enter(ChangeKind.REPRODUCED, made, run=line.run(2).id)
    line.remove(made)
    card = line.card(made)
    assert "were removed on 2025-" in section(card, "What it is")
    assert section(card, "Where it comes from").count("the same bytes came from") == 1


def test_no_text_of_a_users_is_markup() -> None:
    line = Line()
    made = line.register(1, run=line.run(1, config={"note": "```\n# heading\n<b>"}))
    line.evaluate(made, imported="<img src=x>|*a*")
    reasons = ("<script>alert(1)</script>",)
    one = compared(Ruling.INCONCLUSIVE, 0.1, 0.8, group="a|b=<b>", role="slice")
    line.judge(made, Ruling.INCONCLUSIVE, comparisons=(one,), reasons=reasons)
    text = line.card(made, description="# not a heading\n<b>bold</b>").markdown()
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert html.count("<h1>") == 1 and html.count("<h2>") == len(TITLES)
    assert not re.search(r"<(script|img|b)\b", html)
