"""Read a table as its schema says, and lay the steps between its rows out, so that rules can look at both.

Rows are counted from 0. Time stamps are in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gateline.table import as_utc
from gateline.workload.schema import ColumnType, Schema


@dataclass(frozen=True)
class Readout:
    """A table as the schema reads it.

    Args:
        arrived: the columns as they came, the row number as index.
        typed: the columns of the schema that are there: numbers and booleans as float64, texts as str, time stamps in
            UTC; what cannot be read is missing.
        unreadable: for each of these columns, the rows whose value is of another type.
        steps: one row per row of the table, see `time_steps`; None where the time column or a key is absent, or where rows
            have no time.
    """

    arrived: pd.DataFrame
    typed: pd.DataFrame
    unreadable: Mapping[str, pd.Series]
    steps: pd.DataFrame | None

    def as_read(self, name: str) -> pd.Series:
        """One column with what could not be read left in it, so that a check of types finds it row by row."""
        values, wrong = self.typed[name], self.unreadable[name]
        if not wrong.any():
            return values
        mixed = values.astype("object")
        original = self.arrived.loc[wrong, name]
        mixed[wrong] = (
            original if pd.api.types.is_string_dtype(values.dtype) else original.astype("str").astype("object")
        )
        return mixed


def read_out(frame: pd.DataFrame, schema: Schema) -> Readout:
    """Read every column of the schema that the table has, and keep apart what cannot be read.

    Args:
        frame: the table as it arrived.
        schema: what its columns should be.
    """
    arrived = frame.reset_index(drop=True)
    arrived.columns = _distinct([str(name) for name in frame.columns])
    typed, unreadable = {}, {}
    for name, column in schema.columns.items():
        if name in arrived.columns:
            timezone = "UTC" if schema.time is None else schema.time.timezone
            typed[name], unreadable[name] = _read(arrived[name], column.type, timezone)
    table = pd.DataFrame(typed, index=arrived.index)
    located = schema.time is not None and all(name in table.columns for name in schema.place_columns)
    return Readout(arrived, table, unreadable, time_steps(table, arrived, unreadable, schema) if located else None)


def time_steps(
    typed: pd.DataFrame, arrived: pd.DataFrame, unreadable: Mapping[str, pd.Series], schema: Schema
) -> pd.DataFrame:
    """Derive, for each row, how it stands to the other rows of its series.

    Returns:
        One row per row of the table, with the columns ``step_seconds`` (since the row before it in the same series, as
        the rows stand), ``missing_before`` (time stamps absent between it and the next older one, in order of time),
        ``off_grid_seconds`` (from the nearest point of the series' grid, which most of its rows agree on) and
        ``unclear`` (1 where a local time does not exist, or exists twice, on that day); NaN where there is nothing to
        compare with, as there is no grid without a frequency.
    """
    if schema.time is None:
        raise ValueError("rows without times have no steps")
    column = schema.time.column
    time = typed[column]
    present = arrived[column].notna() & ~unreadable[column]
    steps = pd.DataFrame(
        {
            "step_seconds": np.nan,
            "missing_before": np.nan,
            "off_grid_seconds": np.nan,
            "unclear": (present & time.isna()).astype("float64"),
        },
        index=typed.index,
    )
    usable = np.flatnonzero(typed[list(schema.place_columns)].notna().all(axis=1).to_numpy())
    if not usable.size:
        return steps
    stamps = time.iloc[usable].astype("int64").to_numpy()  # microseconds, (rows,)
    series = _series_numbers(typed.iloc[usable], schema.keys)  # (rows,)

    order = np.argsort(series, kind="stable")
    later, earlier = _neighbours(order, series)
    steps.iloc[usable[later], 0] = (stamps[later] - stamps[earlier]) / 1e6

    if schema.time.frequency is None:
        return steps
    frequency = round(schema.time.frequency.total_seconds() * 1_000_000)
    order = np.lexsort((stamps, series))
    later, earlier = _neighbours(order, series)
    # An off-grid row stands for the nearest point, so it is reported once and does not make a gap beside it.
    points = (stamps[later] - stamps[earlier] + frequency // 2) // frequency
    steps.iloc[usable[later], 1] = np.maximum(points - 1, 0)

    phase = stamps % frequency
    off = (phase - _usual_phase(series, phase) + frequency // 2) % frequency - frequency // 2
    steps.iloc[usable, 2] = off / 1e6
    return steps


def _read(values: pd.Series, kind: ColumnType, timezone: str) -> tuple[pd.Series, pd.Series]:
    """Read a column as a type; returns the values, missing where unreadable, and where that is."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    found = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "text":
        if found in ("string", "empty"):
            return values.astype("str").where(values.notna(), None), pd.Series(False, index=values.index)
        wrong = values.notna() & ~values.map(lambda value: isinstance(value, str)).astype(bool)
        return values.mask(wrong).astype("str").where(values.notna() & ~wrong, None), wrong
    if kind == "time":
        return _read_times(values, found, timezone)
    if kind == "bytes":
        wrong = values.notna() & ~values.map(lambda value: isinstance(value, bytes)).astype(bool)
        return values.astype("object").mask(wrong, None), wrong
    return _read_numbers(values, found, kind)


def _read_times(values: pd.Series, found: str, timezone: str) -> tuple[pd.Series, pd.Series]:
    if found not in ("datetime64", "datetime", "date", "string", "mixed"):
        times = pd.Series(pd.NaT, index=values.index, dtype="datetime64[us]", name=values.name)
    elif found == "datetime64":
        times = values
    else:
        try:
            times = pd.to_datetime(values, format="ISO8601", errors="coerce")
        except ValueError:  # a column has one offset, as `as_utc` demands: the one that most of its values have
            offsets = (
                values.astype("str").str.extract(r"\d\d:\d\d.*?(Z|[+-]\d\d(?::?\d\d)?)?$", expand=False).fillna("")
            )
            usual = offsets[values.notna()].mode().iloc[0]
            times = pd.to_datetime(values.where(offsets == usual), format="ISO8601", errors="coerce")
    wrong = values.notna() & times.isna()
    return as_utc(times, timezone), wrong


def _read_numbers(values: pd.Series, found: str, kind: ColumnType) -> tuple[pd.Series, pd.Series]:
    is_number = found in ("integer", "floating", "mixed-integer-float", "decimal", "string", "mixed", "mixed-integer")
    if not (is_number or found == "empty" or (found == "boolean" and kind == "boolean")):
        return pd.Series(np.nan, index=values.index, name=values.name), values.notna()
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    numbers = numbers.mask(~np.isfinite(numbers))
    blank = values.astype("str").str.strip().eq("") if found in ("string", "mixed") else False
    wrong = values.notna() & numbers.isna() & ~pd.Series(blank, index=values.index)
    if kind == "integer":
        wrong |= numbers.notna() & (numbers % 1 != 0)
    elif kind == "boolean":
        wrong |= numbers.notna() & ~numbers.isin((0, 1))
    return numbers.mask(wrong), wrong


def _distinct(names: list[str]) -> list[str]:
    """Give a column whose name stands twice another name, under which it counts as extra."""
    distinct: list[str] = []
    for name in names:
        distinct.append(name)
        while distinct[-1] in distinct[:-1]:
            distinct[-1] += " (again)"
    return distinct


def _series_numbers(table: pd.DataFrame, keys: Sequence[str]) -> np.ndarray:
    if not keys:
        return np.zeros(len(table), dtype=np.int64)
    return table.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()


def _neighbours(order: np.ndarray, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair each position in an order with the one before it, within a series."""
    same = series[order[1:]] == series[order[:-1]]
    return order[1:][same], order[:-1][same]


def _usual_phase(series: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Find the phase that most rows of each series have; the smallest of equals. Returns it for every row."""
    order = np.lexsort((phase, series))
    sorted_series, sorted_phase = series[order], phase[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(sorted_series) != 0) | (np.diff(sorted_phase) != 0)])
    lengths = np.diff(np.r_[starts, len(order)])
    ranked = np.lexsort((sorted_phase[starts], -lengths, sorted_series[starts]))
    numbers, first = np.unique(sorted_series[starts][ranked], return_index=True)
    return sorted_phase[starts][ranked][first][np.searchsorted(numbers, series)]
