"""The table: one row per series and time stamp, or per example, in raw units, as a pandas frame in a parquet file.

Reads no workload file and knows no task; a frame keeps the columns, and the order of rows, that its writer gave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gateline.errors import MAX_EXAMPLES, DataError, examples
from gateline.workload.schema import Column, Schema

TABLE = "table.parquet"
LONGEST_SHOWN = 80  # characters of a text in an error
TEXT = pd.StringDtype(na_value=np.nan)
"""What pandas calls `str`."""

Columns = Mapping[str, Any]
"""A table by column, (N,) each: numbers float64, texts object, time stamps pandas' own array. To look at a column of a frame
costs tens of microseconds, and a request of one window has one millisecond for everything."""
Asked = pd.DataFrame | Mapping[str, pd.Series]
"""A table as it came, or its columns, see `by_column`."""
LARGEST_EXACT = 2.0**53
"""From here on, float64 leaves whole numbers out."""
IN_UTC = "0000-00-00T00:00:00Z"
"""How time stamps are written by most clients, and in answers, with any digit for a 0."""
LEAST_CODES, LARGEST_CODES = (
    np.array([*map(ord, form)], dtype=np.uint32) for form in (IN_UTC, IN_UTC.replace("0", "9"))
)
REPEATED = 1000
"""Rows from which on it pays to look for time stamps that come again, in another series, before they are read."""


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


def by_column(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Take the columns out of a frame once, for all who look at them.

    Raises:
        DataError: two have the same name.
    """
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise DataError("table", expected="one column of a name", found=f"more {examples(twice)}", do="Leave one")
    return dict(frame.items())  # type: ignore[arg-type]  # of pandas any label may name a column


def num_rows(asked: Asked) -> int:
    """Count the rows of a table."""
    return len(asked) if isinstance(asked, pd.DataFrame) else len(next(iter(asked.values()), ()))


def as_frame(columns: Columns) -> pd.DataFrame:
    """Put columns that nobody else holds into a frame.

    The same as `pd.DataFrame(columns)` in half of its time: it neither copies, nor turns names into an index every time.
    """
    arrays = (pd.array(values, dtype=TEXT) if _is_text(values) else values for values in columns.values())
    frame = pd.DataFrame(dict(enumerate(arrays)), copy=False)
    frame.columns = _index_of(tuple(columns))
    return frame


def _is_text(values: Any) -> bool:
    """Say whether a column is of texts; files are objects, too."""
    if values.dtype.kind != "O":
        return bool(values.dtype.kind == "U")
    return not isinstance(next((value for value in values if value is not None), None), bytes)


@lru_cache(maxsize=128)
def _index_of(names: tuple[str, ...]) -> pd.Index:
    return pd.Index(names)


def stamps_of(times: Any) -> Any:
    """Take time stamps (N,) as pandas' own array, which most are already: an index around it costs more than what is done to it."""
    return times if isinstance(times, pd.arrays.DatetimeArray) else pd.DatetimeIndex(times).array


def as_utc(times: pd.Series, timezone: str) -> pd.Series:
    """Put time stamps on UTC; those without an offset are read in `timezone`.

    Raises:
        DataError: they are no time stamps.
    """
    return pd.Series(_as_utc(times, timezone), index=times.index, name=times.name)


def extremes(numbers: np.ndarray) -> tuple[float, float]:
    """Take the least and the largest of numbers (N,), missing ones left out: inf and -inf of none."""
    return np.fmin.reduce(numbers, initial=np.inf), np.fmax.reduce(numbers, initial=-np.inf)


def within(found: tuple[float, float], low: float | None, high: float | None) -> bool:
    """Say whether `extremes` lie between two bounds, of which there may be none."""
    return not ((low is not None and found[0] < low) or (high is not None and found[1] > high))


