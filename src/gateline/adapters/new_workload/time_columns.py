"""Find the time stamps of a raw table, in whatever columns and format they stand.

Every finding is one expression in DuckDB's SQL, so the workload can say in its query what was found here.
"""

# ruff: noqa: S608  (names of columns are quoted, and the data are the user's own)

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pandas as pd

from gateline.adapters.new_workload.time_formats import column_of_texts, formats_that_read, quoted, unreadable
from gateline.errors import DataError, did_you_mean, examples

NAMES_OF_TIME = ("timestamp", "datetime", "date_time", "time", "date", "ds", "day", "when", "utc", "period", "ts")
NAMES_OF_HOUR = ("hour", "hr", "hh", "hour_of_day", "hourofday", "hour_ending", "he", "hod")
NAMES_OF_MINUTE = ("minute", "minutes", "mi", "minute_of_hour")
NAMES_OF_YEAR = ("year", "yyyy")
NAMES_OF_MONTH = ("month", "mnth", "mm")
NAMES_OF_DAY = ("day", "dd", "day_of_month", "mday")

EPOCHS = (("seconds", 1_000_000, 3e8, 5e9), ("milliseconds", 1_000, 3e11, 5e12), ("microseconds", 1, 3e14, 5e15))
WHAT_TO_DO = "Name it with --time COLUMN, or add a column of time stamps (ISO 8601, e.g. 2024-03-01 14:00) to the file"


@dataclass(frozen=True)
class TimeColumn:
    """Where the time stamps are.

    Args:
        name: what the workload calls them.
        expression: DuckDB's SQL that makes them, a TIMESTAMP in UTC or as the clock showed it.
        made_from: columns of the file that they use up.
        note: how they were read, for people; empty when they were time stamps already.
    """

    name: str
    expression: str
    made_from: tuple[str, ...]
    note: str = ""


def find_time(database: duckdb.DuckDBPyConnection, asked: str | None) -> TimeColumn:
    """Find the time stamps of the table `raw`.

    Args:
        database: holds the table `raw`.
        asked: the column that the user named; None: look for it.

    Raises:
        DataError: there is no such column, or none that can be read as time stamps.
    """
    types = column_types(database)
    if asked is not None:
        if asked not in types:
            raise DataError(
                f"--time {asked}", expected="a column of the file", found="none", do=did_you_mean(asked, types)
            )
        found = _read_as_time(database, asked, types[asked], by_name=True)
        if found is None:
            _refuse_unreadable(database, f"--time {asked}", asked, types[asked])
            raise DataError(
                f"--time {asked}",
                expected="dates or time stamps in a known format",
                found=examples([repr(str(value)) for value in _first_values(database, asked)]) or "no value in any row",
                do="Rewrite the column as ISO 8601, e.g. 2024-03-01 14:00",
            )
        return _with_the_clock(database, found, types)
    by_name = sorted(types, key=lambda name: _rank(name, types[name]))
    for name in by_name:
        found = _read_as_time(database, name, types[name], by_name=_hints_at(name, NAMES_OF_TIME))
        if found is not None:
            return _with_the_clock(database, found, types)
    for found in _from_parts(database, types):
        return found
    if len(types) > 3 and all(_is_number(kind) for kind in types.values()):
        shape = f"only numbers in {len(types)} columns ({examples(list(types))})"
        raise DataError(
            "time column",
            expected="a column that says when each row was measured",
            found=shape,
            do="Add a first column of time stamps to the file; if each column is one series (a wide table), also say "
            "--target COLUMN, or turn it into rows `time, series, value` with DuckDB's UNPIVOT and say --key series",
        )
    for name in by_name:
        _refuse_unreadable(database, f"column {name}", name, types[name])
    text = column_of_texts(database, [name for name, kind in types.items() if kind == "VARCHAR"])
    raise DataError(
        "time column",
        expected="a column of dates or time stamps",
        found=f"none among {examples(list(types))}",
        do=WHAT_TO_DO + (f"; for texts, give --text and --label, e.g. --text {text}" if text is not None else ""),
    )


def _refuse_unreadable(database: duckdb.DuckDBPyConnection, where: str, name: str, kind: str) -> None:
    """Refuse a column that holds time stamps in most rows, and say what it holds in the others."""
    if kind == "VARCHAR" and (found := unreadable(database, name)) is not None:
        failed, there, values = found
        raise DataError(
            where,
            expected="dates or time stamps of one format in every row",
            found=f"{failed:,} of {there:,} that cannot be read: {examples([repr(value) for value in values])}",
            do="Correct them, or leave these cells empty: rows without a time stamp are left out",
        )


