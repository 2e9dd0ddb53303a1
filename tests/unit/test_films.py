"""Films and pictures: written here with known pixels, read back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from gateline.data import films, frame_inputs
from gateline.data.clips import ClipDataset, DigitClips, DigitsOfPart, FilmClips, make_clips, open_clips, parts_of_film
from gateline.data.films import Colour, decode, describe
from gateline.data.pictures import SIGNATURE, encode_png, read_film, read_pictures
from gateline.data.prepared_clips import ClipsOfWorkload
from gateline.errors import DataError
from gateline.frame_metrics import FRAME_METRICS
from gateline.predictors.frame_prediction import dependence_of
from gateline.scoring.frame_prediction import clip_errors, clip_intervals
from gateline.workload.schema import Schema

LEVELS = [20, 60, 100, 140, 180, 220]


def film_of(frames: np.ndarray, rate: int | Fraction = 10, codec: str = "libx264") -> bytes:
    """Write uint8 (N, Y, X, 3) as mp4."""
    content = io.BytesIO()
    with av.open(content, mode="w", format="mp4") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()


@pytest.fixture(scope="module")
def grey_film() -> bytes:
    """Six frames of one grey each, 48 x 64."""
    return film_of(np.stack([np.full((48, 64, 3), level, dtype=np.uint8) for level in LEVELS]))


def test_a_film_says_what_it_is(grey_film: bytes) -> None:
    film = describe(grey_film)

    assert (film.num_frames, film.height, film.width, film.frames_per_second) == (6, 48, 64, 10.0)
    assert film.duration_seconds == pytest.approx(0.6)


def test_frames_come_back_as_they_were_written(grey_film: bytes) -> None:
    frames = decode(grey_film, height=12, width=20)

    assert frames.shape == (6, 1, 12, 20)
    assert frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - np.array(LEVELS)[:, None, None, None]).max() <= 2


def test_colours_keep_their_order_and_place() -> None:
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    picture[:, :16, 0], picture[:, 16:, 2] = 200, 200  # red to the left, blue to the right
    frames = decode(film_of(np.stack([picture] * 3)), height=32, width=32, colour="rgb").astype(int)

    assert frames.shape == (3, 3, 32, 32)
    assert np.abs(frames[:, 0, 4:-4, 2:12] - 200).max() < 25
    assert np.abs(frames[:, 2, 4:-4, 20:30] - 200).max() < 25
    assert frames[:, 1].mean() < 25


@pytest.mark.parametrize(
    ("rate", "shown"), [(5, [0, 2, 4]), (10, [0, 1, 2, 3, 4, 5]), (20, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])]
)
def test_another_rate_takes_the_frame_shown_at_each_moment(grey_film: bytes, rate: float, shown: list[int]) -> None:
    levels = decode(grey_film, height=8, width=8, frames_per_second=rate).mean(axis=(1, 2, 3))

    assert np.abs(levels - np.array(LEVELS)[shown]).max() <= 2


def test_what_is_no_film_is_refused() -> None:
    sound = io.BytesIO()
    with av.open(sound, mode="w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        part = av.AudioFrame.from_ndarray(np.zeros((1, 400), dtype=np.int16), format="s16", layout="mono")
        part.sample_rate = 8000
        container.mux(stream.encode(part))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="no stream of pictures"):
        describe(sound.getvalue())
    with pytest.raises(DataError, match="FFmpeg can read"):
        decode(b"no film at all" * 9, height=8, width=8, place="column video, row 3")


def test_a_film_cut_short_is_refused(grey_film: bytes) -> None:
    with pytest.raises(DataError):
        decode(grey_film[: len(grey_film) // 2], height=8, width=8)


@pytest.mark.parametrize(("channels", "colour"), [(1, "grey"), (3, "rgb")])
def test_png_is_without_loss(channels: int, colour: Colour, rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (channels, 9, 13)).astype(np.uint8)
    png = encode_png(picture)
    bare = picture.transpose(1, 2, 0).tobytes()

    assert np.array_equal(read_pictures([png, bare], height=9, width=13, colour=colour), np.stack([picture] * 2))
    assert zlib.crc32(png[12:29]) == int.from_bytes(png[29:33])


def test_a_picture_of_another_size_is_named() -> None:
    png = encode_png(np.zeros((1, 4, 5), dtype=np.uint8))
    with pytest.raises(DataError, match=r"row 1: expected a picture of 4 rows and 4 columns; found one of 4 and 5"):
        read_pictures([bytes(16), png], height=4, width=4)


def test_a_film_is_no_picture_and_is_not_decoded_for_its_first_frame(
    grey_film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0

    class Counted:
        def __init__(self, container: object) -> None:
            self.container = container

        def decode(self, stream: object) -> Iterator[object]:
            nonlocal decoded
            for frame in self.container.decode(stream):  # type: ignore[attr-defined]
                decoded += 1
                yield frame

    opened = films._opened

    @contextmanager
    def counted(content: bytes, place: str) -> Iterator[tuple[object, object]]:
        with opened(content, place) as (container, stream):
            yield Counted(container), stream

    monkeypatch.setattr(films, "_opened", counted)
    with pytest.raises(DataError, match=r"column image, row 0: expected a picture: one frame; found a film of several"):
        read_pictures([grey_film], height=48, width=64, place="column image")
    assert decoded == 2  # of six

    one = film_of(np.full((1, 48, 64, 3), 100, dtype=np.uint8))  # a film of a single frame is a picture
    assert np.abs(read_pictures([one], height=48, width=64).astype(int) - 100).max() <= 2


def png_of_size(height: int, width: int, rows: int) -> bytes:
    """A black picture whose header promises more rows than may follow."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packing = zlib.compressobj()
    packed = b"".join(packing.compress(bytes(width + 1)) for _ in range(rows)) + packing.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("height", "width"), [(6000, 6000), (2**15, 2**15)])
