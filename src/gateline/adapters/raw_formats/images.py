"""Pictures in the IDX format of MNIST: one file, many grey pictures of one size.

Source: LeCun, Cortes and Burges, The MNIST database, "File formats": two zeros, the type (8: unsigned bytes), the number of
dimensions, the dimensions as big-endian 32-bit numbers, and then the pixels, row by row.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from gateline.errors import DataError
from gateline.workload.source import File

UNSIGNED_BYTES = 8
DIMENSIONS = 3  # pictures, rows, columns


def read(path: Path, file: File) -> pa.Table:
    """Read the pictures of one file, also packed with gzip.

    Args:
        path: where the file lies.
        file: what the workload says of it.

    Returns:
        number (int64, from 0, as they stand in the file), height and width (int64, pixels), image (binary, height x width
        bytes, row by row, 0 black).

    Raises:
        DataError: it is no IDX file of pictures, or is cut short.
    """
    pictures = read_pictures(path, file)
    count, height, width = pictures.shape
    return pa.table(
        {
            "number": pa.array(range(count), pa.int64()),
            "height": pa.array([height] * count, pa.int64()),
            "width": pa.array([width] * count, pa.int64()),
            "image": pa.array([picture.tobytes() for picture in pictures], pa.binary()),
        }
    )


def read_pictures(path: Path, file: File) -> np.ndarray:
    """Read the pictures of one file: uint8 (N, Y, X).

    Raises:
        DataError: it is no IDX file of pictures, or is cut short.
    """
    content = _unpacked(path, file)
    header = struct.calcsize(">HBB3I")
    if len(content) < header:
        _refuse(file, f"{len(content)} bytes")
    zeros, kind, dimensions, *shape = struct.unpack_from(">HBB3I", content)
    if (zeros, kind, dimensions) != (0, UNSIGNED_BYTES, DIMENSIONS):
        _refuse(file, f"the first bytes {content[:4].hex(' ')}")
    if len(content) - header != math.prod(shape):
        count, height, width = shape
        _refuse(file, f"{len(content) - header} bytes for {count} pictures of {height} x {width}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _unpacked(path: Path, file: File) -> bytes:
    content = path.read_bytes()
    if file.file_name.endswith(".gz") or path.suffix == ".gz":
        try:
            return gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"source.files.{file.name}",
                expected="a gzip file",
                found=str(error)[:120],
                do="Look at the file",
            ) from error
    return content


def _refuse(file: File, found: str) -> None:
    raise DataError(
        f"source.files.{file.name}",
        expected="an IDX file of pictures (00 00 08 03, number, height, width, pixels)",
        found=found,
        do="Look at the file, or give another `format`",
    )
