"""Clips: short films of one length, which a model reads frame by frame; made from digits that move, or cut from films.

FOLDER/
├── pictures.npy            uint8 (N, h, w): the digits; or
├── frames.npy              uint8 (N, C, Y, X): films, frame after frame
└── clips/PART.npy          int64 (E,): the first frame of each clip of a part, where they are cut from films
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch.utils.data import Dataset

from gateline.batch import ClipBatch
from gateline.data.films import CHANNELS, Colour, decode
from gateline.data.moving_digits import MovingDigits
from gateline.data.pictures import read_pictures
from gateline.data.splits import PARTS
from gateline.data.store import save_array
from gateline.errors import DataError, examples
from gateline.workload.section import Section

PICTURES, FRAMES, CLIPS = "pictures.npy", "frames.npy", "clips"
MOVED_AT_A_TIME = 256  # clips that are made in memory on their way to a device

Count = Annotated[int, Field(ge=1)]


class DigitsOfPart(Section):
    """What the clips of one part are made of."""

    pictures: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
    """First row of the table that the part draws from, and the one after the last."""
    clips: Count
    """How many clips there are; they take no space."""

    @model_validator(mode="after")
    def _has_pictures(self) -> DigitsOfPart:
        if self.pictures[0] >= self.pictures[1]:
            raise ValueError(f"`pictures` of which the first comes before the last, got {list(self.pictures)}")
        return self


class DigitClips(Section):
    """Pictures of the table move across a black square: `gateline.data.moving_digits`."""

    kind: Literal["moving_digits"]
    column: str = "image"
    """Holds the pictures: PNG, JPEG or bare grey pixels."""
    height: str = "height"
    """Column of their height in pixels; the same in all rows."""
    width: str = "width"
    """Column of their width."""
    num_digits: Count = 2
    size: Count = 64
    """Height and width of a frame, pixels."""
    step: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What a digit moves per frame, as a share of the way from wall to wall."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of what the clips show. It is the data's own, and not that of training."""
    train: DigitsOfPart
    validation: DigitsOfPart
    test: DigitsOfPart

    @model_validator(mode="after")
    def _no_picture_twice(self) -> DigitClips:
        ranges = sorted(getattr(self, part).pictures for part in PARTS)
        for (_, after), (first, _) in pairwise(ranges):
            if first < after:
                raise ValueError(
                    f"pictures that belong to one part only, got row {first} in two of `train`, `validation`, `test`"
                )
        return self

    @property
    def run_on(self) -> bool:
        """Whether a clip shows what the one before it shows, a little later: these are drawn each by itself."""
        return False

    def trains(self, num_rows: int) -> np.ndarray:
        """Mark the rows of the table that training clips are made of: bool (N,)."""
        first, after = self.train.pictures
        return (np.arange(num_rows) >= first) & (np.arange(num_rows) < after)

    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a frame."""
        return 1, self.size, self.size


class FilmClips(Section):
    """Clips cut from films: each film's beginning for training, then validation, its end for test."""

    kind: Literal["frames"]
    column: str
    """Holds films (mp4, mkv, webm), one a row; with `order`, single pictures (PNG, JPEG)."""
    order: str | None = None
    """Column by which pictures follow one another in their film."""
    film: str | None = None
    """Column that says which film a picture is of; without it, all are of one."""
    height: Count
    width: Count
    """Size that frames are scaled to, pixels. Single pictures must have it."""
    colour: Colour = "grey"
    frames_per_second: Annotated[float, Field(gt=0)] | None = None
    """Rate at which films are read; without it, every frame."""
    stride: Count = 1
    """Frames between the first frames of two clips of the training part; those of the others do not overlap."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of each film, before the test part."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of each film, at its end."""

    @model_validator(mode="after")
    def _leaves_something(self) -> FilmClips:
        if self.validation + self.test >= 1:
            raise ValueError(f"`validation` and `test` of less than 1 together, got {self.validation + self.test:g}")
        return self

    @property
    def run_on(self) -> bool:
        """Whether a clip shows what the one before it shows, a little later: in a film, they do."""
        return True

    def trains(self, num_rows: int) -> np.ndarray:
        """Mark the rows of the table that training clips are made of: bool (N,). Each film has a part for training."""
        return np.ones(num_rows, dtype=bool)

    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a frame."""
        return CHANNELS[self.colour], self.height, self.width


ClipSettings = Annotated[DigitClips | FilmClips, Field(discriminator="kind")]
"""Where clips come from."""


class Clips(Protocol):
    """Clips of three parts, by number."""

    def count(self, part: str) -> int:
        """How many clips a part has."""

    def frames(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Give some clips: uint8 (B, T, C, Y, X) for int64 (B,)."""

    def save(self, folder: Path) -> None:
        """Write what `open_clips` needs."""


