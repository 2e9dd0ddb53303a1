"""Rows of a large file in batches of bounded size, the rows of a series never parted.

DuckDB sorts on disk what does not fit into memory; what is in memory is one batch, or one series where that is longer. Files
that stand in the table as bytes are not sorted with it, but put into each batch.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from gateline.adapters.duckdb_names import as_glob
from gateline.adapters.serving.file_contents import Contents, FileContents
from gateline.errors import DataError, did_you_mean, examples

ROW = "gateline_row"
MEMORY = "256MB"
FULL_DISK = ("max_temp_directory_size", "No space left on device")
"""What DuckDB says where what it sorts has no room in the scratch folder."""
"""Of DuckDB, beyond which it sorts on disk."""
LEAST_ROWS, READ_ROWS = 2048, 20_000
"""That are read at once: DuckDB computes no fewer than the first."""
BATCH_BYTES = 32 * 2**20
"""Of files, after which a batch ends with the series."""
NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*|BOOLEAN")
NESTED = re.compile(r".*\]|(STRUCT|MAP|UNION).*")
"""Names of DuckDB's types."""


@dataclass(frozen=True)
class Asked:
    """What a model wants of a table.

    Args:
        types: MLflow's type of each column of a request, by name.
        needed: the columns that must be there.
        keys: columns whose equal values make a series; empty where each row is a request of its own, or all are one series.
        order: column that orders the rows of a series; None where each row is a request of its own.
        known: columns of the table of training, which may stand in a file without being read.
    """

    types: Mapping[str, str]
    needed: tuple[str, ...]
    keys: tuple[str, ...]
    order: str | None
    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Asked:
        """Read what a model says of itself: columns of requests and answers, and the schema of its table."""
        types = {str(column["name"]): str(column["type"]) for column in model["asked"]}
        needed = tuple(str(column["name"]) for column in model["asked"] if column.get("required", True))
        known = tuple(str(name) for name in model["columns"])
        time = (model.get("time") or {}).get("column")
        if set(types) <= set(model["columns"]):
            if time not in types:
                return cls(types, needed, (), None, known)
            return cls(types, needed, tuple(key for key in model["keys"] if key in types), time, known)
        # Requests are not rows of the table: what an answer repeats of a request says where a row belongs.
        shared = [column["name"] for column in model["answers"] if column["name"] in types]
        keys = tuple(name for name in shared if types[name] == "string")
        return cls(types, needed, keys, next((name for name in shared if types[name] != "string"), None), known)

    def refuse_misspelt(self, path: Path, there: Iterable[str]) -> None:
        """Refuse a file with a column that nobody knows, where it lacks one that is nearly spelt so.

        Any other column that nobody knows passes: a file may be wider than what the model reads.

        Raises:
            DataError: so; the second would count as missing without a word.
        """
        absent = [name for name in self.types if name not in self.needed and name not in there]
        unknown = [name for name in there if name not in self.types and name not in self.known]
        for name in unknown:
            if close := difflib.get_close_matches(name, absent, n=1):
                raise DataError(
                    f"{path}, column {name}",
                    expected="columns that the model knows",
                    found=f"one that it does not, and no {close[0]}",
                    do=f"Name it as the model does, or leave it out. {did_you_mean(name, absent)}",
                )


def is_parquet(path: Path) -> bool:
    """Say whether a file is parquet, by its name; else it is csv, compressed maybe.

    Raises:
        DataError: it is called like neither.
    """
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings[-1:] == [".parquet"]:
        return True
    if ".csv" not in endings:
        raise DataError(
            path,
            expected="a name that ends with .csv or .parquet",
            found=path.name,
            do="Write the rows as csv or parquet, and name the file so",
        )
    return False


