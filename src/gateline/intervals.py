"""How far a metric of the test part may lie from the truth: block-bootstrap intervals. E examples, N positions.

Neighbouring windows share targets, the hours of a patient one patient; so what stands at consecutive positions is resampled
together, in blocks on a circle, so that each counts alike. A metric that is a ratio of sums is resampled by its sums; any other
by drawing whole examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from gateline.comparison import ExampleErrors

COVERAGE = 0.95
RESAMPLES = 1000
RESAMPLES_AT_ONCE = 256
SEED = 0  # of the resamples of a report: the same evaluation has the same intervals

MIN_BLOCKS = 8
"""Blocks of the test part below which a bootstrap interval would be far too narrow, so nothing is said or decided by it."""

RUNNING_BLOCKS = 10
"""Blocks that what runs on is cut into: longer ones leave too few to tell their own spread, shorter ones miss what neighbours share."""

MOST_RUNNING = 64
"""Positions, at most, over which neighbours of what runs on are taken to be alike."""

SPARED = 0.05
"""Share of resamples that may hold nothing to measure: no positive for AUROC, say."""

Interval = tuple[float, float]


def block_length(num_positions: int, dependence: int) -> int:
    """How many consecutive positions are resampled together: twice the dependence, and at least the cube root of all.

    Args:
        num_positions: N.
        dependence: positions over which neighbouring examples share targets; 1 for none.
    """
    return max(2 * dependence, math.ceil(num_positions ** (1 / 3)))


def blocks_of(num_positions: int, dependence: int) -> int:
    """How many consecutive positions an interval resamples together: one where neighbours have nothing to do with each other."""
    return 1 if dependence == 1 else block_length(num_positions, dependence)


def running_dependence(num_positions: int) -> int:
    """Over how many positions neighbours are alike where one text, or one film, runs on through all of them.

    How hard a passage is to foretell follows scene, speaker and subject, which last for some tens of passages: of tiny
    Shakespeare under Kneser and Ney's 6-grams, passages of 250 characters are correlated by .64 with the next one, by .35
    at a distance of 20 and by .2 at 60. So blocks are as long as leaves RUNNING_BLOCKS of them, and no longer than twice
    MOST_RUNNING. Of series that are so correlated, intervals then hold the truth in 95 % from about a thousand positions
    on, in 80 % with 450, where single passages did so in 20 %: simulated as in `tests/unit/test_language_baselines.py`.

    Args:
        num_positions: N.

    Returns:
        At least 2.
    """
    return min(max(num_positions // (2 * RUNNING_BLOCKS), 2), MOST_RUNNING)


def stretch(variance: float, of_half: float, num_blocks: int, confidence: float) -> float:
    """How much wider than resamples by blocks something may lie in truth: at least 1.

    Blocks of length b miss what depends on each other beyond them: the variance is too small by about c / b. Half the
    length misses twice as much, so 2 V(b) - V(b / 2) is free of it. And a variance that k blocks tell is uncertain itself,
    this one twice as much as V(b), which Student's t with k / 2 - 1 degrees of freedom allows for.

    Args:
        variance: of what was resampled, V(b).
        of_half: the same by blocks of half the length, V(b / 2).
        num_blocks: k.
        confidence: one-sided.

    Source:
        Politis and Romano (1995), Journal of Time Series Analysis 16(1): flat-top windows.
    """
    beyond = max(1.0, 2 - of_half / variance) if variance > 0 else 1.0
    return math.sqrt(beyond) * _few(num_blocks, max(num_blocks / 2 - 1, 1.0), confidence)


def _few(num_blocks: int, free: float, confidence: float) -> float:
    """How much wider it is because so few blocks tell the variance, with `free` degrees of freedom."""
    from scipy.special import stdtrit  # late: what only reads a decision need not wait for it

    t, z = float(stdtrit(free, confidence)), NormalDist().inv_cdf(confidence)
    return math.sqrt(1 + 1 / max(num_blocks - 1, 1)) * t / z


def positions_of(origin: np.ndarray, series: np.ndarray, horizon: int) -> tuple[np.ndarray, int]:
    """Say what is resampled together: windows of one time; where every series has a single window, that of a series.

    Series of one time share its weather and holidays, so however many they are, few times tell little. Of a single window each,
    nothing else can be resampled: they then count as if they had nothing in common, as unrelated ones (M4's) have.

    Args:
        origin: (W,) time of the first step to forecast.
        series: (W,) number of the series.
        horizon: U.

    Returns:
        (W,), and over how many positions neighbours share targets; at least 2 for times, which are alike even where they share none.
    """
    if len(np.unique(series)) == len(series):
        return np.asarray(series), 1
    return np.asarray(origin), max(horizon, 2)


def resampled_sums(
    columns: np.ndarray,
    position: np.ndarray,
    block: int,
    resamples: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Sum columns over the examples of resamples, by blocks of consecutive positions on a circle.

    Examples at one position stay together, and all columns are resampled at the same positions. A block that begins near the end
    goes on at the beginning: without that an end is part of one block and the middle of `block` of them, so a model that fails
    at the end of the test part would be told to be better than it was measured.

    Args:
        columns: float (K, E).
        position: (E,) what is resampled together, and in which order.
        block: consecutive positions that are drawn together, at most N.
        resamples: R.
        generator: draws the blocks.

    Returns:
        float64 (K, R).

    Source:
        Politis and Romano (1992), A circular block-resampling procedure for stationary data, in LePage and Billard, Exploring
        the Limits of Bootstrap.
    """
    _, index = np.unique(position, return_inverse=True)
    by_position = np.stack([np.bincount(index, weights=column) for column in columns])  # (K, N)
    num_blocks = math.ceil(by_position.shape[1] / block)
    by_position = np.concatenate([by_position, by_position[:, : block - 1]], axis=1)
    ends = np.concatenate([np.zeros((len(columns), 1)), np.cumsum(by_position, axis=1)], axis=1)
    sums = ends[:, block:] - ends[:, :-block]  # (K, N): over the block that begins there
    drawn = np.empty((len(columns), resamples))
    for first in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - first)
        starts = generator.integers(0, sums.shape[1], size=(size, num_blocks))
        drawn[:, first : first + size] = sums[:, starts].sum(axis=2)
    return drawn