def test_a_picture_larger_than_any_is_refused_before_it_is_decoded(height: int, width: int) -> None:
    bomb = png_of_size(height, width, rows=10)
    for refused in (
        lambda: read_film([bomb]),
        lambda: read_pictures([bomb], height=8, width=8),
        lambda: read_pictures([bomb], height=height, width=width),
        lambda: decode(bomb, height=8, width=8),
    ):
        with pytest.raises(DataError, match=r"at most 33,554,432 pixels"):
            refused()


def test_many_small_promises_are_refused_together() -> None:
    black = png_of_size(4000, 4000, rows=4000)
    assert len(black) < 20_000

    with pytest.raises(DataError, match=r"film 3: expected at most .* 268,435,456 bytes .*; found 17 of 4000 x 4000"):
        read_film([black] * 17, place="film 3")


def test_all_films_of_a_request_count_and_those_of_a_table_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_inputs, "MOST_BYTES", 5 * 16 * 16)
    columns = {"clip": {"type": "text"}, "time": {"type": "time"}, "image": {"type": "bytes"}}
    schema = Schema.model_validate({"time": {"column": "time"}, "keys": ["clip"], "columns": columns})
    table = pd.DataFrame(
        {
            "clip": list("aabbcc"),
            "time": pd.to_datetime([0, 1] * 3, unit="s", utc=True),
            "image": [encode_png(np.full((1, 16, 16), level, dtype=np.uint8)) for level in range(6)],
        }
    )
    inputs = frame_inputs.FrameInputs(kind="frames")

    assert inputs.lay_out(table, schema).num_series == 3
    assert inputs.lay_out(table[:4], schema, of_request=True).num_series == 2
    with pytest.raises(DataError, match=r"request, column image: expected at most 1,280 pixels .*; found 1,536"):
        inputs.lay_out(table, schema, of_request=True)


def test_clips_of_films_stay_in_their_part(grey_film: bytes, rng: np.random.Generator, tmp_path: Path) -> None:
    long = rng.integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    table = {"video": [film_of(long), film_of(long[::-1])]}
    settings = FilmClips(kind="frames", column="video", height=16, width=16, validation=0.2, test=0.25)
    clips = make_clips(table, settings, 6)
    films = decode(table["video"][0], height=16, width=16), decode(table["video"][1], height=16, width=16)

    assert parts_of_film(40, settings) == {"train": (0, 22), "validation": (22, 30), "test": (30, 40)}
    assert [clips.count(part) for part in ("train", "validation", "test")] == [2 * 17, 2, 2]
    assert np.array_equal(clips.frames("train", np.array([16, 17])), np.stack([films[0][16:22], films[1][:6]]))
    assert np.array_equal(clips.frames("test", np.array([1])), films[1][None, 30:36])


