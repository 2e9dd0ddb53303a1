"""Rows at any time, most of their values missing, laid out as the steps of sequences. Nothing here is fitted.

Time is counted in hours since the first row of a series (an admission, a start). Step k of width w covers the hours above
k w up to (k + 1) w, and the first also hour 0: so whatever stands in a step is known at its end, and a judgement at the end of a
step reads nothing of the future.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from gateline.data.series_encoding import series_names, series_offsets, unix_seconds
from gateline.errors import DataError, examples
from gateline.table import Columns, clean
from gateline.workload.schema import Schema

MOST_VALUES = 10_000_000
"""Steps times columns that a request may be laid out to; a few arrays have this size."""
MOST_LENGTHS = 10
"""So many times as long as the longest series of training, one of a request may be."""
ROUNDING = 1e-9
"""Hours: a row at the very end of a step belongs to it, whatever a division leaves in the last bits."""


@dataclass(frozen=True)
class Steps:
    """S series as N steps in all, V columns of observations.

    Args:
        offsets: int64 (S + 1,), series s stands in steps offsets[s]:offsets[s + 1].
        end: float64 (N,), hours from the first row of the series to the end of the step.
        values: float64 (N, V), mean of the observations of a step in raw units, NaN where there is none.
        observed_at: float64 (N, V), hour of the last observation of a step, NaN where there is none.
        once: what is the same for a whole series, by column: object or float64 (S,), its first value, known in the first step.
        keys: the key columns, (S,) each.
        began: int64 (S,), Unix seconds of the first row.
        rows: int64 (R,), the step that each row of the table belongs to.
        order: int64 (R,), the row of the table that each of `rows` speaks of.
    """

    offsets: np.ndarray
    end: np.ndarray
    values: np.ndarray
    observed_at: np.ndarray
    once: Mapping[str, np.ndarray]
    keys: Mapping[str, np.ndarray]
    began: np.ndarray
    rows: np.ndarray
    order: np.ndarray

    @property
    def num_series(self) -> int:
        """Number of series S."""
        return len(self.offsets) - 1

    @cached_property
    def series(self) -> np.ndarray:
        """Number of the series of each step: int64 (N,)."""
        return np.repeat(np.arange(self.num_series), np.diff(self.offsets))

    @cached_property
    def source(self) -> np.ndarray:
        """Step in which the value was observed that is the last known at each step, itself included: int64 (N, V), -1 for none."""
        here = np.where(np.isfinite(self.values), np.arange(len(self.values))[:, None], -1)
        last = np.maximum.accumulate(here, axis=0)
        return np.where(last >= self.offsets[:-1][self.series][:, None], last, -1)

    def last_known(self) -> np.ndarray:
        """Carry every observation forward to the next one of its series: float64 (N, V), NaN before the first."""
        return np.where(self.source >= 0, np.take_along_axis(self.values, np.maximum(self.source, 0), 0), np.nan)

    def gaps(self) -> np.ndarray:
        """Say how old the last known values are at the end of each step: float64 (N, V) hours.

        Where nothing has been observed yet, the hours since the first row of the series: so long has it been waited for.
        """
        at = np.take_along_axis(self.observed_at, np.maximum(self.source, 0), 0)
        return self.end[:, None] - np.where(self.source >= 0, at, 0.0)

    @cached_property
    def first_rows(self) -> np.ndarray:
        """Row of the table that is the first of each series: int64 (S,)."""
        number = self.series[self.rows]
        return self.order[np.flatnonzero(np.diff(number, prepend=-1))]

    def last_in_step(self, values: np.ndarray) -> np.ndarray:
        """Take the last value that is there of each step of a column of the table: (N,) for (R,), missing where there is none."""
        ordered = np.asarray(values)[self.order]
        there = ~pd.isna(ordered)
        taken = np.full(len(self.end), np.nan if ordered.dtype.kind == "f" else None, dtype=ordered.dtype)
        taken[self.rows[there]] = ordered[there]  # in order of time, and the last assignment stands
        return taken

    def first_of_series(self, values: np.ndarray) -> np.ndarray:
        """Take the first value that is there of each series of a column of the table: (S,) for (R,)."""
        grouped = pd.Series(np.asarray(values)[self.order]).groupby(self.series[self.rows])
        return np.asarray(grouped.first())

    def rows_of(self, series: np.ndarray) -> np.ndarray:
        """Mark the rows of the table that belong to some series: bool (R,) for int64 numbers of them."""
        marked = np.zeros(len(self.order), dtype=bool)
        marked[self.order] = np.isin(self.series[self.rows], series)
        return marked

    def places(self, schema: Schema) -> dict[str, Any]:
        """Say by column which step a row of an answer belongs to: the keys, and the end of the step."""
        stamps = (self.began[self.series] + np.rint(self.end * 3600).astype(np.int64)) * 1_000_000
        times = pd.DatetimeIndex(stamps.view("M8[us]"), tz="UTC").array
        return {key: values[self.series] for key, values in self.keys.items()} | {_time(schema): times}


def lay_out(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    columns: Sequence[str],
    once: Sequence[str] = (),
    width: timedelta | None = None,
    of_request: bool = False,
    longest: int | None = None,
) -> Steps:
    """Lay rows out as steps.

    Args:
        frame: the table in raw units, in any order of rows.
        schema: columns, keys and time.
        columns: V columns of observations.
        once: columns that are the same for a whole series, and known by the end of its first step.
        width: of a step; None makes each row one.
        of_request: refuse what would be too much at once, before it is laid out.
        longest: steps of the longest series of training, of a request; None where it is not known.

    Raises:
        DataError: a request is too much, a time stamp or a key is missing, a time stamp stands twice in a series, or a column of `once` changes within
            a series or comes later than in its first step.
    """
    table = clean(frame, schema)
    names, order = _in_order(table, schema)
    seconds = unix_seconds(table[_time(schema)])[order]
    bounds = series_offsets(names[order])  # (S + 1,) in rows
    number = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))  # (R,)
    _refuse_twice(names[order], number, seconds, schema)
    hours = (seconds - seconds[bounds[:-1]][number]) / 3600
    hour = None if width is None else width.total_seconds() / 3600
    if hour is None:
        place = np.arange(len(number)) - bounds[:-1][number]
    else:
        place = np.maximum(np.ceil(hours / hour - ROUNDING).astype(np.int64) - 1, 0)
    lengths = place[bounds[1:] - 1] + 1  # rows are in order of time
    if of_request and width is not None:  # else steps are not more than rows
        _refuse_too_long(lengths, names[order], seconds, bounds, len(columns), longest)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = offsets[number] + place
    of_series = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    end = hours if hour is None else (of_series + 1) * hour
    values = np.full((int(offsets[-1]), len(columns)), np.nan)
    observed_at = values.copy()
    for column, name in enumerate(columns):
        read = np.asarray(table[name], dtype=np.float64)[order]
        there = np.isfinite(read)
        count = np.bincount(rows[there], minlength=len(values))
        total = np.bincount(rows[there], weights=read[there], minlength=len(values))
        values[count > 0, column] = total[count > 0] / count[count > 0]
        observed_at[rows[there], column] = hours[there]
    return Steps(
        offsets=offsets,
        end=end,
        values=values,
        observed_at=observed_at,
        once={name: _first(table[name], order, number, place, name, names[order]) for name in once},
        keys={key: np.asarray(table[key])[order][bounds[:-1]] for key in schema.keys},
        began=seconds[bounds[:-1]],
        rows=rows,
        order=order,
    )


def flags_of_length(offsets: np.ndarray, longest: int | None) -> np.ndarray:
    """Say of each sequence, (S + 1,) offsets, whether it is longer than the longest of training: object (S,) of texts."""
    lengths = np.diff(offsets).tolist()
    return np.array(
        [
            f"{steps:,} steps, above the {longest:,} of training" if longest and steps > longest else ""
            for steps in lengths
        ],
        dtype=object,
    )


def _refuse_too_long(
    lengths: np.ndarray,
    names: np.ndarray,
    seconds: np.ndarray,
    bounds: np.ndarray,
    num_columns: int,
    longest: int | None,
) -> None:
    """Refuse a request whose series, of lengths (S,) in steps and rows bounds[s]:bounds[s + 1], would take too much memory."""
    series = int(lengths.argmax())
    first, last = (pd.Timestamp(seconds[row], unit="s", tz="UTC") for row in (bounds[series], bounds[series + 1] - 1))
    if longest is not None and lengths[series] > MOST_LENGTHS * longest:
        raise DataError(
            f"request, series {names[bounds[series]]}",
            expected=f"at most {MOST_LENGTHS * longest:,} steps, {MOST_LENGTHS} times the longest of training",
            found=f"{lengths[series]:,} from {first} to {last}",
            do="Correct the time stamps, or part the series",
        )
    most = MOST_VALUES // max(num_columns, 1)
    if lengths.sum() > most:
        raise DataError(
            "request",
            expected=f"at most {most:,} steps of all series",
            found=f"{lengths.sum():,}, of these {lengths[series]:,} of series {names[bounds[series]]} from {first} to {last}",
            do="Correct the time stamps, or send fewer series at a time",
        )


def _time(schema: Schema) -> str:
    """Name the time column; `SeriesInputs.check` has seen to it that there is one."""
    if schema.time is None:
        raise ValueError("a table without times has no series")
    return schema.time.column


def _in_order(table: Columns, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """Name the series of each row, and put the rows in order of series and time: object (R,), int64 (R,)."""
    for name in (*schema.keys, _time(schema)):
        missing = np.asarray(pd.isna(table[name]))
        if missing.any():
            raise DataError(
                f"column {name}", expected="a value in every row", found=f"{int(missing.sum())} without", do="Add them"
            )
    names = series_names(table, schema)
    number, _ = pd.factorize(names)  # series as they come
    return names, np.lexsort((unix_seconds(table[_time(schema)]), number))


def _refuse_twice(names: np.ndarray, number: np.ndarray, seconds: np.ndarray, schema: Schema) -> None:
    twice = np.flatnonzero((np.diff(number) == 0) & (np.diff(seconds) == 0))
    if len(twice):
        shown = [f"{names[row]} at {pd.Timestamp(seconds[row], unit='s', tz='UTC')}" for row in twice[:5]]
        raise DataError(
            f"column {_time(schema)}",
            expected="each time stamp once in each series",
            found=f"twice: {examples(shown, len(twice))}",
            do="Join the rows",
        )


def _first(
    values: Any, order: np.ndarray, number: np.ndarray, place: np.ndarray, name: str, names: np.ndarray
) -> np.ndarray:
    """Take the first value that is there of each series, and refuse a second one, or one that comes after the first step: (S,).

    What is the same for a whole series is read at every step, the first included; a value that comes later would be read
    before it is known.
    """
    ordered = pd.Series(np.asarray(values)[order])
    grouped = ordered.groupby(number)
    different = np.flatnonzero(grouped.nunique().to_numpy() > 1)
    if len(different):
        raise DataError(
            f"column {name}",
            expected="one value for each series",
            found=f"several for {examples([str(names[number == series][0]) for series in different])}",
            do="Correct the rows, or list it among the columns that change",
        )
    there = ordered.notna().to_numpy()
    known = np.zeros(grouped.ngroups, dtype=bool)
    known[number[there & (place == 0)]] = True
    late = np.unique(number[there & ~known[number]])
    if len(late):
        raise DataError(
            f"column {name}",
            expected="a value in the first step of a series, or none at all: it is read from there on",
            found=f"later ones for {examples([str(names[number == series][0]) for series in late[:5]], len(late))}",
            do="List it among the columns that change, or leave it out",
        )
    return grouped.first().to_numpy()
