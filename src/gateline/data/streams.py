"""One long text as a stream of tokens, cut into pieces that follow each other. B batch, T steps of a piece, N tokens."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch.utils.data import Dataset

from gateline.batch import StreamBatch
from gateline.data.windows import tensor_of


class StreamDataset(Dataset[StreamBatch]):
    """Pieces of a stream; each token's target is the token after it.

    Args:
        tokens: int32 (N,), 2 or more.
        piece: steps T.
        streams: None keeps the whole pieces there are, as training reads them. A number K keeps every token: the pieces are
            made up to a multiple of K with steps that count for nothing, so that K streams can be read side by side.
    """

    def __init__(self, tokens: np.ndarray, *, piece: int, streams: int | None = None) -> None:
        self._tokens, self._piece, self.streams = tensor_of(tokens), piece, streams
        self.num_targets = len(tokens) - 1
        self._pieces = self.num_targets // piece
        if streams is not None:
            self._pieces = streams * math.ceil(self.num_targets / (streams * piece))

    def __len__(self) -> int:
        return self._pieces

    def __getitem__(self, row: int) -> StreamBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int] | np.ndarray) -> StreamBatch:
        """Gather the pieces of some rows."""
        places = np.asarray(rows, dtype=np.int64)[:, None] * self._piece + np.arange(self._piece)  # (B, T)
        inside = torch.from_numpy(np.minimum(places, self.num_targets - 1)).to(self.device, non_blocking=True)
        return StreamBatch(
            tokens=self._tokens[inside].long(),
            following=self._tokens[inside + 1].long(),
            observed=torch.from_numpy(places < self.num_targets).to(self.device, non_blocking=True),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that `to` moves."""
        return self._tokens.nbytes

    @property
    def device(self) -> torch.device:
        """Where batches are gathered."""
        return self._tokens.device

    def to(self, device: torch.device) -> Self:
        """Copy the tokens to a device; batches are gathered and stay there."""
        moved = copy.copy(self)
        moved._tokens = self._tokens.to(device)
        return moved
