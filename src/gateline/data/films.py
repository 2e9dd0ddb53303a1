"""Films as bytes (mp4, mkv, webm), and their frames as arrays. Decoded by FFmpeg through PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from gateline.errors import DataError

Colour = Literal["grey", "rgb"]

CHANNELS: dict[str, int] = {"grey": 1, "rgb": 3}
FORMATS = {"grey": "gray", "rgb": "rgb24"}
"""What FFmpeg calls them."""
MOST_PIXELS = 2**25
"""Of one frame, as somebody else's header says: a little more than 7680 x 4320. FFmpeg decodes none that is larger."""


@dataclass(frozen=True)
class Film:
    """What the packets of a film say, without a frame decoded.

    Args:
        num_frames: frames that it holds.
        duration_seconds: from the first frame to the end of the last.
        frames_per_second: on average.
        height: of a frame, pixels.
        width: of a frame, pixels.
    """

    num_frames: int
    duration_seconds: float
    frames_per_second: float
    height: int
    width: int


def describe(content: bytes, place: str = "film") -> Film:
    """Look at a film.

    Args:
        content: the file.
        place: for errors.

    Raises:
        DataError: it is no film that can be read, or has no frames.
    """
    with _opened(content, place) as (container, stream):
        count = sum(packet.size > 0 for packet in container.demux(stream))
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if not count or not rate:
            raise DataError(place, expected="a film with frames", found="none", do="Look at the file")
        return Film(count, count / rate, rate, stream.height, stream.width)


def decode(
    content: bytes,
    *,
    height: int,
    width: int,
    frames_per_second: float | None = None,
    colour: Colour = "grey",
    place: str = "film",
) -> np.ndarray:
    """Decode a film in the size and at the rate that a model reads.

    Args:
        content: the file.
        height: of the frames returned, pixels; the whole picture is scaled, whatever its shape.
        width: of the frames returned, pixels.
        frames_per_second: for each moment k / rate since the first frame, the frame shown then; None: every frame.
        colour: grey, or red, green and blue.
        place: for errors.

    Returns:
        uint8 (N, C, Y, X).

    Raises:
        DataError: it is no film that can be read, or has no frames.
    """
    frames: list[np.ndarray] = []
    with _opened(content, place) as (container, stream):
        first, last, until = None, None, 0.0
        for frame in container.decode(stream):
            moment = float(frame.time or 0)
            first = moment if first is None else first
            picture = frame.reformat(width=width, height=height, format=FORMATS[colour], interpolation="AREA")
            if frames_per_second is None:
                frames.append(picture.to_ndarray())
            else:  # what was shown until now stands for the moments before this frame
                due = _moments_before(moment - first, frames_per_second) - len(frames)
                frames += [last] * due if last is not None else []
            last, until = picture.to_ndarray(), moment - first + 1 / float(stream.average_rate or stream.guessed_rate)
        if last is not None and frames_per_second is not None:
            frames += [last] * (_moments_before(until, frames_per_second) - len(frames))
    if not frames:
        raise DataError(place, expected="a film with frames", found="none", do="Look at the file")
    film = np.stack(frames)
    return film[:, None] if film.ndim == 3 else np.ascontiguousarray(film.transpose(0, 3, 1, 2))


def decode_picture(
    content: bytes, *, height: int, width: int, colour: Colour = "grey", place: str = "picture"
) -> np.ndarray:
    """Decode a single picture of a known size: uint8 (C, Y, X).

    Args:
        content: the file.
        height: that it must have, pixels.
        width: that it must have, pixels.
        colour: grey, or red, green and blue.
        place: for errors.

    Raises:
        DataError: it cannot be read, has another size, or is a film; of a film no more than two frames are decoded.
    """
    with _opened(content, place) as (container, stream):
        if (stream.height, stream.width) != (height, width):
            raise DataError(
                place,
                expected=f"a picture of {height} rows and {width} columns",
                found=f"one of {stream.height} and {stream.width}",
                do="Scale it",
            )
        frames = list(islice(container.decode(stream), 2))
        if len(frames) != 1:
            raise DataError(
                place,
                expected="a picture: one frame",
                found="a film of several" if frames else "none",
                do="Send each frame as PNG or JPEG",
            )
        picture = frames[0].reformat(width=width, height=height, format=FORMATS[colour], interpolation="AREA")
        read: np.ndarray = picture.to_ndarray()
    return read[None] if read.ndim == 2 else np.ascontiguousarray(read.transpose(2, 0, 1))


def size_of_picture(content: bytes, place: str = "picture") -> tuple[int, int]:
    """Say how many rows and columns the header of a picture promises, at most `MOST_PIXELS` in all.

    Raises:
        DataError: it cannot be read, or is larger.
    """
    with _opened(content, place) as (_, stream):
        return stream.height, stream.width


def _moments_before(seconds: float, rate: float) -> int:
    """Count the moments k / rate, k = 0, 1, ..., that lie before a time; a rounding of the time stamp is none."""
    return int(np.ceil(seconds * rate - 1e-6))


@contextmanager
def _opened(content: bytes, place: str) -> Iterator[tuple[Any, Any]]:
    """Open a film and its first stream of pictures; turn what FFmpeg says of it into a refusal."""
    import av

    limit = {"max_pixels": str(MOST_PIXELS)}  # already to open a picture, FFmpeg decodes it
    try:
        # From memory: a container that names other files or addresses cannot make FFmpeg open them.
        with av.open(io.BytesIO(content), mode="r", options=limit) as container:
            if not container.streams.video:
                raise DataError(place, expected="a film", found="no stream of pictures", do="Look at the file")
            stream = container.streams.video[0]
            if not 0 < stream.height * stream.width <= MOST_PIXELS:  # FFmpeg leaves a size open that it refused
                found = f"{stream.height} x {stream.width}" if stream.height * stream.width else "more, or no size"
                raise DataError(place, expected=f"frames of at most {MOST_PIXELS:,} pixels", found=found, do="Scale it")
            stream.codec_context.options = limit
            stream.thread_type = "NONE"  # frames come in the same order and number on any machine
            yield container, stream
    except av.FFmpegError as error:
        raise DataError(
            place,
            expected="a film that FFmpeg can read",
            found=" ".join(str(error).split())[:120],
            do="Look at the file",
        ) from error
