"""Rows of different lengths in one batch: what every cell needs to leave their padding alone."""

from __future__ import annotations

import torch


def is_padding(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mark the steps past the length of each row: bool (B, T)."""
    return torch.arange(x.shape[1], device=x.device) >= lengths[:, None]


def without_padding(x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
    """Put 0 where `padding` (B, T) is true, also in place of what is no number."""
    return x.masked_fill(padding.reshape(*padding.shape, *[1] * (x.ndim - 2)), 0)


def last_real(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Take the last real step of each row: (B, ...) of (B, T, ...)."""
    return x[torch.arange(len(x), device=x.device), lengths - 1]


def reversed_in_time(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Turn the real steps of each row round and leave its padding where it is."""
    if lengths is None:
        return x.flip(1)
    step = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - step
    return x[torch.arange(len(x), device=x.device)[:, None], torch.where(mirrored >= 0, mirrored, step)]
