"""Losses over the observed steps of a batch, independent of padding and of how batches are cut."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

ELEMENTWISE: dict[str, Callable[..., torch.Tensor]] = {
    "absolute": functional.l1_loss,
    "squared": functional.mse_loss,
    "huber": functional.huber_loss,
}


def summed_loss(
    kind: str, prediction: torch.Tensor, target: torch.Tensor, observed: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum a loss over the observed elements and count them, so that the caller can take any mean.

    Args:
        kind: ``absolute``, ``squared`` or ``huber`` (delta 1).
        prediction: float (B, U).
        target: float (B, U), finite everywhere.
        observed: bool (B, U).

    Returns:
        Scalar sum and scalar count. What is not observed changes neither, nor the gradient.
    """
    losses = ELEMENTWISE[kind](prediction, target, reduction="none")
    # where, not times: a missing target must not turn into 0 * nan.
    return torch.where(observed, losses, 0.0).sum(), observed.sum()
