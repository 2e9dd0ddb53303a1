"""Pairs of sentences as numbers, gathered as padded batches. B batch, T source steps, U target steps, S pairs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch.utils.data import Dataset

from gateline.batch import TranslationBatch
from gateline.data.tokenizers import PADDING, Encoded
from gateline.data.windows import VariableLengthDataset


class PairDataset(Dataset[TranslationBatch]):
    """Pairs of a part.

    Args:
        source: S texts, each with END behind it.
        target: S texts, each between BEGIN and END.
        rows: int64 (W,), the pairs of this part.
    """

    def __init__(self, source: Encoded, target: Encoded, rows: np.ndarray) -> None:
        rows = np.asarray(rows, dtype=np.int64)
        self._source, self._target = (
            VariableLengthDataset(each.tokens, each.offsets, rows) for each in (source, target)
        )

    def __len__(self) -> int:
        return len(self._source)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of the longer side of each pair: int64 (W,)."""
        return np.maximum(self._source.lengths, self._target.lengths - 1)

    def __getitem__(self, row: int) -> TranslationBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int] | np.ndarray) -> TranslationBatch:
        """Gather the pairs of some rows."""
        source, framed = (each.__getitems__(np.asarray(rows)) for each in (self._source, self._target))
        target, lengths = framed.values[:, 1:].long(), framed.lengths - 1
        real = (torch.arange(target.shape[1]) < lengths[:, None]).to(self.device, non_blocking=True)
        return TranslationBatch(
            source=source.values.long(),
            source_lengths=source.lengths,
            before=framed.values[:, :-1].long().masked_fill_(~real, PADDING),
            target=target,
            target_lengths=lengths,
        )

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return self._source.nbytes + self._target.nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return self._source.device

    def to(self, device: torch.device) -> Self:
        """Copy everything to a device; batches are gathered and stay there."""
        moved = copy.copy(self)
        moved._source, moved._target = self._source.to(device), self._target.to(device)
        return moved
