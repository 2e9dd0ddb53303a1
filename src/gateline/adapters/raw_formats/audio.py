"""Format `audio`: recordings as a table, one row each, with what their headers say and their bytes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from gateline.data.audio import SUFFIXES, describe
from gateline.errors import MAX_EXAMPLES, DataError
from gateline.workload.source import File

ROWS_AT_ONCE = 256
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("duration_seconds", pa.float64()),
        ("sampling_rate", pa.int64()),
        ("channels", pa.int64()),
        ("transcript", pa.string()),
        ("audio", pa.binary()),
    ]
)


def read(path: Path, file: File) -> pa.Table:
    """Read recordings (wav, flac, ogg, mp3, aiff): one file, or all in a zip or a folder that ingest keeps as one.

    Args:
        path: of the file or archive.
        file: names it in errors.

    Returns:
        `path` (in the folder), `size_bytes`, `duration_seconds`, `sampling_rate`, `channels`, `transcript` (the text of NAME.txt
        beside NAME.wav, null where there is none) and `audio` (the bytes as received), ordered by path. Other files are left alone.

    Raises:
        DataError: there is no recording, or some cannot be read; names up to five of them.
    """
    place = f"source.files.{file.name}"
    batches, rows, broken = [], [], list[DataError]()
    for name, content, transcript in _recordings(path, place):
        try:
            recording = describe(content, name)
        except DataError as error:
            broken.append(error)
            continue
        rows.append(
            (
                name,
                len(content),
                recording.duration_seconds,
                recording.sampling_rate,
                recording.channels,
                transcript,
                content,
            )
        )
        if len(rows) == ROWS_AT_ONCE:
            batches.append(_batch(rows))
            rows = []
    if broken:
        more = f" and {len(broken) - MAX_EXAMPLES} more" if len(broken) > MAX_EXAMPLES else ""
        raise DataError(
            place,
            expected="recordings that can be read",
            found="; ".join(f"{error.where}: {error.found}" for error in broken[:MAX_EXAMPLES]) + more,
            do="Convert or remove them",
        )
    if rows or not batches:
        batches.append(_batch(rows))
    table = pa.Table.from_batches(batches, SCHEMA)
    if table.num_rows == 0:
        raise DataError(place, expected=f"recordings ({', '.join(SUFFIXES)})", found="none", do="Look at the folder")
    return table


def _batch(rows: Sequence[tuple[object, ...]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.record_batch(
        [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _recordings(path: Path, place: str) -> Iterator[tuple[str, bytes, str | None]]:
    """Go through recordings by name: name, bytes, transcript."""
    if path.suffix.lower() in SUFFIXES:
        yield path.name, path.read_bytes(), None
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(entry.filename for entry in archive.infolist() if not entry.is_dir())
            texts = {name for name in names if PurePosixPath(name).suffix.lower() == ".txt"}
            for name in names:
                pure = PurePosixPath(name)
                if pure.suffix.lower() not in SUFFIXES or pure.name.startswith("."):
                    continue
                beside = pure.with_suffix(".txt").as_posix()
                yield name, archive.read(name), _text(archive.read(beside), beside) if beside in texts else None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DataError(
            place,
            expected="a recording, or a folder or zip archive of recordings",
            found=" ".join(str(error).split())[:120],
            do="Look at the file",
        ) from error


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(name, expected="UTF-8 text", found=str(error)[:80], do="Save it as UTF-8") from error
