"""Normalise each window by what it holds itself, and take the forecast back. B batch, T past steps, U steps to forecast."""

from __future__ import annotations

import torch


def last_observed(values: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Take the last observed value of each row, 0 where there is none: (B,) from two (B, T)."""
    steps = torch.arange(1, values.shape[1] + 1, device=values.device)
    last = (observed.bool() * steps).argmax(dim=1)  # 0 when nothing was observed, and then values there are 0
    return values.gather(1, last[:, None]).squeeze(1)


class LastValue(torch.nn.Module):
    """Read and forecast each window as its difference from the last observed target."""

    def forward(self, values: torch.Tensor, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Subtract: values and observed (B, T) -> normalised (B, T), 0 where missing, and the level (B, 1)."""
        level = last_observed(values, observed)[:, None]
        return (values - level) * observed, level

    def inverse(self, forecast: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Add the level (B, 1) to a forecast (B, U)."""
        return forecast + level