def between(values: np.ndarray, coverage: float = COVERAGE) -> Interval | None:
    """Cut the ends off resampled values; None where more of them than SPARED are no numbers, so that nothing can be said."""
    numbers = values[np.isfinite(values)]
    if len(numbers) == 0 or len(numbers) < (1 - SPARED) * len(values):
        return None
    return float(np.quantile(numbers, (1 - coverage) / 2)), float(np.quantile(numbers, (1 + coverage) / 2))


def ratio_intervals(
    errors: Iterable[ExampleErrors], *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of each metric that is a ratio of sums over examples.

    The resamples are stretched as those of a difference are, and cut at what any of the examples shows.

    Args:
        errors: of one model, by metric; those on the same positions are drawn alike.
        resamples: how many.
        seed: of the draws.

    Returns:
        Lower and upper end by metric; a metric of fewer than MIN_BLOCKS blocks, or that is no number, has none.
    """
    found = {}
    for each in errors:
        num_positions = len(np.unique(each.position))
        block = blocks_of(num_positions, each.dependence)
        if num_positions < MIN_BLOCKS * block or not math.isfinite(each.score()):
            continue
        plain = replace(each, root=False)  # stretched before the root is taken, of which it would be no longer true
        ends = between(_stretched(plain, block, resamples, seed))
        if ends is not None:
            found[each.metric] = (math.sqrt(ends[0]), math.sqrt(ends[1])) if each.root else ends
    return found


def _stretched(errors: ExampleErrors, block: int, resamples: int, seed: int) -> np.ndarray:
    """Draw a ratio of sums as it may be in truth: float64 (R,)."""
    columns, measured = np.stack([errors.total, errors.count]), errors.score()
    drawn, halved = (
        errors.ratio(*resampled_sums(columns, errors.position, length, resamples, np.random.default_rng(seed)))
        for length in (block, max(1, block // 2))
    )
    num_blocks, confidence = len(np.unique(errors.position)) // block, (1 + COVERAGE) / 2
    variance, of_half = (float(np.var(values[np.isfinite(values)])) for values in (drawn, halved))
    if block == 1:  # nothing beyond a block depends on it
        wider = _few(num_blocks, num_blocks - 1, confidence)
    else:
        wider = stretch(variance, of_half, num_blocks, confidence)
    shown = errors.ratio(errors.total, errors.count)  # (E,), NaN of an example without anything to count
    found: np.ndarray = np.clip(measured + (drawn - measured) * wider, np.nanmin(shown), np.nanmax(shown))
    return found


def bootstrap_intervals(
    measure: Callable[[np.ndarray], Mapping[str, float]],
    position: np.ndarray,
    *,
    dependence: int = 1,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    biased: Collection[str] = (),
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of each metric of any kind, by measuring whole resamples: BLEU, similarity, ranks.

    Args:
        measure: takes the places (E',) of the examples of a resample, each as often as it was drawn, and gives metrics.
        position: (E,) what is resampled together, and in which order.
        dependence: positions over which neighbouring examples share targets; 1 for none.
        resamples: how many; each is measured.
        seed: of the draws.
        biased: metrics that are 0 at least and that resampling makes larger, since it adds noise to absolute values: the
            mean of the resamples is moved to what was measured.

    Returns:
        Lower and upper end by metric, none of one that is no number; nothing where there are fewer than MIN_BLOCKS blocks.
    """
    _, index = np.unique(position, return_inverse=True)
    num_positions = int(index.max(initial=-1)) + 1
    block = blocks_of(num_positions, dependence)
    if num_positions < MIN_BLOCKS * block:
        return {}
    order = np.argsort(index, kind="stable")
    begins = np.searchsorted(index[order], np.arange(num_positions + 1))
    sizes, generator, rows = np.diff(begins), np.random.default_rng(seed), []
    for _ in range(resamples):
        starts = generator.integers(0, num_positions, size=math.ceil(num_positions / block))
        drawn = ((starts[:, None] + np.arange(block)) % num_positions).ravel()  # on a circle, so that each counts alike
        before = np.cumsum(sizes[drawn]) - sizes[drawn]
        places = np.repeat(begins[drawn] - before, sizes[drawn]) + np.arange(sizes[drawn].sum())
        rows.append(measure(order[places]))
    found = {}
    for name, measured in measure(np.arange(len(index))).items():
        values = np.array([row.get(name, math.nan) for row in rows])
        ends = between(values) if math.isfinite(measured) else None
        if ends is not None and name in biased:
            bias = float(values[np.isfinite(values)].mean()) - measured
            ends = max(0.0, ends[0] - bias), max(0.0, ends[1] - bias)
        if ends is not None:
            found[name] = ends
    return found