def violations(values: np.ndarray, column: Column) -> np.ndarray:
    """Mark the values that a column's schema rules out; a missing value is none.

    Args:
        values: (N,) of the column's type: numbers as float64, texts as objects.
        column: what it may hold.

    Returns:
        bool (N,).
    """
    wrong = np.zeros(len(values), dtype=bool)
    if column.min is not None:
        wrong |= values < column.min
    if column.max is not None:
        wrong |= values > column.max
    if column.values is not None and not set(values.tolist()) <= set(column.values):
        wrong |= ~pd.isna(values) & ~pd.Index(values).isin(column.values)
    if column.min_length is not None or column.max_length is not None:
        lengths = pd.Series(values, dtype=TEXT).str.len().to_numpy(dtype=np.float64)  # NaN where missing
        wrong |= (lengths < (column.min_length or 0)) | (lengths > (column.max_length or np.inf))
    if column.pattern is not None:
        matches = pd.Series(values, dtype=TEXT).str.fullmatch(column.pattern).to_numpy(dtype=bool)
        wrong |= ~matches & ~pd.isna(values)  # of a missing text, pandas says that it does not match
    return wrong


def clean(frame: Asked, schema: Schema) -> dict[str, Any]:
    """Bring a table that validate accepted into the form that every task starts from.

    Time stamps in UTC, numbers as float64, values that the schema takes as missing made missing. The same function
    prepares the training data and a request to the served model.

    Args:
        frame: the table in raw units.
        schema: what its columns mean.

    Returns:
        `Columns`, those of the schema in its order, with the rows in the order of the frame.

    Raises:
        DataError: a column is absent or of another type, or a value that the schema refuses stands in it.
    """
    absent = [name for name in schema.columns if name not in frame]
    if absent:
        raise DataError(
            "table", expected=f"the columns {', '.join(schema.columns)}", found=f"no {examples(absent)}", do="Add them"
        )
    return {name: _clean_column(frame[name], column, schema) for name, column in schema.columns.items()}


def require_columns(table: pd.DataFrame, needed: Sequence[str], place: object) -> None:
    """Refuse a prepared table, which may be another model's, without the columns that a model reads.

    Args:
        table: of the artifact `prepared`.
        needed: names of columns.
        place: where the table stands.

    Raises:
        DataError: one is absent.
    """
    if absent := [name for name in needed if name not in table.columns]:
        raise DataError(
            place, expected="the columns that this model reads", found=f"no {examples(absent)}", do="Train again"
        )


def _clean_column(values: pd.Series, column: Column, schema: Schema) -> Any:
    if column.type == "time":
        return _as_utc(values, "UTC" if schema.time is None else schema.time.timezone)
    if column.type == "bytes":
        return _as_bytes(values)
    if column.type == "text":
        cleaned = _as_texts(values)
    else:
        cleaned, found = _as_numbers(values)
        if column.type == "integer" and values.name in schema.keys:
            _refuse_inexact(values, cleaned)
        if within(found, column.min, column.max):  # all that is ruled out of numbers
            return cleaned
    wrong = violations(cleaned, column)
    if wrong.any():
        if column.violation == "refuse":
            rows = np.flatnonzero(wrong)
            first = [shortened(value) for value in cleaned[rows[:MAX_EXAMPLES]]]
            raise DataError(
                f"column {values.name}",
                expected=f"values {range_in_words(column)}",
                found=f"{examples(first, len(rows))} in row {examples(rows.tolist())}",
                do="Correct the rows, or say `violation: missing` in the schema",
            )
        cleaned = np.where(wrong, np.nan, cleaned)
    return cleaned


def _refuse_inexact(values: pd.Series, numbers: np.ndarray) -> None:
    """Refuse keys that floats cannot tell apart, by which two sequences would become one."""
    rows = np.flatnonzero((numbers % 1 != 0) & np.isfinite(numbers) | (np.abs(numbers) >= LARGEST_EXACT))
    if len(rows):
        raise DataError(
            f"column {values.name}",
            expected="whole numbers below 2**53",
            found=f"{examples([shortened(value) for value in numbers[rows[:MAX_EXAMPLES]]], len(rows))} in row {examples(rows.tolist())}",
            do="Correct the rows, or make the key a text",
        )


