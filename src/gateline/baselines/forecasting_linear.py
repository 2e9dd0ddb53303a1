"""Linear baselines of forecasting: `ridge` with every input of the model, `nlinear` with the past of the target alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gateline.baselines.forecasting_problem import Problem
from gateline.data.store import SERIES

ALPHAS = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Strengths of the ridge's penalty that are tried; the features are standardised."""

MAX_OWN_RIDGES = 64
"""Series up to which a ridge for each alone is tried beside one for all."""
MIN_OWN_WINDOWS = 100
"""Training windows that each of them must have for that."""

NLINEAR_ALPHAS = (1.0, 10.0, 100.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0)
"""The same for `nlinear`, whose inputs are differences in the scaled space, not standardised."""
GRAM_ROWS = 8192
"""Windows at a time whose products are summed in float64."""


def ridge(problem: Problem, part: str) -> np.ndarray:
    """A linear function for each step: past targets and their masks, the newest covariates, and what is known ahead.

    One for all series, or one for each alone, whichever is better on the validation part, as is the strength of the penalty. Fitted in the
    scaled, transformed space of the target, in closed form, from one Gram matrix per step.
    """
    train, validation = problem.target("train"), problem.target("validation")
    groupings = _groupings(problem)
    errors = np.zeros((len(groupings), len(ALPHAS)))
    answers = np.empty((*errors.shape, len(problem.origins[part]), problem.horizon), dtype=np.float32)
    names = {"train", "validation", part}
    inputs = {name: _ridge_inputs(problem, name) for name in names}
    series = {name: problem.series(name) for name in names}
    for step in range(problem.horizon):
        x = {name: inputs[name](step) for name in names}
        for grouping, groups in enumerate(groupings):
            for group in groups:
                rows = {name: np.flatnonzero(np.isin(series[name], group)) for name in names}
                fit = _ridge_fit(x["train"][rows["train"]], train[rows["train"], step])
                held_out = fit(x["validation"][rows["validation"]]) - validation[rows["validation"], step]
                errors[grouping] += np.nansum(np.abs(held_out), axis=1)
                answers[grouping, :, rows[part], step] = fit(x[part][rows[part]]).T
    best = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return problem.in_raw_units(answers[best], part)


def nlinear(problem: Problem, part: str) -> np.ndarray:
    """A linear function of the past, one for all series and without other inputs, of what is left above the last value.

    Fitted by least squares in closed form in the scaled space, with the ridge's penalty chosen on the validation part.

    Source: Zeng et al. (2023), arXiv 2205.13504, section 4 (NLinear), there fitted by gradient descent.
    """
    train, validation, asked = (_above_last(problem, name) for name in ("train", "validation", part))
    errors = np.zeros(len(NLINEAR_ALPHAS))
    answers = np.empty((len(NLINEAR_ALPHAS), len(asked.inputs), problem.horizon), dtype=np.float32)
    complete = bool(np.isfinite(train.target).all())
    # With every target there, all steps share one Gram matrix; where some are missing, each step has its own.
    for steps in [slice(None)] if complete else [slice(step, step + 1) for step in range(problem.horizon)]:
        rows = np.flatnonzero(np.isfinite(train.target[:, steps]).all(axis=1))
        mean, level, gram, right = _moments(train.inputs, train.target[:, steps], rows)
        for index, alpha in enumerate(NLINEAR_ALPHAS):
            weights = np.linalg.solve(gram + alpha * np.eye(len(gram)), right)
            shift = level - mean @ weights
            difference = validation.inputs @ weights.astype(np.float32) + shift - validation.target[:, steps]
            errors[index] += np.square(difference[np.isfinite(difference)]).sum()
            answers[index][:, steps] = asked.inputs @ weights.astype(np.float32) + shift
    return problem.in_raw_units(answers[int(np.argmin(errors))] + asked.last[:, None], part)