class InputBatches:
    """A csv or parquet file as requests.

    Args:
        path: of the file.
        asked: what the model wants.
        scratch: folder for sorting.
    """

    def __init__(self, path: Path, asked: Asked, scratch: Path) -> None:
        self._path, self._asked, self._scratch = path, asked, scratch
        self._database = duckdb.connect(
            ":memory:", config={"memory_limit": MEMORY, "threads": 1, "temp_directory": str(scratch)}
        )
        self._database.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        self._name = as_glob(path)
        try:
            self._source = "read_parquet(?)" if is_parquet(path) else self._csv_source()
            self._there = self._described(self._source)
            counted = self._database.execute(f"SELECT count(*) FROM {self._source}", [self._name]).fetchall()  # noqa: S608  names of columns, quoted
        except duckdb.Error as error:
            raise self._unreadable(error) from error
        self.num_rows = int(counted[0][0])
        for name in asked.types:
            if NESTED.fullmatch(self._there.get(name, "")):
                raise DataError(
                    f"{path}, column {name}",
                    expected="one text, number or time stamp in every row",
                    found=f"values of the type {self._there[name]}",
                    do="Write each value in a row of its own",
                )
        if missing := [name for name in asked.needed if name not in self._there]:
            raise DataError(
                path,
                expected=f"the columns {', '.join(asked.needed)}",
                found=f"no {examples(missing)}",
                do="Add them, or name the columns so",
            )
        asked.refuse_misspelt(path, self._there)
        self._names = [name for name in asked.types if name in self._there]
        binary = [name for name in self._names if asked.types[name] == "binary"]
        self._paths = [name for name in binary if self._there[name] == "VARCHAR"]
        self._inside = [name for name in binary if self._there[name] == "BLOB"]

    def _pieces(self, size: int) -> Iterator[pa.Table]:
        """Give every row once, without the files inside, in pieces of so many in the order of series and time, or as they stand."""
        columns = "".join(f"{self._as_asked(name)}, " for name in self._names if name not in self._inside)
        order = [*map(_quoted, self._asked.keys), *([self._moment(self._asked.order)] if self._asked.order else [])]
        sort = f" ORDER BY {', '.join([*order, _quoted(ROW)])}" if order else ""
        numbered = f"SELECT *, row_number() OVER () - 1 AS {ROW} FROM {self._source}"  # noqa: S608  one of two names
        query = f"SELECT {columns}{ROW} FROM ({numbered}){sort}"  # noqa: S608  quoted names
        try:
            reader: pa.RecordBatchReader = self._database.sql(query, params=[self._name]).to_arrow_reader(size)
            pieces = iter(reader)
            while (piece := next(pieces, None)) is not None:
                yield pa.Table.from_batches([piece])
        except (duckdb.Error, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def batches(self, rows: int) -> Iterator[pa.Table]:
        """Give every row once, in batches of about so many, or of about `BATCH_BYTES` of files, whole series each."""
        alone = self._asked.order is None
        inside = FileContents(self._path, self._inside, self._scratch, as_they_stand=alone) if self._inside else None
        for batch in self._cut(rows, min(READ_ROWS, max(rows, LEAST_ROWS)) if alone else READ_ROWS):
            if self._paths or self._inside:
                yield from self._with_files(batch, inside)
            else:
                yield batch

    def _cut(self, rows: int, size: int) -> Iterator[pa.Table]:
        """Give batches without the files inside."""
        waiting: list[pa.Table] = []
        for piece in self._pieces(size):
            waiting.append(piece)
            if sum(len(each) for each in waiting) < rows:
                continue
            held = pa.concat_tables(waiting)
            cuts = self._cuts(held, rows)
            for first, after in pairwise(cuts):
                yield held.slice(first, after - first)
            waiting = [held.slice(cuts[-1])] if cuts[-1] < len(held) else []
        if waiting:
            held = pa.concat_tables(waiting)
            cuts = [*self._cuts(held, rows), len(held)]
            for first, after in pairwise(cuts):
                if first < after:
                    yield held.slice(first, after - first)

    def _cuts(self, held: pa.Table, rows: int) -> list[int]:
        """Say where batches begin, and where the last whole one ends: every so many rows, but between two series."""
        if self._asked.order is None:
            return list(range(0, len(held) + 1, rows))
        if not self._asked.keys:
            return [0]  # all rows are one series
        keys = held.select(list(self._asked.keys)).to_pandas().astype(str)
        begins = np.flatnonzero((keys != keys.shift()).any(axis=1).to_numpy())
        cuts = [0]
        for begin in begins:
            if begin - cuts[-1] >= rows:
                cuts.append(int(begin))
        return cuts

    def _as_asked(self, name: str) -> str:
        """Bring a column to the type of a request: time stamps as ISO 8601 text, numbers as double."""
        wanted, there, quoted = self._asked.types[name], self._there[name], _quoted(name)
        if wanted == "string" and there.startswith("TIMESTAMP"):
            return f"strftime({quoted}, '%Y-%m-%dT%H:%M:%S{'Z' if 'TIME ZONE' in there else ''}') AS {quoted}"
        if wanted == "string" and there != "VARCHAR":
            return f"CAST({quoted} AS VARCHAR) AS {quoted}"
        if wanted == "double" and NUMBERS.fullmatch(there):
            return f"CAST({quoted} AS DOUBLE) AS {quoted}"
        if wanted == "double":  # the model says in which row there is no number
            return f"CAST({quoted} AS VARCHAR) AS {quoted}"
        return quoted

    def _moment(self, name: str) -> str:
        """What orders the rows of a series; a text that is no time stamp comes last, and the model says so."""
        is_text = self._there[name] == "VARCHAR" and self._asked.types[name] == "string"
        return f"TRY_CAST({_quoted(name)} AS TIMESTAMPTZ)" if is_text else _quoted(name)

    def _csv_source(self) -> str:
        """Say how DuckDB reads a csv: numbers by what all rows hold, and what is asked as a text as it stands.

        So the served model reads it: a code 2e3 is no number, 10:30 no 10:30:00, and whether 03/04 is in March or April is not guessed.
        """
        names = self._described("read_csv(?, header = true, all_varchar = true)")
        texts = [name for name, kind in self._asked.types.items() if kind != "double" and name in names]
        types = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in texts)
        return f"read_csv(?, header = true, sample_size = -1{f', types = {{{types}}}' if texts else ''})"

    def _described(self, source: str) -> dict[str, str]:
        """Ask DuckDB for the type of each column."""
        rows = self._database.execute(f"DESCRIBE SELECT * FROM {source}", [self._name]).fetchall()  # noqa: S608  names of columns, quoted
        return {str(row[0]): str(row[1]) for row in rows}

    def _unreadable(self, error: Exception) -> DataError | OSError:
        if any(words in str(error) for words in FULL_DISK):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._scratch))
        return DataError(
            self._path,
            expected="a csv or parquet file",
            found=" ".join(str(error).split())[:200],
            do="Correct the path, or write such a file",
        )

    def _with_files(self, batch: pa.Table, inside: FileContents | None) -> Iterator[pa.Table]:
        """Put the content of files in, in as many batches as that makes: of paths, which count from the folder of the table, and of bytes."""
        first, size, held = 0, 0, []
        ends = {*self._cuts(batch, 1), len(batch)}  # between any two series
        for place, contents in enumerate(self._contents(batch, inside), start=1):
            held.append(contents)
            size += sum(len(content) for content in contents if content is not None)
            if place == len(batch) or (size >= BATCH_BYTES and place in ends):
                joined = self._joined(batch.slice(first, place - first), held)
                first, size, held = place, 0, []
                yield joined

    def _contents(self, batch: pa.Table, inside: FileContents | None) -> Iterator[Contents]:
        """Read the files of each row: those that are named, then those inside."""
        rows = batch[ROW].to_pylist()
        paths = [batch[name].to_pylist() for name in self._paths]
        try:
            taken = iter(()) if inside is None else inside.take(rows)
            for place, row in enumerate(rows):
                found = () if inside is None else next(taken)
                yield (*(self._read(each[place], row) for each in paths), *found)
        except pa.ArrowException as error:
            raise self._unreadable(error) from error

    def _joined(self, batch: pa.Table, contents: list[Contents]) -> pa.Table:
        for place, name in enumerate([*self._paths, *self._inside]):
            values = pa.array([each[place] for each in contents], pa.binary())
            batch = batch.drop_columns([name]) if name in self._paths else batch
            batch = batch.append_column(name, values)
        return batch.select([*self._names, ROW])

    def _read(self, path: str | None, row: int) -> bytes | None:
        if path is None:
            return None
        try:
            return (self._path.parent / path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{self._path}, row {row}",
                expected="the path of a file, from the folder of the table",
                found=f"{path}: {error.strerror}",
                do="Correct the path",
            ) from error


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
