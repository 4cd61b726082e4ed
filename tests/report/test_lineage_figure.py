"""Lineage for people and programs: the tree, the JSON, the picture."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keptlines import Line, generations
from windlass.records.audit import ChangeKind
from windlass.records.deployment import Stage
from windlass.records.evaluation import Leakage
from windlass.records.lineage import Lineage, NodeKind
from windlass.records.run import Failure, FailureKind, Status
from windlass.records.verdict import Finding, Ruling
from windlass.report.lineage import STANDS, decisive, lineage_dict, lineage_tree
from windlass.report.lineage_figure import draw_lineage

SVG = "{http://www.w3.org/2000/svg}"
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


def boxes(svg: str) -> dict[str, Rectangle]:
    """Every node's box in the picture."""
    found = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        frame = group.find(f"{SVG}rect")
        assert frame is not None
        x, y, width, height = (float(frame.attrib[name]) for name in ("x", "y", "width", "height"))
        found[group.attrib["data-node"]] = (x, y, x + width, y + height)
    return found


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def told(svg: str) -> list[list[str]]:
    """What the lines say: from, relation, to."""
    paths = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return [(path.findtext(f"{SVG}title") or "").split("\n") for path in paths]


def messy() -> tuple[Line, list[str]]:
    """Branches, a rejected one without bytes, a reproduced one, a leaked and an imported evaluation, a rollback."""
    line = Line()
    a = line.generation(1)
    b = line.generation(2, a)
    c = line.register(3, a)
    line.evaluate(c, "reading", leakage=Leakage(overlap=4, examples=500))
    line.evaluate(c, "recall", imported="their.json", run=None)
    line.judge(c, Ruling.INCONCLUSIVE, 0.004)
    d = line.register(4, c)
    line.evaluate(d, "reading", leakage=Leakage(overlap=None, words="unknown"))
    line.judge(d, Ruling.KEEP, -0.03)
    e = line.register(5, a)
    line.enter(ChangeKind.REPRODUCED, e, run=line.run(9).id)
    f = line.generation(6, e)
    line.roll_back(b)
    line.remove(d)
    line.runs.pop(line.state.checkpoints[f].run)
    return line, [a, b, c, d, e, f]


@pytest.fixture(scope="module")
def tangled() -> tuple[Line, list[str]]:
    return messy()


# The tree --------------------------------------------------------------------------------------------------------


def test_the_tree_reads_from_data_to_deployment() -> None:
    line = Line()
    made = line.generation(1, benchmarks=1)
    header, _, *block = lineage_tree(line.of(made)).split("\n")
    assert header == f"Lineage of checkpoint {made}"
    assert block[0] == f"checkpoint {made} · champion of reader · 1.2 MiB, 3 files  ◀"
    assert [row.split("  ")[1] for row in block[1:]] == [
        *("trained on", "asked by", "made by", "scored", "judged", "serves"),
    ]
    assert "digits #1, seed 1: lr = 0.1, model.depth = 3, augment = [flip, crop]" in block[2]
    assert "completed in 3 min 07 s" in block[3]
    assert "reading: accuracy 0.87, toxicity 0.011 · 500 examples" in block[4]


def test_a_chain_of_checkpoints_stays_at_the_margin_and_branches_are_indented(tangled: tuple[Line, list[str]]) -> None:
    line, made = generations(400, benchmarks=1)
    rows = lineage_tree(line.of("reader")).split("\n")
    assert max(map(len, rows)) < 140
    assert sum(row.startswith("▼ continued as checkpoint") for row in rows) == len(made) - 1
    line, (a, b, c, d, e, f) = tangled
    heads = re.findall(r"^([ │├└─▼]*)(?:continued as )?checkpoint (\w+)", lineage_tree(line.of(a)), re.MULTILINE)
    assert heads == [("", a), ("├─ ", b), ("├─ ", c), ("│  ▼ ", d), ("└─ ", e), ("   ▼ ", f)]


