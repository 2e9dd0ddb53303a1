"""Formats of time stamps that stand as text, and what of a column fits none of them."""

# ruff: noqa: S608  (names of columns are quoted, and the data are the user's own)

from __future__ import annotations

import itertools

import duckdb

DATE_FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%d-%m-%y"),
    *("%m/%d/%Y", "%m-%d-%Y", "%m.%d.%Y", "%m/%d/%y", "%m-%d-%y"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d %Y", "%B %d, %Y"),
)
CLOCK_FORMATS = (
    *("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S.%f", "T%H:%M:%SZ"),
    *(" %I:%M %p", " %I:%M:%S %p", " %H.%M", " %H.%M.%S", " %H", ", %H:%M", " - %H:%M"),
)
FORMATS = tuple(date + clock for date in DATE_FORMATS for clock in CLOCK_FORMATS)
MOSTLY = 0.5
"""Share of readable values from which on a column is meant as time stamps."""


def quoted(name: str) -> str:
    """Quote a column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def formats_that_read(database: duckdb.DuckDBPyConnection, value: str) -> list[str]:
    """List the formats that one text fits."""
    tests = ", ".join(f"try_strptime(trim($1), '{each}') IS NOT NULL" for each in FORMATS)  # a format is a constant
    return list(itertools.compress(FORMATS, database.execute(f"SELECT {tests}", [value]).fetchone() or ()))


def unreadable(database: duckdb.DuckDBPyConnection, name: str) -> tuple[int, int, list[str]] | None:
    """Find what is no time stamp in a column of texts that are mostly such.

    Args:
        database: holds the table `raw`.
        name: of the column.

    Returns:
        Number of rows whose text the best of the formats cannot read, number of rows with a text, and the first of those
        texts, each once; None: the column is not meant as time stamps, or all can be read.
    """
    column = quoted(name)
    sample = database.execute(f"SELECT DISTINCT {column} FROM raw WHERE {column} IS NOT NULL LIMIT 20").fetchall()
    likely = dict.fromkeys(each for (value,) in sample for each in formats_that_read(database, str(value)))
    tries = [
        f"TRY_CAST({column} AS TIMESTAMP)",
        *(f"try_strptime(trim({column}), '{each}')" for each in likely),
    ]
    # %Y takes 24 for the year 24, and then %y is meant.
    reads = [f"CASE WHEN year({each}) >= 1800 THEN {each} END" for each in tries]
    counted = database.execute(
        f"SELECT count({column}), {', '.join(f'count({each})' for each in reads)} FROM raw"
    ).fetchone()
    if counted is None:
        return None
    there, counts = int(counted[0]), [int(each) for each in counted[1:]]
    most = max(counts)
    if most == there or most < MOSTLY * there:
        return None
    best = reads[counts.index(most)]
    failed = database.execute(
        f"SELECT {column} FROM raw WHERE {column} IS NOT NULL AND {best} IS NULL LIMIT 100"
    ).fetchall()
    return there - most, there, list(dict.fromkeys(str(value) for (value,) in failed))


def column_of_texts(database: duckdb.DuckDBPyConnection, texts: list[str]) -> str | None:
    """Find the first column of free text: hardly ever the same, mostly of two words and more.

    Args:
        database: holds the table `raw`.
        texts: names of the columns of type VARCHAR.
    """
    for name in texts:
        column = quoted(name)
        row = database.execute(
            f"SELECT count({column}), count(DISTINCT {column}), "
            f"count(*) FILTER (WHERE regexp_matches({column}, '\\p{{L}}{{2,}}\\P{{L}}+\\p{{L}}{{2,}}')) FROM raw"
        ).fetchone()
        if row is not None and row[0] and min(row[1], row[2]) >= 0.5 * row[0]:
            return name
    return None
