"""`nlinear` of forecasting: a linear function of the past of the target alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateline.baselines.forecasting_problem import Problem

ALPHAS = (1.0, 10.0, 100.0, 1000.0, 3000.0, 10000.0, 30000.0, 100000.0)
"""Strengths of the penalty that are tried; the inputs are differences in the scaled space, not standardised."""
GRAM_ROWS = 8192
"""Windows at a time whose products are summed in float64."""


def nlinear(problem: Problem, part: str) -> np.ndarray:
    """A linear function of the past, one for all series and without other inputs, of what is left above the last value.

    Fitted by least squares in closed form in the scaled space, with the ridge's penalty chosen on the validation part.

    Source: Zeng et al. (2023), arXiv 2205.13504, section 4 (NLinear), there fitted by gradient descent.
    """
    train, validation, asked = (_above_last(problem, name) for name in ("train", "validation", part))
    errors = np.zeros(len(ALPHAS))
    answers = np.empty((len(ALPHAS), len(asked.inputs), problem.horizon), dtype=np.float32)
    complete = bool(np.isfinite(train.target).all())
    # With every target there, all steps share one Gram matrix; where some are missing, each step has its own.
    for steps in [slice(None)] if complete else [slice(step, step + 1) for step in range(problem.horizon)]:
        rows = np.flatnonzero(np.isfinite(train.target[:, steps]).all(axis=1))
        mean, level, gram, right = _moments(train.inputs, train.target[:, steps], rows)
        for index, alpha in enumerate(ALPHAS):
            weights = np.linalg.solve(gram + alpha * np.eye(len(gram)), right)
            shift = level - mean @ weights
            difference = validation.inputs @ weights.astype(np.float32) + shift - validation.target[:, steps]
            errors[index] += np.square(difference[np.isfinite(difference)]).sum()
            answers[index][:, steps] = asked.inputs @ weights.astype(np.float32) + shift
    return problem.in_raw_units(answers[int(np.argmin(errors))] + asked.last[:, None], part)


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
