"""How far a metric of the test part may lie from the truth: block-bootstrap intervals. E examples, N positions.

Neighbouring windows share targets, the hours of a patient one patient; so what stands at consecutive positions is resampled
together. A metric that is a ratio of sums is resampled by its sums; any other by drawing whole examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from gateline.comparison import ExampleErrors

COVERAGE = 0.95
RESAMPLES = 1000
RESAMPLES_AT_ONCE = 256
SEED = 0  # of the resamples of a report: the same evaluation has the same intervals

Interval = tuple[float, float]


def block_length(num_positions: int, dependence: int) -> int:
    """How many consecutive positions are resampled together: twice the dependence, and at least the cube root of all.

    Args:
        num_positions: N.
        dependence: positions over which neighbouring examples share targets; 1 for none.
    """
    return max(2 * dependence, math.ceil(num_positions ** (1 / 3)))


def positions_of(origin: np.ndarray, series: np.ndarray, horizon: int) -> tuple[np.ndarray, int]:
    """Say what is resampled together: windows of one time, or, where there are too few times, those of one series.

    Args:
        origin: (W,) time of the first step to forecast.
        series: (W,) number of the series.
        horizon: U.

    Returns:
        (W,), and over how many positions neighbours share targets.
    """
    times = len(np.unique(origin))
    if times < 2 * block_length(times, horizon):
        return np.asarray(series), 1
    return np.asarray(origin), horizon


def resampled_sums(
    columns: np.ndarray, position: np.ndarray, block: int, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Sum columns over the examples of resamples, by moving blocks of consecutive positions.

    Examples at one position stay together, and all columns are resampled at the same positions.

    Args:
        columns: float (K, E).
        position: (E,) what is resampled together, and in which order.
        block: consecutive positions that are drawn together, at most N.
        resamples: R.
        generator: draws the blocks.

    Returns:
        float64 (K, R).

    Source:
        Künsch (1989), The Annals of Statistics 17(3), section 2: moving blocks.
    """
    _, index = np.unique(position, return_inverse=True)
    by_position = np.stack([np.bincount(index, weights=column) for column in columns])  # (K, N)
    ends = np.concatenate([np.zeros((len(columns), 1)), np.cumsum(by_position, axis=1)], axis=1)
    sums = ends[:, block:] - ends[:, :-block]  # (K, N - block + 1): the sum over the block that begins there
    num_blocks = math.ceil(by_position.shape[1] / block)
    drawn = np.empty((len(columns), resamples))
    for first in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - first)
        starts = generator.integers(0, sums.shape[1], size=(size, num_blocks))
        drawn[:, first : first + size] = sums[:, starts].sum(axis=2)
    return drawn


def between(values: np.ndarray, coverage: float = COVERAGE) -> Interval | None:
    """Cut the ends off resampled values; None where a value is no number, so that nothing can be said."""
    if len(values) == 0 or not np.isfinite(values).all():
        return None
    return float(np.quantile(values, (1 - coverage) / 2)), float(np.quantile(values, (1 + coverage) / 2))


def ratio_intervals(
    errors: Iterable[ExampleErrors], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of each metric that is a ratio of sums over examples.

    Args:
        errors: of one model, by metric; those on the same positions are drawn alike.
        resamples: how many.
        seed: of the draws.

    Returns:
        Lower and upper end by metric; a metric of fewer than two blocks has none.
    """
    found = {}
    for each in errors:
        num_positions = len(np.unique(each.position))
        block = block_length(num_positions, each.dependence)
        if num_positions < 2 * block:
            continue
        generator = np.random.default_rng(seed)
        total, count = resampled_sums(np.stack([each.total, each.count]), each.position, block, resamples, generator)
        ends = between(each.ratio(total, count))
        if ends is not None:
            found[each.metric] = ends
    return found


def bootstrap_intervals(
    measure: Callable[[np.ndarray], Mapping[str, float]],
    position: np.ndarray,
    *,
    dependence: int = 1,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of each metric of any kind, by measuring whole resamples: BLEU, similarity, ranks.

    Args:
        measure: takes the places (E',) of the examples of a resample, each as often as it was drawn, and gives metrics.
        position: (E,) what is resampled together, and in which order.
        dependence: positions over which neighbouring examples share targets; 1 for none.
        resamples: how many; each is measured.
        seed: of the draws.

    Returns:
        Lower and upper end by metric; nothing where there are fewer than two blocks.
    """
    _, index = np.unique(position, return_inverse=True)
    num_positions = int(index.max(initial=-1)) + 1
    block = block_length(num_positions, dependence)
    if num_positions < 2 * block:
        return {}
    order = np.argsort(index, kind="stable")
    begins = np.searchsorted(index[order], np.arange(num_positions + 1))
    generator, measured = np.random.default_rng(seed), []
    for _ in range(resamples):
        starts = generator.integers(0, num_positions - block + 1, size=math.ceil(num_positions / block))
        places = [order[begins[start] : begins[start + block]] for start in starts]
        measured.append(measure(np.concatenate(places)))
    ends = {name: between(np.array([row[name] for row in measured])) for name in measured[0]}
    return {name: pair for name, pair in ends.items() if pair is not None}