class ClipsOfDigits:
    """Clips that are made when asked for.

    Args:
        settings: what they show.
        pictures: uint8 (N, h, w).
        num_frames: T of a clip.
    """

    def __init__(self, settings: DigitClips, pictures: np.ndarray, num_frames: int) -> None:
        self._settings, self._pictures = settings, pictures
        self._digits = MovingDigits(
            pictures,
            {part: getattr(settings, part).pictures for part in PARTS},
            seed=settings.seed,
            num_frames=num_frames,
            num_digits=settings.num_digits,
            size=settings.size,
            step=settings.step,
        )

    @classmethod
    def of_table(cls, table: Mapping[str, Any], settings: DigitClips, num_frames: int) -> ClipsOfDigits:
        """Read the pictures of a table; see `make_clips`."""
        images = table[settings.column]
        sizes = {(int(h), int(w)) for h, w in zip(table[settings.height], table[settings.width], strict=True)}
        last = max(getattr(settings, part).pictures[1] for part in PARTS)
        if len(sizes) != 1 or len(images) < last:
            raise DataError(
                "preprocess.clips",
                expected=f"{last} pictures of one size",
                found=f"{len(images)} of {len(sizes)} sizes",
                do="Correct `pictures`, or the query",
            )
        ((height, width),) = sizes
        if max(height, width) > settings.size:
            raise DataError(
                "preprocess.clips.size",
                expected=f"at least {max(height, width)}, so that a picture fits into a frame",
                found=str(settings.size),
                do="Raise it",
            )
        read = read_pictures(images[:last], height=height, width=width, place=f"column {settings.column}")
        return cls(settings, read[:, 0], num_frames)

    @classmethod
    def open(cls, folder: Path, settings: DigitClips, num_frames: int) -> ClipsOfDigits:
        """Map what `save` wrote."""
        return cls(settings, np.load(folder / PICTURES, mmap_mode="r", allow_pickle=False), num_frames)

    def count(self, part: str) -> int:
        """How many clips a part has."""
        return int(getattr(self._settings, part).clips)

    def frames(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Paint some clips: uint8 (B, T, 1, Y, X)."""
        return self._digits.clips(part, rows)[:, :, None]

    def save(self, folder: Path) -> None:
        """Write the pictures."""
        save_array(folder / PICTURES, self._pictures)


class ClipsOfFilms:
    """Clips cut from films.

    Args:
        films: uint8 (N, C, Y, X), one film after the other.
        firsts: int64 (E,) for each part, the first frame of each clip.
        num_frames: T of a clip.
    """

    def __init__(self, films: np.ndarray, firsts: Mapping[str, np.ndarray], num_frames: int) -> None:
        self._films, self._firsts, self._num_frames = films, firsts, num_frames

    @classmethod
    def of_table(cls, table: Mapping[str, Any], settings: FilmClips, num_frames: int) -> ClipsOfFilms:
        """Decode the films of a table, and cut them; see `make_clips`."""
        films = list(films_of(table, settings))
        starts = np.cumsum([0, *map(len, films)])
        firsts: dict[str, list[int]] = {part: [] for part in PARTS}
        for start, film in zip(starts[:-1].tolist(), films, strict=True):
            for part, (begin, end) in parts_of_film(len(film), settings).items():
                step = settings.stride if part == "train" else num_frames
                firsts[part] += range(start + begin, start + end - num_frames + 1, step)
        for part, found in firsts.items():
            if not found:
                raise DataError(
                    f"preprocess.clips: {part}",
                    expected=f"at least one clip of {num_frames} frames",
                    found=f"none in {len(films)} films of {starts[-1]} frames together",
                    do="Raise the part's share or `frames_per_second`, or bring longer films",
                )
        return cls(
            np.concatenate(films), {part: np.array(found, dtype=np.int64) for part, found in firsts.items()}, num_frames
        )

    @classmethod
    def open(cls, folder: Path, num_frames: int) -> ClipsOfFilms:
        """Map what `save` wrote."""
        firsts = {part: np.load(folder / CLIPS / f"{part}.npy", allow_pickle=False) for part in PARTS}
        return cls(np.load(folder / FRAMES, mmap_mode="r", allow_pickle=False), firsts, num_frames)

    def count(self, part: str) -> int:
        """How many clips a part has."""
        return len(self._firsts[part])

    def frames(self, part: str, rows: np.ndarray) -> np.ndarray:
        """Copy some clips: uint8 (B, T, C, Y, X)."""
        return self._films[self._firsts[part][rows][:, None] + np.arange(self._num_frames)]

    def save(self, folder: Path) -> None:
        """Write frames and places of clips."""
        save_array(folder / FRAMES, self._films)
        (folder / CLIPS).mkdir()
        for part, firsts in self._firsts.items():
            save_array(folder / CLIPS / f"{part}.npy", firsts)


def make_clips(table: Mapping[str, Any], settings: DigitClips | FilmClips, num_frames: int) -> Clips:
    """Make clips of a table.

    Args:
        table: by column, (N,) each.
        settings: where clips come from.
        num_frames: T of a clip.

    Raises:
        DataError: the table does not hold what the clips are made of, or a part has none.
    """
    if isinstance(settings, DigitClips):
        return ClipsOfDigits.of_table(table, settings, num_frames)
    return ClipsOfFilms.of_table(table, settings, num_frames)


def open_clips(folder: Path, settings: DigitClips | FilmClips, num_frames: int) -> Clips:
    """Map the clips of a folder that `Clips.save` wrote."""
    if isinstance(settings, DigitClips):
        return ClipsOfDigits.open(folder, settings, num_frames)
    return ClipsOfFilms.open(folder, num_frames)


def films_of(table: Mapping[str, Any], settings: FilmClips) -> Iterator[np.ndarray]:
    """Read the films of a table, in its order, or pictures film by film: uint8 (N, C, Y, X) each.

    Raises:
        DataError: a row lacks its film or picture, its number or the name of its film; the pictures of a film do not follow one
            another, as those of a request must; or as `gateline.data.films.decode` and `gateline.data.pictures.read_pictures`.
    """
    size: dict[str, Any] = {"height": settings.height, "width": settings.width, "colour": settings.colour}
    for column in filter(None, (settings.column, settings.order, settings.film)):
        missing = np.flatnonzero(pd.isna(np.asarray(table[column], dtype=object)))
        if len(missing):
            found = f"none in row {examples(missing.tolist())}"
            raise DataError(f"column {column}", expected="a value in every row", found=found, do="Add it")
    contents = table[settings.column]
    if settings.order is None:
        for row, content in enumerate(contents):
            place = f"column {settings.column}, row {row}"
            yield decode(content, frames_per_second=settings.frames_per_second, place=place, **size)
        return
    names = np.zeros(len(contents)) if settings.film is None else np.asarray(table[settings.film])
    order = np.asarray(table[settings.order])
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(order[rows], kind="stable")]
        _refuse_gaps(order, rows, settings.order, name)
        yield read_pictures(
            [contents[row] for row in rows], place=f"column {settings.column}", rows=rows.tolist(), **size
        )


def _refuse_gaps(order: np.ndarray, rows: np.ndarray, column: str, film: Any) -> None:
    """Refuse pictures of a film, rows (n,) in their order, that do not follow one another."""
    wrong = np.flatnonzero(np.diff(order[rows]) != 1)
    if len(wrong):
        before, after = rows[wrong[0] : wrong[0] + 2]
        raise DataError(
            f"column {column}, film {film}",
            expected="pictures numbered without a gap, each number once",
            found=f"{order[before]:g} in row {before} and then {order[after]:g} in row {after}",
            do="Correct the numbers, or call what follows a gap another film",
        )


def parts_of_film(num_frames: int, settings: FilmClips) -> dict[str, tuple[int, int]]:
    """Say which frames of a film belong to each part: the first, and the one after the last."""
    test_from = num_frames - round(num_frames * settings.test)
    validate_from = test_from - round(num_frames * settings.validation)
    return {"train": (0, validate_from), "validation": (validate_from, test_from), "test": (test_from, num_frames)}


class ClipDataset(Dataset[ClipBatch]):
    """Clips of one part, gathered a batch at a time.

    Args:
        clips: of all parts.
        part: which.
        past: frames T that are read; those after them are foretold.
    """

    def __init__(self, clips: Clips, part: str, past: int) -> None:
        self.clips, self.part, self._past = clips, part, past
        self._placed: torch.Tensor | None = None  # uint8, all frames, where they were moved to a device

    def __len__(self) -> int:
        return self.clips.count(self.part)

    def __getitem__(self, row: int) -> ClipBatch:
        return self.__getitems__(np.array([row]))

    def __getitems__(self, rows: np.ndarray) -> ClipBatch:
        if self._placed is None:
            frames = as_pixels(self.clips.frames(self.part, np.asarray(rows)))
        else:
            index = torch.from_numpy(np.asarray(rows)).to(self._placed.device, non_blocking=True)
            frames = as_pixels(self._placed[index])
        return ClipBatch(past=frames[:, : self._past], future=frames[:, self._past :])

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return len(self) * self.clips.frames(self.part, np.array([0])).nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return torch.device("cpu") if self._placed is None else self._placed.device

    def to(self, device: torch.device) -> Self:
        """Copy the frames of all clips to a device, made or cut once and for all; batches are gathered and stay there."""
        moved = copy.copy(self)
        shape = self.clips.frames(self.part, np.array([0])).shape[1:]
        moved._placed = torch.empty((len(self), *shape), dtype=torch.uint8, device=device)
        for first in range(0, len(self), MOVED_AT_A_TIME):
            rows = np.arange(first, min(first + MOVED_AT_A_TIME, len(self)))
            frames = np.ascontiguousarray(self.clips.frames(self.part, rows))
            moved._placed[first : first + len(rows)] = torch.from_numpy(frames)
        return moved


def as_pixels(frames: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Turn bytes into numbers that a network reads: float32 in [0, 1]."""
    if not isinstance(frames, torch.Tensor):
        frames = torch.from_numpy(np.ascontiguousarray(frames))
    return frames.float() / 255


def as_bytes(frames: torch.Tensor) -> np.ndarray:
    """Turn numbers in [0, 1] into bytes, rounded to the nearest."""
    return torch.clamp(torch.round(frames * 255), 0, 255).to(torch.uint8).cpu().numpy()
