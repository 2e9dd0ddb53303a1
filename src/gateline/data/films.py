"""Films as bytes (mp4, mkv, webm), and their frames as arrays. Decoded by FFmpeg through PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gateline.errors import DataError

Colour = Literal["grey", "rgb"]

CHANNELS: dict[str, int] = {"grey": 1, "rgb": 3}
FORMATS = {"grey": "gray", "rgb": "rgb24"}
"""What FFmpeg calls them."""


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


def _moments_before(seconds: float, rate: float) -> int:
    """Count the moments k / rate, k = 0, 1, ..., that lie before a time; a rounding of the time stamp is none."""
    return int(np.ceil(seconds * rate - 1e-6))


@contextmanager
def _opened(content: bytes, place: str) -> Iterator[tuple[Any, Any]]:
    """Open a film and its first stream of pictures; turn what FFmpeg says of it into a refusal."""
    import av

    try:
        # From memory: a container that names other files or addresses cannot make FFmpeg open them.
        with av.open(io.BytesIO(content), mode="r") as container:
            if not container.streams.video:
                raise DataError(place, expected="a film", found="no stream of pictures", do="Look at the file")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # frames come in the same order and number on any machine
            yield container, stream
    except av.FFmpegError as error:
        raise DataError(
            place,
            expected="a film that FFmpeg can read",
            found=" ".join(str(error).split())[:120],
            do="Look at the file",
        ) from error
