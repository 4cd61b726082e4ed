"""The search: which expressions a generation tries, from the idea and from how the ones before fared.

Notation: M candidates so far, D development days.

A generation is a pure function of the search's settings, its seed, its number and the past: a campaign that is resumed
proposes what it would have proposed. It first looks at what people or a language model gave, then at the cookbook and
the grammar; later generations also vary the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from windlass.errors import DataError, nearest
from windlass.workloads.alpha import spec
from windlass.workloads.alpha.language.canonical import canonical, digest, text
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import Node, fields, groups, size, walk
from windlass.workloads.alpha.search.cookbook import COOKBOOK, weight, weights
from windlass.workloads.alpha.search.grammar import DERIVED, Grammar
from windlass.workloads.alpha.search.variation import cross, jitter, mutate

Floats = npt.NDArray[np.float64]
ProposerName = Literal["cookbook", "grammar", "mutation", "crossover", "jitter", "language_model", "user"]

STREAM = 0x5EA2C4  #: keeps the search's random numbers apart from those of others with the same seed
COOKED = 0.5  #: of what is new in a generation: from the cookbook, while it lasts
PARENTS = 20  #: the best, from which others are made; the first is 20 times as likely as the last
VARIATIONS: Sequence[tuple[ProposerName, float]] = (("mutation", 0.4), ("crossover", 0.3), ("jitter", 0.3))
REFERENCES = 100  #: the best by ratio alone, to which likeness is measured
SHAPE = 0.5  #: what likeness of shape counts against likeness of returns
ATTEMPTS = 50  #: for each candidate, before a generation stays smaller

#: operators that turn their sign with that of their first argument
_ODD = frozenset(
    ("mul", "div", "demean", "zscore", "winsorize", "neutralize", "group_neutralize", "delay", "delta", "ts_sum",
     "ts_mean", "ts_zscore", "decay_linear", "ewm")
)  # fmt: skip
_MIRRORED = frozenset(("rank", "group_rank", "ts_rank"))  #: of -x: a constant less that of x


@dataclass(frozen=True, slots=True)
class Candidate:
    """An expression to try, in canonical form."""

    node: Node
    text: str
    digest: str
    proposer: ProposerName
    parents: tuple[str, ...] = ()  #: digests

    @classmethod
    def of(cls, node: Node, proposer: ProposerName, parents: tuple[str, ...] = ()) -> Self:
        plain = canonical(node)
        return cls(plain, text(plain), digest(plain), proposer, parents)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A candidate that was evaluated; ``fitness`` is made by the function of that name, anew in each generation."""

    candidate: Candidate
    fitness: float  #: -inf where it never traded
    base: npt.NDArray[np.float32]  #: (D,) gross daily return of its base portfolio


