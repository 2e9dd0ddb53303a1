"""Raw files of pictures and films become tables."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gateline.adapters.raw_formats import read_raw
from gateline.errors import DataError
from gateline.workload.source import File
from tests.unit.test_films import film_of


def a_file(name: str, kind: str) -> File:
    return File.model_validate({"name": "it", "path": name, "sha256": "0" * 64, "format": kind})


def idx(pictures: np.ndarray) -> bytes:
    return struct.pack(">HBB3I", 0, 8, 3, *pictures.shape) + pictures.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_of_an_idx_file(packed: bool, rng: np.random.Generator, tmp_path: Path) -> None:
    pictures = rng.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    name = "pictures.gz" if packed else "pictures"
    (tmp_path / name).write_bytes(gzip.compress(idx(pictures)) if packed else idx(pictures))
    table = read_raw(tmp_path / name, a_file(name, "images"))

    assert table.schema.equals(
        pa.schema({"number": pa.int64(), "height": pa.int64(), "width": pa.int64(), "image": pa.binary()})
    )
    assert table.to_pylist() == [
        {"number": place, "height": 4, "width": 5, "image": picture.tobytes()} for place, picture in enumerate(pictures)
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes"),
        (struct.pack(">HBB3I", 0, 13, 3, 1, 2, 2) + bytes(16), "00 00 0d 03"),
        (struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(7), "7 bytes for 2 pictures of 2 x 2"),
    ],
)
def test_what_is_no_idx_file_is_refused(content: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(content)
    with pytest.raises(DataError, match=found):
        read_raw(tmp_path / "it", a_file("it", "images"))


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it.gz").write_bytes(b"\x1f\x8b but no more of it")
    with pytest.raises(DataError, match="a gzip file"):
        read_raw(tmp_path / "it.gz", a_file("it.gz", "images"))


def test_a_film_is_one_row_that_says_what_it_is(tmp_path: Path) -> None:
    content = film_of(np.zeros((5, 32, 48, 3), dtype=np.uint8), rate=25)
    (tmp_path / "dark.mp4").write_bytes(content)
    (row,) = read_raw(tmp_path / "dark.mp4", a_file("clips/dark.mp4", "video")).to_pylist()

    assert row == {
        "path": "dark.mp4",
        "size_bytes": len(content),
        "duration_seconds": pytest.approx(0.2),
        "frames": 5,
        "frames_per_second": 25.0,
        "height": 32,
        "width": 48,
        "video": content,
    }


def test_what_is_no_film_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "it.mp4").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(DataError, match=r"source\.files\.it: expected a film"):
        read_raw(tmp_path / "it.mp4", a_file("it.mp4", "video"))
