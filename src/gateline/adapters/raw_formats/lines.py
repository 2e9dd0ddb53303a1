"""Format `lines`: one row per line of a text; parallel texts are joined by the number of the line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from gateline.adapters.raw_formats._text_file import read_text
from gateline.workload.source import File


def read(path: Path, file: File) -> pa.Table:
    """Make the columns `line` (int64, from 1) and `text`.

    A line ends with a line feed; a carriage return before it belongs to the end. So a text never splits where Python
    alone sees a new line, and parallel files keep their lines beside each other.

    Raises:
        DataError: it is no UTF-8 text.
    """
    text = read_text(path, f"source.files.{file.name}")
    lines = text.split("\n")
    if lines[-1] == "":  # what the last line feed ends is no line
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    return pa.table(
        {"line": pa.array(range(1, len(lines) + 1), pa.int64()), "text": pa.array(lines, pa.string())},
    )
