"""Sequences of pictures as inputs of a task that looks at whole sequences: rows of frames become features of frames.

N frames in all, F features of a frame, S sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd

from gateline.data.frame_features import FEATURES, MOTION, frame_features
from gateline.data.irregular_steps import Steps, flags_of_length, lay_out
from gateline.data.pictures import MOST_BYTES, read_film
from gateline.data.store import VALUES, SequenceStore
from gateline.errors import DataError, WorkloadError, did_you_mean, examples
from gateline.workload.schema import Schema
from gateline.workload.section import Section

MOTION_ARRAY = "motion"
"""How much has changed since the frame before, float32 (N,): what the simplest method looks at."""
MOST_DEVIATIONS = 6.0
"""From the mean, so that one cut of a film does not drown everything else."""


@dataclass(frozen=True)
class Frames(Steps):
    """Frames as they are laid out from a table; each row is a step.

    Args:
        features: float32 (N, F), see `gateline.data.frame_features`.
    """

    features: np.ndarray


class FrameInputs(Section):
    """What is read of films: rows with the same keys, in order of time, hold their frames."""

    kind: Literal["frames"]
    column: str = "image"
    """Holds the frames: PNG or JPEG, all of one film of one size."""

    def check(self, schema: Schema) -> None:
        """Refuse a column that is not there, or of a type that cannot be read.

        Raises:
            WorkloadError: says which; or there is no column of times, or no key.
        """
        if schema.time is None or not schema.keys:
            raise WorkloadError(
                "schema",
                expected="`time`, which orders the frames of a film, and `keys`, which tell one film from another",
                found="no `time`" if schema.time is None else "no `keys`",
                do="Add e.g. `time: {column: time}` and `keys: [clip]`",
            )
        where = "preprocess.inputs.column"
        if self.column not in schema.columns:
            do = did_you_mean(self.column, list(schema.columns))
            raise WorkloadError(where, expected="a column of the schema", found=repr(self.column), do=do)
        if schema.columns[self.column].type != "bytes":
            found = f"{self.column} ({schema.columns[self.column].type})"
            raise WorkloadError(where, expected="a column of type bytes", found=found, do="Name another")

    def columns_read(self) -> tuple[str, ...]:
        """Name the columns of the table that are read beside keys and time."""
        return (self.column,)

    def columns_needed(self) -> tuple[str, ...]:
        """Name those of them without which a request cannot be answered."""
        return (self.column,)

    def explain(self) -> Iterator[str]:
        """Say in words what is read."""
        yield f"read frames from {self.column}: {len(FEATURES)} numbers of each, of where and how it is lit and what has changed"

    def lay_out(
        self,
        frame: pd.DataFrame,
        schema: Schema,
        *,
        of_request: bool = False,
        longest: int | None = None,  # noqa: ARG002  frames are as many as rows
    ) -> Frames:
        """Put frames in order, and describe them.

        Raises:
            DataError: a frame is missing or cannot be read, a film has frames of several sizes or too many, or a request has
                too many of all films; or as `gateline.data.irregular_steps.lay_out`.
        """
        steps = lay_out(frame, schema, columns=())
        contents = frame[self.column].to_numpy(dtype=object)
        missing = [row for row, content in enumerate(contents) if not isinstance(content, bytes)]
        if missing:
            raise DataError(
                f"column {self.column}",
                expected="a picture in every row",
                found=f"none in row {examples(missing)}",
                do="Send PNG",
            )
        ordered = contents[steps.order]
        described, size = [], 0
        for number, (first, end) in enumerate(pairwise(steps.offsets.tolist())):
            film = read_film(ordered[first:end], place=f"column {self.column}, film {number}")
            size += film.nbytes
            if of_request and size > MOST_BYTES:
                raise DataError(
                    f"request, column {self.column}",
                    expected=f"at most {MOST_BYTES:,} pixels in all frames",
                    found=f"{size:,} in the first {number + 1:,} films",
                    do="Send fewer films at a time, or scale them",
                )
            described.append(frame_features(film[:, 0]))
        features = np.concatenate(described) if described else np.zeros((0, len(FEATURES)), dtype=np.float32)
        return Frames(**{each.name: getattr(steps, each.name) for each in fields(Steps)}, features=features)

    def fit(self, layout: Any, train: np.ndarray, schema: Schema) -> FrameEncoding:  # noqa: ARG002
        """Fit the scale of each feature on some sequences of `Frames`."""
        read = layout.features[np.isin(layout.series, train)].astype(np.float64)
        longest = int(np.diff(layout.offsets)[train].max())
        return FrameEncoding(read.mean(axis=0), np.maximum(read.std(axis=0), 1e-6), longest)


@dataclass(frozen=True)
class FrameEncoding:
    """How features of frames become inputs.

    Args:
        mean: float64 (F,), of the training part.
        deviation: float64 (F,).
        longest: frames of the longest film of the training part; None in a model from before this was kept.
    """

    mean: np.ndarray
    deviation: np.ndarray
    longest: int | None = None

    def encode(self, layout: Any) -> SequenceStore:
        """Make the numbers that the network reads of `Frames`: `values` float32 (N, F), and `motion`."""
        scaled = np.clip((layout.features - self.mean) / self.deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        arrays = {VALUES: scaled.astype(np.float32), MOTION_ARRAY: np.ascontiguousarray(layout.features[:, MOTION])}
        return SequenceStore(arrays, layout.offsets)

    def flags(self, layout: Any) -> np.ndarray:
        """Say of each film of `Frames` what is unusual in it as a whole: object (S,) of texts, empty for nothing."""
        return flags_of_length(layout.offsets, self.longest)

    def feature_names(self) -> list[str]:
        """Name the F features of a step, in order."""
        return list(FEATURES)

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist(), "longest": self.longest}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FrameEncoding:
        """Read what `to_json` wrote."""
        return cls(np.array(value["mean"]), np.array(value["deviation"]), value.get("longest"))
