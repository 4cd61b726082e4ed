"""The files of a campaign. What is written depends on the campaign alone: no clock, no path, no run id."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from windlass.runs.folder import write_atomic

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

#: the columns of alpha_metrics.csv, in their order
METRICS = (
    *("alpha_id", "mode", "information_ratio", "annualized_return", "max_drawdown", "turnover_mean", "coverage_mean"),
    *("ic", "rank_ic", "spread_mean", "spread_tstat", "ic_tstat", "rank_ic_tstat"),
    *("wf_n_splits", "wf_test_ir_mean", "wf_test_ir_std", "wf_test_ir_positive_frac", "wf_generalization_gap"),
    *("quality_gate_passed", "quality_gate_reasons"),
    *("expr_hash", "lookback", "nodes", "icir", "rank_icir", "ic_hac_t", "gross_ir", "net_ir"),
    *("cost_bps_linear", "cost_bps_spread", "cost_bps_impact", "cost_bps_borrow", "turnover_1way", "holding_days"),
    *("capacity_usd_half_ir", "breakeven_cost_bps", "beta", "sector_max_exposure", "static_tilt_share"),
    *("max_corr_sota", "n_trials", "maxt_p", "placebo_p", "dsr", "pbo", "spa_p", "holdout_ir", "holdout_t"),
    *("verdict", "reasons", "expression", "proposer", "parents", "fitness", "sign"),
)


def csv_file(run: Run, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """A table; numbers with all their digits, NaN and None as an empty cell."""
    header = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(row.get(key)) for key in header] for row in rows)
    _publish(run, name, text.getvalue().encode())


def json_file(run: Run, name: str, data: Any) -> None:
    """NaN and infinities become null."""
    text = json.dumps(plain(data), ensure_ascii=False, indent=1, allow_nan=False)
    _publish(run, name, (text + "\n").encode())


def columns_file(
    run: Run, name: str, first: tuple[str, npt.NDArray[Any]], columns: Mapping[str, npt.NDArray[Any]]
) -> None:
    """A Parquet file of float32 columns beside ``first``."""
    import polars as pl

    data: dict[str, Any] = {first[0]: first[1]}
    data |= {key: np.asarray(values, dtype=np.float32) for key, values in columns.items()}
    path = _path(run, name)
    beside = path.with_name(f".{path.name}")
    pl.DataFrame(data).write_parquet(beside, compression="zstd", statistics=False)
    beside.replace(path)
    run.artifact(path, name=name, kind="metrics")


def read_columns(path: Path, names: Iterable[str] = ()) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.float32]]]:
    """The first column, and those of ``names`` that are there, or all. Raises OSError and ValueError."""
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    wanted = set(names) or set(frame.columns[1:])
    first = frame[frame.columns[0]].to_numpy()
    return first, {key: frame[key].to_numpy() for key in frame.columns[1:] if key in wanted}


def plain(data: Any) -> Any:
    """JSON values, with numbers of numpy as Python's."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if isinstance(data, np.generic):
        data = data.item()
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return repr(value) if isinstance(value, float) else value


def _path(run: Run, name: str) -> Path:
    path = Path(run.artifacts_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _publish(run: Run, name: str, content: bytes) -> None:
    path = _path(run, name)
    write_atomic(path, content)
    run.artifact(path, name=name, kind="metrics" if name.endswith(".csv") else "report")
