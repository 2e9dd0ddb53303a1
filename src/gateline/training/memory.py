"""A training that does not fit the memory of its device is refused: it is no bug, and another try ends the same way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gateline.errors import WorkloadError

SAID = ("DefaultCPUAllocator: can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says it where it has no type of its own for it."""


def out_of_memory(error: Exception) -> bool:
    """Say whether a device lacked memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in SAID)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Refuse what the block has no memory for.

    No TrainingError, which would be noted and refused from then on: who else uses the device may leave it more next time.

    Raises:
        WorkloadError: a device lacked memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise WorkloadError(
            "training.batch_size",
            expected="a batch that fits the memory of the device, beside network and data",
            found=" ".join(str(error).split())[:200] or "too little of it",  # a MemoryError may say nothing
            do="Lower it, or raise training.accumulate, which computes a batch in parts; else take a smaller network",
        ) from error
