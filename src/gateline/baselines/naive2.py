"""Naive 2, against which the M competitions measure: the last value of a series whose season was taken out and is put back.

Arithmetic of single series in plain numpy, as the organisers' R code does it, so that OWA stands beside the published figures. Where
that code divides by 0, of which the competition's series gave no occasion, the forecast is the last value as it is.

Source: Makridakis, Spiliotis and Assimakopoulos (2020), The M4 Competition, International Journal of Forecasting 36(1), section 2;
the organisers' `Benchmarks and Evaluation.R` (github.com/Mcompetitions/M4-methods), `SeasonalityTest` and `Benchmarks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from gateline.baselines.forecasting_problem import Problem

ONE_SIDED_90 = 1.645
"""Quantile of the normal distribution that the organisers' test of seasonality takes."""


def is_seasonal(history: np.ndarray, season: int) -> bool:
    """Test whether the autocorrelation at the season is more than chance, allowing for that of the lags before it.

    Args:
        history: (n,) of one series.
        season: steps of one season, e.g. 24.

    Source: `SeasonalityTest`; its limit is Bartlett's, 1.645 * sqrt((1 + 2 * squares of the lags before the season) / n).
    """
    if season < 2 or len(history) < 3 * season:
        return False
    centred = history - history.mean()
    variance = centred @ centred
    if variance <= 0:
        return False
    correlations = np.array([centred[lag:] @ centred[:-lag] for lag in range(1, season + 1)]) / variance
    limit = ONE_SIDED_90 * np.sqrt((1 + 2 * np.square(correlations[:-1]).sum()) / len(history))
    return bool(abs(correlations[-1]) > limit)


def seasonal_indices(history: np.ndarray, season: int) -> np.ndarray:
    """Say by what each place of the season multiplies the trend: (season,), mean 1, the first for the first value.

    Args:
        history: (n,) of one series, n >= 2 * season.
        season: steps of one season.

    Source: classical multiplicative decomposition, as R's `decompose(type = "multiplicative")`: ratios to a centred moving
        average, their mean at each place of the season, divided by the mean of these.
    """
    weights = np.full(season + (season % 2 == 0), 1.0 / season)
    if season % 2 == 0:
        weights[[0, -1]] /= 2
    half = len(weights) // 2
    ratio = np.full(len(history), np.nan)
    inner, trend = history[half : len(history) - half], np.convolve(history, weights, "valid")
    ratio[half : len(history) - half] = np.divide(inner, trend, out=np.full(len(trend), np.nan), where=trend != 0)
    places = [ratio[place::season] for place in range(season)]
    indices = np.array([np.nanmean(each) if np.isfinite(each).any() else np.nan for each in places])
    mean = indices.mean()
    return indices / mean if mean != 0 else np.full(season, np.nan)


def naive2_of(history: np.ndarray, season: int, horizon: int) -> np.ndarray:
    """Forecast one series without missing values: (horizon,).

    The last value alone where there is no season, or none that could be taken out of it: at an hour at which a shop is always
    closed, 0 is left of any level. The organisers' code says 0 / 0 there.
    """
    if not is_seasonal(history, season):
        return np.full(horizon, history[-1])
    indices = seasonal_indices(history, season)
    last = len(history) - 1
    if not np.isfinite(indices).all() or indices[last % season] == 0:
        return np.full(horizon, history[-1])
    return history[-1] / indices[last % season] * indices[(last + 1 + np.arange(horizon)) % season]


def naive2(problem: Problem, part: str) -> np.ndarray:
    """Naive 2 of all that is known of each series before the origin; what is missing there counts as the value before it."""
    known = pd.Series(np.asarray(problem.store.arrays["raw_target"]))
    known = known.groupby(problem.series_of_rows()).ffill()
    begins = problem.store.offsets[problem.store.series_of(problem.origins[part])]
    forecasts = []
    for begin, origin in zip(begins.tolist(), problem.origins[part].tolist(), strict=True):
        history = known.iloc[begin:origin].dropna().to_numpy()
        forecasts.append(naive2_of(history, problem.season, problem.horizon))
    return np.stack(forecasts)
