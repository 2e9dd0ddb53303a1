"""Which inputs of a model are made of which columns of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

TARGET = 0
"""The column of a store's `values` that is forecast."""

Piece = tuple[bool, slice]
"""Columns of `values`: false for what they hold, true for whether it is there."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a forecaster, made of columns of `values` (N, V), which are NaN where missing.

    An input v < V is column v, with 0 where it is missing; an input V + v says whether column v is there. So no number
    is stored twice, and whether it is there is not stored at all.

    Args:
        num_values: number of columns V.
        encoder: Fp inputs of a past step.
        decoder: Fk inputs of a step to forecast.
        encoder_codes: Cp columns that hold codes of texts, for a past step.
        decoder_codes: Ck columns that hold codes of texts, for a step to forecast.
    """

    num_values: int
    encoder: Sequence[int]
    decoder: Sequence[int]
    encoder_codes: Sequence[int] = ()
    decoder_codes: Sequence[int] = ()

    @cached_property
    def encoder_pieces(self) -> list[Piece]:
        """`encoder` in as few pieces as possible, each of columns side by side."""
        return self._pieces(self.encoder)

    @cached_property
    def decoder_pieces(self) -> list[Piece]:
        """`decoder` in as few pieces as possible, each of columns side by side."""
        return self._pieces(self.decoder)

    def _pieces(self, inputs: Sequence[int]) -> list[Piece]:
        found: list[Piece] = []
        for one in inputs:
            masks, column = one >= self.num_values, one % self.num_values
            if found and found[-1][0] == masks and found[-1][1].stop == column:
                found[-1] = (masks, slice(found[-1][1].start, column + 1))
            else:
                found.append((masks, slice(column, column + 1)))
        return found

    def encoder_of(self, values: np.ndarray) -> np.ndarray:
        """What the encoder reads of every row: float32 (N, Fp)."""
        return self._of(values, self.encoder)

    def decoder_of(self, values: np.ndarray) -> np.ndarray:
        """What the decoder reads of every row: float32 (N, Fk)."""
        return self._of(values, self.decoder)

    def _of(self, values: np.ndarray, inputs: Sequence[int]) -> np.ndarray:
        filled = np.column_stack([np.nan_to_num(values), np.isfinite(values)])
        return filled[:, list(inputs)].astype(np.float32)
