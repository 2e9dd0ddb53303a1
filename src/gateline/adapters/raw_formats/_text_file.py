"""Text files, also packed ones."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from gateline.errors import DataError


def read_text(path: Path, place: str) -> str:
    """Read a UTF-8 text; a name that ends with .gz is unpacked.

    Args:
        path: the file.
        place: what an error calls it.

    Raises:
        DataError: it is no UTF-8, or no gzip file.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(place, expected="a gzip file", found=str(error)[:120], do="Look at the file") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            place,
            expected="UTF-8 text",
            found=f"byte {content[error.start]:#04x} at {error.start}",
            do="Convert the file",
        ) from error
