"""Hide bands and stretches of time of a spectrogram while training, so that a model relies on no single one of them.

B batch, T time, M mel bands.

Source: Park et al. (2019), SpecAugment, arXiv 1904.08779, section 2 (frequency and time masking; without time warping, which
the paper finds to help least).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from gateline.randomness import rows_rand
from gateline.workload.section import Section

Count = Annotated[int, Field(ge=0)]


class SpecAugmentSettings(Section):
    """What is hidden of each recording, anew at each training step."""

    frequency_masks: Count = 0
    """How many stretches of bands are hidden; they may overlap."""
    frequency_width: Count = 0
    """Bands of the widest."""
    time_masks: Count = 0
    """How many stretches of time are hidden; they may overlap."""
    time_width: Count = 0
    """Frames of the longest."""
    time_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of a recording's frames, what one stretch may hide at most."""


class SpecAugment(nn.Module):
    """Set masked frames and bands to 0, which is the mean of normalised features.

    Which ones, depends on the seed of the training step and on the row alone (`gateline.randomness`), so a resumed run, parts of a
    batch and several processes hide the same.

    Args:
        settings: number and size of the masks.
    """

    def __init__(self, settings: SpecAugmentSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Hide in training mode; leave alone in eval mode: x (B, T, M), lengths (B,) -> (B, T, M)."""
        settings = self.settings
        if not self.training:
            return x
        hidden = torch.zeros(1, 1, 1, dtype=torch.bool, device=x.device)
        if settings.frequency_masks and settings.frequency_width:
            bands = torch.full_like(lengths, x.shape[2])
            widest = torch.full_like(lengths, min(settings.frequency_width, x.shape[2]))
            hidden = hidden | stretches(settings.frequency_masks, widest, bands, x.shape[2])[:, None, :]
        if settings.time_masks and settings.time_width:
            widest = (lengths * settings.time_share).long().clamp(max=settings.time_width)
            hidden = hidden | stretches(settings.time_masks, widest, lengths, x.shape[1])[:, :, None]
        return x.masked_fill(hidden, 0.0)


def stretches(count: int, widest: torch.Tensor, sizes: torch.Tensor, places: int) -> torch.Tensor:
    """Draw stretches of each row: the width uniform in 0..widest, the beginning uniform where it fits.

    Args:
        count: stretches of each row.
        widest: int64 (B,), at most `sizes`.
        sizes: int64 (B,), places of each row that are real.
        places: of all rows, P.

    Returns:
        bool (B, P), true inside any stretch.
    """
    drawn = rows_rand((len(sizes), 2 * count), sizes.device)
    # float32 can round a number just below 1 up to the next whole number.
    width = torch.minimum((drawn[:, :count] * (widest[:, None] + 1)).long(), widest[:, None])  # (B, count)
    last = sizes[:, None] - width
    first = torch.minimum((drawn[:, count:] * (last + 1)).long(), last)
    place = torch.arange(places, device=sizes.device)
    inside = (place >= first[:, :, None]) & (place < (first + width)[:, :, None])  # (B, count, P)
    return inside.any(dim=1)
