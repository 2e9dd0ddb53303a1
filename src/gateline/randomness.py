"""Random numbers for the rows of a batch that do not depend on how the batch is shared out.

One batch may be computed by several processes, or in several pieces one after the other. Each draws the numbers of the whole
batch from the same seed and keeps those of its own rows, so that dropout means the same for one process as for eight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class RowsOfBatch:
    """Which rows of a batch are being computed.

    Args:
        first: place of the first of them in the whole batch.
        count: how many.
        total: rows of the whole batch.
    """

    first: int
    count: int
    total: int


_ROWS: ContextVar[RowsOfBatch | None] = ContextVar("rows of the batch", default=None)


@contextmanager
def rows_of_batch(first: int, count: int, total: int) -> Iterator[None]:
    """Say which rows of a batch are computed inside the block; outside of any, they are the whole batch."""
    token = _ROWS.set(RowsOfBatch(first, count, total))
    try:
        yield
    finally:
        _ROWS.reset(token)


def rows_rand(shape: Sequence[int], device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw uniform numbers in [0, 1) whose dimension 0 is the batch: (B, ...).

    Args:
        shape: (B, ...); B is a multiple of the rows being computed, k numbers side by side for each row.
        device: where.
        dtype: floating type.
    """
    return _ours(shape, lambda whole: torch.rand(whole, device=device, dtype=dtype))


def locked_dropout(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Drop the same features at every time step of a row: x (B, T, ...) -> (B, T, ...).

    Source: Gal and Ghahramani (2016), arXiv 1512.05287; as in Merity, Keskar and Socher (2018), arXiv 1708.02182.
    """
    if not training or p == 0.0:
        return x
    return x * _keep((len(x), 1, *x.shape[2:]), p, x)


class Dropout(nn.Module):
    """Drop features with probability p, and scale the others by 1 / (1 - p); x (B, ...) -> (B, ...).

    Args:
        p: 0 <= p < 1.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop in training mode; leave alone in eval mode."""
        if not self.training or self.p == 0.0:
            return x
        return x * _keep(x.shape, self.p, x)

    def extra_repr(self) -> str:
        """Show p."""
        return f"p={self.p}"


def _keep(shape: Sequence[int], p: float, like: torch.Tensor) -> torch.Tensor:
    """Draw 0 with probability p, else 1 / (1 - p)."""
    draw = _ours(shape, lambda whole: torch.empty(whole, device=like.device, dtype=like.dtype).bernoulli_(1 - p))
    return draw / (1 - p)


def _ours(shape: Sequence[int], draw: Callable[[tuple[int, ...]], torch.Tensor]) -> torch.Tensor:
    rows = _ROWS.get()
    if rows is None or rows.count == rows.total:
        return draw(tuple(shape))
    each, rest = divmod(shape[0], rows.count)
    if rest:
        raise ValueError(f"dimension 0 has to be the {rows.count} rows of the batch or a multiple, got {shape[0]}")
    return draw((rows.total * each, *shape[1:]))[rows.first * each : (rows.first + rows.count) * each]
