"""Two models on the same examples: how far the difference of their errors may lie from the truth, as a whole and in slices.

Both are resampled together by blocks of consecutive positions, so what is hard for both cancels, and errors of neighbours may
depend on each other. E examples, R resamples, K slices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from gateline.comparison import ExampleErrors
from gateline.intervals import MIN_BLOCKS, block_length, resampled_sums, stretch

MIN_DIFFERENT = 10
"""Positions at which two models must differ. The bootstrap draws what was seen: where the one won four examples, lost none and
tied on the rest, no resample says that it is worse, and an exact sign test says that chance does so in 6 % of cases."""

ROUNDING = 1e-6
"""Relative; errors that differ by less are the same, computed in another order or on another processor."""

MIN_BEYOND = 10
"""Resamples that must lie beyond a quantile for it to be read off them."""


@dataclass(frozen=True)
class Resamples:
    """The metric of both models on the same resamples.

    Args:
        mine: float64 (R,) of the challenger.
        theirs: float64 (R,) of the champion.
        measured: of both, on the test part itself.
        halved: float64 (2, R), of both on resamples by blocks of half the length.
        num_blocks: how many blocks make a resample.
    """

    mine: np.ndarray
    theirs: np.ndarray
    measured: tuple[float, float]
    halved: np.ndarray
    num_blocks: int

    def stretch(self, confidence: float, margin: float = 0.0) -> float:
        """How much wider than the resamples challenger - (1 + margin) champion may lie in truth: see `intervals.stretch`."""
        both = ((self.mine, self.theirs), self.halved)
        variance, of_half = (float(np.var(mine - (1 + margin) * theirs)) for mine, theirs in both)
        return stretch(variance, of_half, self.num_blocks, confidence)

    def differences(self, confidence: float, margin: float = 0.0) -> np.ndarray:
        """Challenger - (1 + margin) champion as it may be in truth: float64 (R,), the resamples stretched."""
        measured = self.measured[0] - (1 + margin) * self.measured[1]
        drawn = self.mine - (1 + margin) * self.theirs
        return measured + (drawn - measured) * self.stretch(confidence, margin)

    def bound(self, confidence: float, margin: float = 0.0) -> float:
        """One-sided upper bound of challenger - (1 + margin) champion; below 0 it is shown that the first is less.

        R resamples say nothing of a quantile that fewer than MIN_BEYOND of them lie beyond; from there on it grows as a normal's.
        """
        resolved, z = min(confidence, 1 - MIN_BEYOND / len(self.mine)), NormalDist().inv_cdf
        measured = self.measured[0] - (1 + margin) * self.measured[1]
        quantile = float(np.quantile(self.differences(confidence, margin), resolved))
        return measured + (quantile - measured) * z(confidence) / z(resolved)

    def lower_bound(self, confidence: float, margin: float = 0.0) -> float:
        """One-sided lower bound of challenger - (1 + margin) champion; above 0 it is shown that the first is more."""
        negative = replace(
            self,
            mine=-self.mine,
            theirs=-self.theirs,
            measured=(-self.measured[0], -self.measured[1]),
            halved=-self.halved,
        )
        return -negative.bound(confidence, margin)

    def interval(self, coverage: float) -> tuple[float, float]:
        """Lower and upper end of challenger - champion, each of which is passed with half of 1 - `coverage`."""
        confidence = (1 + coverage) / 2
        return self.lower_bound(confidence), self.bound(confidence)


def on_the_same_rows(one: ExampleErrors, other: ExampleErrors) -> bool:
    """Say whether two models were measured by one metric on the same examples, in one order."""
    return (
        other.metric == one.metric
        and other.rows == one.rows
        and np.array_equal(other.position, one.position)
        and np.array_equal(other.count, one.count)
    )


def are_finite(*models: ExampleErrors) -> bool:
    """Say whether every error of models is a number, and so are their metrics."""
    sums = [errors.total for errors in models] + [part.total for errors in models for part in errors.parts.values()]
    return all(bool(np.isfinite(each).all()) for each in sums) and all(math.isfinite(each.score()) for each in models)


def resample(
    challenger: ExampleErrors, champion: ExampleErrors, block: int, resamples: int, generator: np.random.Generator
) -> tuple[Resamples, dict[str, Resamples]]:
    """Resample whole and slices at the same positions.

    Windows of all series that begin at one time stay together.

    Returns:
        The whole, and each slice by name; NaN where a resample holds nothing of a slice.
    """
    columns = [challenger.total, champion.total, challenger.count]
    for name, part in challenger.parts.items():
        columns += [part.total, champion.parts[name].total, part.count]
    by_length = [
        resampled_sums(np.stack(columns), challenger.position, length, resamples, generator)  # (3 + 3 K, R)
        for length in (block, max(1, block // 2))
    ]
    found = []
    for place in range(0, len(columns), 3):
        (mine, theirs), halved = (
            [challenger.ratio(drawn[place + model], drawn[place + 2]) for model in (0, 1)] for drawn in by_length
        )
        measured = [challenger.ratio(columns[place + model].sum(), columns[place + 2].sum()) for model in (0, 1)]
        pair = float(measured[0]), float(measured[1])
        # A slice is as uncertain as the blocks that its own positions make, e.g. those of one stretch of time.
        held = challenger.position if place == 0 else challenger.position[columns[place + 2] > 0]
        num_blocks = len(np.unique(held)) // block
        found.append(Resamples(mine, theirs, pair, np.stack(halved), num_blocks))
    return found[0], dict(zip(challenger.parts, found[1:], strict=True))


def num_different(one: ExampleErrors, other: ExampleErrors) -> int:
    """Say at how many positions two models that were measured on the same rows have other errors, beyond rounding."""
    return len(np.unique(one.position[_differ(one.total, other.total)]))


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Say of which examples (E,) two models have other errors, beyond rounding."""
    return np.abs(one - other) > ROUNDING * np.maximum(np.abs(one), np.abs(other))


