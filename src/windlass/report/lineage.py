"""A lineage for people and programs: as a tree in a terminal, and as JSON. ``lineage_figure`` draws it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from windlass.records.checkpoint import Checkpoint
from windlass.records.content import flatten
from windlass.records.deployment import Deployment, Stage, Tenure
from windlass.records.evaluation import Evaluation
from windlass.records.lineage import Lineage, Node, NodeKind, Relation
from windlass.records.run import RunRecord
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.report.tables import run_dict, status_words
from windlass.report.words import config_words, interval, listed
from windlass.runs.text import duration, one_line, show, size, when

SHORT = 12  #: digits of a fingerprint
WORDS = 110  #: characters of one row
FOCUS = "  ◀"
#: before a deployment's name
STANDS = {
    Stage.CANDIDATE: "candidate for",
    Stage.EVALUATED: "evaluated for",
    Stage.SHADOW: "shadow of",
    Stage.CANARY: "canary of",
    Stage.CHAMPION: "champion of",
    Stage.RETIRED: "retired from",
    Stage.REJECTED: "rejected for",
    Stage.ROLLED_BACK: "rolled back from",
}

# JSON ------------------------------------------------------------------------------------------------------------


def lineage_dict(lineage: Lineage) -> dict[str, Any]:
    """``focus``, ``nodes`` {id, kind, label, details, gone} and ``edges`` {from, to, role} as JSON values.

    An edge points from what was there first to what came of it; ``gone`` is null or says what became of an artefact.
    """
    return {
        "focus": lineage.focus.id,
        "nodes": [
            {
                "id": node.id,
                "kind": str(node.kind),
                "label": label(lineage, node),
                "details": _details(lineage, node),
                "gone": lineage.gone.get(node),
            }
            for node in lineage.nodes
        ],
        "edges": [{"from": e.source.id, "to": e.target.id, "role": str(e.role)} for e in lineage.edges],
    }


def _details(lineage: Lineage, node: Node) -> dict[str, Any]:
    match node.kind:
        case NodeKind.DATASET:
            benchmarks = [lineage.evaluations[e.name].benchmark for e in lineage.after(node, Relation.ON_DATA)]
            trained = len(lineage.after(node, Relation.TRAINED_ON))
            return {"fingerprint": node.name, "specs": trained, "benchmarks": sorted(set(benchmarks))}
        case NodeKind.SPEC:
            spec = spec_of(lineage, node)
            names = ("study", "number", "seed", "config", "fingerprints")
            return {name: getattr(spec, name) for name in names} if spec else {}
        case NodeKind.RUN:
            run = lineage.runs.get(node.name)
            return run_dict(run) if run else {}
        case NodeKind.CHECKPOINT:
            checkpoint = lineage.checkpoints.get(node.name)
            stages = {name: str(stage) for name, stage in lineage.stages[node.name].items()}
            return {**checkpoint.to_dict(), "stages": stages} if checkpoint else {}
        case NodeKind.EVALUATION:
            return lineage.evaluations[node.name].to_dict()
        case NodeKind.VERDICT:
            return lineage.verdicts[node.name].to_dict()
        case NodeKind.DEPLOYMENT:
            deployment = lineage.deployments[node.name]
            return {**asdict(deployment), "champion": deployment.champion}


# Words -----------------------------------------------------------------------------------------------------------


def label(lineage: Lineage, node: Node) -> str:
    """A node in a few words."""
    match node.kind:
        case NodeKind.DATASET:
            return f"data {node.name[:SHORT]}"
        case NodeKind.SPEC:
            return f"spec of {asked(spec_of(lineage, node)) or f'run {node.name}'}"
        case NodeKind.EVALUATION:
            return evaluation_words(lineage.evaluations[node.name])
        case NodeKind.VERDICT:
            return verdict_words(lineage.verdicts[node.name])
        case _:
            return f"{node.kind} {node.name}"


def spec_of(lineage: Lineage, node: Node) -> RunRecord | Checkpoint | None:
    """What is on record of a run's spec: with the run itself, or with the checkpoint that it made."""
    if run := lineage.runs.get(node.name):
        return run
    return next((one for one in lineage.checkpoints.values() if one.run == node.name), None)


def asked(spec: RunRecord | Checkpoint | None) -> str:
    """``digits #12``; empty for what no study asked for."""
    if spec is None or spec.study is None:
        return ""
    return spec.study + (f" #{spec.number}" if spec.number is not None else "")


def evaluation_words(evaluation: Evaluation) -> str:
    """``reading: accuracy 0.912, toxicity 0.011``."""
    means = listed([f"{name} {value:.4g}" for name, value in evaluation.means.items()], 3)
    return f"{evaluation.benchmark}: {means}" if means else evaluation.benchmark


