"""Speed of the alpha engine: ``python benchmarks/alpha/engine.py [--data PANEL [--sectors FILE] [--membership FILE]]``.

Without a panel, a synthetic one of 505 names x 1,259 days. CPU seconds of one thread, best of ``--repeats``:

* the 20 alphas of Kakushadze (2016) that the design's study measured, in each backend, without and with the cache;
* all 101 of them;
* a search's population: random children of a few parents, whose pieces repeat, without and with the cache;
* every cell of the 20 in one backend against the other, and on cut panels against the whole one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

from windlass.workloads.alpha.engine.engine import Engine, differing_cells, truncation_differences
from windlass.workloads.alpha.engine.kernels import Backend, chosen
from windlass.workloads.alpha.language.formulaic import FORMULAIC_ALPHAS
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import FORMULAIC, Node, groups
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.reading import read_panel
from windlass.workloads.alpha.synthetic import synthetic_panel

TWENTY = (1, 2, 3, 4, 5, 6, 8, 11, 13, 14, 15, 28, 34, 40, 57, 58, 72, 88, 100, 101)
CACHE = 512 << 20


def population() -> list[Node]:
    """Expressions as a search makes them: each pairs two pieces out of a small stock, under one of four heads."""
    pieces = [
        f"rank(ts_{kind}({x}, {d}))" for kind in ("mean", "std", "rank") for x in ("returns", "volume") for d in (5, 20)
    ]
    pieces += ["ts_corr(rank(close), rank(volume), 10)", "decay_linear(rank(delta(close, 3)), 10)"]
    heads = ["rank({0} - {1})", "{0} * {1}", "zscore({0} + {1})", "ts_mean({0} - {1}, 5)"]
    pairs = itertools.combinations(pieces, 2)
    return [parse(heads[n % len(heads)].format(*pair)) for n, pair in enumerate(pairs)]


def measured(panel: Panel, trees: Sequence[Node], backend: Backend, cache_bytes: int, repeats: int) -> dict[str, float]:
    best, engine = float("inf"), Engine(panel, backend, cache_bytes)
    for _ in range(repeats):
        engine = Engine(panel, backend, cache_bytes)
        start = time.process_time()
        for tree in trees:
            engine.signal(tree)
        best = min(best, time.process_time() - start)
    asked = engine.hits + engine.misses
    return {
        "cpu_s": round(best, 3),
        "alphas_per_cpu_s": round(len(trees) / best, 1),
        "hit_rate": round(engine.hits / asked, 2),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--sectors", type=Path)
    arguments.add_argument("--membership", type=Path)
    arguments.add_argument("--repeats", type=int, default=3)
    given = arguments.parse_args()
    if given.data:
        panel = read_panel(given.data, sectors=given.sectors, membership=given.membership, borrow=None).panel
    else:
        panel = synthetic_panel()
    text = {number: source for number, source in FORMULAIC_ALPHAS.items()}
    if "subindustry" not in panel.groups:  # where there are only sectors, they stand for what is finer
        text = {n: s.replace("subindustry", "sector").replace("industry", "sector") for n, s in text.items()}
    if "cap" not in panel.fields:
        del text[56]
    trees = {number: parse(source, FORMULAIC) for number, source in text.items()}
    trees = {number: tree for number, tree in trees.items() if groups(tree) <= panel.groups.keys()}
    twenty = [trees[number] for number in TWENTY if number in trees]
    backends: list[Backend] = ["numpy"] if chosen("auto") == "numpy" else ["numba", "numpy"]
    print(json.dumps({"panel": panel.shape, "of the 20": len(twenty), "of the 101": len(trees)}))
    for backend in backends:
        start = time.process_time()
        Engine(panel, backend).signal(twenty[0])
        print(json.dumps({"backend": backend, "first": {"cpu_s": round(time.process_time() - start, 3)}}))
        for name, some in (("20", twenty), ("101", list(trees.values())), ("population", population())):
            for cache in (0, CACHE):
                row = measured(panel, some, backend, cache, given.repeats)
                print(json.dumps({"backend": backend, "what": name, "cache_mb": cache >> 20, **row}))
        cuts = [len(panel.dates) * k // 10 for k in (3, 6, 9)]
        different = sum(truncation_differences(tree, panel, cuts, backend) for tree in trees.values())
        print(json.dumps({"backend": backend, "truncation_differences": different, "cuts": cuts}))
    if len(backends) == 2:
        one, other = (Engine(panel, backend, 0) for backend in backends)
        different = sum(differing_cells(one.evaluate(tree), other.evaluate(tree)) for tree in trees.values())
        print(json.dumps({"cells that differ between backends": different}))


if __name__ == "__main__":
    main()