def test_the_tree_says_what_is_gone_leaked_imported_and_reproduced(tangled: tuple[Line, list[str]]) -> None:
    line, made = tangled
    text = lineage_tree(line.of(made[0]))
    for words in (
        *("! bytes removed 2025-", "! not on record", "4 examples trained on", "leakage unknown", "imported"),
        *("reproduced by", "rolled back from reader", "as its parent, but lr = 0.05", "keep: reading accuracy -0.03"),
        "reader from 2025-10-10 04:53 to 2025-10-11 11:53, then again since 2025-10-11 21:53 UTC",
    ):
        assert words in text, words


def test_the_row_that_was_asked_about_is_marked() -> None:
    line = Line()
    made = line.generation(1, benchmarks=1)
    (evaluation,), (verdict,) = line.state.evaluations.values(), line.state.verdicts
    for reference, row in (
        (evaluation.id, "scored"),
        (evaluation.run, "scored"),
        (verdict, "judged"),
        ("reader", "serves"),
        (line.state.checkpoints[made].run, "made by"),
    ):
        (marked,) = (row for row in lineage_tree(line.of(reference or "")).split("\n") if row.endswith("◀"))
        assert marked.strip().startswith(row)
        assert draw_lineage(line.of(reference or "")).count('stroke-width="2.4"/>') == 1, "and its box"


def test_data_that_nobody_recorded_is_said_to_be_unknown() -> None:
    line = Line()
    made = line.register(1, run=line.run(1, fingerprints={}))
    assert "trained on    data that is not on record" in lineage_tree(line.of(made))
    assert "data is not on record" in words(draw_lineage(line.of(made)))


def test_a_run_without_a_checkpoint_has_a_tree_and_a_picture() -> None:
    line = Line()
    run = line.run(7, status=Status.FAILED, failure=Failure(kind=FailureKind.DIVERGED, message="NaN"))
    text = lineage_tree(line.of(run.id))
    assert "failed: diverged" in text and text.endswith("nothing is registered from it")
    assert [node.partition(":")[0] for node in boxes(draw_lineage(line.of(run.id)))] == ["dataset", "spec", "run"]
    job = line.run(8, status=Status.FAILED, lineage={"evaluates": "0" * 12})
    assert "evaluates     000000000000" in lineage_tree(line.of(job.id))


def test_a_verdict_turns_on_what_is_broken_or_open() -> None:
    line = Line()
    line.generation(1)
    line.evaluate(made := line.register(2))
    passed = line.judge(made).comparisons[0]
    broken = replace(passed, metric="toxicity", role="guard", finding=Finding.BROKEN)
    kept = line.judge(line.register(3), Ruling.KEEP, comparisons=(passed, broken))
    assert decisive(kept) == broken
    assert "keep: reading toxicity (guard) +0.021" in lineage_tree(line.of(kept.id))
    bare = line.judge(line.register(4), Ruling.INCONCLUSIVE, comparisons=(), reasons=("recall: no evaluation.",))
    assert "inconclusive: recall: no evaluation." in lineage_tree(line.of(bare.id))


def test_every_stage_has_its_words() -> None:
    assert STANDS.keys() == set(Stage)


# JSON ------------------------------------------------------------------------------------------------------------


def test_the_json_is_a_graph_of_known_nodes(tangled: tuple[Line, list[str]]) -> None:
    line, made = tangled
    for reference in (*made, "reader"):
        found = line.of(reference)
        data = json.loads(json.dumps(lineage_dict(found), allow_nan=False))
        ids = [node["id"] for node in data["nodes"]]
        assert data["focus"] in ids and len(ids) == len(set(ids))
        assert {edge[end] for edge in data["edges"] for end in ("from", "to")} <= set(ids)
        assert all(node.keys() == {"id", "kind", "label", "details", "gone"} for node in data["nodes"])


