"""Losses over the observed elements of a batch, independent of padding and of how batches are cut.

Each returns a sum and the count of what was summed, so that the caller can take a mean over any number of batches. B
batch, T time, U target length, C classes or channels, V vocabulary, Y rows and X columns of a frame.
"""

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


def summed_pinball(
    prediction: torch.Tensor, target: torch.Tensor, observed: torch.Tensor, levels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the pinball loss of quantiles over the observed elements, mean over the levels, and count the elements.

    Args:
        prediction: float (B, U, Q).
        target: float (B, U), finite everywhere.
        observed: bool (B, U).
        levels: float (Q,), between 0 and 1; a tensor, since a GPU would stop at every step for numbers from Python.

    Returns:
        Scalar sum and scalar count. What is not observed changes neither, nor the gradient.

    Source: Koenker and Bassett (1978), Regression Quantiles, Econometrica 46(1).
    """
    over = target[:, :, None] - prediction
    at = levels.to(prediction.dtype)
    losses = torch.maximum(at * over, (at - 1) * over).mean(dim=2)
    return torch.where(observed, losses, 0.0).sum(), observed.sum()


def summed_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    observed: torch.Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    class_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the cross entropy of one class per element, in nats, and count the elements.

    Args:
        logits: float (..., V).
        target: int64 (...), a class in [0, V) wherever observed.
        observed: bool (...), or None for everywhere.
        label_smoothing: share of the target spread evenly over all V classes (Szegedy et al., 2016, arXiv 1512.00567).
        class_weight: float (V,), by what the loss of an element of each class is multiplied; the count does not change.

    Returns:
        Scalar sum and scalar count. What is not observed changes neither, nor the gradient.
    """
    ignored = -100  # never a class
    labels = target if observed is None else target.masked_fill(~observed, ignored)
    total = functional.cross_entropy(
        at_least_float32(logits).flatten(0, -2),
        labels.flatten(),
        ignore_index=ignored,
        reduction="sum",
        label_smoothing=label_smoothing,
        weight=class_weight,
    )
    return total, _count(target, observed)


def summed_binary_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    observed: torch.Tensor | None = None,
    *,
    positive_weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the cross entropy of yes-or-no labels, in nats, and count the labels.

    Args:
        logits: float (..., C).
        target: float (..., C), 0 or 1; other numbers in between are probabilities. Finite everywhere.
        observed: bool of the shape of `target` or of its leading dimensions, or None for everywhere.
        positive_weight: float (C,), by what the loss of a label that is 1 is multiplied, for labels that are rare.

    Returns:
        Scalar sum and scalar count. What is not observed changes neither, nor the gradient.
    """
    losses = functional.binary_cross_entropy_with_logits(
        at_least_float32(logits),
        target.to(at_least_float32(logits).dtype),
        pos_weight=positive_weight,
        reduction="none",
    )
    return _sum_observed(losses, observed)


def summed_ctc(
    log_probs: torch.Tensor, output_lengths: torch.Tensor, target: torch.Tensor, target_lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum -log p(labelling) over a batch, in nats, and count its sequences. Label 0 is the blank.

    A labelling that does not fit into its output (one step per label and one between equal neighbours) has the
    probability 0 and an infinite loss: training stops and names the batch, rather than learn from the others in
    silence.

    Args:
        log_probs: float (B, T, V), logarithms of probabilities.
        output_lengths: int64 (B,), steps of each output.
        target: int64 (B, U), labels in [1, V); what stands past the length does not count.
        target_lengths: int64 (B,).

    Source: Graves et al. (2006), Connectionist temporal classification, equations 3 to 8.
    """
    by_step = at_least_float32(log_probs).transpose(0, 1)  # (T, B, V)
    total = functional.ctc_loss(by_step, target, output_lengths, target_lengths, blank=0, reduction="sum")
    return total, torch.full((), len(target), device=log_probs.device)


def summed_frame_loss(
    kind: str, logits: torch.Tensor, target: torch.Tensor, observed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum a loss over the pixels of frames and count them.

    Args:
        kind: ``squared``, or ``binary_cross_entropy`` (a pixel is the probability of being lit, as in the ConvLSTM
            paper, arXiv 1506.04214, section 4.1).
        logits: float (B, U, C, Y, X); the frame is their logistic function.
        target: float (B, U, C, Y, X) in [0, 1].
        observed: bool (B, U), which frames there are, or None for all.

    Returns:
        Scalar sum and scalar count. What is not observed changes neither, nor the gradient.
    """
    if kind == "binary_cross_entropy":
        return summed_binary_cross_entropy(logits, target, observed)
    frames = torch.sigmoid(at_least_float32(logits))
    return _sum_observed(ELEMENTWISE[kind](frames, target.to(frames.dtype), reduction="none"), observed)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Leave float32 and float64 as they are; sums over many elements need more digits than the 16-bit types have."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _sum_observed(losses: torch.Tensor, observed: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum over what is observed; observed has the leading dimensions of losses."""
    if observed is None:
        return losses.sum(), _count(losses, None)
    observed = observed.reshape(*observed.shape, *[1] * (losses.ndim - observed.ndim)).expand_as(losses)
    return torch.where(observed, losses, 0.0).sum(), observed.sum()


def _count(elements: torch.Tensor, observed: torch.Tensor | None) -> torch.Tensor:
    if observed is not None:
        return observed.sum()
    return torch.full((), elements.numel(), device=elements.device)
