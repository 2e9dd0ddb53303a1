"""`gradient_boosting` of forecasting: trees on lags, on what was so many days or weeks before, and on what is known ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gateline.baselines.forecasting_problem import Problem
from gateline.data.store import SERIES

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

LEARNING_RATE = 0.1
LAGS = 24
MAX_ROUNDS = 300
PATIENCE = 10
"""Trees in a row without a better validation loss."""
MAX_ROWS = 50_000
"""Rows of one window and step each that the trees are fitted on, drawn from more: flight_delays loses less than 0.1 minutes by it and
saves four fifths of the time; weather, with 413,000, loses 1 %. Evenly spaced ones would all be of a few steps ahead where the spacing and the horizon have a factor in common."""


def gradient_boosting(problem: Problem, part: str) -> np.ndarray:
    """Histogram gradient boosting with an absolute loss, all steps in one model; the number of trees chosen on validation.

    Of the covariates it reads the newest step before the origin, and what is known of the step ahead.

    Trees cannot go beyond what they have seen, so they are also fitted on the target less its mean over the window; and where
    series have different units, those of each unit alone. What answers is decided on the validation part.
    """
    every, by_unit = np.arange(problem.store.num_series), problem.series_by_unit()
    groupings = [[every]] if len(by_unit) == 1 else [[every], by_unit]
    chosen = min((_fit_groups(problem, groups) for groups in groupings), key=lambda fit: fit.error)
    answer = np.empty((len(problem.origins[part]), problem.horizon))
    for group, trees in chosen.trees:
        answer[np.isin(problem.series(part), group)] = trees.forecast(problem.of_series(group), part)
    return answer


@dataclass(frozen=True)
class _Groups:
    """Trees of groups of series, and their mean absolute error on the validation part, scaled."""

    trees: list[tuple[np.ndarray, _Trees]]
    error: float


def _fit_groups(problem: Problem, groups: list[np.ndarray]) -> _Groups:
    """Fit trees to each group of series, less the mean or not, whichever is better there."""
    trees, counts = [], []
    for group in groups:
        part = problem.of_series(group)
        trees.append((group, min((_fit(part, less_mean) for less_mean in (False, True)), key=lambda fit: fit.error)))
        counts.append(np.isfinite(part.target("validation")).sum())
    return _Groups(trees, float(np.average([fit.error for _, fit in trees], weights=counts)))


@dataclass(frozen=True)
class _Trees:
    """Fitted trees.

    Args:
        model: the regressor.
        less_mean: whether they read and answer the target less its mean over the window.
        error: mean absolute error on the validation part, scaled.
    """

    model: HistGradientBoostingRegressor
    less_mean: bool
    error: float

    def forecast(self, problem: Problem, part: str) -> np.ndarray:
        """Forecasts (W, U) in raw units."""
        places = np.arange(len(problem.origins[part]) * problem.horizon)
        level = _level(problem, part, self.less_mean)
        answer = np.concatenate(
            [
                self.model.predict(_inputs(problem, part, some, level)) + level[some // problem.horizon]
                for some in np.array_split(places, 1 + len(places) // MAX_ROWS)
            ]
        )
        return problem.in_raw_units(answer.reshape(-1, problem.horizon), part)


def _fit(problem: Problem, less_mean: bool) -> _Trees:
    from sklearn.ensemble import HistGradientBoostingRegressor

    def drawn(part: str) -> tuple[np.ndarray, np.ndarray]:
        places, level = _drawn(problem.target(part)), _level(problem, part, less_mean)
        target = problem.target(part).ravel()[places] - level[places // problem.horizon]
        return _inputs(problem, part, places, level), target

    (inputs, target), (held_out, wanted) = drawn("train"), drawn("validation")
    model = HistGradientBoostingRegressor(
        loss="absolute_error",
        learning_rate=LEARNING_RATE,
        max_iter=MAX_ROUNDS,
        early_stopping=True,
        n_iter_no_change=PATIENCE,
        random_state=0,
    ).fit(inputs, target, X_val=held_out, y_val=wanted)
    return _Trees(model, less_mean, float(np.abs(model.predict(held_out) - wanted).mean()))


def _drawn(target: np.ndarray) -> np.ndarray:
    """Draw places in a flattened target (W, U) that hold a value, at most MAX_ROWS of them."""
    return np.sort(np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(target)))[:MAX_ROWS])


def _level(problem: Problem, part: str, less_mean: bool) -> np.ndarray:
    """What the target of each window is less by, scaled: (W,); the last observed value where nothing in the window is."""
    origins = problem.origins[part]
    if not less_mean:
        return np.zeros(len(origins))
    past = problem.scaled_target[origins[:, None] - 1 - np.arange(problem.lookback)]
    there = np.isfinite(past)
    count = there.sum(axis=1)
    mean = np.where(there, past, 0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan_to_num(problem.last_scaled(origins)))


def _inputs(problem: Problem, part: str, places: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Features of single steps of windows: float32 (n, ...), for n places in the flattened (W, U); trees read NaN as such."""
    encoder, decoder = problem.encoder, problem.decoder
    window, ahead = np.divmod(places, problem.horizon)
    origins = problem.origins[part][window]
    rows = origins + ahead
    past = [
        problem.scaled_target[origins[:, None] - 1 - np.arange(min(LAGS, problem.lookback))],
        problem.last_scaled(origins),
    ]
    periods = {problem.steps_of_a_day, problem.season, problem.cycle}
    for period in sorted(period for period in periods if 1 < period <= problem.lookback):
        back = period * (ahead // period + 1)  # the newest at the same place of the period that is past
        inside = back - ahead <= problem.lookback
        past.append(np.where(inside, problem.scaled_target[np.where(inside, rows - back, rows)], np.nan))
    position = problem.position(problem.cycle)[rows]
    texts = [*problem.past_texts(origins - 1), *problem.known_texts(rows), *problem.static_texts(origins)]
    more = [*problem.static_numbers(origins), *texts]
    series = problem.store.static(SERIES, origins)
    columns = [encoder[origins - 1, 2:], series, decoder[rows], position, ahead, level[window], *more]
    return np.column_stack([np.column_stack(past) - level[window][:, None], *columns]).astype(np.float32)
