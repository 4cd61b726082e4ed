"""A lineage as a picture: a column a kind, a band a checkpoint, in one SVG file that needs nothing else.

The data of a benchmark and the job that made an evaluation are told in the evaluation's box. A verdict names the
champion that it was against; a line from there is drawn where the champion has no other.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from windlass.records.lineage import Edge, Lineage, Node, NodeKind, Relation
from windlass.report.canvas import BEST, COLOURS, INK, PALE, short
from windlass.report.figures import State
from windlass.report.keeping import RULINGS
from windlass.report.lineage import SHORT, STANDS, decisive, family, label, leakage_words, spec_of
from windlass.report.tables import status_words
from windlass.runs.text import duration, size

# pixels
WIDTH, GUTTER, MARGIN = 176, 58, 28  #: of a box, between two columns, around all
TOP, LINE, PAD, STRIPE = 92, 16, 9, 4
APART, BANDS, DOWN = 10, 30, 18  #: between boxes, between bands, from a box's left side to where a line down leaves
LANE, LANES = 9, 5  #: between lines side by side, and how many fit
TITLE, TEXT = 19, 24  #: characters that fit
SOFT, WARNING = "#5b6875", "#97590a"
LINES = "#aab5c0"
FONT = "Inter, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
STRIPES = {
    NodeKind.DATASET: COLOURS[State.CANCELLED],
    NodeKind.SPEC: "#a3bfd9",
    NodeKind.RUN: COLOURS[State.COMPLETED],
    NodeKind.CHECKPOINT: BEST,
    NodeKind.EVALUATION: COLOURS[State.STOPPED],
    NodeKind.DEPLOYMENT: INK,
}
#: what XML cannot hold
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(slots=True)
class Box:
    """A node in its place; ``x``, ``y`` is its upper left corner."""

    node: Node
    title: str
    lines: Sequence[str]
    warnings: Sequence[str]  #: below the others
    colour: str
    x: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> float:
        return 2 * PAD + LINE * (1 + len(self.lines) + len(self.warnings))

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


Boxes = Mapping[Node, Box]


def draw_lineage(lineage: Lineage) -> str:
    """The text of an SVG file; the same lineage gives the same text."""
    bands = [_band(lineage, node) for node in family(lineage)] or [_unregistered(lineage)]
    data = [node for node in lineage.of(NodeKind.DATASET) if lineage.after(node, Relation.TRAINED_ON)]
    shown = dict.fromkeys([*data, *(node for band in bands for node in band), *lineage.of(NodeKind.DEPLOYMENT)])
    boxes = {node: _box(lineage, node) for node in shown}
    kinds = [kind for kind in NodeKind if any(node.kind is kind for node in boxes)]
    for box in boxes.values():
        box.x = MARGIN + (WIDTH + GUTTER) * kinds.index(box.node.kind)
    edges = [edge for edge in lineage.edges if _drawn(edge, lineage, boxes)]
    _place(bands, boxes, edges)
    width = 2 * MARGIN + len(kinds) * WIDTH + (len(kinds) - 1) * GUTTER
    height = max(box.y + box.height for box in boxes.values()) + MARGIN
    title = f"Lineage of {lineage.focus.kind} {lineage.focus.name}"
    headings = [
        f'<text x="{MARGIN + (WIDTH + GUTTER) * place}" y="{TOP - 18}" fill="{SOFT}">{kind.title()}</text>'
        for place, kind in enumerate(kinds)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" '
            f'height="{height:.0f}" font-family="{FONT}" font-size="11.5" fill="{INK}" role="img" '
            f'aria-label="{_text(title)}">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{MARGIN}" y="40" font-size="17" font-weight="600">{_text(title)}</text>',
            *headings,
            *_lines(edges, boxes, lineage),
            *(_drawing(box, lineage) for box in boxes.values()),
            "</svg>\n",
        ]
    )


# What is shown ---------------------------------------------------------------------------------------------------


def _band(lineage: Lineage, checkpoint: Node) -> list[Node]:
    """A checkpoint with what made it and what it led to."""
    made = lineage.before(checkpoint, Relation.MADE)
    again = lineage.after(checkpoint, Relation.REPRODUCED_BY)
    specs = [spec for run in (*made, *again) for spec in lineage.before(run, Relation.ASKED_BY)]
    led_to = lineage.after(checkpoint, Relation.SCORED, Relation.CHALLENGER)
    return [*specs, *made, *again, checkpoint, *led_to]


def _unregistered(lineage: Lineage) -> list[Node]:
    return [*lineage.before(lineage.focus, Relation.ASKED_BY), lineage.focus]


def _drawn(edge: Edge, lineage: Lineage, boxes: Boxes) -> bool:
    """Whether an edge says more than the lines beside it."""
    if edge.source not in boxes or edge.target not in boxes:
        return False
    match edge.role:
        case Relation.CHALLENGER:
            own = lineage.after(edge.source, Relation.SCORED)
            return not any(one in own for one in lineage.before(edge.target, Relation.JUDGED_IN))
        case Relation.CHAMPION:
            relatives = lineage.before(edge.source, Relation.MADE, Relation.CONTINUED_FROM)
            relatives += lineage.after(edge.source, Relation.CONTINUED_FROM, Relation.SERVES, Relation.SERVED)
            return not any(node in boxes for node in relatives)
        case Relation.SERVES | Relation.SERVED:
            passed = lineage.before(edge.target, Relation.LET_SERVE)
            return not any(one in passed for one in lineage.after(edge.source, Relation.CHALLENGER))
        case _:
            return True


def _box(lineage: Lineage, node: Node) -> Box:
    title, lines, warnings, colour = _words(lineage, node)
    lost = lineage.gone.get(node, "")
    warned = [short(words, TEXT) for words in (*warnings, lost) if words]
    return Box(node, short(title, TITLE), [short(line, TEXT) for line in lines if line], warned, colour)


def _words(lineage: Lineage, node: Node) -> tuple[str, Sequence[str], Sequence[str], str]:
    """Title, lines, warnings and colour of a box."""
    name, colour = node.name, STRIPES.get(node.kind, INK)
    match node.kind:
        case NodeKind.DATASET:
            return "training data", [name[:SHORT]], [], colour
        case NodeKind.SPEC:
            spec = spec_of(lineage, node)
            if spec is None:
                return "spec", [], ["not on record"], colour
            data = [] if lineage.before(node, Relation.TRAINED_ON) else ["data is not on record"]
            config = spec.fingerprints.get("config", "")[:SHORT]
            number_ = f"#{spec.number} of " if spec.number is not None else ""
            return (
                f"{number_}{spec.study or 'no study'}",
                [f"config {config}" if config else f"seed {spec.seed}"],
                data,
                colour,
            )
        case NodeKind.RUN:
            run = lineage.runs.get(name)
            again = "the same bytes" if lineage.before(node, Relation.REPRODUCED_BY) else ""
            ending = f"{status_words(run)}, {duration(run.duration_s)}" if run else ""
            colour = COLOURS[State.FAILED] if run and run.failure else colour
            return f"run {name.rpartition('_')[2]}", [ending, again], [], colour
        case NodeKind.CHECKPOINT:
            checkpoint = lineage.checkpoints.get(name)
            stages = [f"{STANDS[stage]} {line}" for line, stage in sorted(lineage.stages[name].items())]
            return name, stages or ([size(checkpoint.bytes)] if checkpoint else []), [], colour
        case NodeKind.EVALUATION:
            evaluation = lineage.evaluations[name]
            mean = next((f"{column} {value:.4g}, " for column, value in evaluation.means.items()), "")
            lines = [f"{mean}n {evaluation.n}", f"data {evaluation.data[:SHORT]}"]
            warnings = [leakage_words(evaluation), "imported" if evaluation.imported else ""]
            return evaluation.benchmark, lines, warnings, colour
        case NodeKind.VERDICT:
            verdict = lineage.verdicts[name]
            one = decisive(verdict)
            delta = f"{one.metric} {one.delta:+.3g}" if one else ""
            return (
                str(verdict.ruling),
                [delta, f"against {verdict.champion}" if verdict.champion else "nothing served before"],
                [],
                RULINGS[verdict.ruling],
            )
        case NodeKind.DEPLOYMENT:
            champion = lineage.deployments[name].champion
            return name, [f"{champion} serves" if champion else "nothing serves"], [], colour


# Where it is shown -----------------------------------------------------------------------------------------------


def _place(bands: Sequence[Sequence[Node]], boxes: Boxes, edges: Sequence[Edge]) -> None:
    y: float = TOP
    for band in bands:
        stacks = [[boxes[node] for node in band if node.kind is kind] for kind in NodeKind]
        tallest = max(_height(stack) for stack in stacks)
        for stack in stacks:
            _stack(stack, y + (tallest - _height(stack)) / 2)
        y += tallest + BANDS
    for kind in (NodeKind.DATASET, NodeKind.DEPLOYMENT):
        beside = {box.node: _beside(box, boxes, edges) for box in boxes.values() if box.node.kind is kind}
        y = TOP
        for node, middle in sorted(beside.items(), key=lambda item: item[1]):
            boxes[node].y = max(y, middle - boxes[node].height / 2)
            y = boxes[node].y + boxes[node].height + APART


def _beside(box: Box, boxes: Boxes, edges: Iterable[Edge]) -> float:
    """The middle of what a box has lines to."""
    ends = [e.target if e.source == box.node else e.source for e in edges if box.node in (e.source, e.target)]
    middles = [boxes[end].middle for end in ends]
    return (min(middles) + max(middles)) / 2 if middles else TOP


def _height(stack: Sequence[Box]) -> float:
    return sum(box.height for box in stack) + APART * max(0, len(stack) - 1)


def _stack(stack: Iterable[Box], y: float) -> None:
    for box in stack:
        box.y = y
        y += box.height + APART


# How it is drawn -------------------------------------------------------------------------------------------------


def _lines(edges: Iterable[Edge], boxes: Boxes, lineage: Lineage) -> Iterator[str]:
    """From left to right; what continued, down the column of checkpoints."""
    column = sorted((box.y, node.name, node) for node, box in boxes.items() if node.kind is NodeKind.CHECKPOINT)
    place = {node: i for i, (_, _, node) in enumerate(column)}
    lanes: dict[Node, int] = {}  # of parents whose children are not all right below
    for edge in edges:
        source, target = boxes[edge.source], boxes[edge.target]
        if edge.role is Relation.CONTINUED_FROM:
            below = place[edge.target] == place[edge.source] + 1
            lane = 0 if below else lanes.setdefault(edge.source, 1 + len(lanes) % LANES)
            yield _line(_down(source, target, lane), edge, lineage, BEST, 1.6)
            x, y = target.x + DOWN + 7, target.y - 10
            yield f'<text x="{x}" y="{y:.1f}" fill="{SOFT}" font-size="10.5">continued</text>'
        else:
            left, right = sorted((source, target), key=lambda box: box.x)
            serves = edge.role in (Relation.LET_SERVE, Relation.SERVES) and _champion(edge, lineage)
            width = 2.4 if serves else 0.7 if _baseline(edge, lineage) else 1.3
            yield _line(_across(left, right), edge, lineage, BEST if serves else LINES, width)


def _line(path: str, edge: Edge, lineage: Lineage, colour: str, width: float) -> str:
    dashed = ' stroke-dasharray="4 3"' if edge.role in (Relation.REPRODUCED_BY, Relation.CHAMPION) else ""
    words = _text(f"{label(lineage, edge.source)}\n{edge.role}\n{label(lineage, edge.target)}")
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}><title>{words}</title></path>'
    )


def _baseline(edge: Edge, lineage: Lineage) -> bool:
    """Whether it leads from an evaluation of the champion to the verdict on its challenger."""
    if edge.role is not Relation.JUDGED_IN:
        return False
    return lineage.evaluations[edge.source.name].checkpoint != lineage.verdicts[edge.target.name].challenger


def _champion(edge: Edge, lineage: Lineage) -> bool:
    """Whether it leads from the checkpoint that serves, or from the verdict on it."""
    verdict = lineage.verdicts.get(edge.source.name)
    return lineage.deployments[edge.target.name].champion == (verdict.challenger if verdict else edge.source.name)


def _across(left: Box, right: Box) -> str:
    start, end, bend = left.x + WIDTH, right.x, GUTTER / 2
    return (
        f"M{start} {left.middle:.1f}C{start + bend} {left.middle:.1f} {end - bend} {right.middle:.1f} "
        f"{end} {right.middle:.1f}"
    )


def _down(parent: Box, child: Box, lane: int) -> str:
    """Straight to the next checkpoint; past others through the gutter."""
    top, bottom, x = parent.y + parent.height, child.y, parent.x + DOWN
    if not lane:
        return f"M{x} {top}V{bottom}"
    side, r = parent.x - 4 - LANE * lane, 6
    return (
        f"M{x} {top}v{BANDS / 2 - r}q0 {r} {-r} {r}H{side + r}q{-r} 0 {-r} {r}"
        f"V{bottom - BANDS / 2 - r}q0 {r} {r} {r}H{x - r}q{r} 0 {r} {r}V{bottom}"
    )


def _drawing(box: Box, lineage: Lineage) -> str:
    jobs = lineage.before(box.node, Relation.MADE) if box.node.kind is NodeKind.EVALUATION else []
    focus, gone = lineage.focus in (box.node, *jobs), box.node in lineage.gone
    edge = f'stroke="{BEST}" stroke-width="2.4"' if focus else f'stroke="{PALE}" stroke-width="1"'
    fill = "#eef7f5" if focus else "#f6f8fa" if gone else "white"
    dashed = ' stroke-dasharray="5 3"' if gone else ""
    x, y = box.x + PAD + STRIPE + 3, box.y + PAD + 12
    rows = [f'<text x="{x}" y="{y:.1f}" font-size="12.5" font-weight="600">{_text(box.title)}</text>']
    for i, (words, colour) in enumerate([*((w, SOFT) for w in box.lines), *((w, WARNING) for w in box.warnings)], 1):
        rows.append(f'<text x="{x}" y="{y + LINE * i:.1f}" fill="{colour}">{_text(words)}</text>')
    hint = "\n".join(
        filter(None, (f"{box.node.kind} {box.node.name}", label(lineage, box.node), lineage.gone.get(box.node)))
    )
    return (
        f'<g data-node="{_text(box.node.id)}"><title>{_text(hint)}</title>'
        f'<rect x="{box.x}" y="{box.y:.1f}" width="{WIDTH}" height="{box.height}" rx="7" fill="{fill}" {edge}{dashed}/>'
        f'<rect x="{box.x + 6}" y="{box.y + 8:.1f}" width="{STRIPE}" height="{box.height - 16}" rx="2" '
        f'fill="{box.colour}"/>{"".join(rows)}</g>'
    )


def _text(words: str) -> str:
    return html.escape(UNPRINTABLE.sub("\ufffd", words), quote=True)
