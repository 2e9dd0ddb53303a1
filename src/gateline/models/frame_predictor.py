"""The next frames of a film.

B batch, T past frames, U frames to come, C channels, Y rows, X columns, P side of a patch.

A stack of convolutional cells reads the past frames; a second one starts from its state and writes the frames to come,
each from the one before it. The paper reads the states of all layers to paint a frame; here the last layer is read, so
that training on the true frames takes one pass.

Source: Shi et al. (2015), Convolutional LSTM network, arXiv 1506.04214, sections 3.2 and 4.1; own predictions as inputs
in training, Bengio, Vinyals, Jaitly and Shazeer (2015), arXiv 1506.03099.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from pydantic import model_validator
from torch import nn

from gateline.errors import DataError
from gateline.models.scheduled_sampling import ScheduledSampling
from gateline.models.sequence_input import require_cell
from gateline.models.stack import Size, Stack, StackSettings, refuse_weight_drop
from gateline.randomness import rows_rand, step_by_step


class FramePredictorSettings(StackSettings):
    """Section `model` of a frame prediction workload."""

    cell: str = "conv_lstm"
    patch: Size = 1
    """Side of the squares of pixels that are read as one pixel of more channels; it divides rows and columns of a
    frame."""
    scheduled_sampling: ScheduledSampling = ScheduledSampling()
    """How often a step of training reads the true frame before it; as it stands, never."""

    @model_validator(mode="after")
    def _only_the_past(self) -> FramePredictorSettings:
        if self.bidirectional:
            raise ValueError("bidirectional: false; what is to come cannot be read backwards")
        return self


class FramePredictor(nn.Module):
    """Foretell the frames that follow.

    Args:
        num_channels: channels C of a frame, with values in [0, 1].
        settings: cells and patches.

    Raises:
        WorkloadError: the cell does not read pictures.
    """

    def __init__(self, *, num_channels: int, settings: FramePredictorSettings) -> None:
        super().__init__()
        require_cell(settings.cell, reads_pictures=True)
        self.settings = settings
        self.patch = settings.patch
        size = num_channels * self.patch**2
        self.encoder = Stack(input_size=size, settings=settings)
        self.forecaster = Stack(input_size=size, settings=settings)
        self.head = nn.Conv2d(self.forecaster.output_size, size, kernel_size=1)

    def forward(
        self,
        past: torch.Tensor,
        num_frames: int,
        lengths: torch.Tensor | None = None,
        *,
        future: torch.Tensor | None = None,
        teacher_forcing: float = 0.0,
    ) -> torch.Tensor:
        """Foretell frames.

        Args:
            past: float (B, T, C, Y, X) in [0, 1].
            num_frames: how many frames U to foretell.
            lengths: int64 (B,), 1 to T: past frames of each row; None: all are real.
            future: float (B, U, C, Y, X) in [0, 1], the true frames, in training with teacher forcing.
            teacher_forcing: probability with which a step reads the true frame before it; else it reads its own.
                At 1 all steps are computed in one pass.

        Returns:
            Logits (B, U, C, Y, X); the frames are their logistic function, see `predict`.

        Raises:
            DataError: a patch does not divide the frames.
            WorkloadError: weights are dropped in training and `teacher_forcing` is below 1.
        """
        past = self.patched(past)
        _, state = self.encoder(past, lengths=lengths)
        rows = torch.arange(len(past), device=past.device)
        last = past[:, -1] if lengths is None else past[rows, lengths - 1]
        truth = last[:, None]  # (B, U, C P P, Y / P, X / P), the frame before each, where it is known
        if teacher_forcing > 0:
            if future is None:
                raise ValueError("teacher forcing needs the true frames")
            truth = torch.cat([truth, self.patched(future)[:, : num_frames - 1]], dim=1)
        if teacher_forcing >= 1:
            y, _ = self.forecaster(truth, state)
            return self.painted(y)
        refuse_weight_drop(self.forecaster)
        forced = rows_rand((len(past), num_frames), past.device) < teacher_forcing if teacher_forcing > 0 else None
        frame, logits = last, []
        with step_by_step():
            for place in range(num_frames):
                if forced is not None and place:
                    frame = torch.where(forced[:, place, None, None, None], truth[:, place], frame)
                y, state = self.forecaster(frame[:, None], state)
                logits.append(self.head(y.squeeze(1)))
                frame = torch.sigmoid(logits[-1]).to(past.dtype)
        return self.whole(torch.stack(logits, dim=1))

    def predict(self, past: torch.Tensor, num_frames: int, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Foretell frames (B, U, C, Y, X) in [0, 1] from past ones (B, T, C, Y, X)."""
        return torch.sigmoid(self(past, num_frames, lengths))

    def painted(self, y: torch.Tensor) -> torch.Tensor:
        """Turn what the cells wrote, (B, U, H, Y / P, X / P), into logits (B, U, C, Y, X)."""
        return self.whole(self.head(y.flatten(0, 1)).unflatten(0, y.shape[:2]))

    def start_at(self, brightness: float) -> None:
        """Set the bias of what is painted so that a network that knows nothing yet paints the mean brightness.

        Most pixels are dark, and to learn that first takes hundreds of steps.

        Args:
            brightness: 0 to 1.
        """
        nearly = min(max(brightness, 1e-3), 1 - 1e-3)
        nn.init.constant_(cast(torch.Tensor, self.head.bias), math.log(nearly / (1 - nearly)))

    def patched(self, frames: torch.Tensor) -> torch.Tensor:
        """Turn squares of pixels into channels: (B, T, C, Y, X) -> (B, T, C P P, Y / P, X / P)."""
        height, width = frames.shape[-2:]
        if height % self.patch or width % self.patch:
            raise DataError(
                "model.patch",
                expected=f"frames whose rows and columns are multiples of {self.patch}",
                found=f"{height} x {width}",
                do="Choose a patch that divides both, or cut the frames",
            )
        return nn.functional.pixel_unshuffle(frames, self.patch)

    def whole(self, patches: torch.Tensor) -> torch.Tensor:
        """Turn channels back into squares of pixels; the inverse of `patched`."""
        return nn.functional.pixel_shuffle(patches, self.patch)
