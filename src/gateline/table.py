"""The table: one row per series and time stamp, in raw units, as a pandas frame in a parquet file.

Reads no workload file and knows no task; a frame keeps the columns, and the order of rows, that its writer gave it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gateline.errors import DataError, examples
from gateline.workload.schema import Column, Schema

TABLE = "table.parquet"
TEXT = pd.StringDtype(na_value=np.nan)
"""What pandas calls `str`."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        DataError: the file is no parquet file.
    """
    try:
        return pq.read_table(path).to_pandas()
    except pa.ArrowInvalid as error:
        raise DataError(path, expected="a parquet file", found=str(error)[:120], do="Run ingest again") from error


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table: the same frame, the same bytes."""
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None), path)


def as_utc(times: pd.Series, timezone: str) -> pd.Series:
    """Put time stamps on UTC; those without an offset are read in `timezone`.

    Raises:
        DataError: they are no time stamps.
    """
    if not pd.api.types.is_datetime64_any_dtype(times):
        try:
            times = pd.to_datetime(times, format="ISO8601")
        except (ValueError, TypeError) as error:
            raise DataError(
                f"column {times.name}", expected="ISO 8601 time stamps", found=str(error)[:120], do="Correct the column"
            ) from error
    stamps = pd.DatetimeIndex(times)  # its methods are those of `times.dt`, without a new series at every turn
    if stamps.tz is None:
        stamps = stamps.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT")
    return pd.Series(stamps.tz_convert("UTC").as_unit("us"), index=times.index, name=times.name)


def violations(values: pd.Series, column: Column) -> np.ndarray:
    """Mark the values that a column's schema rules out; a missing value is none.

    Args:
        values: (N,) of the column's type, numbers as float64.
        column: what it may hold.

    Returns:
        bool (N,).
    """
    wrong = np.zeros(len(values), dtype=bool)
    if column.min is not None:
        wrong |= values.to_numpy() < column.min
    if column.max is not None:
        wrong |= values.to_numpy() > column.max
    if column.values is not None:
        wrong |= (values.notna() & ~values.isin(column.values)).to_numpy()
    return wrong


def clean(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Bring a table that validate accepted into the form that every task starts from.

    Time stamps in UTC, rows ordered by series and time, numbers as float64, values that the schema takes as missing
    made missing. The same function prepares the training data and a request to the served model.

    Args:
        frame: the table in raw units.
        schema: what its columns mean.

    Raises:
        DataError: a column is absent or of another type, or a value that the schema refuses stands in it.
    """
    absent = [name for name in schema.columns if name not in frame.columns]
    if absent:
        raise DataError(
            "table", expected=f"the columns {', '.join(schema.columns)}", found=f"no {examples(absent)}", do="Add them"
        )
    cleaned = {name: _clean_column(frame[name], column, schema) for name, column in schema.columns.items()}
    # Arrays, not series: the index of the request means nothing, and pandas would align every column by it.
    table = pd.DataFrame({name: values.array for name, values in cleaned.items()})
    if _one_series_in_order(table, schema):
        return table
    return table.sort_values([*schema.keys, schema.time.column], kind="stable", ignore_index=True)


def _clean_column(values: pd.Series, column: Column, schema: Schema) -> pd.Series:
    if column.type == "time":
        values = as_utc(values, schema.time.timezone)
    elif column.type in ("float", "integer", "boolean"):
        values = _as_numbers(values)
    elif values.dtype != TEXT:
        values = values.astype("str").where(values.notna(), None)
    wrong = violations(values, column)
    if wrong.any():
        if column.violation == "refuse":
            raise DataError(
                f"column {values.name}",
                expected=f"values {_range_in_words(column)}",
                found=f"{examples(sorted(set(values[wrong])))} in {int(wrong.sum())} rows",
                do="Correct the rows, or say `violation: missing` in the schema",
            )
        values = values.mask(wrong)
    return values


def _one_series_in_order(table: pd.DataFrame, schema: Schema) -> bool:
    """Say whether the rows are of one series and already in order of time, as most requests are."""
    if not len(table) or not table[schema.time.column].is_monotonic_increasing:  # never with a missing time stamp
        return False
    return all((keys == keys[0]).all() for keys in (table[key].to_numpy() for key in schema.keys))


def _as_numbers(values: pd.Series) -> pd.Series:
    try:
        numbers = values if values.dtype == np.float64 else pd.to_numeric(values).astype("float64")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"column {values.name}",
            expected="numbers",
            found=str(error)[:120],
            do="Correct the column or its type in the schema",
        ) from error
    endless = np.isinf(numbers.to_numpy())
    if endless.any():
        raise DataError(
            f"column {values.name}",
            expected="finite numbers",
            found=f"{int(endless.sum())} infinite",
            do="Leave them empty, or correct them",
        )
    return numbers


def _range_in_words(column: Column) -> str:
    if column.values is not None:
        return f"among {examples(column.values)}"
    low, high = ("any" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
    return f"from {low} to {high} {column.unit}".strip()
