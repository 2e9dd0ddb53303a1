"""A linear forecast in closed form beside the cells. B batch, T past steps, U steps to forecast, K lags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import nn

from gateline.workload.section import Section


class RidgePathSettings(Section):
    """How far back it looks, and how small its weights are kept."""

    lags: Annotated[int, Field(ge=1)]
    """Newest past steps that it reads."""
    penalty: Annotated[float, Field(gt=0)]
    """Times the sum of the squared weights, against the squared errors summed over all training windows."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """null: the cells start from the linear forecast and learn what it leaves over. A number: the cells learn by themselves,
    and what is forecast is the mean of both, in which the linear one has this share: what errs differently errs less together."""


class RidgePath(nn.Module):
    """Forecast every step by a linear function of the newest past steps, one for all series, without intercept.

    It is fitted once, before training, and then stays. A linear function of long windows and long horizons has too many weights
    to be learned well step by step; its ridge regression is exact.

    Source: Hoerl and Kennard (1970), Ridge Regression; on windows above their last value it is NLinear, Zeng et al. (2023),
    arXiv 2205.13504, in closed form.

    Args:
        horizon: steps to forecast U.
        settings: lags and penalty.
    """

    weight: torch.Tensor

    def __init__(self, horizon: int, settings: RidgePathSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("weight", torch.zeros(horizon, settings.lags))

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        """Forecast from a normalised past (B, T): (B, U), in the type of its weights whatever autocast says."""
        with torch.autocast(past.device.type, enabled=False):
            return nn.functional.linear(past[:, -self.settings.lags :].to(self.weight.dtype), self.weight)

    def join(self, forecast: torch.Tensor, median: int, past: torch.Tensor) -> torch.Tensor:
        """Join what the cells forecast and the linear forecast.

        Args:
            forecast: (B, U, Q), of the cells, normalised.
            median: which of the Q is the point forecast; the other quantiles move with it.
            past: (B, T), normalised.

        Returns:
            (B, U, Q). In training, where the cells learn by themselves, their forecast alone.
        """
        if self.settings.share is None:
            return forecast + self(past)[:, :, None]
        if self.training:
            return forecast
        return forecast + self.settings.share * (self(past)[:, :, None] - forecast[:, :, median : median + 1])

    def fit(self, windows: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Solve the normal equations.

        Args:
            windows: past (B, T) and target (B, U) of windows, both normalised and without missing targets.
        """
        lags, horizon = self.settings.lags, len(self.weight)
        gram = torch.zeros(lags, lags, dtype=torch.float64, device=self.weight.device)
        moment = torch.zeros(lags, horizon, dtype=torch.float64, device=self.weight.device)
        for past, target in windows:
            newest = past[:, -lags:]
            gram += (newest.T @ newest).double()
            moment += (newest.T @ target).double()
        gram.diagonal().add_(self.settings.penalty)
        self.weight.copy_(cast(torch.Tensor, torch.linalg.solve(gram, moment)).T)
