"""Normalise each window by what it holds itself, and take the forecast back. B batch, T past steps, U steps to forecast."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from gateline.models.forecaster.settings import ForecasterSettings

EPSILON = 1e-5
"""Added to the variance, so that a window that never changes is not divided by 0."""


class Level(NamedTuple):
    """What a window is normalised by: (x - shift) / scale.

    Args:
        shift: of the past, (B, 1), or (B, T) where steps differ.
        scale: (B, 1).
        ahead: shift of the steps to forecast, (B, 1) or (B, U).
    """

    shift: torch.Tensor
    scale: torch.Tensor
    ahead: torch.Tensor


class WindowNormalisation(nn.Module):
    """Take a window's own level out of it, and put it back into the forecast: exactly each other's inverse.

    `last_value` subtracts the last observed target. `revin` subtracts the mean and divides by the deviation of the observed
    targets; `affine` then multiplies and adds what is learnt. The learnt scale is the exponential of a weight: above 0, so
    quantiles stay in order. `last_season` subtracts from every step the observed target at its place of the last season, and
    divides by how far, in root mean square, the earlier past departs from it: a forecast of 0 is the seasonal naive one, and
    a series that repeats itself to a thousandth is told as finely as one that does not.

    Source: Kim et al. (2022), Reversible Instance Normalization, ICLR, equations 1 to 3, there with a scale of either sign.

    Args:
        settings: `normalisation`, `season` and `affine`.
        horizon: steps to forecast U.
    """

    def __init__(self, settings: ForecasterSettings, horizon: int = 1) -> None:
        super().__init__()
        self.kind, self.season, self.horizon = settings.normalisation, settings.season or 1, horizon
        self.log_scale = nn.Parameter(torch.zeros(1)) if settings.affine else None
        self.shift = nn.Parameter(torch.zeros(1)) if settings.affine else None

    def level(self, values: torch.Tensor, observed: torch.Tensor) -> Level:
        """Find the level of windows from values and observed, each (B, T); 0 where nothing was observed."""
        none, one = torch.zeros_like(values[:, :1]), torch.ones_like(values[:, :1])
        if self.kind == "none":
            return Level(none, one, none)
        if self.kind == "last_value":
            last = last_observed(values, observed)[:, None]
            return Level(last, one, last)
        if self.kind == "last_season":
            return self._last_season(values, observed)
        count = observed.sum(dim=1, keepdim=True)
        mean = (values * observed).sum(dim=1, keepdim=True) / count.clamp(min=1)
        variance = ((values - mean).square() * observed).sum(dim=1, keepdim=True) / count.clamp(min=1)
        return Level(mean, torch.where(count > 0, (variance + EPSILON).sqrt(), one), mean)

    def _last_season(self, values: torch.Tensor, observed: torch.Tensor) -> Level:
        steps, season = values.shape[1], self.season
        last = last_observed(values, observed)[:, None]
        pattern = torch.where(observed[:, -season:] > 0, values[:, -season:], last)  # (B, season)
        shift = pattern.repeat(1, -(-steps // season))[:, -steps:]  # (B, T)
        ahead = pattern.repeat(1, -(-self.horizon // season))[:, : self.horizon]  # (B, U)
        before, there = (values - shift)[:, :-season], observed[:, :-season]
        count = there.sum(dim=1, keepdim=True)
        variance = (before.square() * there).sum(dim=1, keepdim=True) / count.clamp(min=1)
        return Level(shift, torch.where(count > 0, (variance + EPSILON).sqrt(), torch.ones_like(last)), ahead)

    def forward(self, values: torch.Tensor, level: Level) -> torch.Tensor:
        """Normalise a past (B, T)."""
        return self._normalised(values, level.shift, level.scale)

    def of_target(self, values: torch.Tensor, level: Level) -> torch.Tensor:
        """Normalise steps to forecast (B, U)."""
        return self._normalised(values, level.ahead, level.scale)

    def _normalised(self, values: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        normalised = (values - shift) / scale
        if self.log_scale is not None and self.shift is not None:
            normalised = normalised * self.log_scale.exp() + self.shift
        return normalised

    def inverse(self, forecast: torch.Tensor, level: Level) -> torch.Tensor:
        """Take forecasts (B, U, Q) back."""
        if self.log_scale is not None and self.shift is not None:
            forecast = (forecast - self.shift) / self.log_scale.exp()
        return forecast * level.scale[:, :, None] + level.ahead[:, :, None]


def last_observed(values: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Take the last observed value of each row, 0 where there is none: (B,) from two (B, T)."""
    steps = torch.arange(1, values.shape[1] + 1, device=values.device)
    last = (observed.bool() * steps).argmax(dim=1)  # 0 when nothing was observed, and then values there are 0
    return values.gather(1, last[:, None]).squeeze(1)
