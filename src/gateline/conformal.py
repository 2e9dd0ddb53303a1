"""Prediction intervals that cover what they say, from the errors on windows that training has not seen. Pure numpy.

W windows, U steps to forecast, Q quantiles, C coverages. Intervals are made in the scaled space of the target, where series of
different spread are alike, and are taken to raw units by the same monotone inverse as the forecast, so they cover alike.

A share c of new windows lies inside, at each step ahead, if these are exchangeable with the windows of calibration. Windows of a
time series are so only roughly: they overlap, and the world changes. Besides, the windows of calibration are those of the
validation part, which has also chosen the epoch whose weights are kept and, under `gateline tune`, the settings: errors on it
tend to be smaller than on windows that chose nothing, so the intervals tend to be too narrow and the promise does not hold to
the letter. `coverage_*` in the evaluation, on the test part, says how well it went.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateline.errors import DataError


@dataclass(frozen=True)
class Intervals:
    """How far around which quantiles an interval reaches, for each coverage and step ahead.

    Args:
        coverages: C shares in rising order.
        pairs: for each coverage, the places of the lower and of the upper quantile; twice the same without quantiles.
        margins: float64 (C, U), scaled; what is added on both sides. Negative where the quantiles alone cover too much.
    """

    coverages: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...]
    margins: np.ndarray

    @classmethod
    def calibrate(
        cls,
        forecast: np.ndarray,
        target: np.ndarray,
        *,
        levels: Sequence[float],
        coverages: Sequence[float],
    ) -> Intervals:
        """Find the margins.

        Args:
            forecast: (W, U, Q) scaled, in rising order over Q.
            target: (W, U) scaled, NaN where not observed.
            levels: Q levels of the quantiles.
            coverages: C shares in rising order.

        Raises:
            DataError: too few windows to promise a coverage.

        Source:
            Without quantiles: Lei et al. (2018), arXiv 1604.04173, algorithm 2 (split conformal). With them: Romano,
            Patterson and Candès (2019), arXiv 1905.03222, algorithm 1 (conformalised quantile regression).
        """
        require_enough(np.isfinite(target).sum(axis=0), coverages)
        pairs = tuple(_pair(levels, coverage) for coverage in coverages)
        margins = np.empty((len(coverages), target.shape[1]))
        for place, (coverage, (lower, upper)) in enumerate(zip(coverages, pairs, strict=True)):
            outside = np.maximum(forecast[:, :, lower] - target, target - forecast[:, :, upper])  # (W, U)
            for step in range(target.shape[1]):
                scores = outside[:, step][np.isfinite(outside[:, step])]
                rank = _rank(coverage, len(scores))
                margins[place, step] = np.partition(scores, rank - 1)[rank - 1]
        return cls(tuple(coverages), pairs, margins)

    def bounds(self, forecast: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Put intervals around forecasts.

        Args:
            forecast: (W, U, Q) scaled.

        Returns:
            Lower and upper ends (W, U, C), scaled; each interval holds those of smaller coverage.
        """
        lower = np.stack(
            [forecast[:, :, pair[0]] - margin for pair, margin in zip(self.pairs, self.margins, strict=True)], 2
        )
        upper = np.stack(
            [forecast[:, :, pair[1]] + margin for pair, margin in zip(self.pairs, self.margins, strict=True)], 2
        )
        middle = (lower + upper) / 2  # a margin below zero can be larger than the quantiles are apart
        lower, upper = np.minimum(lower, middle), np.maximum(upper, middle)
        return np.minimum.accumulate(lower, axis=2), np.maximum.accumulate(upper, axis=2)

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {
            "coverages": list(self.coverages),
            "pairs": [list(pair) for pair in self.pairs],
            "margins": self.margins.tolist(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Intervals:
        """Read what `to_json` wrote."""
        pairs = tuple((int(lower), int(upper)) for lower, upper in value["pairs"])
        return cls(tuple(value["coverages"]), pairs, np.array(value["margins"], dtype=np.float64))


def require_enough(observed: Iterable[int], coverages: Sequence[float]) -> None:
    """Refuse coverages that so few windows cannot promise; this needs no forecast.

    Args:
        observed: for each step ahead, how many windows have a target.
        coverages: C shares.

    Raises:
        DataError: too few windows.
    """
    for step, count in enumerate(observed, start=1):
        for coverage in coverages:
            if _rank(coverage, count) > count:
                raise DataError(
                    f"model.intervals, step {step} ahead",
                    expected=f"at least {math.ceil(coverage / (1 - coverage) - 1e-9)} validation windows with a target",
                    found=f"{count}, for a coverage of {coverage:g}",
                    do="Lengthen the validation part, or ask for a smaller coverage",
                )


def _rank(coverage: float, count: int) -> int:
    """Which of so many errors, in rising order, is the margin."""
    return math.ceil((count + 1) * coverage - 1e-9)  # less rounding: 20 * 0.95 is not 19.000001


def _pair(levels: Sequence[float], coverage: float) -> tuple[int, int]:
    """Choose the two quantiles around the median that lie nearest to the ends of an interval of a coverage."""
    ends = ((1 - coverage) / 2, (1 + coverage) / 2)
    lower, upper = (min(range(len(levels)), key=lambda place: abs(levels[place] - end)) for end in ends)
    return lower, upper