def leakage_words(evaluation: Evaluation) -> str:
    """What is to be said beside its scores; mostly nothing."""
    overlap = evaluation.leakage.overlap
    return "leakage unknown" if overlap is None else f"{overlap} examples trained on" if overlap else ""


def decisive(verdict: Verdict) -> Comparison | None:
    """The comparison that a verdict turns on: the first that is broken or open, else the first improvement."""
    telling = {Ruling.KEEP: Finding.BROKEN, Ruling.INCONCLUSIVE: Finding.OPEN}.get(verdict.ruling)
    found = [one for one in verdict.comparisons if one.finding is telling]
    better = [one for one in verdict.comparisons if one.role == "better"]
    return next(iter(found or better), None)


def verdict_words(verdict: Verdict) -> str:
    """``promote: reading accuracy +0.021 (0.009 … 0.033) against 77ab…``."""
    against = f"against {verdict.champion}" if verdict.champion else "nothing served before it"
    one = decisive(verdict)
    if one is None:
        why = against if verdict.ruling is Ruling.PROMOTE else " ".join(verdict.reasons[:1])
        return f"{verdict.ruling}: {one_line(why, 80)}"
    what = " ".join(
        filter(None, (one.benchmark, one.metric, one.group, "" if one.role == "better" else f"({one.role})"))
    )
    return f"{verdict.ruling}: {what} {one.delta:+.3g} ({interval(one.low, one.high)}) {against}"


def _run_words(lineage: Lineage, node: Node) -> str:
    run = lineage.runs.get(node.name)
    return ", ".join([node.name, *_ending(run), *_lost(lineage, node)])


def _ending(run: RunRecord | None) -> list[str]:
    if run is None:
        return []
    took = f" in {duration(run.duration_s)}" if run.duration_s is not None else ""
    return [f"{status_words(run)}{took}"]


def _lost(lineage: Lineage, node: Node) -> list[str]:
    return [f"! {lineage.gone[node]}"] if node in lineage.gone else []


def _checkpoint_words(lineage: Lineage, node: Node) -> str:
    checkpoint = lineage.checkpoints.get(node.name)
    stages = [f"{STANDS[stage]} {name}" for name, stage in sorted(lineage.stages[node.name].items())]
    what = [f"{size(checkpoint.bytes)}, {checkpoint.files} files"] if checkpoint else []
    return " · ".join([f"checkpoint {node.name}", *stages, *what, *_lost(lineage, node)])


def _spec_words(lineage: Lineage, node: Node) -> str:
    spec = spec_of(lineage, node)
    if spec is None:
        return "a spec that is not on record"
    return f"{asked(spec) or 'no study'}, seed {spec.seed}: {_config_words(lineage, node, spec)}"


def _config_words(lineage: Lineage, node: Node, spec: RunRecord | Checkpoint) -> str:
    """The config; of one that continued from a known parent, what is different."""
    config = flatten(spec.config)
    made = [one for run in lineage.after(node, Relation.ASKED_BY) for one in lineage.after(run, Relation.MADE)]
    parents = [p for one in made for p in lineage.before(one, Relation.CONTINUED_FROM) if p.name in lineage.checkpoints]
    if not parents:
        return config_words(config, config) or "no config"
    before = flatten(lineage.checkpoints[parents[0].name].config)
    changed = [f"{n} = {show(config[n])}" if n in config else f"no {n}" for n in sorted({*before, *config})
               if before.get(n) != config.get(n)]  # fmt: skip
    return f"as its parent, but {', '.join(changed)}" if changed else "as its parent"


def service_words(deployment: Deployment, checkpoint: str) -> str:
    """``reader from … to …, then again since … UTC``: again, where a rollback brought it back."""
    times = ", then ".join(_tenure(tenure) for tenure in deployment.tenures if tenure.checkpoint == checkpoint)
    return f"{deployment.name} {times} UTC"


def _tenure(tenure: Tenure) -> str:
    again = "again " if tenure.rollback else ""
    if tenure.until is None:
        return f"{again}since {_minute(tenure.since)}"
    return f"{again}from {_minute(tenure.since)} to {_minute(tenure.until)}"


def _minute(seconds: float) -> str:
    return when(seconds)[: len("2026-11-20 20:44")]


# A tree in a terminal --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Family:
    """Every checkpoint of a lineage once, with those that continued from it."""

    roots: Sequence[Node]
    children: Mapping[Node, Sequence[Node]]  #: the oldest first

    def __iter__(self) -> Iterator[Node]:
        """Each before its children."""
        waiting = [*reversed(self.roots)]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(self.children[node])