def _groupings(problem: Problem) -> list[list[np.ndarray]]:
    """Return the ways to share out the series among ridges: all in one, and each alone where they are few and seen enough."""
    every = np.arange(problem.store.num_series)
    windows = np.bincount(problem.series("train"), minlength=len(every))
    alone = 1 < len(every) <= MAX_OWN_RIDGES and windows.min() >= MIN_OWN_WINDOWS
    return [[every], list(every[:, None])] if alone else [[every]]


def _ridge_fit(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit inputs (W, F) to what was observed of y (W,); return a function from inputs (n, F) to answers (A, n), one per strength."""
    x, y = x[np.isfinite(y)], y[np.isfinite(y)].astype(np.float64)
    mean, deviation, level = (x.mean(axis=0), x.std(axis=0) + 1e-8, float(y.mean())) if len(y) else (0.0, 1.0, 0.0)
    x = (x - mean) / deviation
    gram, right = x.T @ x, x.T @ (y - level)
    weights = np.stack([np.linalg.solve(gram + alpha * np.eye(len(gram)), right) for alpha in ALPHAS])
    return lambda asked: weights @ ((asked - mean) / deviation).T + level


@dataclass(frozen=True)
class _AboveLast:
    """Windows less their last observed value: inputs float32 (W, T), 0 where missing; target (W, U); last (W,)."""

    inputs: np.ndarray
    target: np.ndarray
    last: np.ndarray


def _above_last(problem: Problem, part: str) -> _AboveLast:
    origins = problem.origins[part]
    last = np.nan_to_num(problem.last_scaled(origins)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(problem.scaled_target, problem.lookback)
    inputs = np.nan_to_num(views[origins - problem.lookback] - last[:, None])
    return _AboveLast(inputs, problem.target(part) - last[:, None], last)


def _moments(
    inputs: np.ndarray, target: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means (T,) and (U,), and centred products (T, T) and (T, U), in float64, of some rows."""
    pieces = [rows[first : first + GRAM_ROWS] for first in range(0, len(rows), GRAM_ROWS)]
    mean = sum((inputs[piece].sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(inputs.shape[1]))
    level = sum((target[piece].sum(axis=0, dtype=np.float64) for piece in pieces), np.zeros(target.shape[1]))
    mean, level = mean / max(1, len(rows)), level / max(1, len(rows))
    gram, right = np.zeros((len(mean), len(mean))), np.zeros((len(mean), len(level)))
    for piece in pieces:
        centred = inputs[piece] - mean
        gram += centred.T @ centred
        right += centred.T @ (target[piece] - level)
    return mean, level, gram, right


def _one_hot(values: np.ndarray, size: int) -> np.ndarray:
    return (values[:, None] == np.arange(size)).astype(np.float64)


def _ridge_inputs(problem: Problem, part: str) -> Callable[[int], np.ndarray]:
    """Return a function from the step ahead to the features of every window: float64 (W, 2 T + ...)."""
    encoder, decoder = problem.encoder, problem.decoder
    origins = problem.origins[part]
    lags = encoder[origins[:, None] - 1 - np.arange(problem.lookback), :2].reshape(len(origins), -1)
    series = problem.store.static(SERIES, origins)
    last = np.nan_to_num(problem.last_scaled(origins))
    season = _one_hot(problem.position(problem.season), problem.season)
    encoding = problem.encoding
    texts = [*problem.past_texts(origins - 1), *problem.static_texts(origins)]
    sizes = [*problem.num_codes((*encoding.past, *encoding.known)), *problem.num_codes(encoding.static)]
    of_window = [
        *(lags, last, encoder[origins - 1, 2:], _one_hot(series, problem.store.num_series)),
        *problem.static_numbers(origins),
        *(_one_hot(codes, size) for codes, size in zip(texts, sizes, strict=True)),
    ]

    def inputs(step: int) -> np.ndarray:
        rows = origins + step
        known = zip(problem.known_texts(rows), problem.num_codes(encoding.known), strict=True)
        ahead = [decoder[rows], season[rows], *(_one_hot(codes, size) for codes, size in known)]
        return np.column_stack([*of_window, *ahead]).astype(np.float64)

    return inputs
