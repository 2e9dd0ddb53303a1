"""What the forecasters of all modes have in common. B batch, T past steps, U steps to forecast, Q quantiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.errors import WorkloadError
from gateline.models.forecaster.covariates import Covariates
from gateline.models.forecaster.head import ForecastHead
from gateline.models.forecaster.normalisation import Level, WindowNormalisation
from gateline.models.forecaster.ridge_path import RidgePath
from gateline.models.forecaster.settings import MEDIAN, ForecasterSettings
from gateline.models.forecaster.shapes import Shapes
from gateline.models.stack import Stack


class ForecasterNetwork(nn.Module, ABC):
    """Forecast U steps of one target from T past steps.

    Args:
        shapes: of the batches.
        settings: section `model`.

    Raises:
        WorkloadError: the season is not shorter than the lookback, or what the ridge path reads is longer.
    """

    encoder: Stack
    """Reads `encoder_inputs`; its gates can be traced."""
    head: ForecastHead

    def __init__(self, shapes: Shapes, settings: ForecasterSettings) -> None:
        super().__init__()
        self.settings, self.horizon = settings, shapes.horizon
        if settings.season is not None and settings.season >= shapes.lookback:
            raise WorkloadError(
                "model.season",
                expected=f"a season shorter than preprocess.windows.lookback, {shapes.lookback}",
                found=str(settings.season),
                do="Read more of the past, or name a shorter season",
            )
        self.levels = settings.levels
        self.median = self.levels.index(MEDIAN)
        self.quantile_levels: torch.Tensor
        self.register_buffer("quantile_levels", torch.tensor(self.levels), persistent=False)  # (Q,), for the loss
        self.covariates = Covariates(shapes, settings)
        self.normalisation = WindowNormalisation(settings, shapes.horizon)
        self.ridge_path = None if settings.ridge_path is None else RidgePath(shapes, settings.ridge_path)

    @abstractmethod
    def forward(self, batch: ForecastBatch) -> torch.Tensor:
        """Forecast the scaled target: (B, U, Q), in rising order; Q is 1 for a point forecast."""

    def explain(self, batch: ForecastBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast, and say which past steps each step was read from.

        Returns:
            The scaled target (B, U, Q), and weights of attention (B, U, T) that add up to 1 over T; None without attention.
        """
        return self(batch), None

    @abstractmethod
    def encoder_inputs(self, batch: ForecastBatch) -> torch.Tensor:
        """What the encoder reads: (B, steps, encoder.input_size)."""

    def fit_in_closed_form(self, batches: Iterable[ForecastBatch]) -> None:
        """Fit the ridge path to the training windows; cells that start from it add nothing at first."""
        if self.ridge_path is not None:
            if self.ridge_path.settings.share is None:
                self.head.start_at_zero()
            self.ridge_path.fit(self._normalised(batch) for batch in batches)

    def level(self, batch: ForecastBatch) -> Level:
        """Find what the target of each window is normalised by."""
        return self.normalisation.level(batch.past[:, :, 0], batch.past[:, :, 1])

    def normalised_past(self, batch: ForecastBatch, level: Level) -> torch.Tensor:
        """Normalise the past target, 0 where it was not observed: (B, T)."""
        normalised: torch.Tensor = self.normalisation(batch.past[:, :, 0], level) * batch.past[:, :, 1]
        return normalised

    def _normalised(self, batch: ForecastBatch) -> tuple[ForecastBatch, torch.Tensor, torch.Tensor]:
        level = self.level(batch)
        return batch, self.normalised_past(batch, level), self.normalisation.of_target(batch.target, level)
