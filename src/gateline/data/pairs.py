"""Pairs of sentences as numbers, gathered as padded batches. B batch, T source steps, U target steps, S pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from gateline.batch import TranslationBatch
from gateline.data.tokenizers import PADDING, Encoded


class PairDataset(Dataset[TranslationBatch]):
    """Pairs of a part.

    Args:
        source: S texts, each with END behind it.
        target: S texts, each between BEGIN and END.
        rows: int64 (W,), the pairs of this part.
    """

    def __init__(self, source: Encoded, target: Encoded, rows: np.ndarray) -> None:
        self._source, self._target, self._rows = source, target, np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of the longer side of each pair: int64 (W,)."""
        return np.maximum(self._source.lengths[self._rows], self._target.lengths[self._rows] - 1)

    def __getitem__(self, row: int) -> TranslationBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int] | np.ndarray) -> TranslationBatch:
        """Gather the pairs of some rows."""
        pairs = self._rows[np.asarray(rows, dtype=np.int64)]
        source, source_lengths = padded(self._source, pairs)
        framed, lengths = padded(self._target, pairs)
        target = framed[:, 1:]
        before = np.where(np.arange(target.shape[1]) < (lengths - 1)[:, None], framed[:, :-1], PADDING)
        return TranslationBatch(
            source=torch.from_numpy(source),
            source_lengths=torch.from_numpy(source_lengths),
            before=torch.from_numpy(before),
            target=torch.from_numpy(target),
            target_lengths=torch.from_numpy(lengths - 1),
        )


def padded(texts: Encoded, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gather texts side by side, PADDING past their ends: int64 (B, T), and lengths int64 (B,)."""
    begins, lengths = texts.offsets[rows], texts.offsets[rows + 1] - texts.offsets[rows]
    steps = np.arange(int(lengths.max(initial=1)))
    places = begins[:, None] + np.minimum(steps, np.maximum(lengths - 1, 0)[:, None])
    return np.where(steps < lengths[:, None], texts.tokens[places], PADDING).astype(np.int64), lengths.astype(np.int64)