def family(lineage: Lineage) -> Family:
    checkpoints = lineage.of(NodeKind.CHECKPOINT)
    first = [node for node in checkpoints if not lineage.before(node, Relation.CONTINUED_FROM)]
    roots: list[Node] = []
    children: dict[Node, list[Node]] = {}
    seen: set[Node] = set()
    for root in (*first, *checkpoints):
        if root in seen:
            continue
        roots.append(root)
        seen.add(root)
        waiting = [root]
        while waiting:
            node = waiting.pop()
            children[node] = [one for one in lineage.after(node, Relation.CONTINUED_FROM) if one not in seen]
            seen.update(children[node])
            waiting += children[node]
    return Family(roots, children)


def lineage_tree(lineage: Lineage) -> str:
    """Plain text: a block a checkpoint, from its data to what it serves; what continued from it hangs below.

    ``◀`` marks what was asked about, ``!`` what is not there any more.
    """
    lines = [f"Lineage of {lineage.focus.kind} {lineage.focus.name}"]
    if deployment := lineage.deployments.get(lineage.focus.name):
        lines.append(f"{deployment.champion or 'Nothing'} serves")
    lines += _blocks(lineage, family(lineage))
    if lineage.focus.kind is NodeKind.RUN and not lineage.of(NodeKind.CHECKPOINT):
        lines += ["", *_unregistered(lineage)]
    return "\n".join(lines)


def _unregistered(lineage: Lineage) -> Iterator[str]:
    """A run that nothing was kept of."""
    run = lineage.runs.get(lineage.focus.name)
    yield f"run {_run_words(lineage, lineage.focus)}{FOCUS}"
    told = [(name.replace("_", " "), value, None) for name, value in run.lineage.items()] if run else []
    for role, words, _ in (*_sources(lineage, lineage.focus), *told):
        yield f"  {role:<14}{one_line(words, WORDS)}"
    yield "  nothing is registered from it"


def _blocks(lineage: Lineage, family: Family) -> Iterator[str]:
    """A block a checkpoint; an only child stands right below, several are indented."""
    waiting = [(root, "", "", "") for root in reversed(family.roots)]
    while waiting:
        node, above, joint, margin = waiting.pop()
        children = family.children[node]
        yield above
        yield joint + _checkpoint_words(lineage, node) + _mark(lineage, node)
        rail = margin + ("│ " if children else "  ")
        for role, words, about in _rows(lineage, node):
            yield f"{rail}{role:<14}{one_line(words, WORDS)}{_mark(lineage, about)}"
        for child in reversed(children):
            last = child == children[-1]
            turn, below = ("▼ ", "") if len(children) == 1 else ("└─ ", "   ") if last else ("├─ ", "│  ")
            waiting.append((child, f"{margin}│", f"{margin}{turn}continued as ", margin + below))


def _mark(lineage: Lineage, node: Node | None) -> str:
    jobs = lineage.before(node, Relation.MADE) if node and node.kind is NodeKind.EVALUATION else []
    return FOCUS if lineage.focus in (node, *jobs) else ""


Row = tuple[str, str, Node | None]  #: role, words, what they are about


def _rows(lineage: Lineage, node: Node) -> Iterator[Row]:
    for run in lineage.before(node, Relation.MADE):
        yield from _sources(lineage, run)
        yield "made by", f"run {_run_words(lineage, run)}", run
    for run in lineage.after(node, Relation.REPRODUCED_BY):
        yield "reproduced by", f"run {_run_words(lineage, run)}", run
    for one in lineage.after(node, Relation.SCORED):
        evaluation = lineage.evaluations[one.name]
        marks = [leakage_words(evaluation), "imported" if evaluation.imported else ""]
        parts = [evaluation_words(evaluation), f"{evaluation.n} examples", *filter(None, marks), *_lost(lineage, one)]
        yield "scored", f"{one.name}  {' · '.join(parts)}", one
    if not lineage.before(node, Relation.MADE):
        for one in lineage.after(node, Relation.CHAMPION):
            yield "champion", f"in verdict {one.name}", one
    for one in lineage.after(node, Relation.CHALLENGER):
        yield "judged", f"{one.name}  {verdict_words(lineage.verdicts[one.name])}", one
    for role in (Relation.SERVED, Relation.SERVES):
        for one in lineage.after(node, role):
            yield str(role), service_words(lineage.deployments[one.name], node.name), one


def _sources(lineage: Lineage, run: Node) -> Iterator[Row]:
    for spec in lineage.before(run, Relation.ASKED_BY):
        data = lineage.before(spec, Relation.TRAINED_ON)
        yield "trained on", f"data {data[0].name[:SHORT]}" if data else "data that is not on record", None
        yield "asked by", _spec_words(lineage, spec), spec
