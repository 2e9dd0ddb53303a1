"""Metrics of forecasts in raw units: a statistic per element, then an aggregation; what was not observed does not count."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

FORECAST_METRICS = ("mae", "rmse", "bias", "wape", "median_ae", "mae_scaled", "mse_scaled")

WINDOW_METRICS = ("mae", "rmse", "mae_scaled", "mse_scaled")
"""Metrics that follow from sums over windows, so that windows can be resampled; lower is better."""


COMPETITION_METRICS = ("smape", "mase", "owa")
"""Metrics of the M competitions, where a workload asks for them."""

INVENTORY_METRICS = ("newsvendor_cost", "service_level", "fill_rate")
"""Metrics of models that decide on stock, see `gateline.inventory.policy_metrics`."""
PINBALL = "pinball"
"""Of models with quantiles: a mean over windows, too."""

PROBABILISTIC_METRIC = re.compile(r"pinball|(coverage|width)_\d+(\.\d+)?")
"""Metrics of models with quantiles or intervals, e.g. `coverage_80`."""

STEP_METRIC = re.compile(r"(?P<metric>mae|rmse)_(?P<which>at|to)_(?P<step>[1-9]\d*)")
"""Metrics of some steps ahead: `mae_at_7` of the seventh alone, `rmse_to_3` of the first three together."""

UNITLESS_METRIC = re.compile(r"wape|m[as]e_scaled|coverage_.*|smape|mase|owa|newsvendor_cost|service_level|fill_rate")

SCALE_FREE_METRIC = re.compile(r"m[as]e_scaled|coverage_.*|smape|mase|owa")
"""Metrics that can be told over series of different units."""


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


def percent(share: float) -> str:
    """Write a level or a coverage as it stands in names of metrics and columns: 0.8 is 80, 0.025 is 2.5."""
    return f"{round(100 * share, 6):g}"


def pinball(quantiles: np.ndarray, target: np.ndarray, levels: Sequence[float]) -> float:
    """Mean pinball loss over observed targets and levels; half the absolute error for the median alone.

    NaN if nothing was observed or a forecast of an observed step is no number.

    Args:
        quantiles: (W, U, Q) in raw units.
        target: (W, U) in raw units, NaN where not observed.
        levels: Q levels.
    """
    losses = pinball_by_step(quantiles, target, levels)[np.isfinite(target)]
    return float(losses.mean()) if len(losses) else float("nan")


def pinball_by_step(quantiles: np.ndarray, target: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Pinball loss of each step, mean over the levels: (W, U), NaN where nothing was observed or a forecast is no number."""
    over = target[:, :, None] - quantiles  # (W, U, Q)
    at = np.array(levels)
    losses: np.ndarray = np.maximum(at * over, (at - 1) * over).mean(axis=2)
    return losses


def interval_metrics(lower: np.ndarray, upper: np.ndarray, target: np.ndarray, coverage: float) -> dict[str, float]:
    """Share of observed targets inside intervals (W, U), and their mean width in raw units, by name."""
    observed = np.isfinite(target)
    name = percent(coverage)
    if not observed.any():
        return {f"coverage_{name}": float("nan"), f"width_{name}": float("nan")}
    inside = (lower[observed] <= target[observed]) & (target[observed] <= upper[observed])
    return {
        f"coverage_{name}": float(inside.mean()),
        f"width_{name}": float((upper[observed] - lower[observed]).mean()),
    }


def step_metric(name: str, forecast: np.ndarray, target: np.ndarray) -> float:
    """Measure some steps ahead, see `STEP_METRIC`; NaN if nothing was observed there.

    Args:
        name: e.g. ``mae_at_7`` or ``rmse_to_3``.
        forecast: (W, U) in raw units.
        target: (W, U) in raw units, NaN where not observed.
    """
    metric, steps = steps_of(name)
    error = (forecast - target)[:, steps]
    error = error[np.isfinite(target[:, steps])]
    if len(error) == 0:
        return float("nan")
    return float(np.abs(error).mean() if metric == "mae" else np.sqrt(np.square(error).mean()))


def steps_of(name: str) -> tuple[str, slice]:
    """Take a name such as ``rmse_to_3`` apart: the metric of all steps, and which of the U steps it is measured on."""
    asked = STEP_METRIC.fullmatch(name)
    if asked is None:
        raise ValueError(f"{name} is no metric of steps ahead")
    last = int(asked["step"])
    return asked["metric"], slice(last - 1 if asked["which"] == "at" else 0, last)


def by_step(forecast: np.ndarray, target: np.ndarray) -> list[float]:
    """Mean absolute error of each of the U steps ahead."""
    error = np.where(np.isfinite(target), np.abs(forecast - np.nan_to_num(target)), 0.0).sum(axis=0)
    counts = np.isfinite(target).sum(axis=0)
    return [float(e / n) if n else float("nan") for e, n in zip(error, counts, strict=True)]


def smape(forecast: np.ndarray, target: np.ndarray) -> float:
    """Symmetric mean absolute percentage error over observed targets, 0 to 200; a target and forecast of 0 is no error.

    Source: Makridakis, Spiliotis and Assimakopoulos (2020), The M4 Competition, International Journal of Forecasting 36(1),
        equation 1.
    """
    shares = smape_by_step(forecast, target)[np.isfinite(target)]
    return float(shares.mean()) if len(shares) else float("nan")


def smape_by_step(forecast: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What each step adds to the mean of `smape`: (W, U), NaN where nothing was observed or the forecast is no number."""
    error, size = np.abs(forecast - target), np.abs(forecast) + np.abs(target)
    shares: np.ndarray = np.divide(200 * error, size, out=np.where(error == 0, 0.0, np.nan), where=size > 0)
    return shares


def mase(forecast: np.ndarray, target: np.ndarray, scale: np.ndarray) -> float:
    """Mean absolute scaled error: over the steps of each window, then over windows.

    Args:
        forecast: (W, U) in raw units.
        target: (W, U) in raw units, NaN where not observed.
        scale: (W,) mean absolute error of the seasonal naive forecast within each window's history.

    Source: Hyndman and Koehler (2006), Another Look at Measures of Forecast Accuracy, International Journal of Forecasting
        22(4); as the M4 competition takes it, equation 2 there.
    """
    there = np.isfinite(target).any(axis=1)
    return float(mase_by_window(forecast, target, scale)[there].mean()) if there.any() else float("nan")


def mase_by_window(forecast: np.ndarray, target: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What each window adds to the mean of `mase`: (W,), NaN where nothing was observed."""
    observed = np.isfinite(target)
    counts = observed.sum(axis=1)
    error = np.where(observed, np.abs(forecast - np.nan_to_num(target)), 0.0).sum(axis=1)
    return np.where(counts > 0, error / np.maximum(counts, 1) / scale, np.nan)


def owa(metrics: Mapping[str, float], naive2: Mapping[str, float]) -> float:
    """Overall weighted average of the M4 competition: sMAPE and MASE, each as a share of Naive 2's, and their mean.

    NaN where Naive 2 makes no error at all.
    """
    if not (naive2["smape"] and naive2["mase"]):
        return math.nan
    return (metrics["smape"] / naive2["smape"] + metrics["mase"] / naive2["mase"]) / 2
