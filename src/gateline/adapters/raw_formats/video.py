"""A film in any container that FFmpeg reads (mp4, mkv, webm): one row that says what it is, and holds it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from gateline.data.films import describe
from gateline.workload.source import File


def read(path: Path, file: File) -> pa.Table:
    """Read one film; its frames stay packed until a later step asks for them in a size and at a rate.

    Args:
        path: where the file lies.
        file: what the workload says of it.

    Returns:
        One row: path, size_bytes, duration_seconds, frames, frames_per_second, height, width, video (binary, the file).

    Raises:
        DataError: it is no film that can be read.
    """
    content = path.read_bytes()
    film = describe(content, f"source.files.{file.name}")
    return pa.table(
        {
            "path": pa.array([file.file_name], pa.string()),
            "size_bytes": pa.array([len(content)], pa.int64()),
            "duration_seconds": pa.array([film.duration_seconds], pa.float64()),
            "frames": pa.array([film.num_frames], pa.int64()),
            "frames_per_second": pa.array([film.frames_per_second], pa.float64()),
            "height": pa.array([film.height], pa.int64()),
            "width": pa.array([film.width], pa.int64()),
            "video": pa.array([content], pa.binary()),
        }
    )
