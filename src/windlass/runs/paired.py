"""Paired tests over per-example scores: the same examples under two runs, so what examples share cancels out.

A run publishes scores as an artifact of kind ``scores``; ``runs.scores`` says what such a file holds.

    d_i = b_i - a_i     difference of example i = 1 … n
    binary scores       exact McNemar test: a two-sided sign test on the examples that only one run gets right
    real-valued scores  Wilcoxon signed-rank test; exact for few pairs without ties, else its normal approximation
    interval            95 % percentile bootstrap of mean d, seeded; above ``BOOTSTRAP_PAIRS`` its normal limit
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from windlass.errors import DataError
from windlass.records.run import Artifact
from windlass.runs.folder import RunFolder
from windlass.runs.scores import is_score, read_scores, row_column

if TYPE_CHECKING:
    import polars

BOOTSTRAP_PAIRS = 5_000
RESAMPLES = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """One score column over the examples that both runs have. ``p_value`` is two-sided: are A and B alike?"""

    column: str  #: the score's name; ``artifact: name`` where the runs have several score files
    n: int  #: pairs
    mean_a: float
    mean_b: float
    difference: float  #: mean of B minus A
    low: float  #: 95 % interval of the difference
    high: float
    a_higher: int  #: examples
    b_higher: int
    ties: int
    test: str
    p_value: float


def paired_tests(
    a: Sequence[Artifact], b: Sequence[Artifact], folder_a: RunFolder, folder_b: RunFolder
) -> tuple[tuple[PairedTest, ...], tuple[str, ...]]:
    """Tests for every score that both runs have, and notes on what could not be paired."""
    scores_a, scores_b = ({x.name: x for x in artifacts if x.kind == "scores"} for artifacts in (a, b))
    if not scores_a and not scores_b:
        return (), ("no paired test: neither run has per-example scores",)
    tests: list[PairedTest] = []
    notes = [f"{name}: only {'A' if name in scores_a else 'B'} has these scores" for name in scores_a.keys() ^ scores_b]
    for name in sorted(scores_a.keys() & scores_b.keys()):
        try:
            joined, columns, lost = _join(_read(folder_a, scores_a[name]), _read(folder_b, scores_b[name]))
        except DataError as error:
            notes.append(f"{name}: {error.message}")
            continue
        if lost:
            notes.append(f"{name}: {lost}")
        for column in columns:
            pairs = joined.select(column, f"{column} of B").cast(_float64()).to_numpy()
            finite = np.isfinite(pairs).all(axis=1)
            if not finite.all():
                notes.append(
                    f"{name}, {column}: {int((~finite).sum())} pairs with a missing or infinite score left out"
                )
            if finite.any():
                label = column if len(scores_a.keys() & scores_b.keys()) == 1 else f"{name}: {column}"
                tests.append(paired_test(label, pairs[finite, 0], pairs[finite, 1]))
    return tuple(tests), tuple(sorted(notes))


def paired_test(column: str, a: np.ndarray, b: np.ndarray) -> PairedTest:
    """Scores of the same examples in the same order; shapes (n,), n >= 1, all finite."""
    d = b - a
    b_higher, a_higher = int((d > 0).sum()), int((d < 0).sum())
    if np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
        test, p_value = "McNemar, exact", _sign_test(b_higher, a_higher)
        low, high = _interval_of_counts(b_higher, a_higher, len(d))
    else:
        test, p_value = "Wilcoxon signed-rank", _wilcoxon(d)
        low, high = _interval(d)
    return PairedTest(
        column=column,
        n=len(d),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(d.mean()),
        low=low,
        high=high,
        a_higher=a_higher,
        b_higher=b_higher,
        ties=len(d) - a_higher - b_higher,
        test=test,
        p_value=p_value,
    )


def _sign_test(b_higher: int, a_higher: int) -> float:
    from scipy.stats import binomtest

    discordant = a_higher + b_higher
    return float(binomtest(b_higher, discordant, 0.5).pvalue) if discordant else 1.0


def _wilcoxon(d: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(d).pvalue) if d.any() else 1.0


def _interval(d: np.ndarray) -> tuple[float, float]:
    if len(d) > BOOTSTRAP_PAIRS:
        half = 1.959963984540054 * d.std(ddof=1) / np.sqrt(len(d))
        return float(d.mean() - half), float(d.mean() + half)
    rng = np.random.default_rng(0)
    chunk = max(1, 1_000_000 // len(d))
    means = [
        d[rng.integers(len(d), size=(min(chunk, RESAMPLES - start), len(d)))].mean(axis=1)
        for start in range(0, RESAMPLES, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _interval_of_counts(b_higher: int, a_higher: int, n: int) -> tuple[float, float]:
    """The bootstrap of differences that are -1, 0 or 1: a resample is a multinomial draw of the three counts."""
    shares = np.array([b_higher, a_higher, n - b_higher - a_higher]) / n
    draws = np.random.default_rng(0).multinomial(n, shares, size=RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, (0.025, 0.975))
    return float(low), float(high)


def _read(folder: RunFolder, artifact: Artifact) -> polars.DataFrame:
    """Raises DataError on a file that is missing, outside of the run folder, or no table of unique rows."""
    path = (folder.path / artifact.path).resolve()
    if not path.is_relative_to(folder.path.resolve()):
        raise DataError(f"{artifact.path} lies outside of the run folder {folder.path}")
    return read_scores(path)


def _join(a: polars.DataFrame, b: polars.DataFrame) -> tuple[polars.DataFrame, list[str], str]:
    """Rows that both have, the score columns, and what was lost in words. Raises DataError where nothing matches."""
    row = row_column(a)
    if row != row_column(b):
        raise DataError(f"A names its rows in column {row!r}, B in {row_column(b)!r}")
    if a[row].dtype != b[row].dtype:
        raise DataError(f"rows are named by {a[row].dtype} in A and by {b[row].dtype} in B")
    columns = [n for n in a.columns if n != row and n in b.columns and is_score(a[n]) and is_score(b[n])]
    if not columns:
        raise DataError("the two files have no numeric column in common")
    joined = a.select(row, *columns).join(b.select(row, *columns), on=row, how="inner", suffix=" of B").sort(row)
    if joined.is_empty():
        raise DataError(f"no row of A ({len(a)}) is in B ({len(b)}): the runs scored different examples")
    lost = ""
    if len(joined) < max(len(a), len(b)):
        lost = (
            f"rows do not all match: {len(joined)} in both, {len(a) - len(joined)} only in A,"
            f" {len(b) - len(joined)} only in B"
        )
    return joined, columns, lost


def _float64() -> type[polars.Float64]:
    import polars

    return polars.Float64
