"""Metrics of forecasts in raw units: a statistic per element, then an aggregation; what was not observed does not count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

FORECAST_METRICS = ("mae", "rmse", "bias", "wape", "median_ae", "mae_scaled", "mse_scaled")

WINDOW_METRICS = ("mae", "rmse", "mae_scaled", "mse_scaled")
"""Metrics that follow from sums over windows, so that windows can be resampled; lower is better."""


UNITLESS_METRICS = ("wape", "mae_scaled", "mse_scaled")


def forecast_metrics(forecast: np.ndarray, target: np.ndarray, deviation: np.ndarray) -> dict[str, float]:
    """Compare forecasts with what happened.

    Args:
        forecast: (W, U) in raw units.
        target: (W, U) in raw units, NaN where not observed.
        deviation: (W,) standard deviation of the training part of each window's series, in raw units.

    Returns:
        mae, rmse, bias (mean of forecast - target), wape (sum of absolute errors over sum of absolute targets),
        median_ae, and mae_scaled and mse_scaled, of the errors in units of `deviation`; NaN if nothing was observed or a forecast of an observed step is no number.
    """
    observed = np.isfinite(target)
    error = forecast[observed] - target[observed]
    if len(error) == 0:
        return dict.fromkeys(FORECAST_METRICS, float("nan"))
    absolute = np.abs(error)
    scale = np.abs(target[observed]).sum()
    scaled = absolute / np.broadcast_to(deviation[:, None], target.shape)[observed]
    return {
        "mae": float(absolute.mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "bias": float(error.mean()),
        "wape": float(absolute.sum() / scale) if scale > 0 else float("nan"),
        "median_ae": float(np.median(absolute)),
        "mae_scaled": float(scaled.mean()),
        "mse_scaled": float(np.square(scaled).mean()),
    }


def by_step(forecast: np.ndarray, target: np.ndarray) -> list[float]:
    """Mean absolute error of each of the U steps ahead."""
    error = np.where(np.isfinite(target), np.abs(forecast - np.nan_to_num(target)), 0.0).sum(axis=0)
    counts = np.isfinite(target).sum(axis=0)
    return [float(e / n) if n else float("nan") for e, n in zip(error, counts, strict=True)]


def by_group(
    forecast: np.ndarray, target: np.ndarray, deviation: np.ndarray, groups: np.ndarray
) -> Mapping[str, dict[str, float]]:
    """Metrics of the windows of each group; groups (W,) of names."""
    return {
        str(name): forecast_metrics(forecast[groups == name], target[groups == name], deviation[groups == name])
        for name in sorted(set(groups.tolist()))
    }