class Search:
    """What a campaign tries. Raises DataError where a given expression needs a column that the panel lacks."""

    def __init__(
        self,
        idea: str,
        settings: spec.Search,
        seed: int,
        *,
        candidates: int,
        groups: Collection[str],
        fields: Collection[str],
        given: Sequence[Candidate] = (),
    ) -> None:
        self._settings, self._seed, self._candidates = settings, seed, candidates
        self._shares = weights(idea)
        self._grammar = Grammar(self._shares, fields=fields, groups=groups)
        self._known = frozenset({*fields, *DERIVED}), frozenset(groups)
        self._given = tuple(given)
        for one in self._given:
            require(one, fields, groups)

    @property
    def generations(self) -> int:
        return math.ceil(self._candidates / self._settings.generation)

    def propose(self, generation: int, past: Sequence[Scored]) -> list[Candidate]:
        """What generation ``generation`` (from 0) evaluates: none of ``past``, and no two that are the same trial.

        Both signs of a signal are tried in one evaluation, so that x and -x are the same. ``past`` has all that was
        evaluated before, in any order. Fewer than asked for are proposed where too few new ones were found.
        """
        settings = self._settings
        count = min(settings.generation, self._candidates - generation * settings.generation)
        rng = np.random.default_rng([self._seed, generation, STREAM])
        batch = _Batch(count, past)
        for one in self._given:
            batch.add(one)
        best = sorted((one for one in past if math.isfinite(one.fitness)), key=_rank)[:PARENTS]
        if generation > 0 and best:
            batch.fill(lambda: self._varied(best, rng), share=settings.variation)
        cooked = self._cooked(rng)
        batch.fill(lambda: next(cooked, None), share=COOKED)
        batch.fill(lambda: Candidate.of(self._grammar.sample(rng), "grammar"))
        return batch.candidates

    def _varied(self, best: Sequence[Scored], rng: np.random.Generator) -> Candidate | None:
        kind = VARIATIONS[rng.choice(len(VARIATIONS), p=[share for _, share in VARIATIONS])][0]
        parent, other = (_likely(best, rng).candidate for _ in range(2))
        parents = [parent.digest]
        if kind == "crossover":
            made = cross(parent.node, other.node, rng)
            parents += [other.digest] if other.digest != parent.digest else []
        else:
            made = jitter(parent.node, rng) if kind == "jitter" else mutate(parent.node, rng, self._grammar)
        return Candidate.of(made, kind, tuple(parents)) if made is not None else None

    def _cooked(self, rng: np.random.Generator) -> Iterator[Candidate]:
        """Snippets that the panel allows, in a random order that leans to heavy ones (Efraimidis, Spirakis 2006)."""
        drawn = rng.random(len(COOKBOOK))
        keyed = [
            (-math.log(1 - chance) / share, snippet)
            for chance, snippet in zip(drawn, COOKBOOK, strict=True)
            if (share := weight(snippet.tags, self._shares)) > 0
        ]
        for _, snippet in sorted(keyed, key=lambda pair: pair[0]):
            one = Candidate.of(parse(snippet.text), "cookbook")
            if not any(_lacking(one.node, self._known)):
                yield one


def require(given: Candidate, fields: Collection[str], groups: Collection[str]) -> None:
    """Raises DataError where an expression needs a column or a group that a panel with these has not."""
    known: tuple[frozenset[str], frozenset[str]] = frozenset((*fields, *DERIVED)), frozenset(groups)
    for what, lacking, has in zip(("column", "group"), _lacking(given.node, known), known, strict=True):
        for name in sorted(lacking):
            raise DataError(
                f"{given.text} needs the {what} {name!r}, and the panel has none.{nearest(name, has)}",
                f"leave the expression out, or add the {what} to the data",
            )


def _lacking(node: Node, known: tuple[frozenset[str], frozenset[str]]) -> tuple[frozenset[str], frozenset[str]]:
    return fields(node) - known[0], groups(node) - known[1]


def fitness(
    candidates: Sequence[Candidate], ir: Floats, bases: npt.NDArray[np.float32], settings: spec.Search
) -> Floats:
    """What decides who has offspring; ``ir`` (M,) net information ratios, ``bases`` (M, D); both of development days.

    fitness = ir - novelty * likeness - complexity * nodes. Likeness is that to the most alike of those with a higher
    ir (of the best ``REFERENCES``): the larger of the absolute correlation of daily base returns, and ``SHAPE`` times
    the overlap of their trees. A copy of something better thus loses ``novelty``, whichever came first. NaN in ``ir``
    gives -inf.
    """
    if not candidates:
        return np.empty(0)
    value = np.where(np.isfinite(ir), ir, -np.inf)
    order = np.argsort(-value, kind="stable")
    references = order[:REFERENCES]
    alike = np.maximum(_correlation(bases, references), SHAPE * _overlap(candidates, references))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    better = np.arange(len(references))[None, :] < place[:, None]
    likeness = np.where(better, alike, 0.0).max(axis=1)
    nodes = np.array([size(one.node) for one in candidates])
    return np.asarray(value - settings.novelty * likeness - settings.complexity * nodes)


