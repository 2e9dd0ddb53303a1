"""`ridge` of forecasting: a linear function of every input of the model, the past of the covariates among them, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gateline.baselines.forecasting_problem import Problem, one_hot
from gateline.data.store import SERIES

ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Strengths of the ridge's penalty that are tried; the features are standardised."""

REACHES = (24,)
"""Newest steps of the covariates that are tried beside one alone; the past of the target is read as far back as the model reads it."""
MAX_PAST_COLUMNS = 1024
"""Lags of the target and of the covariates together, which a reach is shortened to: the time taken grows with their square."""

MAX_OWN_RIDGES = 64
"""Series up to which a ridge for each alone is tried beside one for all."""
MIN_OWN_WINDOWS = 100
"""Training windows that each of several ridges must have."""
MIN_GAIN = 0.01
"""What several ridges must be better by on the validation part than fewer: more of them is chosen there, and some of it by chance."""

GRAM_ROWS = 8192
"""Windows at a time whose products are summed in float64."""


def ridge(problem: Problem, part: str) -> np.ndarray:
    """A linear function for each step: the past of the target and of the covariates, their masks, and what is known ahead.

    One for all series, one for those of each unit, or one for each series alone, as the validation part decides, and so with the strength of
    the penalty, the steps of the covariates that are read, and whether what is missing counts as the mean or as the value before it. Fitted in
    the scaled, transformed space of the target, in closed form, from one Gram matrix per step.
    """
    chosen, *finer = (_best(problem, groups) for groups in _groupings(problem))
    for fit in finer:
        chosen = fit if fit.error < (1 - MIN_GAIN) * chosen.error else chosen
    answer = np.empty((len(problem.origins[part]), problem.horizon))
    for group, weights in chosen.weights:
        some = problem.of_series(group)
        forecast = _forecast(_inputs(some, part, chosen.past), weights)
        answer[np.isin(problem.series(part), group)] = some.in_raw_units(forecast, part)
    return answer


def _groupings(problem: Problem) -> list[list[np.ndarray]]:
    """Return the ways to share out the series among ridges: all in one, those of a unit, and each alone where they are few and seen enough."""
    every, by_unit = np.arange(problem.store.num_series), problem.series_by_unit()
    windows = np.bincount(problem.series("train"), minlength=len(every))
    alone = list(every[:, None]) if len(every) <= MAX_OWN_RIDGES else [every]
    ways = {len(way): way for way in ([every], by_unit, alone)}
    return [way for way in ways.values() if len(way) == 1 or min(windows[g].sum() for g in way) >= MIN_OWN_WINDOWS]


@dataclass(frozen=True)
class _Past:
    """How the past of the covariates is read.

    Args:
        reach: newest steps of it.
        carried: whether what is missing counts as the value before it; as 0, the mean of training, if not.
    """

    reach: int
    carried: bool


@dataclass(frozen=True)
class _Ridges:
    """A ridge for each group of series.

    Args:
        past: how they read the past.
        weights: float64 (F + 1, U) of each group, the last row of which is added to the others' sum.
        error: absolute errors of all on the validation part, scaled, summed.
    """

    past: _Past
    weights: list[tuple[np.ndarray, np.ndarray]]
    error: float


def _best(problem: Problem, groups: list[np.ndarray]) -> _Ridges:
    """Choose what stands for a missing value with the newest step of the covariates alone, then how many steps to read."""
    same = np.array_equal(problem.encoder, problem.carried_inputs)
    fits = [_fit_groups(problem, groups, _Past(1, carried)) for carried in ((False,) if same else (False, True))]
    best = min(fits, key=lambda fit: fit.error)
    more = [_fit_groups(problem, groups, _Past(reach, best.past.carried)) for reach in _reaches(problem)]
    return min([best, *more], key=lambda fit: fit.error)


