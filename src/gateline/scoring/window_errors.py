"""Errors of forecasts window by window: what their intervals follow from, and the worst of them. W windows, U steps."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from gateline.comparison import ExampleErrors
from gateline.metrics import percent, pinball_by_step
from gateline.predictors.forecasting import WindowForecasts

WORST = 8


def window_errors(
    forecasts: WindowForecasts,
    target: np.ndarray,
    deviation: np.ndarray,
    position: np.ndarray,
    metrics: Collection[str],
    rows: str = "",
    dependence: int = 1,
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
    """
    observed = np.isfinite(target)
    error = np.where(observed, forecasts.point - np.where(observed, target, 0.0), 0.0)
    scaled, size = error / deviation[:, None], np.where(observed, np.abs(target), 0.0).sum(axis=1)
    counts = observed.sum(axis=1).astype(np.float64)
    sums: dict[str, tuple[np.ndarray, np.ndarray]] = {
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
    return [
        ExampleErrors(name, total.sum(axis=1), count, position, rows=rows, root=name == "rmse", dependence=dependence)
        for name, (total, count) in sums.items()
        if name in metrics
    ]


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