def block_of(errors: ExampleErrors) -> tuple[int, int]:
    """Say how many positions there are, and how many of them make a block."""
    positions = len(np.unique(errors.position))
    return positions, block_length(positions, errors.dependence)


@dataclass(frozen=True)
class SliceOutcome:
    """What can be said of one slice.

    Args:
        mine: metric of the challenger.
        theirs: metric of the champion.
        allowed: how much more than the champion's it may be.
        bound: one-sided upper bound of the difference, below `allowed` where that is shown; None where there are too few blocks for
            one, or both models have the same errors.
        told: whether it is shown, or the slice is large enough to show it; if not, `passed` only says that nothing speaks
            against it.
        passed: shown not to be worse by more than allowed, as the same errors are; or not told, and not seen to be worse.
    """

    mine: float
    theirs: float
    allowed: float
    bound: float | None
    told: bool
    passed: bool


def judge_slices(
    challenger: ExampleErrors,
    champion: ExampleErrors,
    resamples: Mapping[str, Resamples],
    *,
    block: int,
    margin: float,
    confidence: float,
) -> dict[str, SliceOutcome]:
    """Say of each slice whether the challenger is worse there, with many slices in mind.

    A slice passes that is *shown* not to be worse by more than the margin. One that is large enough must be: if a challenger as good
    as the champion in all K slices would be shown to be so in all of them with the given confidence, i.e. if its bound lies
    above the measured difference by h and h (1 + z(1 - a / K) / z(1 - a)) <= margin with a = 1 - confidence (Bonferroni). Since
    every one of these must, a challenger that is worse in any of them is promoted with probability a at most, however many there
    are, without a correction.

    Any other slice is too small to tell. It is refused if it is measured worse by more than the margin and that is not chance
    by Holm's procedure over these slices; with fewer than MIN_BLOCKS blocks, where chance cannot be judged, as it is measured.

    Source:
        Berger (1982), Technometrics 24(4): intersection-union tests. Holm (1979), Scandinavian Journal of Statistics 6(2).
    """
    alpha, z = 1 - confidence, NormalDist().inv_cdf
    reach = 1 + z(1 - alpha / max(len(resamples), 1)) / z(confidence)
    told: dict[str, SliceOutcome] = {}
    untold: dict[str, tuple[SliceOutcome, float]] = {}
    for name, drawn in resamples.items():
        part = challenger.parts[name]
        mine, theirs = challenger.slices[name], champion.slices[name]
        allowed = margin * abs(theirs)
        alike = not _differ(part.total, champion.parts[name].total).any()
        seen_worse = mine - theirs > allowed and not alike
        positions = len(np.unique(challenger.position[part.count > 0]))
        differences = drawn.differences(confidence)
        if positions < MIN_BLOCKS * block or not np.isfinite(differences).all():
            untold[name] = SliceOutcome(mine, theirs, allowed, None, False, not seen_worse), 0.0
            continue
        if alike:  # 0 against 0, too: no bound lies below a margin of nothing
            told[name] = SliceOutcome(mine, theirs, allowed, None, True, True)
            continue
        # Of the difference beyond the margin of the champion's own metric, which is as uncertain; shown as one of the difference.
        bound = drawn.bound(confidence, margin) + allowed
        shown_not_worse = bound < allowed
        width = float(np.quantile(differences, confidence)) - (mine - theirs)
        if shown_not_worse or width * reach <= allowed:
            told[name] = SliceOutcome(mine, theirs, allowed, bound, True, shown_not_worse)
        else:
            chance = _chance_of_worse(mine - theirs, differences)
            untold[name] = SliceOutcome(mine, theirs, allowed, bound, False, not seen_worse), chance
    shown = holm({name: chance for name, (outcome, chance) in untold.items() if outcome.bound is not None}, alpha)
    for name, (outcome, _) in untold.items():
        worse = not outcome.passed and (outcome.bound is None or name in shown)
        told[name] = SliceOutcome(outcome.mine, outcome.theirs, outcome.allowed, outcome.bound, False, not worse)
    return {name: told[name] for name in resamples}


def _chance_of_worse(measured: float, differences: np.ndarray) -> float:
    """Say how probable it is that a challenger that is no worse is measured so much worse.

    The share of the resamples (R,) that lie at 0 or below; where fewer than MIN_BEYOND do, it falls on as a normal's, as the bound
    grows: R resamples alone could not refuse the worst of very many slices.
    """
    beyond = int((differences <= 0).sum())
    counted = (1 + beyond) / (1 + len(differences))
    resolved = min(MIN_BEYOND / len(differences), 0.5)
    low = float(np.quantile(differences, resolved))
    if beyond >= MIN_BEYOND or not 0 < low < measured:
        return counted
    normal = NormalDist()
    return min(counted, 1 - normal.cdf(measured / (measured - low) * normal.inv_cdf(1 - resolved)))


def holm(chances: Mapping[str, float], alpha: float) -> set[str]:
    """Say which of several findings are not chance: the probability that any of them is one stays at most `alpha`.

    Args:
        chances: probability of each finding, or a worse one, if there were nothing to find.
        alpha: of all together.

    Example:
        >>> sorted(holm({"a": 0.01, "b": 0.04, "c": 0.03}, 0.05))
        ['a']
    """
    found = set()
    for place, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        if chances[name] > alpha / (len(chances) - place):
            break
        found.add(name)
    return found
