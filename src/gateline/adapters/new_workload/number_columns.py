"""How each column of a table is read, in DuckDB's SQL, so that the workload can say in its query what was found here."""

# ruff: noqa: S608  (names of columns are quoted, and the data are the user's own)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import duckdb

from gateline.adapters.new_workload.time_formats import quoted
from gateline.errors import examples

NUMBER_TYPES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
MOSTLY = 0.95
"""Of texts that are numbers, in a column that is read as numbers."""


@dataclass(frozen=True)
class ReadAs:
    """How one column of the file is read."""

    expression: str
    type: Literal["float", "integer", "boolean", "text", "other"]
    note: str = ""


def read_as(database: duckdb.DuckDBPyConnection, name: str, kind: str) -> ReadAs:
    """Find out how a column of the table `raw` is read: texts that are numbers as numbers, infinite ones as missing.

    Args:
        database: holds the table.
        name: of the column.
        kind: DuckDB's type of it.
    """
    return _without_infinite(database, _number_expression(database, name, kind))


def _number_expression(database: duckdb.DuckDBPyConnection, name: str, kind: str) -> ReadAs:
    column = quoted(name)
    if kind == "BOOLEAN":
        return ReadAs(column, "boolean")
    if kind in NUMBER_TYPES:
        return ReadAs(column, "integer")
    if kind == "DOUBLE":
        return ReadAs(column, "float")
    if kind in ("FLOAT", "HUGEINT", "UBIGINT", "UHUGEINT") or kind.startswith("DECIMAL"):
        return ReadAs(f"CAST({column} AS DOUBLE)", "float")
    if kind != "VARCHAR" and not kind.startswith("ENUM"):
        return ReadAs(f"CAST({column} AS VARCHAR)", "other")
    comma = f"TRY_CAST(replace({column}, ',', '.') AS DOUBLE)"
    for expression, style in ((f"TRY_CAST({column} AS DOUBLE)", "text"), (comma, "text with a decimal comma")):
        row = database.execute(
            f"SELECT count({expression}), count({column}), list(DISTINCT {column}) FILTER (WHERE {expression} IS NULL) FROM raw"
        ).fetchone()
        if row is not None and row[1] and row[0] >= MOSTLY * row[1]:
            strange = [repr(value) for value in (row[2] or []) if value is not None]
            lost = f"; {examples(strange)} in {row[1] - row[0]} rows read as missing" if strange else ""
            return ReadAs(expression, "float", f"{style} in the file{lost}")
    return ReadAs(column, "text")


def _without_infinite(database: duckdb.DuckDBPyConnection, read: ReadAs) -> ReadAs:
    """Let the query read infinite numbers as missing: no step takes them."""
    if read.type != "float":
        return read
    row = database.execute(f"SELECT count(*) FILTER (WHERE isinf({read.expression})) FROM raw").fetchone()
    if row is None or not row[0]:
        return read
    note = "; ".join(part for part in (read.note, f"{row[0]} infinite values read as missing") if part)
    return ReadAs(f"CASE WHEN NOT isinf({read.expression}) THEN {read.expression} END", "float", note)
