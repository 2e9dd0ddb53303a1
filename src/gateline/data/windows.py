"""Data sets over the store: windows of equal length, or whole sequences of different lengths; gathered a batch at a time.

A batch costs one indexing call, whatever its size, and nothing is copied but the batch: windows are views of the mapped
file, in which each is one piece.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch.utils.data import Dataset

from gateline.batch import ForecastBatch, PaddedBatch
from gateline.data.inputs import TARGET, Inputs, Piece
from gateline.data.runs import Rows
from gateline.data.store import SERIES, STATIC, STATIC_CODES, VALUES, SequenceStore


class WindowDataset(Dataset[ForecastBatch]):
    """Windows that begin at given rows of a store.

    Args:
        store: float32 `values` (N, V), NaN where missing, and, once per series, int64 `series`, its number for the model; also
            `static` and `static_codes` where there are such.
        origins: W rows, of the first step to forecast.
        inputs: what the model reads.
        lookback: number of past steps T.
        horizon: number of steps to forecast U.
    """

    def __init__(self, store: SequenceStore, origins: Rows, *, inputs: Inputs, lookback: int, horizon: int) -> None:
        self._store, self._origins = store, origins
        self._values = tensor_of(store.arrays[VALUES])
        self._encoder, self._decoder = inputs.encoder_pieces, inputs.decoder_pieces
        self._encoder_codes, self._decoder_codes = list(inputs.encoder_codes), list(inputs.decoder_codes)
        self._lookback, self._horizon = lookback, horizon

    def __len__(self) -> int:
        return len(self._origins)

    def __getitem__(self, place: int) -> ForecastBatch:
        return self.__getitems__(np.array([place]))

    def __getitems__(self, places: np.ndarray) -> ForecastBatch:
        rows = self._origins[np.asarray(places)]
        steps, columns = self._lookback + self._horizon, self._values.shape[1]
        # Row r of this view is the window that begins at step r. Windows overlap in it, and none is copied.
        windows = self._values.as_strided((len(self._values) - steps + 1, steps * columns), (columns, 1))
        begins = self._moved(torch.from_numpy(rows - self._lookback))
        values = windows.index_select(0, begins).view(len(rows), steps, columns)  # (B, T + U, V)
        filled = values.nan_to_num()
        there = filled == values  # as `isfinite`, which takes several times as long
        masks = there.to(values.dtype)
        past, ahead = slice(None, self._lookback), slice(self._lookback, None)
        return ForecastBatch(
            past=_inputs(filled[:, past], masks[:, past], self._encoder),  # (B, T, Fp)
            known=_inputs(filled[:, ahead], masks[:, ahead], self._decoder),  # (B, U, Fk)
            series=self._moved(torch.from_numpy(self._store.static(SERIES, rows))),
            target=filled[:, ahead, TARGET].contiguous(),
            observed=there[:, ahead, TARGET].contiguous(),
            past_codes=_codes(filled[:, past], self._encoder_codes),
            known_codes=_codes(filled[:, ahead], self._decoder_codes),
            static=self._static(STATIC, rows),
            static_codes=self._static(STATIC_CODES, rows),
        )

    def _static(self, name: str, rows: np.ndarray) -> torch.Tensor | None:
        if name not in self._store.statics:
            return None
        return self._moved(torch.from_numpy(self._store.static(name, rows)))

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return self._values.nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return self._values.device

    def to(self, device: torch.device) -> Self:
        """Copy the values to a device; batches are gathered and stay there."""
        moved = copy.copy(self)
        moved._values = self._values.to(device)
        return moved

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._values.device, non_blocking=True)


class VariableLengthDataset(Dataset[PaddedBatch]):
    """Whole series of a store, padded to the longest of their batch.

    Args:
        values: (N, ...) tokens, frames or features of all sequences, laid end to end.
        offsets: int64 (S + 1,), sequence s stands in values[offsets[s]:offsets[s + 1]].
        rows: int64 (W,), the sequences that belong to the data set; None: all.
    """

    def __init__(self, values: np.ndarray, offsets: np.ndarray, rows: np.ndarray | None = None) -> None:
        self._values = tensor_of(values)
        rows = np.arange(len(offsets) - 1) if rows is None else rows
        self._begins = offsets[rows]
        self.lengths = offsets[rows + 1] - self._begins
        """int64 (W,), steps of each sequence."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> PaddedBatch:
        return self.__getitems__(np.array([place]))

    def __getitems__(self, places: np.ndarray) -> PaddedBatch:
        begins, lengths = self._begins[places], self.lengths[places]
        steps = np.arange(lengths.max())
        real = steps < lengths[:, None]  # (B, T)
        # Steps past the length read row 0 and are blanked afterwards: there is always a row 0, and it is in the cache.
        index = np.where(real, begins[:, None] + steps, 0)
        device = self._values.device
        values = self._values[torch.from_numpy(index).to(device, non_blocking=True)]  # (B, T, ...)
        padding = torch.from_numpy(~real).to(device, non_blocking=True)
        return PaddedBatch(
            values.masked_fill_(padding.view(*real.shape, *(1,) * (values.ndim - 2)), 0), torch.from_numpy(lengths)
        )

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return self._values.nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return self._values.device

    def to(self, device: torch.device) -> Self:
        """Copy the values to a device; batches are gathered and stay there."""
        moved = copy.copy(self)
        moved._values = self._values.to(device)
        return moved


def _inputs(filled: torch.Tensor, masks: torch.Tensor, pieces: Sequence[Piece]) -> torch.Tensor:
    """Lay out what a model reads: (B, T, F) from values (B, T, V), 0 where they are missing, and from masks (B, T, V), 1 where not."""
    read = [(masks if whether else filled)[:, :, columns] for whether, columns in pieces]
    return torch.cat(read, dim=2) if read else filled[:, :, :0]


def _codes(filled: torch.Tensor, columns: Sequence[int]) -> torch.Tensor | None:
    """Take columns of codes: int32 (B, T, C), or None where there are none."""
    return torch.stack([filled[:, :, column] for column in columns], dim=2).int() if columns else None


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Look at an array, of memory or of a mapped file, as a tensor, without a copy; it is for reading only."""
    if array.flags.writeable:
        return torch.from_numpy(np.asarray(array))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # a mapped file is not
        return torch.from_numpy(np.asarray(array))
