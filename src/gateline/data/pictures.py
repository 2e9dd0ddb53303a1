"""Single pictures as bytes: PNG written here, PNG and JPEG read by FFmpeg through PyAV, or bare pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from gateline.data.films import CHANNELS, MOST_PIXELS, Colour, decode_picture, size_of_picture
from gateline.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 2**28
"""Of the pixels of all pictures that are read together: a request of a few kilobytes can promise any number of them."""
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
    contents: Sequence[bytes],
    *,
    height: int,
    width: int,
    colour: Colour = "grey",
    place: str = "picture",
    rows: Sequence[int] | None = None,
) -> np.ndarray:
    """Read pictures of one size: uint8 (N, C, Y, X).

    Args:
        contents: each a PNG or JPEG, or height x width x channels bytes, row by row.
        height: that they must have, pixels.
        width: that they must have, pixels.
        colour: grey, or red, green and blue.
        place: for errors.
        rows: numbers of the pictures, for errors; from 0 without them.

    Raises:
        DataError: one cannot be read, has another size or is a film, or all together have more than `MOST_BYTES` of pixels.
    """
    channels = CHANNELS[colour]
    size = len(contents) * channels * height * width
    if height * width > MOST_PIXELS or size > MOST_BYTES:
        raise DataError(
            place,
            expected=f"at most {MOST_PIXELS:,} pixels in a picture and {MOST_BYTES:,} bytes of pixels in all of them",
            found=f"{len(contents):,} of {height} x {width}, {size:,} bytes",
            do="Scale them, or send fewer at a time",
        )
    found = np.empty((len(contents), channels, height, width), dtype=np.uint8)
    for row, content in enumerate(contents):
        if len(content) == height * width * channels:
            bare = np.frombuffer(content, dtype=np.uint8).reshape(height, width, channels)
            found[row] = bare.transpose(2, 0, 1)
            continue
        plain = _plain(content, channels, height, width)
        if plain is not None:
            found[row] = plain
            continue
        where = f"{place}, row {row if rows is None else rows[row]}"
        found[row] = decode_picture(content, height=height, width=width, colour=colour, place=where)
    return found


def read_film(contents: Sequence[bytes], *, colour: Colour = "grey", place: str = "film") -> np.ndarray:
    """Read the frames of one film, all of the size of the first: uint8 (N, C, Y, X).

    Args:
        contents: each a PNG or JPEG.
        colour: grey, or red, green and blue.
        place: for errors.

    Raises:
        DataError: as `read_pictures`.
    """
    height, width = size_of_picture(contents[0], f"{place}, row 0")
    return read_pictures(contents, height=height, width=width, colour=colour, place=place)


def _plain(content: bytes, channels: int, height: int, width: int) -> np.ndarray | None:
    """Read a PNG as `encode_png` writes it, many times faster than FFmpeg: uint8 (C, Y, X); None where it is another."""
    begin = len(SIGNATURE) + 25  # the header's chunk
    if len(content) < begin + 24 or not content.startswith(SIGNATURE) or content[begin + 4 : begin + 8] != b"IDAT":
        return None
    header = struct.unpack_from(">IIBBBBB", content, len(SIGNATURE) + 8)
    length = int.from_bytes(content[begin : begin + 4])
    after = begin + 12 + length
    size = height * (1 + width * channels)
    if header != (width, height, 8, COLOUR_TYPES[channels], 0, 0, 0) or content[after + 4 : after + 8] != b"IEND":
        return None
    unpacking = zlib.decompressobj()
    try:
        rows = unpacking.decompress(content[begin + 8 : begin + 8 + length], size + 1)  # a bomb stays packed
    except zlib.error:
        return None
    if len(rows) != size:
        return None
    unfiltered = np.frombuffer(rows, dtype=np.uint8).reshape(height, 1 + width * channels)
    if unfiltered[:, 0].any():
        return None
    return unfiltered[:, 1:].reshape(height, width, channels).transpose(2, 0, 1)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
