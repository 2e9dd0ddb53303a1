"""Transforms that tame skew, and standardisation fitted on the training part only. NaN stays NaN throughout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from gateline.workload.section import Section

CONSTANT_BELOW = 1e-9
"""Deviation, relative to the mean, below which values count as one and the same."""


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
        mean: of the transformed training values.
        deviation: standard deviation of the transformed training values, > 0.
    """

    transform: Transform
    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: np.ndarray, transform: Transform) -> Scaler:
        """Fit on raw training values (n,), ignoring NaN; values that never change get a deviation of 1."""
        transformed = transform.forward(values[np.isfinite(values)].astype(np.float64))
        transformed = transformed[np.isfinite(transformed)]
        if len(transformed) == 0:
            return cls(transform, 0.0, 1.0)
        mean, deviation = float(transformed.mean()), float(transformed.std())
        # Relative: the deviation of a large constant is rounding, not zero, and dividing by it would blow up.
        varies = deviation > CONSTANT_BELOW * max(1.0, abs(mean))
        return cls(transform, mean, deviation if varies else 1.0)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Raw units to scaled, float64."""
        return (self.transform.forward(values) - self.mean) / self.deviation

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Scaled to raw units, float64."""
        return self.transform.inverse(values.astype(np.float64) * self.deviation + self.mean)

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {**asdict(self), "transform": self.transform.model_dump()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scaler:
        """Read what `to_json` wrote."""
        return cls(Transform(**value["transform"]), value["mean"], value["deviation"])
