"""Statistical factors: found where they are, known in time, and the same whatever follows."""

from __future__ import annotations

import numpy as np

from windlass.workloads.alpha.evaluation.statistical import LEAST_DAYS, REFRESHED, statistical_loadings

DAYS, NAMES = 200, 60


def two_factors() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    exposures = random.standard_normal((NAMES, 2))
    shocks = random.standard_normal((DAYS, 2)) @ exposures.T
    return 0.01 * (shocks + 0.1 * random.standard_normal((DAYS, NAMES))), exposures


def test_it_spans_the_factors_that_moved_the_names() -> None:
    returns, exposures = two_factors()
    loadings = np.array(statistical_loadings(returns, np.ones(returns.shape, bool)))[-2:, -1].T
    explained = loadings @ np.linalg.lstsq(loadings, exposures, rcond=None)[0]
    assert ((exposures - explained) ** 2).sum() < 0.02 * (exposures**2).sum()


def test_a_row_knows_the_rows_before_it_alone_and_later_rows_change_nothing() -> None:
    returns, _ = two_factors()
    member = np.ones(returns.shape, bool)
    whole = np.array(statistical_loadings(returns, member))
    for rows in (LEAST_DAYS, LEAST_DAYS + REFRESHED, 150):
        cut = np.array(statistical_loadings(returns[:rows], member[:rows]))
        assert np.array_equal(cut, whole[:, :rows], equal_nan=True)
        changed = returns.copy()
        changed[rows:] = 0.05
        assert np.array_equal(np.array(statistical_loadings(changed, member))[:, : rows + 1], whole[:, : rows + 1],
                              equal_nan=True)  # fmt: skip


def test_it_is_unknown_at_first_and_for_names_that_were_no_members() -> None:
    returns, _ = two_factors()
    member = np.ones(returns.shape, bool)
    member[:120, 3] = False
    loadings = np.array(statistical_loadings(returns, member))
    assert np.isnan(loadings[:, :LEAST_DAYS]).all()
    assert np.isfinite(loadings[:, LEAST_DAYS:, 4]).all()
    assert np.isnan(loadings[:, :150, 3]).all()
