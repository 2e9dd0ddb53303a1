"""Labels for a recording, without saying when. B batch, T time, M mel bands, R input steps per output step, V labels.

Log-mel frames are joined to fewer, longer steps, read by a stack of cells, and turned into the probabilities of
connectionist temporal classification; label 0 is the blank.

Source: Graves et al. (2006), Connectionist temporal classification; fewer steps, Amodei et al. (2016), Deep Speech 2,
arXiv 1512.02595 (strided convolution), and Sak et al. (2015), arXiv 1507.06947 (stacking).
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from gateline.cells._padding import is_padding, without_padding
from gateline.losses import at_least_float32
from gateline.models.ctc_decoding import WIDEST_BEAM
from gateline.models.sequence_input import DropoutSettings, SequenceDropout, require_cell
from gateline.models.spec_augment import SpecAugment, SpecAugmentSettings
from gateline.models.stack import Size, Stack


class TranscriberSettings(DropoutSettings):
    """Section `model` of a transcription workload."""

    bidirectional: bool = True
    time_reduction: Size = 4
    """Input steps per output step; 1: none are joined. An output needs a step per label, and one between equal
    neighbours."""
    reduction: Literal["convolution", "stacking"] = "convolution"
    """How steps are joined: by convolutions that halve their number, or by laying frames side by side."""
    channels: Size = 128
    """Of each convolution."""
    spec_augment: SpecAugmentSettings = SpecAugmentSettings()
    """What is hidden of each recording in training; nothing by default."""
    beam_width: Annotated[int, Field(ge=1, le=WIDEST_BEAM)] = 8
    """Labellings that are followed when a recording is transcribed; 1: the most probable label of each step is taken. A request to
    the served model may say another."""

    @model_validator(mode="after")
    def _halves(self) -> TranscriberSettings:
        if self.reduction == "convolution" and self.time_reduction & (self.time_reduction - 1):
            raise ValueError(
                f"time_reduction: 1, 2, 4, 8 and so on, since a convolution halves; got {self.time_reduction}"
            )
        return self


class Transcriber(nn.Module):
    """Write down what is said in a recording.

    Args:
        num_features: number of mel bands M.
        num_labels: number of labels V, with the blank.
        settings: time reduction, cells, dropout.
    """

    def __init__(self, *, num_features: int, num_labels: int, settings: TranscriberSettings) -> None:
        super().__init__()
        require_cell(settings.cell, reads_pictures=False)
        self.spec_augment = SpecAugment(settings.spec_augment)
        self.reduction: Convolutions | Stacking
        if settings.reduction == "convolution":
            self.reduction = Convolutions(num_features, settings.channels, settings.time_reduction)
        else:
            self.reduction = Stacking(num_features, settings.time_reduction)
        self.input_dropout = SequenceDropout(settings.input_dropout, settings.variational_dropout)
        self.stack = Stack(input_size=self.reduction.output_size, settings=settings)
        self.output_dropout = SequenceDropout(settings.output_dropout, settings.variational_dropout)
        self.head = nn.Linear(self.stack.output_size, num_labels)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what is said at each output step.

        Args:
            features: float (B, T, M), log-mel.
            lengths: int64 (B,), 1 to T; None: all steps are real.

        Returns:
            Log probabilities (B, ceil(T / R), V), at least float32, and the length of each output, int64 (B,).
        """
        if lengths is None:
            lengths = torch.full((len(features),), features.shape[1], device=features.device)
        x, lengths = self.reduction(self.spec_augment(features, lengths), lengths)
        y, _ = self.stack(self.input_dropout(x), lengths=lengths)  # (B, T / R, H * D)
        logits = self.head(self.output_dropout(y))
        return torch.log_softmax(at_least_float32(logits), dim=2), lengths


class Stacking(nn.Module):
    """Lay R frames side by side; past the end stand zeros.

    Args:
        size: number of features M.
        factor: R.
    """

    def __init__(self, size: int, factor: int) -> None:
        super().__init__()
        self.factor, self.output_size = factor, size * factor

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Join: (B, T, M), lengths (B,) -> (B, ceil(T / R), M * R), lengths (B,)."""
        x = nn.functional.pad(without_padding(x, is_padding(x, lengths)), (0, 0, 0, -x.shape[1] % self.factor))
        return x.reshape(len(x), -1, self.output_size), shorter(lengths, self.factor)


class Convolutions(nn.Module):
    """Halve the number of steps with convolutions over time, each three steps wide; past either end stand zeros.

    Args:
        size: number of features M.
        channels: of each convolution.
        factor: R, a power of two; 1: no convolution.
    """

    def __init__(self, size: int, channels: int, factor: int) -> None:
        super().__init__()
        sizes = [size] + [channels] * (factor.bit_length() - 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size=3, stride=2, padding=1) for before, after in itertools.pairwise(sizes)
        )
        self.output_size = sizes[-1]

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Join: (B, T, M), lengths (B,) -> (B, ceil(T / R), channels), lengths (B,)."""
        for layer in self.layers:
            # What a convolution wrote past the end would reach back into the last step of the next.
            x = torch.relu(layer(without_padding(x, is_padding(x, lengths)).transpose(1, 2)).transpose(1, 2))
            lengths = shorter(lengths, 2)
        return x, lengths


def shorter(lengths: torch.Tensor, factor: int) -> torch.Tensor:
    """Say how many steps are left: the length divided by `factor`, rounded up.

    Convolutions that halve it one after the other leave as many.
    """
    return torch.div(lengths + factor - 1, factor, rounding_mode="floor")
