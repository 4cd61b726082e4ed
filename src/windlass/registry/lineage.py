"""Lineage: dataset -> spec -> run -> checkpoint -> evaluation -> verdict -> deployment, out of the registry's state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator

from windlass.errors import NotFound, nearest
from windlass.records.deployment import Deployment
from windlass.records.lineage import Edge, Lineage, Node, NodeKind, Relation
from windlass.records.run import RunRecord
from windlass.records.verdict import Ruling
from windlass.registry.evaluating import EVALUATES
from windlass.registry.state import State
from windlass.runs.text import when

FindRun = Callable[[str], RunRecord | None]
#: whether an artefact is on disk: a run's folder by its id, the bytes of a checkpoint or of scores by their digest
Exists = Callable[[NodeKind, str], bool]

#: kinds that are shown with whatever they led to
SOURCES = (NodeKind.DATASET, NodeKind.SPEC, NodeKind.RUN)


def lineage(state: State, reference: str, find_run: FindRun, exists: Exists = lambda kind, name: True) -> Lineage:
    """All that ``reference`` comes from, and all that came of it.

    ``reference`` is the id of a checkpoint, evaluation, verdict or run, a part of one, or a deployment's name. A
    checkpoint's challenges are followed, not those that it stood as the champion; whom it was judged against is there
    without its own past. Raises NotFound with the nearest.
    """
    focus = _resolve(state, reference, find_run)
    edges = list(dict.fromkeys(_edges(state)))
    run = find_run(focus.name) if focus.kind is NodeKind.RUN else None
    if run is not None and EVALUATES not in run.lineage:
        edges += [edge for edge in _run_edges(run.id, run.fingerprints.get("data")) if edge not in edges]
    found = _around(focus, edges, state)
    nodes = sorted(found, key=lambda node: _order(node, state))
    place = {node: i for i, node in enumerate(nodes)}
    within = [edge for edge in edges if edge.source in place and edge.target in place]
    within.sort(key=lambda edge: (place[edge.source], place[edge.target], edge.role))
    named = {kind: [node.name for node in nodes if node.kind is kind] for kind in NodeKind}
    runs = {name: find_run(name) for name in {*named[NodeKind.RUN], *named[NodeKind.SPEC]}}
    return Lineage(
        focus=focus,
        nodes=tuple(nodes),
        edges=tuple(within),
        gone={node: words for node in nodes if (words := _gone(node, state, find_run, exists))},
        runs={name: run for name, run in sorted(runs.items()) if run is not None},
        checkpoints={name: state.checkpoints[name] for name in named[NodeKind.CHECKPOINT] if name in state.checkpoints},
        evaluations={name: state.evaluations[name] for name in named[NodeKind.EVALUATION]},
        verdicts={name: state.verdicts[name] for name in named[NodeKind.VERDICT]},
        deployments={name: state.deployments[name] for name in named[NodeKind.DEPLOYMENT]},
        stages={name: state.stages_of(name) for name in named[NodeKind.CHECKPOINT]},
    )


# What is meant ---------------------------------------------------------------------------------------------------


def _resolve(state: State, reference: str, find_run: FindRun) -> Node:
    if reference in state.deployments:
        return Node(NodeKind.DEPLOYMENT, reference)
    known: dict[NodeKind, Collection[str]] = {
        NodeKind.CHECKPOINT: state.checkpoints,
        NodeKind.EVALUATION: state.evaluations,
        NodeKind.VERDICT: state.verdicts,
        NodeKind.RUN: dict.fromkeys(_runs(state)),
    }
    digests = {checkpoint.digest: checkpoint.id for checkpoint in state.checkpoints.values()}
    whole = digests.get(reference, reference)
    exact = [Node(kind, whole) for kind, names in known.items() if whole in names]
    if not exact and find_run(reference) is not None:
        exact = [Node(NodeKind.RUN, reference)]
    parts = [
        Node(kind, name)
        for kind, names in known.items()
        for name in names
        if reference and (reference in name if kind is NodeKind.RUN else name.startswith(reference.lower()))
    ]
    matches = exact or parts
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(f"{node.kind} {node.name}" for node in matches[:6])
        raise NotFound(f"{reference!r} is {len(matches)} records: {some}", "Write more of the one you mean.")
    every = [*state.deployments, *(name for names in known.values() for name in names)]
    raise NotFound(
        f"no checkpoint, evaluation, verdict, run or deployment {reference!r}.{nearest(reference, every)}",
        "windlass checkpoints list",
    )


def _runs(state: State) -> Iterator[str]:
    for runs in state.runs.values():
        yield from runs
    yield from (evaluation.run for evaluation in state.evaluations.values() if evaluation.run)


# Edges -----------------------------------------------------------------------------------------------------------


def _edges(state: State) -> Iterator[Edge]:
    for checkpoint in state.checkpoints.values():
        node, run = _checkpoint(checkpoint.id), Node(NodeKind.RUN, checkpoint.run)
        yield from _run_edges(checkpoint.run, checkpoint.fingerprints.get("data"))
        yield Edge(run, node, Relation.MADE)
        if checkpoint.parent is not None and checkpoint.parent != checkpoint.id:
            yield Edge(_checkpoint(checkpoint.parent), node, Relation.CONTINUED_FROM)
        for other in state.runs.get(checkpoint.id, ()):
            if other != checkpoint.run:
                yield Edge(node, Node(NodeKind.RUN, other), Relation.REPRODUCED_BY)
    for evaluation in state.evaluations.values():
        node = Node(NodeKind.EVALUATION, evaluation.id)
        yield Edge(_checkpoint(evaluation.checkpoint), node, Relation.SCORED)
        yield Edge(Node(NodeKind.DATASET, evaluation.data), node, Relation.ON_DATA)
        if evaluation.run:
            yield Edge(Node(NodeKind.RUN, evaluation.run), node, Relation.MADE)
    for verdict in state.verdicts.values():
        node = Node(NodeKind.VERDICT, verdict.id)
        for used in verdict.evaluations:
            yield Edge(Node(NodeKind.EVALUATION, used), node, Relation.JUDGED_IN)
        yield Edge(_checkpoint(verdict.challenger), node, Relation.CHALLENGER)
        if verdict.champion is not None:
            yield Edge(_checkpoint(verdict.champion), node, Relation.CHAMPION)
    for line in state.deployments.values():
        yield from _service(state, line)


def _run_edges(run: str, data: str | None) -> Iterator[Edge]:
    spec = Node(NodeKind.SPEC, run)
    if data:
        yield Edge(Node(NodeKind.DATASET, data), spec, Relation.TRAINED_ON)
    yield Edge(spec, Node(NodeKind.RUN, run), Relation.ASKED_BY)


def _service(state: State, line: Deployment) -> Iterator[Edge]:
    """Who serves and who served, and by which verdict; whom a rollback brought back serves by the one it had."""
    node = Node(NodeKind.DEPLOYMENT, line.name)
    for tenure in line.tenures:
        role = Relation.SERVES if tenure.checkpoint == line.champion else Relation.SERVED
        yield Edge(_checkpoint(tenure.checkpoint), node, role)
        passed = [v.id for v in state.verdicts_of(line.name, tenure.checkpoint) if v.ruling is Ruling.PROMOTE]
        verdict = tenure.verdict or (passed[-1] if passed else None)
        if verdict is not None:
            yield Edge(Node(NodeKind.VERDICT, verdict), node, Relation.LET_SERVE)


def _checkpoint(name: str) -> Node:
    return Node(NodeKind.CHECKPOINT, name)


# What belongs to it ----------------------------------------------------------------------------------------------


def _around(focus: Node, edges: Iterable[Edge], state: State) -> set[Node]:
    into, out_of = defaultdict(list), defaultdict(list)
    for edge in edges:
        into[edge.target].append(edge)
        out_of[edge.source].append(edge)
    cores = {focus}
    if focus.kind is NodeKind.RUN:
        cores |= {edge.target for edge in out_of[focus]}
        cores |= {edge.source for edge in into[focus] if edge.role is Relation.REPRODUCED_BY}
    found = _closure(cores, lambda node: [edge.source for edge in into[node]])
    found |= _closure(cores, lambda node: [edge.target for edge in out_of[node] if _own(edge, state, cores)])
    found |= _closure(found, lambda node: [e.source for e in into[node] if e.source.kind in SOURCES])
    spoken_of = [
        edge.source
        for node in found
        if node.kind in (NodeKind.EVALUATION, NodeKind.VERDICT)
        for edge in into[node]
        if edge.source.kind is NodeKind.CHECKPOINT
    ]
    return found | set(spoken_of)


def _own(edge: Edge, state: State, cores: set[Node]) -> bool:
    """Whether what ``edge`` leads to is about what it comes from: a verdict is about its challenger."""
    if edge.role is Relation.JUDGED_IN and edge.source not in cores:
        evaluation = state.evaluations[edge.source.name]
        return evaluation.checkpoint == state.verdicts[edge.target.name].challenger
    return edge.role is not Relation.CHAMPION


def _closure(start: Iterable[Node], following: Callable[[Node], Iterable[Node]]) -> set[Node]:
    found: set[Node] = set()
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += following(node)
    return found


def _gone(node: Node, state: State, find_run: FindRun, exists: Exists) -> str:
    match node.kind:
        case NodeKind.RUN if find_run(node.name) is None:
            return "not on record"
        case NodeKind.RUN if not exists(NodeKind.RUN, node.name):
            return "folder is gone"
        case NodeKind.CHECKPOINT if node.name not in state.checkpoints:
            return "not on record"
        case NodeKind.CHECKPOINT if (at := state.removed.get(node.name)) is not None:
            return f"bytes removed {when(at)[:10]}"
        case NodeKind.CHECKPOINT if not exists(NodeKind.CHECKPOINT, state.checkpoints[node.name].digest):
            return "bytes are missing"
        case NodeKind.EVALUATION if not exists(NodeKind.EVALUATION, state.evaluations[node.name].scores):
            return "scores are gone"
        case _:
            return ""


def _order(node: Node, state: State) -> tuple[int, float, str]:
    """By kind, then by time, then by name; the ids of runs begin with their time."""
    at = 0.0
    match node.kind:
        case NodeKind.CHECKPOINT if node.name in state.checkpoints:
            at = state.checkpoints[node.name].created
        case NodeKind.EVALUATION:
            at = state.evaluations[node.name].at
        case NodeKind.VERDICT:
            at = state.verdicts[node.name].at
    return list(NodeKind).index(node.kind), at, node.name