def test_the_json_has_the_records() -> None:
    line = Line()
    made = line.generation(1, benchmarks=1)
    nodes = {node["kind"]: node for node in lineage_dict(line.of(made))["nodes"] if "eval" not in node["id"]}
    assert nodes["checkpoint"]["details"]["digest"] == line.state.checkpoints[made].digest
    assert nodes["checkpoint"]["details"]["stages"] == {"reader": "champion"}
    assert nodes["spec"]["details"]["config"]["model"] == {"depth": 3}
    assert nodes["deployment"]["details"]["champion"] == made
    assert nodes["verdict"]["details"]["ruling"] == "promote"
    assert nodes["run"]["details"]["metrics"]["loss"]["last"] == 0.4


# The picture -----------------------------------------------------------------------------------------------------


def check_picture(found: Lineage) -> str:
    """Nothing overlaps, nothing sticks out, columns go from left to right, and each box is a node."""
    svg = draw_lineage(found)
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    placed = boxes(svg)
    known = {node.id: node for node in found.nodes}
    assert placed.keys() <= known.keys()
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in itertools.combinations(placed.values(), 2):
        assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0, "two boxes overlap"
    assert all(x0 >= 0 and x1 <= width and y0 >= 0 and y1 <= height for x0, y0, x1, y1 in placed.values())
    kinds = list(NodeKind)
    columns = {kinds.index(known[name].kind): box[0] for name, box in placed.items()}
    assert [columns[kind] for kind in sorted(columns)] == sorted(columns.values())
    assert {node.id for node in found.of(NodeKind.CHECKPOINT)} <= placed.keys()
    assert all(len(one) <= 60 for one in words(svg))
    return svg


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("reference", ["first", "last", "reader"])
def test_a_picture_of_generations(count: int, reference: str) -> None:
    line, made = generations(count, benchmarks=3)
    found = line.of({"first": made[0], "last": made[-1]}.get(reference, reference))
    svg = check_picture(found)
    placed = boxes(svg)
    column = [placed[f"checkpoint:{one}"] for one in made]
    assert column == sorted(column, key=lambda box: box[1]), "the oldest on top"
    spoken = {relation for _, relation, _ in told(svg)}
    assert {"trained on", "asked by", "made", "scored", "judged in", "let serve"} <= spoken
    assert ("continued from" in spoken) == (count > 1)
    assert "champion" not in spoken, "whom it was judged against is joined to it already"


def test_a_picture_of_branches_and_of_what_is_gone(tangled: tuple[Line, list[str]]) -> None:
    line, made = tangled
    for reference in (*made, "reader"):
        check_picture(line.of(reference))
    svg = draw_lineage(line.of(made[0]))
    shown = words(svg)
    for said in ("bytes removed 2025-10-12", "not on record", "4 examples trained on", "imported", "the same bytes"):
        assert said in shown, said
    assert svg.count('stroke-dasharray="5 3"') == 2, "the checkpoint without bytes and the run that is not on record"


def test_a_champion_that_is_joined_to_nothing_else_is_joined_to_the_verdict() -> None:
    line = Line()
    champion = line.generation(1)
    line.evaluate(made := line.register(2))
    verdict = line.judge(made, Ruling.KEEP)
    (joined,) = (one for one in told(check_picture(line.of(made))) if one[1] == "champion")
    assert joined[0] == f"checkpoint {champion}" and joined[2].startswith("keep")
    assert "champion" not in {relation for _, relation, _ in told(check_picture(line.of(verdict.id)))}
    assert (
        f"checkpoint {champion} · champion of reader · 1.2 MiB, 3 files\n  champion      in verdict {verdict.id}"
        in (lineage_tree(line.of(made)))
    )


@settings(max_examples=40)
@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_no_text_of_a_users_is_markup_in_a_picture(study: str, metric: str) -> None:
    line = Line(study="s")
    run = line.run(1, study=study)
    made = line.register(1, run=run)
    line.evaluate(made, means={metric: 0.5}, benchmark="<script>&\"'")
    found = line.of(made)
    svg = check_picture(found)
    assert "<script" not in svg
    assert svg == draw_lineage(found)
