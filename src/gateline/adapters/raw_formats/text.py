"""Format `text`: all of a text in one row."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from gateline.adapters.raw_formats._text_file import read_text
from gateline.workload.source import File


def read(path: Path, file: File) -> pa.Table:
    """Make one row with the column `text`.

    Raises:
        DataError: it is no UTF-8 text.
    """
    return pa.table({"text": pa.array([read_text(path, f"source.files.{file.name}")], pa.string())})