def _as_utc(times: pd.Series, timezone: str) -> Any:
    """Put time stamps on UTC, see `as_utc`, as pandas' own array."""
    found = times.array
    if times.dtype == TEXT:
        found = times.to_numpy()
        if len(found) < REPEATED and (stamps := _written_in_utc(found)) is not None:
            return stamps
    if not pd.api.types.is_datetime64_any_dtype(found):
        try:
            found = pd.to_datetime(found, format="ISO8601", cache=len(found) >= REPEATED)
        except (ValueError, TypeError) as error:
            one_by_one = pd.to_datetime(pd.Series(found), format="ISO8601", errors="coerce", utc=True)
            rows = np.flatnonzero(one_by_one.isna() & pd.notna(found))
            first = [shortened(found[row]) for row in rows[:MAX_EXAMPLES]]
            raise DataError(
                f"column {times.name}",
                expected="ISO 8601 time stamps, all with an offset or all without",
                found=f"{examples(first, len(rows))} in row {examples(rows.tolist())}"
                if len(rows)
                else "some with an offset and some without",
                do="Correct the column",
            ) from error
    stamps = stamps_of(found)
    if stamps.tz is None:
        stamps = stamps.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT")
    return stamps.tz_convert("UTC").as_unit("us")


def _written_in_utc(texts: np.ndarray) -> Any:
    """Read time stamps that are all of the form `IN_UTC`, in half the time that `pd.to_datetime` takes; None of others, missing ones too."""
    if not all(isinstance(text, str) and len(text) == len(IN_UTC) for text in texts):
        return None
    letters = np.array(texts, dtype=f"U{len(IN_UTC)}")
    codes = letters.view(np.uint32).reshape(len(texts), len(IN_UTC))
    if not ((codes >= LEAST_CODES) & (codes <= LARGEST_CODES)).all():
        return None
    try:
        stamps = letters.astype("U19").astype("M8[us]")
    except ValueError:  # a 30th of February; pandas says where
        return None
    return pd.DatetimeIndex(stamps, tz="UTC").array


def _as_texts(values: pd.Series) -> np.ndarray:
    if values.dtype == object:
        rows = np.flatnonzero([isinstance(value, list | tuple | dict | set | bytes | np.ndarray) for value in values])
        if len(rows):
            raise DataError(
                f"column {values.name}",
                expected="one text in every row",
                found=f"{type(values.iloc[rows[0]]).__name__} in row {examples(rows.tolist())}",
                do="Send each text as a string, in a row of its own",
            )
    if values.dtype != TEXT:
        values = values.astype("str").where(values.notna(), None)
    return values.to_numpy(dtype=object)


def _as_bytes(values: pd.Series) -> np.ndarray:
    found = values.to_numpy(dtype=object)
    wrong = [value for value in found if not (isinstance(value, bytes) or value is None or value is pd.NA)]
    if wrong:
        raise DataError(
            f"column {values.name}",
            expected="files as bytes (base64 in JSON)",
            found=f"{type(wrong[0]).__name__} in {len(wrong)} rows",
            do="Send the content of each file",
        )
    return found


def _as_numbers(values: pd.Series) -> tuple[np.ndarray, tuple[float, float]]:
    """Take numbers as float64, and their `extremes`."""
    try:
        typed = values if values.dtype == np.float64 else pd.to_numeric(values).astype("float64")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"column {values.name}",
            expected="numbers",
            found=str(error)[:120],
            do="Correct the column or its type in the schema",
        ) from error
    numbers: np.ndarray = typed.to_numpy()
    found = extremes(numbers)
    if found[0] == -np.inf or found[1] == np.inf:
        raise DataError(
            f"column {values.name}",
            expected="finite numbers",
            found=f"{int(np.isinf(numbers).sum())} infinite",
            do="Leave them empty, or correct them",
        )
    return numbers, found


def shortened(value: Any) -> Any:
    """Cut a long text: an error is no place for a megabyte."""
    if isinstance(value, str) and len(value) > LONGEST_SHOWN:
        return f"{value[:LONGEST_SHOWN]}... ({len(value):,} characters)"
    return value


def range_in_words(column: Column) -> str:
    """Say which values a column may hold."""
    if column.values is not None:
        return f"among {examples(column.values)}"
    if column.type == "text":
        ends = (column.min_length or 0, "any number of" if column.max_length is None else column.max_length)
        matching = f" that match {column.pattern}" if column.pattern else ""
        return f"of {ends[0]} to {ends[1]} characters{matching}"
    low, high = ("any" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
    return f"from {low} to {high} {column.unit}".strip()
