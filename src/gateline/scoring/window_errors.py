"""Errors of forecasts window by window: what their intervals follow from, and the worst of them. W windows, U steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from gateline.comparison import ExampleErrors
from gateline.intervals import RESAMPLES, Interval, bootstrap_intervals
from gateline.metrics import STEP_METRIC, percent, pinball_by_step, steps_of
from gateline.predictors.forecasting import WindowForecasts

WORST = 8
FEWEST_RESAMPLES = 200
SORTED_ERRORS = 50_000_000
"""In all resamples together, for the interval of a median."""

WindowSums = tuple[np.ndarray, np.ndarray]
"""What each window adds to a metric (W,), and what it is divided by (W,)."""


def window_errors(
    forecasts: WindowForecasts,
    target: np.ndarray,
    deviation: np.ndarray,
    position: np.ndarray,
    metrics: Collection[str],
    rows: str = "",
    dependence: int = 1,
    others: Mapping[str, WindowSums] = MappingProxyType({}),
) -> list[ExampleErrors]:
    """Write metrics as sums over windows.

    Args:
        forecasts: of the model.
        target: (W, U) in raw units, NaN where nothing was observed.
        deviation: (W,) the unit of the metrics that are called scaled.
        position: (W,), see `positions_of`.
        metrics: names of those to write; one that is no ratio of sums is left out.
        rows: digest of what was scored.
        dependence: see `ExampleErrors`.
        others: sums of further metrics, e.g. of decisions on stock.
    """
    observed = np.isfinite(target)
    error = np.where(observed, forecasts.point - np.where(observed, target, 0.0), 0.0)
    scaled, size = error / deviation[:, None], np.where(observed, np.abs(target), 0.0).sum(axis=1)
    counts = observed.sum(axis=1).astype(np.float64)
    sums: dict[str, WindowSums] = {
        "mae": (np.abs(error), counts),
        "rmse": (error**2, counts),
        "bias": (error, counts),
        "wape": (np.abs(error), size),
        "mae_scaled": (np.abs(scaled), counts),
        "mse_scaled": (scaled**2, counts),
    }
    if forecasts.quantiles:
        quantiles = np.stack(list(forecasts.quantiles.values()), axis=2)
        losses = pinball_by_step(quantiles, target, list(forecasts.quantiles))
        sums["pinball"] = (np.where(observed, losses, 0.0), counts)
    for coverage, (lower, upper) in forecasts.intervals.items():
        inside = observed & (lower <= np.where(observed, target, np.inf)) & (target <= upper)
        sums[f"coverage_{percent(coverage)}"] = (inside.astype(np.float64), counts)
        sums[f"width_{percent(coverage)}"] = (np.where(observed, upper - lower, 0.0), counts)
    by_window = {name: (total.sum(axis=1), count) for name, (total, count) in sums.items()}
    for name in filter(STEP_METRIC.fullmatch, metrics):
        metric, steps = steps_of(name)
        by_window[name] = sums[metric][0][:, steps].sum(axis=1), observed[:, steps].sum(axis=1).astype(np.float64)
    by_window |= others
    return [
        ExampleErrors(name, total, count, position, rows, root=name.startswith("rmse"), dependence=dependence)
        for name, (total, count) in by_window.items()
        if name in metrics
    ]


def median_interval(error: np.ndarray, position: np.ndarray, dependence: int) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of `median_ae`, which no sums give; nothing where there is so much that it would take minutes.

    Args:
        error: (W, U) forecast - target, NaN where nothing was observed.
        position: (W,), see `positions_of`.
        dependence: see `ExampleErrors`.
    """
    resamples = min(RESAMPLES, SORTED_ERRORS // max(1, error.size))
    if resamples < FEWEST_RESAMPLES:
        return {}
    absolute = np.abs(error)

    def measure(rows: np.ndarray) -> dict[str, float]:
        drawn = absolute[rows]
        drawn = drawn[np.isfinite(drawn)]
        return {"median_ae": float(np.median(drawn)) if len(drawn) else float("nan")}

    return bootstrap_intervals(measure, position, dependence=dependence, resamples=resamples)


def worst_windows(table: pd.DataFrame, keys: Collection[str], unit: str) -> pd.DataFrame:
    """List the windows with the largest mean absolute errors, none of which overlaps a worse one of its series.

    Args:
        table: one row per window and step: keys, `origin`, `time`, `target`, `forecast`.
        keys: columns that tell the series apart.
        unit: of the target; empty for none.
    """
    by = [*keys, "origin"]
    rows = table[table["target"].notna()]
    rows = rows.assign(error=(rows["forecast"] - rows["target"]).abs())
    windows = rows.groupby(by, sort=True, as_index=False).agg(
        error=("error", "mean"), happened=("target", "mean"), forecast=("forecast", "mean"), until=("time", "max")
    )
    windows = windows.sort_values("error", ascending=False, kind="stable").head(1000)
    chosen: list[int] = []
    for place, window in windows.iterrows():
        kept = windows.loc[chosen]
        same = (kept[list(keys)] == window[list(keys)]).all(axis=1) if keys else pd.Series(True, index=kept.index)
        overlaps = same & (kept["origin"] <= window["until"]) & (kept["until"] >= window["origin"])
        if not overlaps.any():
            chosen.append(place)  # type: ignore[arg-type]  # labels of rows are numbers here
        if len(chosen) == WORST:
            break
    within = f" [{unit}]" if unit else ""
    names = {
        "origin": "from (UTC)",
        "until": "until",
        "error": f"mean error{within}",
        "happened": f"happened, mean{within}",
        "forecast": f"forecast, mean{within}",
    }
    return windows.loc[chosen, [*keys, *names]].rename(columns=names).reset_index(drop=True)