def overlap(one: Node, other: Node) -> float:
    """How alike two trees are, in [0, 1]: shapes of subtrees that both have, over shapes that either has (Jaccard).

    A subtree's shape is its text with windows and numbers left out; fields and groups alone are no shape. So two
    expressions that differ in their windows only are 1, and two that share nothing but ``close`` are 0. In the spirit
    of AlphaAgent (Tang et al. 2025, arXiv:2502.16789), which measures the largest common subtree.
    """
    first, second = _shapes(one), _shapes(other)
    return len(first & second) / len(first | second)


def unsigned(node: Node) -> Node:
    """The tree without the signs that only turn the whole portfolio around: rank(-x) holds what rank(x) sells."""
    return _unsigned(node, exact=False)


def _unsigned(node: Node, exact: bool) -> Node:
    if node.op == "neg":
        return _unsigned(node.args[0], exact)
    if node.op in _ODD or (node.op in _MIRRORED and not exact):
        first, *rest = node.args
        turned = _unsigned(first, exact or node.op in ("mul", "div"))  # in a product a constant less x is not -x
        return replace(node, args=(turned, *rest))
    return node


class _Batch:
    """A generation that fills up."""

    def __init__(self, count: int, past: Sequence[Scored]) -> None:
        self.candidates: list[Candidate] = []
        self._count = count
        self._seen = {key for one in past for key in _keys(one.candidate)}

    def add(self, candidate: Candidate) -> None:
        keys = _keys(candidate)
        if len(self.candidates) < self._count and self._seen.isdisjoint(keys):
            self._seen |= keys
            self.candidates.append(candidate)

    def fill(self, draw: Callable[[], Candidate | None], share: float = 1.0) -> None:
        """Add what is drawn until ``share`` of the free places is taken, or too many draws brought nothing new."""
        free = self._count - len(self.candidates)
        goal = len(self.candidates) + round(share * free)
        for _ in range(ATTEMPTS * free):
            if len(self.candidates) >= goal:
                return
            candidate = draw()
            if candidate is not None:
                self.add(candidate)


@lru_cache(maxsize=1 << 15)
def _keys(candidate: Candidate) -> frozenset[str]:
    return frozenset((candidate.digest, digest(unsigned(candidate.node))))


def _rank(one: Scored) -> tuple[float, str]:
    return -one.fitness, one.candidate.digest


def _likely(best: Sequence[Scored], rng: np.random.Generator) -> Scored:
    """One of the best; how likely falls in a straight line with its place."""
    chances = np.arange(len(best), 0, -1)
    return best[rng.choice(len(best), p=chances / chances.sum())]


def _correlation(bases: npt.NDArray[np.float32], references: npt.NDArray[np.intp]) -> Floats:
    """Absolute correlation of each row with each reference row, shape (M, R); 0 where a row is constant.

    Rounded, so that sums of another order rank alike.
    """
    centred = np.nan_to_num(bases, nan=0.0).astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred * centred).sum(axis=1, keepdims=True))
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return np.asarray(np.round(np.abs(unit @ unit[references].T), 4), dtype=np.float64)


def _overlap(candidates: Sequence[Candidate], references: npt.NDArray[np.intp]) -> Floats:
    """``overlap`` of each candidate with each reference, shape (M, R)."""
    shapes = [_shapes(one.node) for one in candidates]
    ids: dict[str, int] = {}
    rows = [[ids.setdefault(shape, len(ids)) for shape in sorted(those)] for those in shapes]
    has = np.zeros((len(ids), len(references)))
    for column, where in enumerate(references):
        has[rows[where], column] = 1.0
    counts = np.array([len(row) for row in rows])
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    common = np.add.reduceat(has[np.concatenate([np.array(row) for row in rows])], starts, axis=0)
    return np.asarray(common / (counts[:, None] + counts[references][None, :] - common))


@lru_cache(maxsize=1 << 15)
def _shapes(node: Node) -> frozenset[str]:
    """Shapes of all subtrees with an operator; of a tree without one, its own."""
    return frozenset(_shape(one) for one in walk(node) if one.args) or frozenset((_shape(node),))


def _shape(node: Node) -> str:
    if node.op in ("field", "group"):
        return str(node.params[0])
    if not node.args:
        return node.op
    return f"{node.op}({','.join(map(_shape, node.args))})"
