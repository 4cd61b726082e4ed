"""A lineage: what a checkpoint, an evaluation, a verdict or a deployment comes from, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Deployment, Stage
from windlass.records.evaluation import Evaluation
from windlass.records.run import RunRecord
from windlass.records.verdict import Verdict


class NodeKind(StrEnum):
    """In the order in which one leads to the next."""

    DATASET = "dataset"  #: named by its fingerprint
    SPEC = "spec"  #: what a run was asked to do; named by the run's id
    RUN = "run"
    CHECKPOINT = "checkpoint"
    EVALUATION = "evaluation"
    VERDICT = "verdict"
    DEPLOYMENT = "deployment"


class Relation(StrEnum):
    """What an edge says; it points from what was there first to what came of it."""

    TRAINED_ON = "trained on"  #: dataset -> spec
    ASKED_BY = "asked by"  #: spec -> run
    MADE = "made"  #: run -> checkpoint, run -> evaluation
    REPRODUCED_BY = "reproduced by"  #: checkpoint -> another run that gave the same bytes
    CONTINUED_FROM = "continued from"  #: checkpoint -> the one that was trained on from it
    SCORED = "scored"  #: checkpoint -> evaluation
    ON_DATA = "on data"  #: dataset -> evaluation
    JUDGED_IN = "judged in"  #: evaluation -> verdict
    CHALLENGER = "challenger"  #: checkpoint -> verdict
    CHAMPION = "champion"  #: checkpoint -> verdict
    LET_SERVE = "let serve"  #: verdict -> deployment
    SERVES = "serves"  #: checkpoint -> deployment
    SERVED = "served"  #: checkpoint -> deployment


@dataclass(frozen=True, slots=True)
class Node:
    kind: NodeKind
    name: str  #: fingerprint, run id, checkpoint id, ...: what the record is known by

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Edge:
    source: Node
    target: Node
    role: Relation


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A graph without cycles of edges but ``continued from``, and the records of its nodes as far as they are known."""

    focus: Node  #: what was asked about
    nodes: tuple[Node, ...]  #: by kind, then by time
    edges: tuple[Edge, ...]  #: in the order of their nodes
    gone: Mapping[Node, str]  #: nodes whose artefact is not there any more, with the words for it
    runs: Mapping[str, RunRecord]  #: by id, like those below
    checkpoints: Mapping[str, Checkpoint]
    evaluations: Mapping[str, Evaluation]
    verdicts: Mapping[str, Verdict]
    deployments: Mapping[str, Deployment]  #: by name
    stages: Mapping[str, Mapping[str, Stage]]  #: checkpoint id -> deployment -> where it stands there

    def of(self, kind: NodeKind) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.kind is kind)

    def before(self, node: Node, *roles: Relation) -> list[Node]:
        """Where edges of these roles into ``node`` start."""
        return [edge.source for edge in self._into.get(node, ()) if edge.role in roles]

    def after(self, node: Node, *roles: Relation) -> list[Node]:
        """Where edges of these roles from ``node`` end."""
        return [edge.target for edge in self._out_of.get(node, ()) if edge.role in roles]

    @cached_property
    def _into(self) -> Mapping[Node, list[Edge]]:
        found: dict[Node, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.target, []).append(edge)
        return found

    @cached_property
    def _out_of(self) -> Mapping[Node, list[Edge]]:
        found: dict[Node, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.source, []).append(edge)
        return found
