"""Baselines of volatility, from columns of the table that a person of the field computes anyway.

The columns hold what is known when the step before the origin is over; `evaluation.volatility` names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gateline.data.store import VALUES

if TYPE_CHECKING:
    from gateline.baselines.forecasting_problem import Problem


def ewma(problem: Problem, part: str) -> np.ndarray:
    """The exponentially weighted average of the past, for every step ahead, since its best forecast is itself.

    Source: RiskMetrics Technical Document (1996), equations 5.2 and 5.19.
    """
    newest = problem.origins[part] - 1
    return np.repeat(_raw(problem, problem.volatility.ewma, newest)[:, None], problem.horizon, axis=1)


def har(problem: Problem, part: str) -> np.ndarray:
    """A linear regression on volatilities of short, middle and long horizon, and an intercept, for each step ahead.

    It is fitted by least squares on the training windows twice, in raw units as published and in the transformed space of
    the columns (with log1p, nearly the regression of logarithms); whichever errs less on the validation part is taken.

    Source: Corsi (2009), A Simple Approximate Long-Memory Model of Realized Volatility, Journal of Financial Econometrics
        7(2), equation 7; in logarithms Andersen, Bollerslev and Diebold (2007), equation 12.
    """
    raw_target = np.asarray(problem.store.arrays["raw_target"])
    errors, answers = [], []
    for transformed in (False, True):
        weights = _har_weights(problem, transformed)

        def forecast(of: str, transformed: bool = transformed, weights: np.ndarray = weights) -> np.ndarray:
            guess = _har_inputs(problem, of, transformed) @ weights
            return problem.in_raw_units(guess, of) if transformed else guess

        errors.append(np.nanmean(np.abs(forecast("validation") - raw_target[problem.steps("validation")])))
        answers.append(forecast(part))
    return answers[int(np.argmin(errors))]


def _har_weights(problem: Problem, transformed: bool) -> np.ndarray:
    """Least squares on the training windows, step by step: (1 + columns, U)."""
    inputs = _har_inputs(problem, "train", transformed)
    raw = np.asarray(problem.store.arrays["raw_target"])[problem.steps("train")]
    target = problem.target("train").astype(np.float64) if transformed else raw
    weights = np.empty((inputs.shape[1], problem.horizon))
    for step in range(problem.horizon):
        there = np.isfinite(target[:, step]) & np.isfinite(inputs).all(axis=1)
        weights[:, step] = np.linalg.lstsq(inputs[there], target[there, step], rcond=None)[0]
    return weights


def _har_inputs(problem: Problem, part: str, transformed: bool) -> np.ndarray:
    newest = problem.origins[part] - 1
    read = _scaled if transformed else _raw
    return np.column_stack([np.ones(len(newest)), *(read(problem, name, newest) for name in problem.volatility.har)])


def _scaled(problem: Problem, column: str, rows: np.ndarray) -> np.ndarray:
    place = problem.encoding.value_names().index(column)
    return np.asarray(problem.store.arrays[VALUES])[rows, place].astype(np.float64)


def _raw(problem: Problem, column: str, rows: np.ndarray) -> np.ndarray:
    scaled = _scaled(problem, column, rows)
    return problem.encoding.scalers[column].inverse(scaled, problem.series_of_rows()[rows])
