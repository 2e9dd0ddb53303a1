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

from gateline.data.runs import Runs
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


def window_runs(
    times: np.ndarray,
    offsets: np.ndarray,
    observed: np.ndarray,
    split: TimeSplit,
    *,
    lookback: int,
    horizon: int,
    stride: int = 1,
) -> Mapping[str, Runs]:
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
        stride: steps between the origins of the training part, counted from its first origin in any series; validation
            and test take every origin.

    Returns:
        W rows for each of `train`, `validation`, `test`, ordered by series, then by time.

    Raises:
        DataError: a part has no window.
    """
    found: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}  # first row, row after the last
    for first, end in pairwise(offsets.tolist()):
        empty_from, empty_to = _origins_without_target(observed[first:end], horizon)
        for part in PARTS:
            begins, ends = np.searchsorted(times[first:end], split.bounds(part))
            low, high = max(lookback, int(begins)), min(end - first, int(ends)) - horizon + 1
            if low < high:
                starts = first + np.clip([low, *empty_to], low, high)
                stops = first + np.clip([*empty_from, high], low, high)
                found[part] += [(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True) if a < b]
    for part, ranges in found.items():
        if not ranges:
            raise DataError(
                f"preprocess.split: {part}",
                expected=f"at least one window of {lookback} + {horizon} steps with a target",
                found=f"none in {len(times)} rows",
                do="Move the split, shorten `lookback` or `horizon`, or bring more data",
            )
    runs = {part: Runs.of((a, b - a, 1) for a, b in ranges) for part, ranges in found.items()}
    return {**runs, "train": _thinned(found["train"], times, stride)}


def by_time(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Order rows by time, then by series: int64 (W,) for rows that are ordered by series, and times (N,) of all rows."""
    return rows[np.argsort(times[rows], kind="stable")]


def _origins_without_target(observed: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the ranges of origins of one series whose next `horizon` steps are all missing: firsts, and rows after."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], observed, [True]])))
    gap_from, gap_to = edges[::2], edges[1::2]
    long = gap_to - gap_from >= horizon
    return gap_from[long], gap_to[long] - horizon + 1


def _thinned(ranges: list[tuple[int, int]], times: np.ndarray, stride: int) -> Runs:
    """Keep the origins that lie a multiple of `stride` steps after the earliest, so that series keep the same times."""
    begin = min(int(times[a]) for a, _ in ranges)
    step = int(times[ranges[0][0]] - times[ranges[0][0] - 1])  # every origin has a row before it
    kept = []
    for a, b in ranges:
        first = a + -((int(times[a]) - begin) // step) % stride
        if first < b:
            kept.append((first, -(-(b - first) // stride), stride))
    return Runs.of(kept)
