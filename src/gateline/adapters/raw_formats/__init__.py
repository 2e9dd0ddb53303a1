"""Raw files that are no tables: one module per `source.files[].format`, found by name, that makes a table of one.

Each has a function ``read(path, file) -> pyarrow.Table``: the same file, the same table. A recording, a picture or a clip
becomes a row with its bytes as they came, and columns beside them that say what can be checked: duration, size, rate.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pyarrow as pa

from gateline.workload.source import File

TABLES = ("csv", "parquet")
"""Formats that DuckDB reads by itself."""


def read_raw(path: Path, file: File) -> pa.Table:
    """Make a table of a raw file.

    Args:
        path: where it lies.
        file: what the workload says of it.

    Raises:
        DataError: it cannot be read as its format.
    """
    module = importlib.import_module(f"gateline.adapters.raw_formats.{file.format}")
    table: pa.Table = module.read(path, file)
    return table
