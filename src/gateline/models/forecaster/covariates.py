"""What a forecaster reads beside the target: numbers, texts as learnt embeddings, and which series a window is from."""

from __future__ import annotations

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.forecaster.shapes import Shapes

MAX_ONE_HOT = 16
"""Series up to which `series: auto` tells them apart by one number each."""


class Categories(nn.Module):
    """An embedding for each of several text columns, side by side.

    Code 0 stands for a text that training has not seen, and for none. Its row starts at zero, so that a model that never
    met it says nothing special about it.

    Args:
        counts: how many codes each column has.
        size: numbers E that stand for one text.
    """

    def __init__(self, counts: tuple[int, ...], size: int) -> None:
        super().__init__()
        tables = [nn.Embedding(count, size) for count in counts]
        with torch.no_grad():
            for table in tables:
                table.weight[0] = 0
        self.tables = nn.ModuleList(tables)
        self.output_size = len(counts) * size

    def forward(self, codes: torch.Tensor) -> list[torch.Tensor]:
        """Look up codes (..., C): C tensors (..., E)."""
        return [table(codes[..., place]) for place, table in enumerate(self.tables)]


class Covariates(nn.Module):
    """Lay numbers and embeddings side by side.

    Args:
        shapes: of the batches.
        settings: `embedding_size` and `series`.
    """

    def __init__(self, shapes: Shapes, settings: ForecasterSettings) -> None:
        super().__init__()
        size = settings.embedding_size
        self.past = Categories(shapes.past_categories, size)
        self.known = Categories(shapes.known_categories, size)
        self.static = Categories(shapes.static_categories, size)
        self.num_past = len(shapes.past_categories)
        self.encoder_size = shapes.encoder_features + self.past.output_size + self.known.output_size
        self.decoder_size = shapes.decoder_features + self.known.output_size
        self.static_size = shapes.static_features + self.static.output_size

    def past_steps(self, batch: ForecastBatch) -> torch.Tensor:
        """What each past step has: (B, T, encoder_size), the target and its mask first."""
        if batch.past_codes is None:
            return batch.past
        codes, first = batch.past_codes, self.num_past
        return torch.cat([batch.past, *self.past(codes[..., :first]), *self.known(codes[..., first:])], dim=2)

    def known_steps(self, batch: ForecastBatch) -> torch.Tensor:
        """What is known of each step ahead: (B, U, decoder_size)."""
        if batch.known_codes is None:
            return batch.known
        return torch.cat([batch.known, *self.known(batch.known_codes)], dim=2)

    def of_series(self, batch: ForecastBatch) -> torch.Tensor | None:
        """What is known of each window's series: (B, static_size); None where nothing is."""
        parts = [] if batch.static is None else [batch.static]
        if batch.static_codes is not None:
            parts += self.static(batch.static_codes)
        return torch.cat(parts, dim=1) if parts else None


class WhichSeries(nn.Module):
    """Tell series apart: by one number each, or by an embedding where there are many.

    Args:
        num_series: S.
        settings: `series` and `embedding_size`.
    """

    def __init__(self, num_series: int, settings: ForecasterSettings) -> None:
        super().__init__()
        kind = settings.series
        if kind == "auto":
            kind = "one_hot" if num_series <= MAX_ONE_HOT else "embedding"
        if num_series == 1:  # there is nothing to tell apart
            kind = "none"
        self.num_series = num_series if kind == "one_hot" else 0
        self.table = nn.Embedding(num_series, settings.embedding_size) if kind == "embedding" else None
        self.output_size = settings.embedding_size if kind == "embedding" else self.num_series

    def forward(self, series: torch.Tensor) -> torch.Tensor | None:
        """Say which series: (B,) -> (B, output_size); None where it is not told."""
        if self.table is not None:
            looked_up: torch.Tensor = self.table(series)
            return looked_up
        return nn.functional.one_hot(series, self.num_series) if self.num_series else None


def at_every_step(steps: torch.Tensor, *of_window: torch.Tensor | None) -> torch.Tensor:
    """Repeat what is known of a window (B, E), each, at all its steps (B, T, F): (B, T, F + E + ...)."""
    there = [part.to(steps.dtype)[:, None].expand(-1, steps.shape[1], -1) for part in of_window if part is not None]
    return torch.cat([steps, *there], dim=2) if there else steps
