"""Single pictures as bytes: PNG written here, PNG and JPEG read by FFmpeg through PyAV, or bare pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from gateline.data.films import CHANNELS, Colour, decode, describe
from gateline.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 3: 2}
"""What PNG calls grey and red-green-blue, by number of channels."""


def encode_png(picture: np.ndarray) -> bytes:
    """Write a picture as PNG, without loss.

    Args:
        picture: uint8 (C, Y, X), 1 or 3 channels.

    Source: W3C, Portable Network Graphics, second edition, sections 5 and 11.
    """
    channels, height, width = picture.shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    rows = picture.transpose(1, 2, 0).reshape(height, width * channels)
    unfiltered = np.concatenate(
        [np.zeros((height, 1), dtype=np.uint8), rows], axis=1
    )  # each row begins with its filter
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes(), 6)), (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def read_pictures(
    contents: Sequence[bytes], *, height: int, width: int, colour: Colour = "grey", place: str = "picture"
) -> np.ndarray:
    """Read pictures of one size: uint8 (N, C, Y, X).

    Args:
        contents: each a PNG or JPEG, or height x width x channels bytes, row by row.
        height: that they must have, pixels.
        width: that they must have, pixels.
        colour: grey, or red, green and blue.
        place: for errors.

    Raises:
        DataError: one cannot be read, or has another size.
    """
    channels = CHANNELS[colour]
    found = np.empty((len(contents), channels, height, width), dtype=np.uint8)
    for row, content in enumerate(contents):
        if len(content) == height * width * channels:
            bare = np.frombuffer(content, dtype=np.uint8).reshape(height, width, channels)
            found[row] = bare.transpose(2, 0, 1)
            continue
        where = f"{place}, row {row + 1}"
        film = describe(content, where)
        if (film.height, film.width) != (height, width):
            raise DataError(
                where,
                expected=f"a picture of {height} rows and {width} columns",
                found=f"one of {film.height} and {film.width}",
                do="Scale it",
            )
        found[row] = decode(content, height=height, width=width, colour=colour, place=where)[0]
    return found


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
