"""Whole sequences with a label each, gathered in padded batches. B batch, T time."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import torch
from torch.utils.data import Dataset

from gateline.batch import LabelledBatch
from gateline.data.windows import VariableLengthDataset


class LabelledSequences(Dataset[LabelledBatch]):
    """Sequences of a store, each with a label of its own.

    Args:
        values: (N, ...) tokens or features of all sequences, laid end to end.
        offsets: int64 (S + 1,), sequence s stands in values[offsets[s]:offsets[s + 1]].
        labels: (S,) one per sequence.
        rows: int64 (W,), the sequences that belong to the data set.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> None:
        self._sequences = VariableLengthDataset(values, offsets, rows)
        self._labels = torch.from_numpy(np.asarray(labels)[rows])
        self.lengths = self._sequences.lengths
        """int64 (W,), steps of each sequence."""

    def __len__(self) -> int:
        return len(self._sequences)

    def __getitem__(self, place: int) -> LabelledBatch:
        return self.__getitems__(np.array([place]))

    def __getitems__(self, places: np.ndarray) -> LabelledBatch:
        padded = self._sequences.__getitems__(places)
        index = torch.from_numpy(np.asarray(places)).to(self._labels.device, non_blocking=True)
        return LabelledBatch(padded.values, padded.lengths, self._labels[index])

    @property
    def labels(self) -> torch.Tensor:
        """Labels of the sequences of the data set: (W,)."""
        return self._labels

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return self._sequences.nbytes + self._labels.nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return self._sequences.device

    def to(self, device: torch.device) -> Self:
        """Copy everything to a device; batches are gathered and stay there."""
        moved = copy.copy(self)
        moved._sequences, moved._labels = self._sequences.to(device), self._labels.to(device)
        return moved
