"""Newey-West: against its definition, against statsmodels, and on series without an answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from windlass.workloads.alpha.gate.hac import automatic_lags, hac_t, hac_t_columns, long_run_variance


def dependent(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((rows + 1, columns))
    return noise[1:] + 0.6 * noise[:-1] + 0.05


def test_the_automatic_lags_follow_the_rule() -> None:
    assert [automatic_lags(n) for n in (1, 2, 100, 752, 1259)] == [0, 1, 4, 6, 7]


def test_a_series_worked_by_hand() -> None:
    x = [1.0, 2.0, 4.0, 1.0]
    # mean 2; deviations -1 0 2 -1; autocovariance sums 6 at lag 0, -2 at lag 1, weight 1/2
    assert hac_t(x, lags=1) == pytest.approx(2 / math.sqrt((6 + 2 * 0.5 * -2) / 4 / 4))


def test_without_lags_it_is_the_plain_t_statistic() -> None:
    x = dependent(200, 3)
    assert np.allclose(hac_t_columns(x, lags=0), x.mean(axis=0) / x.std(axis=0) * math.sqrt(200))


@pytest.mark.parametrize("lags", [None, 0, 1, 12])
def test_it_is_equal_to_statsmodels(lags: int | None) -> None:
    api = pytest.importorskip("statsmodels.api")
    x = dependent(377, 4)
    chosen = automatic_lags(len(x)) if lags is None else lags
    for column, t in enumerate(hac_t_columns(x, lags)):
        fit = api.OLS(x[:, column], np.ones(len(x))).fit(
            cov_type="HAC", cov_kwds={"maxlags": chosen, "use_correction": False}
        )
        assert t == pytest.approx(fit.tvalues[0], rel=1e-10)


def test_positive_dependence_lowers_it() -> None:
    x = dependent(2000, 1)[:, 0]
    assert 0 < hac_t(x) < hac_t(x, lags=0)


def test_a_table_is_one_per_column() -> None:
    x = dependent(100, 2)
    assert np.allclose(hac_t_columns(x), [hac_t(x[:, 0]), hac_t(x[:, 1])], rtol=1e-12)


def test_missing_terms_at_an_end_are_left_out() -> None:
    x = dependent(120, 1)[:, 0]
    gappy = np.concatenate([np.full(20, np.nan), x])
    assert hac_t(gappy, lags=5) == pytest.approx(hac_t(x, lags=5), rel=1e-12)


@pytest.mark.parametrize("x", [[], [1.0], [0.1] * 50, [math.nan] * 5, [math.nan, 1.0]])
def test_no_answer_is_nan(x: list[float]) -> None:
    assert math.isnan(hac_t(x))


def test_the_long_run_variance_is_never_negative() -> None:
    alternating = np.resize([1.0, -1.0], (101, 1))
    assert long_run_variance(alternating, 10)[0] >= 0
