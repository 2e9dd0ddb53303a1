"""Baselines of forecasting, on the same windows, the same inputs and the same split as the model.

`last_value`, `seasonal_naive`, `seasonal_median` and `climatology` are fitted on nothing or on the training part; `ridge`, `nlinear` and
`gradient_boosting` are fitted on the training part, with their settings chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from gateline.baselines.forecasting_nlinear import nlinear
from gateline.baselines.forecasting_problem import Problem
from gateline.baselines.forecasting_ridge import ridge
from gateline.baselines.forecasting_trees import gradient_boosting
from gateline.baselines.naive2 import naive2
from gateline.baselines.quantiles import ewma_quantiles, historical_quantiles
from gateline.baselines.volatility import ewma, har

CLIMATOLOGY_DAYS = 15
"""Days before and after a day of the year whose mean is its `climatology`: a month, as normals are smoothed."""
DAYS_OF_A_YEAR = 366


def last_value(problem: Problem, part: str) -> np.ndarray:
    """The last observed value, for every step."""
    return np.repeat(problem.carried_forward[problem.origins[part] - 1][:, None], problem.horizon, axis=1)


def seasonal_naive(problem: Problem, part: str) -> np.ndarray:
    """The value one season before, or as many seasons as it takes to lie in the past; the last value where it is missing."""
    ahead = np.arange(problem.horizon)
    back = problem.season * (ahead // problem.season + 1)
    rows = problem.steps(part) - back
    values = np.asarray(problem.store.arrays["raw_target"])[np.maximum(rows, 0)]
    begins = problem.store.offsets[problem.store.series_of(problem.origins[part])][:, None]
    return np.where(np.isfinite(values) & (rows >= begins), values, last_value(problem, part))


def seasonal_median(problem: Problem, part: str) -> np.ndarray:
    """The median of the training part at the same place of the cycle, per series."""
    fitted = pd.DataFrame(
        {
            "series": problem.series_of_rows(),
            "position": problem.position(problem.cycle),
            "value": np.asarray(problem.store.arrays["raw_target"]),
        }
    )
    train = fitted[problem.training_rows()]
    by_position = train.groupby(["series", "position"])["value"].median()
    by_series = train.groupby("series")["value"].median()
    asked = fitted.iloc[problem.steps(part).ravel()]
    median = by_position.reindex(pd.MultiIndex.from_frame(asked[["series", "position"]])).to_numpy()
    fallback = by_series.reindex(asked["series"]).to_numpy()
    return np.where(np.isfinite(median), median, fallback).reshape(-1, problem.horizon)


def climatology(problem: Problem, part: str) -> np.ndarray:
    """The mean of the training part at the same time of the day, at most CLIMATOLOGY_DAYS from the same day of the year.

    Per series, by the clock of `preprocess.calendar.timezone`; the mean of the series where the training part has no such day, and that of all
    where it has no window of the series.
    """
    local = problem.local_times()
    slot = problem.position(problem.steps_of_a_day)
    day = local.dt.day_of_year.to_numpy() - 1
    series, value = problem.series_of_rows(), np.asarray(problem.store.arrays["raw_target"])
    shape = (problem.store.num_series, DAYS_OF_A_YEAR, problem.steps_of_a_day)
    usable = problem.training_rows() & np.isfinite(value)
    place = np.ravel_multi_index((series, day, slot), shape)
    total, count = (
        np.bincount(place[usable], weights=weights, minlength=int(np.prod(shape))).reshape(shape)
        for weights in (value[usable], np.ones(int(usable.sum())))
    )
    near_total, near_count = _sum_of_near_days(total), _sum_of_near_days(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = (near_total / near_count).ravel()
        of_series = total.sum(axis=(1, 2)) / count.sum(axis=(1, 2))
        of_series = np.where(np.isfinite(of_series), of_series, total.sum() / count.sum())
    asked = problem.steps(part)
    return np.where(np.isfinite(normal[place[asked]]), normal[place[asked]], of_series[series[asked]])


def _sum_of_near_days(sums: np.ndarray) -> np.ndarray:
    """Add to each day of the year those around it: (series, days, steps of a day) -> the same."""
    near = np.zeros_like(sums)
    for shift in range(-CLIMATOLOGY_DAYS, CLIMATOLOGY_DAYS + 1):
        near += np.roll(sums, shift, axis=1)
    return near


BASELINES: Mapping[str, Callable[[Problem, str], np.ndarray]] = {
    "last_value": last_value,
    "seasonal_naive": seasonal_naive,
    "seasonal_median": seasonal_median,
    "climatology": climatology,
    "ridge": ridge,
    "nlinear": nlinear,
    "gradient_boosting": gradient_boosting,
    "naive2": naive2,
}
"""Each takes a problem and a part, and returns forecasts (W, U) in raw units."""

VOLATILITY_BASELINES: Mapping[str, Callable[[Problem, str], np.ndarray]] = {"ewma": ewma, "har": har}
"""The same, for problems that say which columns hold a volatility."""

QUANTILE_BASELINES: Mapping[str, Callable[[Problem, str], np.ndarray]] = {
    "historical_quantiles": historical_quantiles,
    "ewma_quantiles": ewma_quantiles,
}
"""The same, but they return quantiles (W, U, Q) at the levels of the problem."""
