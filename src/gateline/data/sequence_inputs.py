"""What the sequences of a table are made of, for tasks that look at whole sequences: which kinds there are, and batches of them.

A kind of inputs is a section with the key `kind`. It lays the rows of a table out as sequences, and fits an encoding that makes
numbers of them. A new kind is a section and an encoding that do what `Layout`, `InputsSection` and `SequenceEncoding` say, and a
line in `INPUTS`. S sequences, N steps in all, F features of a step, B batch, T time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from gateline.batch import LabelledStepsBatch
from gateline.data.frame_inputs import FrameEncoding, FrameInputs
from gateline.data.irregular_encoding import ELAPSED, GAPS, OBSERVED, IrregularEncoding, SeriesInputs
from gateline.data.store import STATIC, VALUES, SequenceStore
from gateline.data.windows import VariableLengthDataset
from gateline.workload.schema import Schema

LABEL = "label"
"""The array of labels, one per step; NaN where nobody said."""


class Layout(Protocol):
    """Sequences as they are laid out from a table, in raw units; nothing of it is fitted."""

    @property
    def offsets(self) -> np.ndarray:
        """int64 (S + 1,), sequence s stands in steps offsets[s]:offsets[s + 1]."""

    @property
    def keys(self) -> Mapping[str, np.ndarray]:
        """The key columns, (S,) each."""

    @property
    def num_series(self) -> int:
        """Number of sequences S."""

    @property
    def first_rows(self) -> np.ndarray:
        """Row of the table that is the first of each sequence: int64 (S,)."""

    def last_in_step(self, values: np.ndarray) -> np.ndarray:
        """Take the last value of each step of a column of the table: (N,) for (R,), missing where there is none."""

    def first_of_series(self, values: np.ndarray) -> np.ndarray:
        """Take the first value that is there of each sequence of a column of the table: (S,) for (R,)."""

    def rows_of(self, series: np.ndarray) -> np.ndarray:
        """Mark the rows of the table that belong to some sequences: bool (R,) for int64 numbers of them."""

    def places(self, schema: Schema) -> dict[str, Any]:
        """Say by column which step a row of an answer belongs to: keys, and a time or a number, (N,) each."""


class SequenceEncoding(Protocol):
    """Fitted on the training part, saved with the model."""

    @property
    def longest(self) -> int | None:
        """Steps of the longest sequence of the training part; None in a model from before this was kept."""

    def flags(self, layout: Any) -> np.ndarray:
        """Say of each sequence what is unusual in it as a whole: object (S,) of texts, empty for nothing."""

    def encode(self, layout: Any) -> SequenceStore:
        """Make the numbers that the network reads."""

    def feature_names(self) -> list[str]:
        """Name the F features of a step, in order."""

    def to_json(self) -> dict[str, Any]:
        """Turn into JSON values that `from_json` reads back exactly."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""


class InputsSection(Protocol):
    """The key `preprocess.inputs`."""

    @property
    def kind(self) -> str:
        """Name of the kind, see `INPUTS`."""

    def check(self, schema: Schema) -> None:
        """Refuse columns that are not there, or of a type that cannot be read."""

    def columns_read(self) -> tuple[str, ...]:
        """Name the columns of the table that are read beside keys and time."""

    def columns_needed(self) -> tuple[str, ...]:
        """Name those of them without which a request cannot be answered."""

    def explain(self) -> Iterator[str]:
        """Say in words what is read."""

    def lay_out(
        self, frame: pd.DataFrame, schema: Schema, *, of_request: bool = False, longest: int | None = None
    ) -> Layout:
        """Lay the rows of a table out as sequences.

        Those of a request may be refused for being too much at once; `longest`, of the encoding, says what training saw.
        """

    def fit(self, layout: Any, train: np.ndarray, schema: Schema) -> SequenceEncoding:
        """Fit on some sequences, int64 numbers of them."""


INPUTS: Mapping[str, tuple[type[Any], type[Any]]] = {
    "series": (SeriesInputs, IrregularEncoding),
    "frames": (FrameInputs, FrameEncoding),
}
"""Section and encoding of each kind."""


