"""Windows over the store as a `torch` Dataset: strided views, gathered a whole batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from gateline.batch import ForecastBatch
from gateline.data.store import SequenceStore


class WindowDataset(Dataset[ForecastBatch]):
    """Windows that begin at given rows of a store.

    A batch costs one indexing call per array, whatever its size; nothing is copied but the batch.

    Args:
        store: arrays `encoder` (N, Fp), `decoder` (N, Fk), `target` (N,) and `series` (N,).
        origins: int64 (W,), row of the first step to forecast.
        lookback: number of past steps T.
        horizon: number of steps to forecast U.
    """

    def __init__(self, store: SequenceStore, origins: np.ndarray, *, lookback: int, horizon: int) -> None:
        # unfold puts the window last: (N - T + 1, Fp, T). The views share the memory of the mapped files.
        self._past = _tensor(store.arrays["encoder"]).unfold(0, lookback, 1)
        self._known = _tensor(store.arrays["decoder"]).unfold(0, horizon, 1)
        self._target = _tensor(store.arrays["target"]).unfold(0, horizon, 1)
        self._series = _tensor(store.arrays["series"])
        self.origins = torch.from_numpy(np.array(origins, dtype=np.int64))
        self._lookback = lookback

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: int) -> ForecastBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> ForecastBatch:
        rows = self.origins[torch.as_tensor(indices)]
        target = self._target[rows]  # (B, U)
        return ForecastBatch(
            past=self._past[rows - self._lookback].transpose(1, 2).contiguous(),  # (B, T, Fp)
            known=self._known[rows].transpose(1, 2).contiguous(),  # (B, U, Fk)
            series=self._series[rows],
            target=target.nan_to_num(),
            observed=target.isfinite(),
        )


class ShuffledSampler(Sampler[int]):
    """A fresh random order every epoch, or a random share of it, from a generator whose state can be saved.

    Args:
        size: number of windows.
        generator: where the order comes from.
        share: part of the windows that an epoch draws, 0 < share <= 1.
    """

    def __init__(self, size: int, generator: torch.Generator, share: float = 1.0) -> None:
        self._size = size
        self._generator = generator
        self._drawn = max(1, round(size * share))

    def __len__(self) -> int:
        return self._drawn

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self._size, generator=self._generator)[: self._drawn].tolist()


def batches(dataset: WindowDataset, batch_size: int, sampler: Sampler[int] | None = None) -> DataLoader[ForecastBatch]:
    """Make a DataLoader whose batches the data set gathers itself."""
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=_as_gathered)


def _as_gathered(batch: Any) -> Any:
    return batch


def _tensor(array: np.ndarray) -> torch.Tensor:
    # A mapped file is read-only and torch warns of that; "c" (copy-on-write) maps the same pages without a copy.
    if isinstance(array, np.memmap) and array.filename is not None:
        array = np.memmap(array.filename, dtype=array.dtype, mode="c", offset=array.offset, shape=array.shape)
    return torch.from_numpy(np.asarray(array))
