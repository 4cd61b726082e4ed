"""The graph of lineage: what belongs to a record, in both directions, and in one order."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keptlines import DATA, Line, generations
from windlass.errors import NotFound
from windlass.records.audit import ChangeKind
from windlass.records.content import digest
from windlass.records.lineage import Lineage, Node, NodeKind, Relation
from windlass.records.run import Failure, FailureKind, RunRecord, Status
from windlass.records.verdict import Ruling
from windlass.registry.lineage import lineage
from windlass.registry.memory import MemoryRegistry


def names(found: Lineage, kind: NodeKind) -> list[str]:
    return [node.name for node in found.of(kind)]


def relations(found: Lineage) -> set[tuple[str, str, str]]:
    return {(edge.source.id, str(edge.role), edge.target.id) for edge in found.edges}


def test_the_whole_way_from_data_to_deployment() -> None:
    line = Line()
    made = line.generation(1, benchmarks=1)
    found = line.of(made)
    run, (evaluation,), (verdict,) = line.state.checkpoints[made].run, line.state.evaluations, line.state.verdicts
    job, data = line.state.evaluations[evaluation].run, line.state.evaluations[evaluation].data
    assert relations(found) == {
        (f"dataset:{DATA}", "trained on", f"spec:{run}"),
        (f"spec:{run}", "asked by", f"run:{run}"),
        (f"run:{run}", "made", f"checkpoint:{made}"),
        (f"checkpoint:{made}", "scored", f"evaluation:{evaluation}"),
        (f"dataset:{data}", "on data", f"evaluation:{evaluation}"),
        (f"run:{job}", "made", f"evaluation:{evaluation}"),
        (f"evaluation:{evaluation}", "judged in", f"verdict:{verdict}"),
        (f"checkpoint:{made}", "challenger", f"verdict:{verdict}"),
        (f"verdict:{verdict}", "let serve", "deployment:reader"),
        (f"checkpoint:{made}", "serves", "deployment:reader"),
    }
    assert not found.gone and found.runs.keys() == {run, job}


def test_ancestors_are_there_with_their_sources_and_without_their_own_evaluations() -> None:
    line, made = generations(5)
    found = line.of(made[3])
    assert names(found, NodeKind.CHECKPOINT) == made, "oldest first; the last one continued from it"
    assert {e.checkpoint for e in found.evaluations.values()} == {made[3], made[4]}
    assert {v.challenger for v in found.verdicts.values()} == {made[3], made[4]}
    assert len(names(found, NodeKind.SPEC)) == 5
    continued = {(f"checkpoint:{a}", "continued from", f"checkpoint:{b}") for a, b in pairwise(made)}
    assert continued <= relations(found)
    assert (f"checkpoint:{made[2]}", "champion", f"verdict:{names(found, NodeKind.VERDICT)[0]}") in relations(found)


def test_whom_it_was_judged_against_is_there_without_its_past() -> None:
    line = Line()
    champion = line.generation(1)
    other = line.register(2)
    line.evaluate(other)
    verdict = line.judge(other, Ruling.INCONCLUSIVE)
    found = line.of(other)
    assert names(found, NodeKind.CHECKPOINT) == [champion, other]
    assert (f"checkpoint:{champion}", "champion", f"verdict:{verdict.id}") in relations(found)
    assert found.before(Node(NodeKind.CHECKPOINT, champion), Relation.MADE) == []
    assert not found.after(Node(NodeKind.VERDICT, verdict.id), Relation.LET_SERVE), "it let nothing serve"


def test_a_champions_lineage_leaves_out_the_challenges_to_it() -> None:
    line = Line()
    champion = line.generation(1)
    for number in (2, 3):
        line.evaluate(line.register(number))
        line.judge(line.register(10 + number), Ruling.KEEP)
    assert {v.challenger for v in line.of(champion).verdicts.values()} == {champion}
    (evaluation,) = line.state.evaluations_of(champion, "reading")
    assert len(line.of(evaluation.id).verdicts) == 3, "an evaluation's has every verdict that used it"


@pytest.mark.parametrize(
    ("which", "kind"),
    [
        (lambda line, made: line.state.checkpoints[made].run, NodeKind.RUN),
        (lambda line, made: line.state.checkpoints[made].digest, NodeKind.CHECKPOINT),
        (lambda line, made: made[:7], NodeKind.CHECKPOINT),
        (lambda line, made: line.state.evaluations_of(made)[0].id, NodeKind.EVALUATION),
        (lambda line, made: line.state.evaluations_of(made)[0].run, NodeKind.RUN),
        (lambda line, made: next(iter(line.state.verdicts)), NodeKind.VERDICT),
        (lambda line, made: "reader", NodeKind.DEPLOYMENT),
    ],
    ids=["run", "digest", "part", "evaluation", "evaluation's job", "verdict", "deployment"],
)
def test_every_record_of_a_line_leads_to_the_same_way(which: Callable[[Line, str], str], kind: NodeKind) -> None:
    line = Line()
    made = line.generation(1, benchmarks=1)
    found = line.of(which(line, made))
    assert found.focus.kind is kind
    assert found.nodes == line.of(made).nodes


def test_a_run_that_left_nothing_has_its_data_and_its_spec() -> None:
    line = Line()
    failure = Failure(kind=FailureKind.DIVERGED, message="NaN")
    run = line.run(7, status=Status.FAILED, failure=failure)
    assert relations(line.of(run.id)) == {
        (f"dataset:{DATA}", "trained on", f"spec:{run.id}"),
        (f"spec:{run.id}", "asked by", f"run:{run.id}"),
    }


def test_an_evaluation_that_failed_did_not_train_on_its_benchmark() -> None:
    line = Line()
    run = line.run(7, status=Status.FAILED, lineage={"evaluates": "0" * 12})
    assert names(line.of(run.id), NodeKind.DATASET) == []


def test_a_run_that_reproduced_a_checkpoint_leads_to_it_and_to_what_came_of_it() -> None:
    line = Line()
    made = line.generation(1)
    again = line.run(9)
    line.enter(ChangeKind.REPRODUCED, made, run=again.id)
    assert (f"checkpoint:{made}", "reproduced by", f"run:{again.id}") in relations(line.of(made))
    assert {*line.of(again.id).nodes} == {*line.of(made).nodes, Node(NodeKind.SPEC, again.id)}


def test_after_a_rollback_it_serves_by_the_verdict_it_had() -> None:
    line, made = generations(3)
    line.roll_back(made[0])
    found = line.of("reader")
    assert (f"checkpoint:{made[0]}", "serves", "deployment:reader") in relations(found)
    assert {(f"checkpoint:{one}", "served", "deployment:reader") for one in made[1:]} <= relations(found)
    let = found.before(Node(NodeKind.DEPLOYMENT, "reader"), Relation.LET_SERVE)
    assert [found.verdicts[node.name].challenger for node in let] == made


def test_what_is_gone_says_so() -> None:
    line, made = generations(2)
    second = line.state.checkpoints[made[1]]
    line.remove(made[0])
    first = line.runs.pop(line.state.checkpoints[made[0]].run)
    (scores,) = (e.scores for e in line.state.evaluations_of(made[1], "reading"))

    def exists(kind: NodeKind, name: str) -> bool:
        return name not in (second.run, second.digest, scores)

    found = line.of(made[1], exists=exists)
    words = {node.id: what for node, what in found.gone.items()}
    assert words.pop(f"checkpoint:{made[0]}").startswith("bytes removed 2025-")
    assert words.pop(f"run:{first.id}") == "not on record"
    assert words.pop(f"run:{second.run}") == "folder is gone"
    assert words.pop(f"checkpoint:{made[1]}") == "bytes are missing"
    assert list(words.values()) == ["scores are gone"]


def test_a_parent_that_nobody_knows_is_a_node_that_says_so() -> None:
    line = Line()
    made = line.register(1, parent="0" * 12)
    found = line.of(made)
    assert found.gone == {Node(NodeKind.CHECKPOINT, "0" * 12): "not on record"}
    assert names(found, NodeKind.CHECKPOINT) == ["0" * 12, made]


def test_checkpoints_that_continued_from_each_other_end() -> None:
    line = Line()
    a, b = digest(["bytes", 1])[:12], digest(["bytes", 2])[:12]
    line.register(1, parent=b)
    line.register(2, parent=a)
    line.register(3, parent=digest(["bytes", 3])[:12])
    assert names(line.of(a), NodeKind.CHECKPOINT) == [a, b]
    assert (
        line.of(digest(["bytes", 3])[:12]).before(line.of(digest(["bytes", 3])[:12]).focus, Relation.CONTINUED_FROM)
        == []
    )


def test_one_dataset_that_trained_and_tested_is_one_node() -> None:
    line = Line()
    made = line.register(1)
    line.evaluate(made, data=DATA)
    assert names(line.of(made), NodeKind.DATASET) == [DATA]


def test_what_nobody_knows_is_refused_with_the_nearest() -> None:
    line = Line()
    line.generation(1)
    with pytest.raises(NotFound, match="Did you mean 'reader'"):
        line.of("raeder")
    with pytest.raises(NotFound, match="no checkpoint"):
        line.of("")


def test_a_part_of_several_records_is_refused_with_all_of_them() -> None:
    line = Line()
    made = [line.register(number) for number in range(1, 40)]
    first = next(one[0] for one in made if sum(other[0] == one[0] for other in made) > 1)
    with pytest.raises(NotFound, match=r"records: checkpoint .*, checkpoint"):
        line.of(first)


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_the_order_is_that_of_the_records_alone(shuffled: random.Random) -> None:
    line, made = generations(3)
    line.evaluate(made[2], "safety")
    state = MemoryRegistry()
    state.restore(line.registry.entries())
    other = state.state()
    for records in (other.checkpoints, other.evaluations, other.verdicts):
        items = list(records.items())  # type: ignore[attr-defined]
        shuffled.shuffle(items)
        records.clear()  # type: ignore[attr-defined]
        records.update(items)  # type: ignore[attr-defined]
    runs: dict[str, RunRecord] = dict(sorted(line.runs.items(), reverse=True))
    for reference in (made[0], made[2], "reader"):
        again, here = lineage(other, reference, runs.get), line.of(reference)
        assert (again.nodes, again.edges) == (here.nodes, here.edges)
        places = [list(NodeKind).index(node.kind) for node in here.nodes]
        assert places == sorted(places)
