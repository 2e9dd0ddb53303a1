"""Errors of a model, example by example: what two models are compared by. E examples, W windows, U steps to forecast."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateline.errors import WorkloadError, did_you_mean
from gateline.metrics import WINDOW_METRICS


@dataclass(frozen=True)
class SliceErrors:
    """What of each example lies in a slice: a whole example or nothing of it, or the steps of a window, the characters of a text.

    Args:
        total: (E,) as in `ExampleErrors`, 0 outside.
        count: (E,) as in `ExampleErrors`, 0 outside.
    """

    total: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class ExampleErrors:
    """Errors of one model on the test examples: the metric is the sum of `total` over the sum of `count`.

    So examples can be resampled, and what one of them adds is known.

    Args:
        metric: one of the task's `gate_metrics`, of which less is better; or another one that baselines are compared by, of which
            more may be, see `gateline.judgement.more_is_better`.
        total: (E,) what an example adds: absolute errors, wrong words, nats.
        count: (E,) what it is divided by: observed targets, words, characters; 1 where each example counts as one.
        position: (E,) what is resampled together and in which order: the time of a window's first step, the number of a
            patient or speaker, or 0 .. E - 1 where examples have nothing to do with each other.
        rows: digest of what was scored, so that two models are compared on the same rows only.
        parts: what of the examples lies in each slice of the test part.
        root: the metric is the square root of the ratio.
        dependence: positions over which neighbouring examples share targets or are alike: the steps that a window forecasts,
            passages of one text, see `gateline.intervals.running_dependence`; 1 for none.
    """

    metric: str
    total: np.ndarray
    count: np.ndarray
    position: np.ndarray
    rows: str
    parts: Mapping[str, SliceErrors] = field(default_factory=dict)
    root: bool = False
    dependence: int = 1

    @property
    def slices(self) -> dict[str, float]:
        """The metric of each slice."""
        return {name: float(self.ratio(np.sum(part.total), np.sum(part.count))) for name, part in self.parts.items()}

    def ratio(self, total: Any, count: Any) -> Any:
        """Turn sums into the metric; NaN where nothing was counted."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.divide(total, count)
        return np.sqrt(mean) if self.root else mean

    def score(self) -> float:
        """The metric over all examples; NaN where there is nothing."""
        return float(self.ratio(np.sum(self.total), np.sum(self.count)))


def example_errors(
    metric: str,
    total: np.ndarray,
    count: np.ndarray,
    *,
    rows: str,
    position: np.ndarray | None = None,
    slices: Mapping[str, np.ndarray] | None = None,
    dependence: int = 1,
) -> ExampleErrors:
    """Put errors of examples together, with the metric of each slice.

    Args:
        metric: what they are errors of.
        total: (E,), see `ExampleErrors`.
        count: (E,).
        rows: digest of what was scored, see `digest_of_rows`.
        position: (E,); None: examples have nothing to do with each other.
        slices: bool (E,) by name of the slice; one without anything to count says nothing and is left out.
        dependence: see `ExampleErrors`.
    """
    total, count = np.asarray(total, dtype=np.float64), np.asarray(count, dtype=np.float64)
    by_slice = {name: (np.where(mask, total, 0.0), np.where(mask, count, 0.0)) for name, mask in (slices or {}).items()}
    place = np.arange(len(total)) if position is None else position
    return ExampleErrors(metric, total, count, place, rows, slice_errors(by_slice), dependence=dependence)


def slice_errors(sums: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, SliceErrors]:
    """Put the sums and counts (E,) of slices together; a slice without anything to count says nothing and is left out."""
    return {name: SliceErrors(total, count) for name, (total, count) in sums.items() if count.sum() > 0}


def digest_of_rows(*columns: Sequence[Any] | np.ndarray) -> str:
    """Digest what is scored, column by column: keys and targets of the examples, so that no other rows give the same."""
    digest = hashlib.sha256()
    for column in columns:
        array = np.asarray(column)
        if array.dtype.kind in "OUS":
            texts = [str(value).encode() for value in array.ravel().tolist()]
            digest.update(b"".join(len(text).to_bytes(8, "little") + text for text in texts))
        else:
            digest.update(str(array.dtype).encode() + np.ascontiguousarray(array).tobytes())
        digest.update(str(array.shape).encode())
    return digest.hexdigest()


def reduce_windows(
    metric: str,
    forecasts: np.ndarray,
    targets: np.ndarray,
    origin: np.ndarray,
    *,
    rows: str,
    slices: Mapping[str, np.ndarray] | None = None,
    deviation: np.ndarray | None = None,
) -> ExampleErrors:
    """Reduce forecasts of the test windows to what models are compared by.

    Args:
        metric: one of WINDOW_METRICS.
        forecasts: (W, U) in raw units.
        targets: (W, U) in raw units, NaN where nothing was observed.
        origin: (W,) Unix seconds of the first step to forecast; windows of several series share it.
        rows: digest of what was scored.
        slices: bool (W, U) or (W, 1) by name of the slice; one without an observed target says nothing and is left out.
        deviation: (W,) the unit of the metrics that are called scaled, see `gateline.metrics`; only they need it.

    Raises:
        WorkloadError: the metric is no mean over windows.
    """
    if metric not in WINDOW_METRICS:
        raise WorkloadError(
            "gates.metric",
            expected="a known metric that models are compared by",
            found=repr(metric),
            do=did_you_mean(metric, WINDOW_METRICS),
        )
    observed = ~np.isnan(targets)  # (W, U)
    error = np.where(observed, forecasts - np.where(observed, targets, 0.0), 0.0).astype(np.float64)
    if metric.endswith("_scaled"):
        if deviation is None:
            raise ValueError(f"{metric} needs the deviation of each window's series")
        error = error / deviation[:, None]
    error = np.abs(error) if metric.startswith("mae") else error**2
    masks = {name: np.broadcast_to(mask, observed.shape) & observed for name, mask in (slices or {}).items()}
    inside = {
        name: (np.where(mask, error, 0.0).sum(axis=1), mask.sum(axis=1).astype(float)) for name, mask in masks.items()
    }
    return ExampleErrors(
        metric,
        total=error.sum(axis=1),
        count=observed.sum(axis=1).astype(np.float64),
        position=np.asarray(origin),
        rows=rows,
        parts=slice_errors(inside),
        root=metric == "rmse",
    )
