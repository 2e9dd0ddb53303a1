"""Transforms that tame skew, and standardisation fitted on the training part only. NaN stays NaN throughout."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field

from gateline.workload.section import Section

CONSTANT_BELOW = 1e-9
"""Deviation, relative to the mean, below which values count as one and the same."""
ROUNDING = 1e-15
"""Deviation below which they do whatever their mean: differences of equal numbers of about 1 leave as much, around a mean of 0."""


class Transform(Section):
    """What is applied to a column before it is standardised."""

    kind: Literal["none", "arcsinh", "log1p"] = "none"
    """arcsinh: skewed and of both signs (delays); log1p: skewed and never below 0 (counts)."""
    scale: float = Field(default=1.0, gt=0)
    """Values are divided by it first: where arcsinh turns from linear to logarithmic, in the column's unit."""

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Raw units to transformed; what log1p cannot take becomes NaN."""
        if self.kind == "arcsinh":
            return np.arcsinh(values / self.scale)
        if self.kind == "log1p":
            return np.log1p(np.where(values > -self.scale, values, np.nan) / self.scale)
        return values

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Transformed to raw units."""
        if self.kind == "arcsinh":
            return np.sinh(values) * self.scale
        if self.kind == "log1p":
            return np.expm1(values) * self.scale
        return values


@dataclass(frozen=True)
class Scaler:
    """A transform and then standardisation: (transform(x) - mean) / deviation.

    Args:
        transform: kind and scale.
        mean: of the transformed training values: one for the column, or one per series, in the order of
            `Encoding.series`.
        deviation: standard deviation of the transformed training values, > 0; as many as `mean`.
    """

    transform: Transform
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, values: np.ndarray, transform: Transform, series: np.ndarray | None = None) -> Scaler:
        """Fit on raw training values, ignoring NaN; values that never change get a deviation of 1.

        Args:
            values: (n,) in raw units.
            transform: applied first.
            series: int64 (n,), number of each value's series, each of 0..S-1 at least once; None for one scale of the
                whole column.
        """
        if series is None:
            series = np.zeros(len(values), dtype=np.int64)
        mean, deviation = _mean_and_deviation(transform.forward(values.astype(np.float64)), series)
        return cls(transform, tuple(mean.tolist()), tuple(deviation.tolist()))

    def forward(self, values: np.ndarray, series: np.ndarray | None = None) -> np.ndarray:
        """Raw units to scaled, float64; `series` says which series the values belong to, see `inverse`."""
        mean, deviation = self._statistics(values, series)
        return (self.transform.forward(values) - mean) / deviation

    def inverse(self, values: np.ndarray, series: np.ndarray | None = None) -> np.ndarray:
        """Scaled to raw units, float64.

        Args:
            values: (n, ...).
            series: int64 (n,), the number of each first index's series; not needed when the column has one scale.
        """
        mean, deviation = self._statistics(values, series)
        return self.transform.inverse(values.astype(np.float64) * deviation + mean)

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {
            "transform": self.transform.model_dump(),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scaler:
        """Read what `to_json` wrote."""
        return cls(Transform(**value["transform"]), tuple(value["mean"]), tuple(value["deviation"]))

    def _statistics(self, values: np.ndarray, series: np.ndarray | None) -> tuple[Any, Any]:
        if len(self.mean) == 1:
            return self.mean[0], self.deviation[0]
        if series is None:
            raise ValueError(f"{len(self.mean)} series have a scale each: say which series the values belong to")
        shape = (len(series),) + (1,) * (values.ndim - 1)
        return np.array(self.mean)[series].reshape(shape), np.array(self.deviation)[series].reshape(shape)


def spread(values: np.ndarray, series: np.ndarray) -> tuple[float, ...]:
    """Take the standard deviation of each series, 1 where it never changes; see `Scaler.fit` for the arguments."""
    return tuple(_mean_and_deviation(values, series)[1].tolist())


def _mean_and_deviation(values: np.ndarray, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take both of what is finite of each series, 0 and 1 where nothing is: float64 (S,), in one pass over the rows."""
    finite = np.isfinite(values)
    num_series, series, values = int(series.max(initial=0)) + 1, series[finite], values[finite]
    order = np.argsort(series, kind="stable")  # rows of a regular table are in order, and then it costs next to nothing
    series, values = series[order], values[order]
    offsets = np.searchsorted(series, np.arange(num_series + 1))

    def mean_of(numbers: np.ndarray) -> np.ndarray:
        # Sums of slices, each as exact as `np.mean`; those of `np.add.reduceat` are not.
        sums = [np.add.reduce(numbers[begin:end]) for begin, end in pairwise(offsets)]
        return np.array(sums) / np.maximum(np.diff(offsets), 1)

    mean = mean_of(values)
    deviation = np.sqrt(mean_of(np.square(values - mean[series])))
    # Relative: the deviation of a constant is rounding, not zero, and dividing by it would blow up; of small values, as in
    # SI units, it is small and real.
    return mean, np.where(deviation > np.maximum(CONSTANT_BELOW * abs(mean), ROUNDING), deviation, 1.0)
