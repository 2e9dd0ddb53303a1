"""A trained frame predictor with its preprocessing inside: pictures in, pictures out."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gateline.batch import ClipBatch
from gateline.comparison import ExampleErrors, example_errors
from gateline.data.clips import ClipDataset, as_bytes, as_pixels
from gateline.data.films import Colour
from gateline.data.pictures import encode_png, read_pictures
from gateline.data.prepared_clips import ClipsOfWorkload, open_dataset, read_settings
from gateline.errors import DataError, examples
from gateline.frame_metrics import frame_metrics
from gateline.intervals import running_dependence
from gateline.manifest import Artifact
from gateline.models.frame_predictor import FramePredictor
from gateline.table import as_frame

CLIPS_AT_A_TIME = 64
"""A frame is thousands of numbers, so clips are scored in smaller batches than rows of a table."""
MOST_FRAMES = 1000
"""That one request may ask for of each clip."""
MOST_BYTES = 2**26
"""Of the pixels of all frames that one request may ask for; on the way, a pixel takes some four bytes twice."""
MOTIONS = ("slow", "medium", "fast")
"""Slices: thirds of the test clips, by how much changes from one past frame to the next."""


class FrameForecaster:
    """A trained frame predictor: the frames of clips in, the frames that follow out.

    Args:
        network: in eval mode.
        past: frames T that it reads.
        future: frames U that it foretells unless a request says otherwise.
        shape: channels, rows and columns of a frame.
    """

    def __init__(self, network: FramePredictor, *, past: int, future: int, shape: tuple[int, int, int]) -> None:
        self._network = network.eval()
        self.past, self.future, self.shape = past, future, shape

    @property
    def input_columns(self) -> list[tuple[str, str, bool]]:
        """Name, type and whether it must be there, of each column of a request: one row per frame."""
        return [("clip", "text", True), ("frame", "integer", True), ("image", "bytes", True)]

    @property
    def place_columns(self) -> list[str]:
        """Columns that say where a row of an answer belongs."""
        return ["clip", "frame"]

    @property
    def output_columns(self) -> list[tuple[str, str]]:
        """Name and type of each column of an answer; `image` is a PNG in base64."""
        return [("clip", "text"), ("frame", "integer"), ("image", "text")]

    @property
    def parameters(self) -> list[tuple[str, str, Any]]:
        """`frames`: how many frames to foretell."""
        return [("frames", "long", self.future)]

    def predict(self, frame: pd.DataFrame, frames: int | None = None) -> pd.DataFrame:
        """Answer a request as a frame, see `answer`."""
        return as_frame(self.answer(frame, frames))

    def answer(self, frame: pd.DataFrame, frames: int | None = None) -> dict[str, Any]:
        """Foretell the frames that follow those of each clip.

        Args:
            frame: rows in any order, one per frame: `clip` (text), `frame` (its number, without a gap), `image` (PNG or
                JPEG of the size that the model was trained on, or the bare bytes of its pixels, row by row). The last T
                frames of a clip are read.
            frames: how many to foretell; None: as many as in training.

        Returns:
            Columns of `output_columns`, clips as they first came, frames in their order.

        Raises:
            DataError: a column, a clip's number or enough frames are not there, a picture cannot be read, or too many frames of
                too many clips are asked for.
        """
        count = self.future if frames is None else int(frames)
        if not 1 <= count <= MOST_FRAMES:
            raise DataError("frames", expected=f"1 to {MOST_FRAMES}", found=str(frames), do="Ask for as many")
        clips = self._clips(frame)
        most = max(MOST_BYTES // math.prod(self.shape), 1)
        if len(clips) * count > most:
            raise DataError(
                "request",
                expected=f"at most {most:,} frames of this size to foretell, of all clips together",
                found=f"{count:,} of each of {len(clips):,} clips",
                do="Send fewer clips at once, or lower params.frames",
            )
        rows = np.concatenate([rows[-self.past :] for rows in clips.values()])
        colour: Colour = "grey" if self.shape[0] == 1 else "rgb"
        contents = frame["image"].to_numpy(dtype=object)[rows]
        wrong = [row for row, content in zip(rows.tolist(), contents, strict=True) if not isinstance(content, bytes)]
        if wrong:
            raise DataError(
                "request, column image",
                expected="a picture in every row, as bytes (base64 in JSON)",
                found=f"none in row {examples(wrong)}",
                do="Send PNG",
            )
        pictures = read_pictures(
            contents,
            height=self.shape[1],
            width=self.shape[2],
            colour=colour,
            place="request, column image",
            rows=rows.tolist(),
        )
        past = as_pixels(pictures).unflatten(0, (len(clips), self.past))
        foretold = as_bytes(self.foretell(past, count))  # (B, U, C, Y, X)
        numbers = frame["frame"].to_numpy(dtype=np.float64)
        last = np.array([numbers[rows[-1]] for rows in clips.values()])
        images = [base64.b64encode(encode_png(picture)).decode("ascii") for clip in foretold for picture in clip]
        return {
            "clip": np.repeat(np.array(list(clips), dtype=object), count),
            "frame": (last[:, None] + np.arange(1, count + 1)).ravel(),
            "image": np.array(images, dtype=object),
        }

    def foretell(self, past: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Foretell frames: float32 (B, U, C, Y, X) in [0, 1] for (B, T, C, Y, X); multiples of 1 / 255, as they are served."""
        with torch.inference_mode():
            foretold = [self._network.predict(some, num_frames).float() for some in past.split(CLIPS_AT_A_TIME)]
        return as_pixels(as_bytes(torch.cat(foretold)))

    def example(self, table: pd.DataFrame) -> pd.DataFrame:
        """Take the clips that preprocess put aside as a request."""
        return table[[name for name, _, _ in self.input_columns]]

    def test_errors(self, prepared: Artifact, metric: str, slices: Sequence[str] = ()) -> ExampleErrors:
        """Foretell the test clips of a prepared folder, also one that was prepared otherwise than for this model.

        Args:
            prepared: the clips.
            metric: one of `gateline.frame_metrics.SUMMED`.
            slices: names of slices, ``motion=slow`` and so on.

        Raises:
            DataError: the frames have another size, or more or fewer are to be foretold.
        """
        settings = read_settings(prepared)
        theirs = (settings.past, settings.future, settings.clips.shape())
        if theirs != (self.past, self.future, self.shape):
            raise DataError(
                prepared.path,
                expected=f"{self.past} frames before {self.future} of {self.shape}",
                found=f"{theirs[0]} before {theirs[1]} of {theirs[2]}",
                do="Such models cannot be compared; register under another name",
            )
        totals, motion, digest = [], [], hashlib.sha256()
        for batch in batches(open_dataset(prepared, "test")):
            measured = frame_metrics(self.foretell(batch.past, self.future), batch.future)
            totals.append(measured[metric].sum(dim=1).numpy())
            motion.append(motion_of(batch.past))
            digest.update(as_bytes(torch.cat([batch.past, batch.future], dim=1)).tobytes())
        total = np.concatenate(totals)
        return example_errors(
            metric,
            total,
            np.full(len(total), self.future),
            rows=digest.hexdigest(),
            slices={name: mask for name, mask in slices_of(np.concatenate(motion)).items() if name in slices},
            dependence=dependence_of(settings, len(total)),
        )

    def _clips(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Find the rows of each clip, in the order of its frames.

        Raises:
            DataError: a column or a value is not there, or a clip has a gap, a frame twice or too few.
        """
        absent = [name for name, _, _ in self.input_columns if name not in frame.columns]
        if absent or len(frame) == 0:
            raise DataError(
                "request",
                expected="the columns clip, frame and image, one row per frame",
                found="no rows" if not absent else f"no {examples(absent)}",
                do=f"Send {self.past} frames of each clip",
            )
        for name in ("clip", "frame"):
            missing = np.flatnonzero(frame[name].isna())
            if len(missing):
                raise DataError(
                    f"request, column {name}",
                    expected="a value in every row",
                    found=f"none in row {examples(missing.tolist())}",
                    do="Add it",
                )
        try:
            numbers = pd.to_numeric(frame["frame"]).to_numpy(dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(
                "request, column frame", expected="numbers", found=str(error)[:120], do="Number the frames"
            ) from error
        names = frame["clip"].astype("str").to_numpy(dtype=object)
        clips = {}
        for name in dict.fromkeys(names.tolist()):
            rows = np.flatnonzero(names == name)
            rows = rows[np.argsort(numbers[rows], kind="stable")]
            steps = np.diff(numbers[rows])
            if len(rows) < self.past or (steps != 1).any():
                found = f"{len(rows)} frames" if len(rows) < self.past else "a frame twice, or a gap between frames"
                raise DataError(
                    f"request, clip {name}",
                    expected=f"at least {self.past} frames that follow one another",
                    found=found,
                    do="Number them without a gap",
                )
            clips[name] = rows
        return clips


def as_request(past: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Write past frames as a client sends them, as PNG, numbered from 1.

    Args:
        past: uint8 (B, T, C, Y, X).
        names: of the clips.
    """
    count, steps = past.shape[:2]
    return as_frame(
        {
            "clip": np.repeat(np.array(names, dtype=object), steps),
            "frame": np.tile(np.arange(1.0, steps + 1), count),
        }
    ).assign(image=[encode_png(picture) for clip in past for picture in clip])


def batches(dataset: ClipDataset) -> Iterator[ClipBatch]:
    """Take all clips of a part, in order, some at a time."""
    for rows in np.split(np.arange(len(dataset)), range(CLIPS_AT_A_TIME, len(dataset), CLIPS_AT_A_TIME)):
        yield dataset.__getitems__(rows)


def motion_of(past: torch.Tensor) -> np.ndarray:
    """Say how much changes from one past frame to the next: mean squared change of a pixel, float64 (B,)."""
    return past.double().diff(dim=1).square().mean(dim=(1, 2, 3, 4)).numpy()


def dependence_of(settings: ClipsOfWorkload, num_clips: int) -> int:
    """Over how many of the test clips neighbours are alike, see `gateline.intervals`."""
    return running_dependence(num_clips) if settings.clips.run_on else 1


def slices_of(motion: np.ndarray) -> dict[str, np.ndarray]:
    """Cut clips into thirds by their motion (B,): bool (B,) by name; ties stay in the order of the clips."""
    third = np.argsort(np.argsort(motion, kind="stable"), kind="stable") * len(MOTIONS) // max(len(motion), 1)
    return {f"motion={name}": third == place for place, name in enumerate(MOTIONS)}