def column_types(database: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Name every column of the table `raw` and its type in DuckDB."""
    described = database.execute("DESCRIBE raw").fetchall()
    return {str(row[0]): str(row[1]) for row in described}


def times_of(database: duckdb.DuckDBPyConnection, expression: str) -> pd.Series:
    """Evaluate an expression over the table `raw`, in the order of its rows."""
    frame = database.execute(f"SELECT {expression} AS t FROM raw").df()
    return pd.Series(pd.to_datetime(frame["t"]))


def _hints_at(name: str, words: tuple[str, ...]) -> bool:
    plain = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
    return plain in words or any(part in words for part in plain.split("_"))


def _is_exactly(name: str, words: tuple[str, ...]) -> bool:
    return re.sub(r"[^a-z]+", "_", name.lower()).strip("_") in words


def _is_number(kind: str) -> bool:
    return kind.startswith("DECIMAL") or kind in (
        *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
        *("FLOAT", "DOUBLE"),
    )


def _is_whole(kind: str) -> bool:
    return _is_number(kind) and kind not in ("FLOAT", "DOUBLE") and not kind.startswith("DECIMAL")


def _rank(name: str, kind: str) -> tuple[int, int]:
    """Order candidates: what DuckDB read as time first, then what its name calls time; else as in the file."""
    order = 0 if kind.startswith("TIMESTAMP") else 1 if kind == "DATE" else 2
    return (order, 0 if _hints_at(name, NAMES_OF_TIME) else 1)


def _first_values(database: duckdb.DuckDBPyConnection, name: str, number: int = 3) -> list[object]:
    column = quoted(name)
    return [
        row[0]
        for row in database.execute(f"SELECT {column} FROM raw WHERE {column} IS NOT NULL LIMIT {number}").fetchall()
    ]


def _read_as_time(database: duckdb.DuckDBPyConnection, name: str, kind: str, by_name: bool) -> TimeColumn | None:
    column = quoted(name)
    if kind.startswith("TIMESTAMP WITH TIME ZONE"):
        return TimeColumn(name, f"make_timestamp(epoch_us({column}))", (name,), "its offsets are turned into UTC")
    if kind.startswith("TIMESTAMP") or kind == "DATE":
        expression = column if kind == "TIMESTAMP" else f"CAST({column} AS TIMESTAMP)"
        notes = ["dates, taken as midnight"] if kind == "DATE" else []
        newest = database.execute(f"SELECT max(year({column})) FROM raw").fetchone()
        if newest is not None and newest[0] is not None and newest[0] < 100:
            # DuckDB reads 31.12.24 as a day of the year 24.
            expression = f"{expression} + INTERVAL 2000 YEAR"
            notes.append("years of two digits, taken as 20..")
        return TimeColumn(name, expression, (name,), "; ".join(notes))
    if kind == "VARCHAR":
        return _read_text(database, name)
    if _is_number(kind):
        return _read_number(database, name, by_name)
    return None


def _read_text(database: duckdb.DuckDBPyConnection, name: str) -> TimeColumn | None:
    column = quoted(name)
    first = [str(value) for value in _first_values(database, name, 1)]
    if not first or not re.search(r"\d", first[0]) or len(first[0]) > 40:
        return None
    fitting = []
    for format_ in formats_that_read(database, first[0]):
        # %Y takes 24 for the year 24, and then %y is meant.
        parsed_as = f"try_strptime(trim({column}), '{format_}')"
        test = f"count(*) FILTER (WHERE {column} IS NOT NULL AND coalesce(year({parsed_as}) < 1800, true))"
        row = database.execute(f"SELECT {test} FROM raw").fetchone()
        if row is not None and row[0] == 0:
            fitting.append(format_)
    if not fitting:
        return None
    # 03/04/2024 may be April or March: the reading whose steps are most alike is the right one, day first on a tie.
    best = max(fitting, key=lambda format_: _regularity(times_of(database, f"strptime(trim({column}), '{format_}')")))
    other = [format_ for format_ in fitting if format_ != best]
    note = f"text read as {best}" + (
        f" ({examples(other)} would fit too: correct it if that is meant)" if other else ""
    )
    return TimeColumn(name, f"strptime(trim({column}), '{best}')", (name,), note)


def _regularity(times: pd.Series) -> float:
    steps = times.drop_duplicates().sort_values().diff().dropna()
    return float(steps.value_counts(normalize=True).iloc[0]) if len(steps) else 0.0


def _read_number(database: duckdb.DuckDBPyConnection, name: str, by_name: bool) -> TimeColumn | None:
    """Read a number as a date written 20240301, or as the time since 1970; the latter only if the name says so."""
    column = quoted(name)
    row = database.execute(f"SELECT min({column}), max({column}), count(DISTINCT {column}) FROM raw").fetchone()
    if row is None or row[0] is None or row[2] < 2:
        return None
    low, high = float(row[0]), float(row[1])
    if low >= 19_000_101 and high <= 21_991_231:
        text = f"CAST(CAST({column} AS BIGINT) AS VARCHAR)"
        bad = database.execute(
            f"SELECT count(*) FROM raw WHERE {column} IS NOT NULL AND try_strptime({text}, '%Y%m%d') IS NULL"
        )
        counted = bad.fetchone()
        if counted is not None and counted[0] == 0:
            return TimeColumn(name, f"strptime({text}, '%Y%m%d')", (name,), "numbers such as 20240301, read as dates")
    if by_name or re.search(r"epoch|unix", name.lower()):
        for unit, microseconds, least, most in EPOCHS:
            if least <= low and high <= most:
                expression = f"make_timestamp(CAST(round({column} * {microseconds}) AS BIGINT))"
                return TimeColumn(name, expression, (name,), f"{unit} since 1970-01-01 UTC")
    return None


def _with_the_clock(database: duckdb.DuckDBPyConnection, day: TimeColumn, types: dict[str, str]) -> TimeColumn:
    """Add the hour (and minute) to dates, where other columns hold them."""
    stamps = times_of(database, day.expression)
    if not bool((stamps.dropna() == stamps.dropna().dt.normalize()).all()):
        return day
    first = day.made_from[0]
    date = (
        quoted(first) if day.expression == f"CAST({quoted(first)} AS TIMESTAMP)" else f"CAST({day.expression} AS DATE)"
    )
    for name, kind in types.items():
        if name in day.made_from:
            continue
        column = quoted(name)
        if kind.startswith("TIME") and not kind.startswith("TIMESTAMP"):
            return _joined(day, [name], f"{date} + CAST({column} AS TIME)")
        if kind == "VARCHAR" and _hints_at(name, (*NAMES_OF_TIME, *NAMES_OF_HOUR)):
            for clock in ("%H:%M", "%H:%M:%S", "%H.%M", "%H.%M.%S", "%I:%M %p"):
                if _parses(database, name, clock):
                    return _joined(day, [name], f"{date} + CAST(strptime(trim({column}), '{clock}') AS TIME)")
        if _is_whole(kind) and _is_exactly(name, NAMES_OF_HOUR) and _lies_within(database, name, 0, 24):
            expression = f"{date} + to_hours(CAST({column} AS BIGINT))"
            used = [name]
            minutes = [
                other for other, type_ in types.items() if _is_whole(type_) and _is_exactly(other, NAMES_OF_MINUTE)
            ]
            if minutes and _lies_within(database, minutes[0], 0, 59):
                expression += f" + to_minutes(CAST({quoted(minutes[0])} AS BIGINT))"
                used.append(minutes[0])
            return _joined(day, used, expression)
    return day


def _joined(day: TimeColumn, others: list[str], expression: str) -> TimeColumn:
    columns = (*day.made_from, *others)
    return TimeColumn("time", expression, columns, f"made from {' and '.join(f'`{name}`' for name in columns)}")


def _parses(database: duckdb.DuckDBPyConnection, name: str, format_: str) -> bool:
    column = quoted(name)
    row = database.execute(
        f"SELECT count(*) FROM raw WHERE {column} IS NOT NULL AND try_strptime(trim({column}), '{format_}') IS NULL"
    ).fetchone()
    return row is not None and row[0] == 0


def _lies_within(database: duckdb.DuckDBPyConnection, name: str, low: int, high: int) -> bool:
    row = database.execute(f"SELECT min({quoted(name)}), max({quoted(name)}) FROM raw").fetchone()
    return row is not None and row[0] is not None and low <= row[0] and row[1] <= high


def _from_parts(database: duckdb.DuckDBPyConnection, types: dict[str, str]) -> Iterator[TimeColumn]:
    """Put time stamps together from columns for year, month, day and perhaps hour."""

    def part(words: tuple[str, ...], low: int, high: int) -> str | None:
        named = [name for name, kind in types.items() if _is_whole(kind) and _is_exactly(name, words)]
        return next((name for name in named if _lies_within(database, name, low, high)), None)

    year, month, day = part(NAMES_OF_YEAR, 1900, 2199), part(NAMES_OF_MONTH, 1, 12), part(NAMES_OF_DAY, 1, 31)
    if year is None or month is None or day is None:
        return
    hour = part(NAMES_OF_HOUR, 0, 24)
    used = [year, month, day]
    expression = f"CAST(make_date({quoted(year)}, {quoted(month)}, {quoted(day)}) AS TIMESTAMP)"
    if hour is not None:
        used.append(hour)
        expression += f" + to_hours(CAST({quoted(hour)} AS BIGINT))"
    yield TimeColumn("time", expression, tuple(used), f"made from {', '.join(f'`{name}`' for name in used)}")
