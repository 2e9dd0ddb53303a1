"""A forecaster that works on segments. B batch, T past steps, U steps to forecast, w steps of a segment, M segments ahead.

The lookback is cut into segments, each embedded linearly and read as one step by the recurrent cell. The last state is
then asked for every segment ahead at once, each told apart by the embedding of its position and of the series: one step
of the same cell, whatever the horizon. So errors do not accumulate, and a window of 720 steps is 30 steps of 24.

Source: Lin et al. (2023), SegRNN, arXiv 2308.11200, sections 3.2 and 3.3. What is known of a step beside the target joins
its segment before the embedding; what is known ahead, and of a series, is added to the question.

With `weight_drop`, reading the past is one pass and asking for what is ahead is another: each drops weights of its own.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.errors import WorkloadError
from gateline.models.forecaster.base import ForecasterNetwork
from gateline.models.forecaster.head import ForecastHead
from gateline.models.forecaster.normalisation import Level
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.forecaster.shapes import Shapes
from gateline.models.stack import Stack, StackState
from gateline.randomness import Dropout


class SegmentForecaster(ForecasterNetwork):
    """Forecast U steps of one target from T past steps, w steps at a time.

    Args:
        shapes: of the batches.
        settings: section `model`.

    Raises:
        WorkloadError: the lookback is no multiple of the segment.
    """

    def __init__(self, shapes: Shapes, settings: ForecasterSettings) -> None:
        super().__init__(shapes, settings)
        segment = settings.segment or shapes.lookback
        if shapes.lookback % segment:
            raise WorkloadError(
                "model.segment",
                expected=f"a divisor of preprocess.windows.lookback, {shapes.lookback}",
                found=str(segment),
                do="Change one of the two",
            )
        hidden, covariates = settings.hidden_size, self.covariates
        self.segment, self.num_segments = segment, -(-shapes.horizon // segment)
        self.target_mask = shapes.target_mask
        features = covariates.encoder_size - (0 if shapes.target_mask else 1)
        self.embed = nn.Sequential(nn.Linear(segment * features, hidden), nn.ReLU())
        self.encoder = Stack(input_size=hidden, settings=settings.stack())
        share = hidden // 2 if shapes.num_series > 1 and settings.series != "none" else 0
        self.position = nn.Parameter(torch.randn(self.num_segments, hidden - share))
        self.series = nn.Embedding(shapes.num_series, share) if share else None
        self.embed_known = nn.Linear(segment * covariates.decoder_size, hidden) if covariates.decoder_size else None
        self.embed_static = nn.Linear(covariates.static_size, hidden) if covariates.static_size else None
        self.dropout = Dropout(settings.dropout)
        self.head = ForecastHead(hidden, segment, self.levels)

    def forward(self, batch: ForecastBatch) -> torch.Tensor:
        """Forecast the scaled target: (B, U, Q)."""
        level = self.level(batch)
        _, state = self.encoder(self._encoder_inputs(batch, level))
        asked = self.questions(batch)  # (B, M, H)
        decoded, _ = self.encoder(asked.flatten(0, 1)[:, None], repeat_state(state, self.num_segments))  # (B * M, 1, H)
        written = self.head(self.dropout(decoded)).flatten(0, 2)  # (B * M * w, Q)
        forecast = written.unflatten(0, (len(batch.past), -1))[:, : self.horizon]  # (B, U, Q)
        if self.ridge_path is not None:
            forecast = self.ridge_path.join(forecast, self.median, batch, self.normalised_past(batch, level))
        return self.normalisation.inverse(forecast, level)

    def encoder_inputs(self, batch: ForecastBatch) -> torch.Tensor:
        """What the encoder reads: (B, T / w, H), one step per segment."""
        return self._encoder_inputs(batch, self.level(batch))

    def questions(self, batch: ForecastBatch) -> torch.Tensor:
        """What the cell is asked for each segment ahead: position, series and what is known of it, (B, M, H)."""
        asked = self.position.expand(len(batch.past), -1, -1)  # (B, M, H) or (B, M, H / 2)
        if self.series is not None:
            asked = torch.cat([asked, self.series(batch.series)[:, None].expand(-1, self.num_segments, -1)], dim=2)
        if self.embed_known is not None:
            missing = self.num_segments * self.segment - self.horizon  # the last segment may reach past the horizon
            known = nn.functional.pad(self.covariates.known_steps(batch), (0, 0, 0, missing))
            asked = asked + self.embed_known(known.unflatten(1, (-1, self.segment)).flatten(2))
        of_series = self.covariates.of_series(batch)
        if self.embed_static is not None and of_series is not None:
            asked = asked + self.embed_static(of_series)[:, None]
        return asked

    def _encoder_inputs(self, batch: ForecastBatch, level: Level) -> torch.Tensor:
        rest = self.covariates.past_steps(batch)[:, :, 1 if self.target_mask else 2 :]
        past = torch.cat([self.normalised_past(batch, level)[:, :, None], rest], dim=2)
        embedded: torch.Tensor = self.embed(past.unflatten(1, (-1, self.segment)).flatten(2))
        return embedded


def repeat_state(state: StackState, times: int) -> StackState:
    """Give every window's state to each of its segments: (B, ...) -> (B * times, ...), a window's side by side."""
    return tuple(tuple(carried.repeat_interleave(times, dim=0) for carried in cell) for cell in state)
