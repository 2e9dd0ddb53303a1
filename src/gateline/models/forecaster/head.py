"""From what a decoder writes to forecasts: one number per step, or quantiles that never cross. Q levels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import softplus

from gateline.models.forecaster.settings import MEDIAN


class ForecastHead(nn.Module):
    """Write forecasts of several steps.

    The median is linear; each level above it adds something positive to the one below, and so downwards. So quantiles are
    in order by construction, for every weight and input.

    Source: Park et al. (2022), arXiv 2111.06581: quantiles in order by adding up increments that are never negative.

    Args:
        input_size: number of features H.
        num_steps: steps w that one vector of features forecasts.
        levels: Q levels in rising order, 0.5 among them; it alone for a point forecast.
    """

    def __init__(self, input_size: int, num_steps: int, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.num_steps, self.num_levels, self.median = num_steps, len(levels), levels.index(MEDIAN)
        self.linear = nn.Linear(input_size, num_steps * len(levels))

    def start_at_zero(self) -> None:
        """Let the first forecasts be 0, where something else forecasts already."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Forecast: (..., H) -> (..., w, Q)."""
        written = self.linear(x).unflatten(-1, (self.num_steps, self.num_levels))
        if self.num_levels == 1:
            return written
        middle = written[..., self.median : self.median + 1]
        above = middle + softplus(written[..., self.median + 1 :]).cumsum(dim=-1)
        below = middle - softplus(written[..., : self.median]).flip(-1).cumsum(dim=-1).flip(-1)
        return torch.cat([below, middle, above], dim=-1)
