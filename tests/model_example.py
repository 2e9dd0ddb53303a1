"""A small example of a model, through which it joins `tests/contracts/test_models.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Example:
    """What the contract suite must know of a model; a file of `tests/contracts/model_examples` has several.

    Args:
        build: makes the model, small and freshly initialised.
        batch: makes a batch of tensors (B, ...) by name; `lengths` (B,) is among them if rows may be padded.
        output: what the model says of a batch, (B, ...), with 0 where it means nothing.
        loss: sum and count of what training would minimise.
        timed: names of the tensors (B, T, ...) whose rows `lengths` is about.
        start: memory, state and first token for `gateline.models.decoding`, of a model that writes tokens.
        learning_rate: with which Adam learns the batch by heart.
        draws: random numbers decide what it says, also in eval mode; those of a CUDA device are not those of a CPU.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], Batch]
    output: Callable[[Any, Batch], torch.Tensor]
    loss: Callable[[Any, Batch], tuple[torch.Tensor, torch.Tensor]]
    timed: tuple[str, ...] = ()
    start: Callable[[Any, Batch], tuple[Any, Any, torch.Tensor]] | None = None
    learning_rate: float = 0.03
    draws: bool = False


def tokens(generator: torch.Generator, num_tokens: int, *shape: int) -> torch.Tensor:
    """Draw tokens."""
    return torch.randint(num_tokens, shape, generator=generator)


def masked(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Put 0 past the length of each row of x (B, T, ...)."""
    padding = ~real(lengths, x.shape[1])
    return x.masked_fill(padding.reshape(*padding.shape, *[1] * (x.ndim - 2)), 0)


def real(lengths: torch.Tensor, steps: int) -> torch.Tensor:
    """Mark the real steps: bool (B, T)."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]
