"""Random numbers for the rows of a batch that depend neither on how the batch is shared out nor on how it is padded.

One batch may be computed by several processes, or in several parts one after the other, each padded to its own longest row.
Each draw has a seed of its own, made of the step's and of how many draws came before it; numbers are drawn for the rows of
the whole batch, time step by time step, and a part keeps those of its own rows. So dropout means the same for one process as
for eight, and one more step of padding changes no number before it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
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
        seed: of the step.
        draws: counts the draws of this part.
        progress: share of all steps of training that come before this one.
    """

    first: int
    count: int
    total: int
    seed: int
    draws: Iterator[int]
    progress: float


_ROWS: ContextVar[RowsOfBatch | None] = ContextVar("rows of the batch", default=None)


@contextmanager
def rows_of_batch(first: int, count: int, total: int, seed: int, progress: float = 1.0) -> Iterator[None]:
    """Say which rows of a batch are computed inside the block, the seed of the step, and how far training is.

    Outside of any such block the rows are the whole batch, numbers come from torch's own generators, and training is over.
    """
    token = _ROWS.set(RowsOfBatch(first, count, total, seed, itertools.count(), progress))
    try:
        yield
    finally:
        _ROWS.reset(token)


_LOCKED: ContextVar[dict[Hashable, torch.Tensor] | None] = ContextVar("what was drawn for a sequence", default=None)


@contextmanager
def step_by_step() -> Iterator[None]:
    """Say that the block reads sequences one step at a time: what is locked over time is drawn at the first step, for all."""
    token = _LOCKED.set({})
    try:
        yield
    finally:
        _LOCKED.reset(token)


def locked(by: Hashable, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Draw; inside of `step_by_step`, hand out again what was drawn there before.

    Args:
        by: who draws, e.g. a module.
        draw: what draws.
    """
    drawn = _LOCKED.get()
    if drawn is None:
        return draw()
    if by not in drawn:
        drawn[by] = draw()
    return drawn[by]


def training_progress() -> float:
    """Say which share of all steps of training comes before this one, 0 to 1; like the draws, it follows from the step alone."""
    rows = _ROWS.get()
    return 1.0 if rows is None else rows.progress


def rows_rand(shape: Sequence[int], device: torch.device, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw uniform numbers in [0, 1) whose dimension 0 is the batch and whose dimension 1, if any, is time: (B, ...).

    Args:
        shape: (B, ...); B is a multiple of the rows being computed, k numbers side by side for each row.
        device: where.
        dtype: floating type.
    """
    return _ours(shape, device, lambda whole, by: torch.rand(whole, generator=by, device=device, dtype=dtype))


def locked_dropout(x: torch.Tensor, p: float, training: bool, by: Hashable) -> torch.Tensor:
    """Drop the same features at every time step of a row: x (B, T, ...) -> (B, T, ...); `by` as for `locked`.

    Source: Gal and Ghahramani (2016), arXiv 1512.05287; as in Merity, Keskar and Socher (2018), arXiv 1708.02182.
    """
    if not training or p == 0.0:
        return x
    return x * locked(by, lambda: _keep((len(x), 1, *x.shape[2:]), p, x))


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

    def draw(whole: tuple[int, ...], by: torch.Generator | None) -> torch.Tensor:
        drawn = torch.empty(whole, device=like.device, dtype=like.dtype)
        return drawn.bernoulli_(1 - p, generator=by).div_(1 - p)

    return _ours(shape, like.device, draw)


def _ours(
    shape: Sequence[int],
    device: torch.device,
    draw: Callable[[tuple[int, ...], torch.Generator | None], torch.Tensor],
) -> torch.Tensor:
    rows = _ROWS.get()
    if rows is None:
        return draw(tuple(shape), None)
    each, rest = divmod(shape[0], rows.count)
    if rest:
        raise ValueError(f"dimension 0 has to be the {rows.count} rows of the batch or a multiple, got {shape[0]}")
    own = hashlib.blake2b(f"{rows.seed}/{next(rows.draws)}".encode(), digest_size=7).digest()
    by = torch.Generator(device).manual_seed(int.from_bytes(own))
    first, last, total = rows.first * each, (rows.first + rows.count) * each, rows.total * each
    if len(shape) == 1:
        return draw((total,), by)[first:last]
    # Time first: what is drawn for a step does not depend on how many steps of padding come after it.
    return draw((shape[1], total, *shape[2:]), by)[:, first:last].transpose(0, 1)