def _reaches(problem: Problem) -> list[int]:
    """List the steps of the covariates to try beside the newest one, but for what would be too many columns."""
    columns = max(1, problem.covariates(carried=False).shape[1])
    most = min(problem.lookback, (MAX_PAST_COLUMNS - 2 * problem.lookback) // columns)
    return sorted({reach for reach in (min(reach, most) for reach in REACHES) if reach > 1})


def _fit_groups(problem: Problem, groups: list[np.ndarray], past: _Past) -> _Ridges:
    """Fit a ridge to each group of series, all with the penalty that is best on the validation part."""
    fits = [(group, _fit(problem.of_series(group), past)) for group in groups]
    errors = sum((error for _, (_, error) in fits), np.zeros(len(ALPHAS)))
    best = int(np.argmin(errors))
    return _Ridges(past, [(group, weights[best]) for group, (weights, _) in fits], float(errors[best]))


def _fit(problem: Problem, past: _Past) -> tuple[np.ndarray, np.ndarray]:
    """Fit the training part by every penalty: weights (A, F + 1, U), and the sums of absolute errors on the validation part (A,)."""
    train, held_out = _inputs(problem, "train", past), _inputs(problem, "validation", past)
    target, wanted = problem.target("train"), problem.target("validation")
    moments = _Moments.of(train.shared)
    weights = np.stack([moments.fit(train.ahead(step), target[:, step]) for step in range(problem.horizon)], axis=2)
    there = np.isfinite(wanted)
    errors = [np.abs(_forecast(held_out, one) - wanted)[there].sum() for one in weights]
    return weights, np.array(errors)


def _forecast(inputs: _Inputs, weights: np.ndarray) -> np.ndarray:
    """Forecast by weights (F + 1, U): (W, U), scaled."""
    split = inputs.shared.shape[1]
    shared = [inputs.shared[rows] @ weights[:split] for rows in _pieces(len(inputs.shared))]
    ahead = [inputs.ahead(step) @ of_step for step, of_step in enumerate(weights[split:-1].T)]
    return np.concatenate([np.empty((0, weights.shape[1])), *shared]) + np.stack(ahead, axis=1) + weights[-1]


@dataclass(frozen=True)
class _Inputs:
    """What a ridge reads of W windows.

    Args:
        shared: for every step ahead, float32 (W, Fs).
        ahead: from a step ahead, what is known of it: float32 (W, Fa).
    """

    shared: np.ndarray
    ahead: Callable[[int], np.ndarray]


def _inputs(problem: Problem, part: str, past: _Past) -> _Inputs:
    origins = problem.origins[part]
    encoding, decoder = problem.encoding, problem.decoder
    before, encoder = origins[:, None] - 1, problem.carried_inputs if past.carried else problem.encoder
    season = one_hot(problem.position(problem.season), problem.season)
    codes = zip(problem.static_texts(origins), problem.num_codes(encoding.static), strict=True)
    shared = [
        encoder[before - np.arange(problem.lookback), :2].reshape(len(origins), -1),
        problem.covariates(past.carried)[before - np.arange(past.reach)].reshape(len(origins), -1),
        np.nan_to_num(problem.last_scaled(origins)),
        one_hot(problem.store.static(SERIES, origins), problem.store.num_series),
        *problem.static_numbers(origins),
        *(one_hot(values, size) for values, size in codes),
    ]

    def ahead(step: int) -> np.ndarray:
        rows = origins + step
        known = zip(problem.known_texts(rows), problem.num_codes(encoding.known), strict=True)
        return np.column_stack([decoder[rows], season[rows], *(one_hot(values, size) for values, size in known)])

    return _Inputs(np.column_stack(shared).astype(np.float32), ahead)


@dataclass(frozen=True)
class _Moments:
    """What every step ahead reads, and its products over all windows, which a step takes those from whose target is missing.

    Args:
        mean: of the columns before they were standardised, float64 (Fs,).
        scale: what they were multiplied by, float64 (Fs,).
        shared: the columns, standardised, float32 (W, Fs).
        gram: their products, float64 (Fs, Fs).
    """

    mean: np.ndarray
    scale: np.ndarray
    shared: np.ndarray
    gram: np.ndarray

    @classmethod
    def of(cls, shared: np.ndarray) -> _Moments:
        """Sum over windows float32 (W, Fs)."""
        mean, scale = _standard(shared)
        shared = ((shared - mean.astype(np.float32)) * scale.astype(np.float32)).astype(np.float32)
        return cls(mean, scale, shared, _products(shared, shared))

    def fit(self, ahead: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Solve for one step ahead.

        Args:
            ahead: what is known of it, (W, Fa).
            target: (W,), NaN where missing.

        Returns:
            Weights of `shared` and of `ahead`, not standardised, and a shift behind them: (A, Fs + Fa + 1), one row per strength.
        """
        there = np.isfinite(target)
        count, split, end = max(1, int(there.sum())), len(self.mean), len(self.mean) + ahead.shape[1]
        level = target[there].sum(dtype=np.float64) / count
        mean, scale = (np.concatenate(both) for both in zip((self.mean, self.scale), _standard(ahead), strict=True))
        # What is known ahead, the target, and a 1 that the columns are summed by; 0 where the target is missing.
        beside = np.column_stack(
            [(ahead - mean[split:]) * scale[split:], np.where(there, target, level) - level, there]
        )
        beside[~there] = 0
        products = np.vstack([_products(self.shared, beside), _products(beside, beside)])[:end]
        gram = np.empty((end, end))
        gram[:split, :split] = self.gram - _products(self.shared[~there], self.shared[~there])
        gram[:, split:] = products[:, :-2]
        gram[split:, :split] = gram[:split, split:].T
        right, total = products[:, -2], products[:, -1]
        gram -= np.outer(total, total) / count
        standard = np.stack([np.linalg.solve(gram + alpha * np.eye(end), right) for alpha in ALPHAS])
        weights = standard * scale
        return np.column_stack([weights, level - standard @ total / count - weights @ mean])


def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sum the products of columns (W, F) and (W, G) over the windows in float64: (F, G)."""
    sums = np.zeros((left.shape[1], right.shape[1]))
    for rows in _pieces(len(left)):
        one = left[rows].astype(np.float64)
        sums += one.T @ (one if right is left else right[rows].astype(np.float64))
    return sums


def _pieces(count: int) -> Iterator[slice]:
    return (slice(first, first + GRAM_ROWS) for first in range(0, count, GRAM_ROWS))


def _standard(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of columns (W, F), and what makes their deviation 1; 0 for a column that never changes, so that it has no weight."""
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    changes = deviation > 1e-6
    return mean, changes / np.where(changes, deviation, 1.0)
