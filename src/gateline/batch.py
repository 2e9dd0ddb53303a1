"""What goes from the data to the model in one step. B batch, T past steps, U steps to forecast, F features."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch

SCORING_BATCH = 512
"""Rows at a time where no gradients are kept."""


@dataclass(frozen=True)
class Batch:
    """Tensors that travel together."""

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        """Copy to a device; from pinned memory, the copy may go on while the CPU does something else."""
        moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self._tensors().items()}
        return replace(self, **moved)

    def pin_memory(self) -> Self:
        """Copy to memory from which a GPU can fetch by itself."""
        return replace(self, **{name: tensor.pin_memory() for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, torch.Tensor]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}


@dataclass(frozen=True)
class ForecastBatch(Batch):
    """Windows of several series.

    Args:
        past: float32 (B, T, Fp), what the encoder reads.
        known: float32 (B, U, Fk), what is known ahead of the steps to forecast.
        series: int64 (B,), which series each window is from.
        target: float32 (B, U), scaled; 0 where `observed` is false.
        observed: bool (B, U), steps with a target.
        past_codes: int32 (B, T, Cp), texts of past steps as numbers; None without text columns, as below.
        known_codes: int32 (B, U, Ck), texts known ahead.
        static: float32 (B, Fs), numbers of each window's series.
        static_codes: int32 (B, Cs), texts of each window's series.
    """

    past: torch.Tensor
    known: torch.Tensor
    series: torch.Tensor
    target: torch.Tensor
    observed: torch.Tensor
    past_codes: torch.Tensor | None = None
    known_codes: torch.Tensor | None = None
    static: torch.Tensor | None = None
    static_codes: torch.Tensor | None = None


@dataclass(frozen=True)
class ClipBatch(Batch):
    """Clips of one length.

    Args:
        past: float32 (B, T, C, Y, X) in [0, 1], the frames that are read.
        future: float32 (B, U, C, Y, X) in [0, 1], those to foretell.
    """

    past: torch.Tensor
    future: torch.Tensor


@dataclass(frozen=True)
class PaddedBatch(Batch):
    """Whole sequences of different lengths.

    Args:
        values: (B, T, ...), one token, frame or vector of features per step; 0 past the length.
        lengths: int64 (B,), real steps of each row; on the device of the values, where each layer reads them.
    """

    values: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True)
class StreamBatch(Batch):
    """Pieces of a stream of tokens.

    Args:
        tokens: int64 (B, T).
        following: int64 (B, T), the token after each.
        observed: bool (B, T), false past the end of the stream.
    """

    tokens: torch.Tensor
    following: torch.Tensor
    observed: torch.Tensor


@dataclass(frozen=True)
class TranslationBatch(Batch):
    """Pairs of sentences.

    Args:
        source: int64 (B, T), 0 past the length.
        source_lengths: int64 (B,), 1 or more.
        before: int64 (B, U), the token before each target token: a begin token, then the target without its last.
        target: int64 (B, U), 0 past the length; the last real one is the end token.
        target_lengths: int64 (B,), 1 or more.
    """

    source: torch.Tensor
    source_lengths: torch.Tensor
    before: torch.Tensor
    target: torch.Tensor
    target_lengths: torch.Tensor


@dataclass(frozen=True)
class LabelledStepsBatch(PaddedBatch):
    """Whole sequences with a label for each step.

    Args:
        target: (B, T), int64 classes, or float32 0 and 1; 0 where `observed` is false.
        observed: bool (B, T), steps with a label.
    """

    target: torch.Tensor
    observed: torch.Tensor


@dataclass(frozen=True)
class LabelledBatch(PaddedBatch):
    """Whole sequences with a label each.

    Args:
        target: (B,), int64 classes.
    """

    target: torch.Tensor
