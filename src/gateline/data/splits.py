"""Which windows belong to training, validation and test, so that nothing of a later part reaches an earlier one.

A window belongs to a part when every step that it forecasts lies in that part. Its inputs may reach back into the part
before, since they are past by then. Between two parts lies an embargo, taken from the end of the earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from gateline.errors import DataError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class TimeSplit:
    """Parts of the time axis.

    Args:
        validate_from: first time stamp of the validation part.
        test_from: first time stamp of the test part.
        test_until: first time stamp after the test part; None: to the end of the data.
        embargo: span before `validate_from` and before `test_from` that belongs to no part.
    """

    validate_from: datetime
    test_from: datetime
    test_until: datetime | None = None
    embargo: timedelta = timedelta(0)

    def bounds(self, part: str) -> tuple[float, float]:
        """First second of a part and first second after it, in Unix time."""
        validate, test = self.validate_from.timestamp(), self.test_from.timestamp()
        gap = self.embargo.total_seconds()
        end = np.inf if self.test_until is None else self.test_until.timestamp()
        return {"train": (-np.inf, validate - gap), "validation": (validate, test - gap), "test": (test, end)}[part]

    def rows(self, part: str, times: np.ndarray) -> np.ndarray:
        """Mark the rows of a part: bool (N,) for Unix seconds int64 (N,)."""
        first, after = self.bounds(part)
        return (times >= first) & (times < after)


def window_origins(
    times: np.ndarray,
    offsets: np.ndarray,
    observed: np.ndarray,
    split: TimeSplit,
    *,
    lookback: int,
    horizon: int,
    stride: int = 1,
) -> Mapping[str, np.ndarray]:
    """Find the origins of all windows of each part.

    An origin is the row of the first step to forecast: inputs are the `lookback` rows before it, targets the `horizon`
    rows from it. A window without a single observed target says nothing and is left out.

    Args:
        times: int64 (N,), Unix seconds, regular within a series.
        offsets: int64 (S + 1,), where each series begins.
        observed: bool (N,), rows with a target.
        split: the parts.
        lookback: number of input steps.
        horizon: number of steps to forecast.
        stride: steps between the origins of the training part; validation and test take every origin.

    Returns:
        int64 (W,) rows for each of `train`, `validation`, `test`, ordered by time, then by series.

    Raises:
        DataError: a part has no window.
    """
    counted = np.concatenate([[0], np.cumsum(observed)])
    candidates = [
        np.arange(first + lookback, end - horizon + 1)
        for first, end in pairwise(offsets)
        if end - first >= lookback + horizon
    ]
    rows = np.concatenate(candidates) if candidates else np.zeros(0, dtype=np.int64)
    rows = rows[counted[rows + horizon] > counted[rows]]
    rows = rows[np.argsort(times[rows], kind="stable")]
    origins = {}
    for part in PARTS:
        first, after = split.bounds(part)
        inside = rows[(times[rows] >= first) & (times[rows + horizon - 1] < after)] if len(rows) else rows
        if part == "train" and stride > 1:
            step = np.unique(times[inside], return_inverse=True)[1]
            inside = inside[step % stride == 0]
        if len(inside) == 0:
            raise DataError(
                f"preprocess.split: {part}",
                expected=f"at least one window of {lookback} + {horizon} steps with a target",
                found=f"none in {len(times)} rows",
                do="Move the split, shorten `lookback` or `horizon`, or bring more data",
            )
        origins[part] = inside.astype(np.int64)
    return origins
