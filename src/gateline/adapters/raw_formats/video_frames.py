"""Format `video_frames`: a film as a table, one row per frame, in the size and at the rate that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from gateline.data.films import decode
from gateline.data.pictures import encode_png
from gateline.workload.section import Section, read_section
from gateline.workload.source import File

MICROSECONDS = 1_000_000
BEGIN = 946_684_800 * MICROSECONDS
"""2000-01-01, of which frame k is second k: a table of series is ordered by whole seconds, and frames come faster."""


class Options(Section):
    """How a film is read."""

    height: Annotated[int, Field(ge=8, le=4096)]
    width: Annotated[int, Field(ge=8, le=4096)]
    frames_per_second: Annotated[float, Field(gt=0)] | None = None
    """Without it, every frame."""


def read(path: Path, file: File) -> pa.Table:
    """Decode a film.

    Args:
        path: where the file lies.
        file: what the workload says of it; `options` are `Options`.

    Returns:
        clip (the name of the file in the workload), frame (int64, from 0), time (frame k is second k of the year 2000), image (PNG,
        grey).

    Raises:
        DataError: it is no film that can be read.
        WorkloadError: an option is unknown or missing.
    """
    place = f"source.files.{file.name}"
    options = read_section(f"{place}.options", Options, file.options)
    film = decode(path.read_bytes(), place=place, **options.model_dump())
    return as_rows([file.name] * len(film), np.arange(len(film)), film)


def as_rows(clips: Sequence[str], numbers: np.ndarray, frames: np.ndarray) -> pa.Table:
    """Make one row per frame.

    Args:
        clips: N names.
        numbers: int (N,), the place of each frame in its clip.
        frames: uint8 (N, C, Y, X).
    """
    return pa.table(
        {
            "clip": pa.array(clips, pa.string()),
            "frame": pa.array(numbers, pa.int64()),
            "time": pa.array(BEGIN + numbers.astype(np.int64) * MICROSECONDS, pa.timestamp("us", tz="UTC")),
            "image": pa.array([encode_png(frame) for frame in frames], pa.binary()),
        }
    )