def read_inputs(value: Mapping[str, Any]) -> InputsSection:
    """Read the section from JSON values, as `state.json` holds them."""
    section: InputsSection = INPUTS[value["kind"]][0].model_validate(value)
    return section


def read_encoding(kind: str, value: Mapping[str, Any]) -> SequenceEncoding:
    """Read an encoding of a kind from JSON values."""
    encoding: SequenceEncoding = INPUTS[kind][1].from_json(value)
    return encoding


def features(store: SequenceStore, rows: np.ndarray) -> np.ndarray:
    """Put together what a network reads at some steps: float32 (n, F) for int64 (n,)."""
    named = [store.arrays[name] for name in (VALUES, OBSERVED, GAPS, ELAPSED) if name in store.arrays]
    read = [np.asarray(array[rows], np.float32) for array in named]
    statics = [store.static(STATIC, rows)] if STATIC in store.statics else []
    return np.concatenate([*read, *statics], axis=1)


def with_absent(frame: pd.DataFrame, schema: Schema, columns: Sequence[tuple[str, str, bool]]) -> pd.DataFrame:
    """Add to a request, as missing, the columns that it may leave out.

    Args:
        frame: rows.
        schema: of a request.
        columns: name, type and whether it must be there, of each column.
    """
    absent = [name for name, _, needed in columns if not needed and name not in frame.columns]
    nothing = {name: None if schema.columns[name].type == "text" else np.nan for name in absent}
    return frame.assign(**nothing) if absent else frame


@dataclass(frozen=True)
class LabelledStepSequences(Dataset[LabelledStepsBatch]):
    """Sequences of a store with their labels, gathered as padded batches.

    Args:
        store: N steps.
        sequences: int64 (E,), the sequences of the part.
        labels: float (N,), of each step, NaN where there is none.
        classes: labels are numbers of classes; else they are 0 or 1.
    """

    store: SequenceStore
    sequences: np.ndarray
    labels: np.ndarray
    classes: bool = False
    _placed: tuple[VariableLengthDataset, VariableLengthDataset] | None = None
    """Features and labels of the sequences, where they were moved to a device."""

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each sequence: int64 (E,)."""
        return np.diff(self.store.offsets)[self.sequences]

    def __getitems__(self, rows: np.ndarray) -> LabelledStepsBatch:
        """Gather a batch: int64 (B,) rows of the part."""
        chosen = self.sequences[np.asarray(rows)]
        lengths = np.diff(self.store.offsets)[chosen]
        step = np.arange(int(lengths.max()))
        real = torch.from_numpy(step < lengths[:, None]).to(self.device, non_blocking=True)  # (B, T)
        if self._placed is None:
            at = self.store.offsets[chosen][:, None] + np.minimum(step, lengths[:, None] - 1)
            values = torch.from_numpy(features(self.store, at.ravel()).reshape(*at.shape, -1))  # (B, T, F)
            labels = torch.from_numpy(self.labels[at])
        else:
            values, labels = (each.__getitems__(rows).values for each in self._placed)
        observed = real & labels.isfinite()
        return LabelledStepsBatch(
            values=values.masked_fill_(~real[:, :, None], 0),
            lengths=torch.from_numpy(lengths),
            target=labels.masked_fill(~observed, 0).to(torch.int64 if self.classes else torch.float32),
            observed=observed,
        )

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        one = features(self.store, self.store.offsets[:1])
        return int(self.lengths.sum()) * (one.nbytes + self.labels.itemsize)

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return torch.device("cpu") if self._placed is None else self._placed[0].device

    def to(self, device: torch.device) -> Self:
        """Copy features and labels to a device; batches are gathered and stay there."""
        steps, offsets = steps_of(self.store, self.sequences), np.concatenate([[0], np.cumsum(self.lengths)])
        values, labels = features(self.store, steps), np.asarray(self.labels[steps])
        placed = [VariableLengthDataset(each, offsets).to(device) for each in (values, labels)]
        return replace(self, _placed=(placed[0], placed[1]))


def steps_of(store: SequenceStore, sequences: np.ndarray) -> np.ndarray:
    """List the steps of some sequences, one sequence after the other: int64 (n,)."""
    lengths = np.diff(store.offsets)[sequences]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(store.offsets[sequences], lengths) + within
