"""Format `marked_clips`: films to learn from what is worth showing, made of the pictures of an IDX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from gateline.adapters.raw_formats.images import read_pictures
from gateline.adapters.raw_formats.video_frames import as_rows
from gateline.data.marked_clips import marked_clips
from gateline.errors import DataError
from gateline.workload.section import Section, read_section
from gateline.workload.source import File


class Options(Section):
    """Which clips are made; see `gateline.data.marked_clips`."""

    clips: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=30)] = 40
    """Of each clip."""
    size: Annotated[int, Field(ge=8)] = 64
    """Height and width of a frame, pixels."""
    pools: Annotated[int, Field(ge=1)] = 10
    """Into how many the pictures are cut; each clip draws from one of them."""
    seed: Annotated[int, Field(ge=0)] = 0


def read(path: Path, file: File) -> pa.Table:
    """Make clips, and write them frame by frame.

    Args:
        path: where the file lies.
        file: what the workload says of it; `options` are `Options`.

    Returns:
        clip, frame, time and image as of `video_frames`, and pool (text), event (text, what happens in this frame, null for
        nothing) and marked (int64, 1 in the frames of an event).

    Raises:
        DataError: it is no IDX file of pictures, or its pictures do not fit into a frame.
        WorkloadError: an option is unknown or missing.
    """
    place = f"source.files.{file.name}"
    options = read_section(f"{place}.options", Options, file.options)
    pictures = read_pictures(path, file)
    if max(pictures.shape[1:]) > options.size or len(pictures) < options.pools:
        raise DataError(
            place,
            expected=f"at least {options.pools} pictures of at most {options.size} rows and columns",
            found=f"{len(pictures)} of {pictures.shape[1]} x {pictures.shape[2]}",
            do="Correct `options`",
        )
    made = marked_clips(
        pictures,
        num_clips=options.clips,
        num_frames=options.frames,
        size=options.size,
        num_pools=options.pools,
        seed=options.seed,
    )
    tables = []
    for number, clip in enumerate(made):
        rows = as_rows([f"made_{number:04d}"] * options.frames, np.arange(options.frames), clip.frames[:, None])
        rows = rows.append_column("pool", pa.array([str(clip.pool)] * options.frames, pa.string()))
        rows = rows.append_column("event", pa.array(clip.happened, pa.string()))
        tables.append(rows.append_column("marked", pa.array(clip.marked, pa.int64())))
    return pa.concat_tables(tables)
