"""From an order of rows to the batches themselves, gathered ahead by worker processes where that helps."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

Batch_co = TypeVar("Batch_co", covariant=True)

BATCHES_AHEAD = 4  # per worker


class GathersBatches(Protocol[Batch_co]):
    """A data set that gathers a whole batch at once."""

    def __getitems__(self, rows: np.ndarray) -> Batch_co:
        """Gather the batch of some rows: int64 (B,)."""


def load(
    dataset: GathersBatches[Batch_co], batches: Iterable[np.ndarray], *, workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch_co]:
    """Gather one batch after the other, in the order given.

    The result does not depend on the number of workers, and no random number of the process is used up. Workers help
    where gathering a batch takes long beside the step it feeds: slow disks, or a GPU that waits (docs/benchmarks.md).

    Args:
        dataset: gathers batches. Workers see the memory of this process, they do not copy it.
        batches: int64 (B,) rows of each batch.
        workers: processes that gather ahead; 0: this process gathers each batch when it is asked for, as it does from data
            that live on a GPU.
        pin_memory: put batches where a GPU can fetch them while it computes; ignored where there is no GPU.

    Returns:
        What the data set makes of each batch.
    """
    if getattr(dataset, "device", torch.device("cpu")).type != "cpu":
        workers, pin_memory = 0, False
    pin_memory = pin_memory and torch.cuda.is_available()
    if workers == 0:  # what a DataLoader would do, which takes longer about it than a batch of windows takes to gather
        for rows in batches:
            batch: Any = dataset.__getitems__(rows)
            yield batch.pin_memory() if pin_memory else batch
        return
    loader: DataLoader[Any] = DataLoader(
        _OneCallPerBatch(dataset),
        batch_size=None,  # the sampler says whole batches
        sampler=batches,
        collate_fn=_as_gathered,
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_parent,
        prefetch_factor=BATCHES_AHEAD,
        # fork: the mapped arrays stay shared. The workers only copy memory, on one thread each, and touch no GPU.
        multiprocessing_context="fork",
        pin_memory=pin_memory,
        # Starting an iterator draws a seed for the workers, from the process's own generator unless told otherwise.
        generator=torch.Generator(),
    )
    yield from loader


class _OneCallPerBatch(Dataset[Batch_co], Generic[Batch_co]):
    def __init__(self, dataset: GathersBatches[Batch_co]) -> None:
        self._dataset = dataset

    def __getitem__(self, rows: np.ndarray) -> Batch_co:
        return self._dataset.__getitems__(rows)


def _leave_signals_to_the_parent(_worker: int) -> None:
    # Who stops a training run often signals all of its processes. The parent then finishes its step and ends the workers; a
    # worker that ended by itself would look like a fault. When the parent is gone, a worker notices and ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _as_gathered(batch: Any) -> Any:
    return batch
