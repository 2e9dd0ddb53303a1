"""Bytes that stand in a parquet file, by row, without holding more of them than one row group and what is asked for.

DuckDB reads and sorts 2,048 rows at once, whatever a row weighs, and of recordings or pictures these do not fit into memory.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 16
"""Read at once."""
BUFFER_BYTES = 2**16
PLACE = struct.Struct("<qq")
"""Where the bytes of a value begin in the copy, and how many there are; -1 where there is no value."""

Contents = tuple[bytes | None, ...]
"""Of one row, by column."""


class FileContents:
    """Columns of bytes of one parquet file.

    Args:
        path: of the file.
        names: of the columns, at least one.
        scratch: folder for a copy, where rows are asked for in another order than they stand in.
        as_they_stand: rows are asked for one after the other, each once, so nothing has to be copied.
    """

    def __init__(self, path: Path, names: Sequence[str], scratch: Path, *, as_they_stand: bool) -> None:
        self._path, self._names, self._scratch = path, list(names), scratch
        self._next = self._read() if as_they_stand else None
        self._copy: tuple[int, int] | None = None

    def take(self, rows: Sequence[int]) -> Iterator[Contents]:
        """Give the bytes of rows, counted from 0.

        Raises:
            pyarrow.ArrowException: the file cannot be read.
            OSError: there is no room for a copy.
        """
        if self._next is not None:
            return islice(self._next, len(rows))
        return self._copied(rows)

    def _read(self) -> Iterator[Contents]:
        try:
            with pq.ParquetFile(self._path, buffer_size=BUFFER_BYTES) as file:
                for group in range(file.num_row_groups):  # over several, Arrow would hold the dictionaries of all
                    for piece in file.iter_batches(ROWS, row_groups=[group], columns=self._names, use_threads=False):
                        yield from zip(*(piece[name].to_pylist() for name in self._names), strict=True)
        except OSError as error:  # so Arrow calls some of what is wrong inside a file
            raise pa.ArrowInvalid(str(error)) from error

    def _copied(self, rows: Sequence[int]) -> Iterator[Contents]:
        if self._copy is None:
            self._contents = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115  (as long as this object)
            self._places = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115
            for values in self._read():
                for value in values:
                    self._places.write(PLACE.pack(self._contents.tell(), -1 if value is None else len(value)))
                    self._contents.write(value or b"")
            self._contents.flush()
            self._places.flush()
            self._copy = self._contents.fileno(), self._places.fileno()
        contents, places = self._copy
        size = PLACE.size * len(self._names)
        for row in rows:
            found = PLACE.iter_unpack(os.pread(places, size, size * row))
            yield tuple(None if length < 0 else os.pread(contents, length, begin) for begin, length in found)