def test_clips_of_pictures_follow_their_order(tmp_path: Path) -> None:
    pictures = [np.full((1, 4, 4), level, dtype=np.uint8) for level in range(24)]
    order = list(range(24))[::-1]
    table = {"image": [encode_png(pictures[place]) for place in order], "number": order, "film": ["a"] * 24}
    settings = FilmClips(
        kind="frames", column="image", order="number", film="film", height=4, width=4, validation=0.25, test=0.25
    )
    clips = make_clips(table, settings, 3)

    assert clips.frames("train", np.array([2]))[0, :, 0, 0, 0].tolist() == [2, 3, 4]
    assert clips.frames("test", np.array([1]))[0, :, 0, 0, 0].tolist() == [21, 22, 23]


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("number", 6, 506.0, r"column number, film a: .* found 5 in row 5 and then 7 in row 7\. Correct"),
        ("number", 6, 5.0, r"column number, film a: .* found 5 in row 5 and then 5 in row 6\."),
        ("number", 6, np.nan, r"column number: expected a value in every row; found none in row 6\."),
        ("film", 6, None, r"column film: expected a value in every row; found none in row 6\."),
        ("image", 6, None, r"column image: expected a value in every row; found none in row 6\."),
        ("image", 6, b"no picture", r"column image, row 6: expected a film that FFmpeg can read"),
    ],
)
def test_pictures_that_do_not_follow_one_another_are_refused_as_in_a_request(
    column: str, row: int, value: Any, said: str
) -> None:
    picture = encode_png(np.zeros((1, 4, 4), dtype=np.uint8))
    table: dict[str, Any] = {"image": [picture] * 24, "number": [*map(float, range(24))], "film": ["a"] * 24}
    table[column][row] = value
    settings = FilmClips(kind="frames", column="image", order="number", film="film", height=4, width=4)

    with pytest.raises(DataError, match=said):
        make_clips(table, settings, 3)


def test_clips_are_opened_as_they_were_saved(tmp_path: Path, grey_film: bytes) -> None:
    settings = FilmClips(kind="frames", column="video", height=8, width=8, validation=0.34, test=0.33)
    clips = make_clips({"video": [grey_film]}, settings, 2)
    clips.save(tmp_path)
    again = open_clips(tmp_path, settings, 2)
    batch = ClipDataset(again, "test", past=1).__getitems__(np.array([0]))

    assert np.array_equal(again.frames("train", np.array([0])), clips.frames("train", np.array([0])))
    assert batch.past.shape == batch.future.shape == (1, 1, 1, 8, 8)
    assert float(batch.future.mean()) == pytest.approx(LEVELS[5] / 255, abs=0.01)


def test_neighbouring_clips_of_a_film_are_resampled_together(rng: np.random.Generator) -> None:
    """Clips of a quiet stretch of a film are all easy; pictures that are drawn to move are each by themselves."""
    films = FilmClips(kind="frames", column="video", height=8, width=8)
    digits = DigitClips(
        kind="moving_digits",
        **{part: DigitsOfPart(pictures=(n, n + 1), clips=1) for n, part in enumerate(("train", "validation", "test"))},
    )
    of_films, of_digits = (dependence_of(ClipsOfWorkload(clips=clips), 600) for clips in (films, digits))
    widths: dict[int, list[float]] = {of_films: [], of_digits: []}
    for _ in range(8):  # an interval of so few scenes is itself uncertain: 0.86 to 2.2 of the right width over 60 seeds
        level = np.repeat(rng.uniform(1, 5, size=30), 20)[:, None]  # of 30 scenes
        measured = {name: np.repeat(level, 4, axis=1) for name in FRAME_METRICS}
        for dependence, found in widths.items():
            found.append(float(np.diff(clip_intervals(measured, dependence)["ssim"])[0]) / (2 * 1.96 * level.std()))

    assert (of_digits, clip_errors(measured, "", of_films)[0].dependence) == (1, of_films)
    assert np.mean(widths[of_digits]) == pytest.approx(1 / np.sqrt(600), rel=0.1)
    assert np.mean(widths[of_films]) > 1 / np.sqrt(30)  # as of 30 scenes


def test_a_part_without_a_clip_is_refused(grey_film: bytes) -> None:
    with pytest.raises(DataError, match="validation"):
        make_clips({"video": [grey_film]}, FilmClips(kind="frames", column="video", height=8, width=8), 3)
