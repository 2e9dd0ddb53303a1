"""A forecaster that works on segments. B batch, T past steps, U steps to forecast, w steps of a segment, M segments ahead.

The lookback is cut into segments, each embedded linearly and read as one step by the recurrent cell. The last state is
then asked for every segment ahead at once, each told apart by the embedding of its position and of the series: one step
of the same cell, whatever the horizon. So errors do not accumulate, and a window of 720 steps is 30 steps of 24.

Source: Lin et al. (2023), SegRNN, arXiv 2308.11200, sections 3.2 and 3.3.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.errors import WorkloadError
from gateline.models.forecaster.normalisation import LastValue
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.stack import Stack, StackState
from gateline.randomness import Dropout


class SegmentForecaster(nn.Module):
    """Forecast U steps of one target from T past steps, w steps at a time.

    Args:
        encoder_features: number of features Fp of a past step; the first two are the scaled target and its mask.
        decoder_features: number of features Fk known ahead of a step.
        num_series: number of series; each window says which one it is from.
        lookback: number of past steps T.
        horizon: number of steps to forecast U.
        settings: sizes, segment, dropout, normalisation.

    Raises:
        WorkloadError: the lookback is no multiple of the segment.
    """

    def __init__(
        self,
        *,
        encoder_features: int,
        decoder_features: int,
        num_series: int,
        lookback: int,
        horizon: int,
        settings: ForecasterSettings,
    ) -> None:
        super().__init__()
        segment = settings.segment or lookback
        if lookback % segment:
            raise WorkloadError(
                "model.segment",
                expected=f"a divisor of preprocess.windows.lookback, {lookback}",
                found=str(segment),
                do="Change one of the two",
            )
        hidden = settings.hidden_size
        self.segment, self.horizon, self.num_segments = segment, horizon, -(-horizon // segment)
        self.normalisation = LastValue() if settings.normalisation == "last_value" else None
        self.embed = nn.Sequential(nn.Linear(segment * encoder_features, hidden), nn.ReLU())
        self.encoder = Stack(input_size=hidden, settings=settings.stack())
        share = hidden // 2 if num_series > 1 else 0
        self.position = nn.Parameter(torch.randn(self.num_segments, hidden - share))
        self.series = nn.Embedding(num_series, share) if share else None
        self.embed_known = nn.Linear(segment * decoder_features, hidden) if decoder_features else None
        self.head = nn.Sequential(Dropout(settings.dropout), nn.Linear(hidden, segment))

    def forward(self, batch: ForecastBatch) -> torch.Tensor:
        """Forecast the scaled target: (B, U)."""
        past = batch.past
        if self.normalisation is not None:
            values, level = self.normalisation(past[:, :, 0], past[:, :, 1])
            past = torch.cat([values[:, :, None], past[:, :, 1:]], dim=2)
        segments = past.unflatten(1, (-1, self.segment)).flatten(2)  # (B, T / w, w * Fp)
        _, state = self.encoder(self.embed(segments))
        asked = self.questions(batch)  # (B, M, H)
        decoded, _ = self.encoder(asked.flatten(0, 1)[:, None], repeat_state(state, self.num_segments))  # (B * M, 1, H)
        forecast = self.head(decoded).view(len(past), -1)[:, : self.horizon]  # (B, U)
        return forecast if self.normalisation is None else self.normalisation.inverse(forecast, level)

    def questions(self, batch: ForecastBatch) -> torch.Tensor:
        """What the cell is asked for each segment ahead: position, series and what is known of it, (B, M, H)."""
        asked = self.position.expand(len(batch.past), -1, -1)  # (B, M, H) or (B, M, H / 2)
        if self.series is not None:
            asked = torch.cat([asked, self.series(batch.series)[:, None].expand(-1, self.num_segments, -1)], dim=2)
        if self.embed_known is not None:
            missing = self.num_segments * self.segment - self.horizon
            known = nn.functional.pad(batch.known, (0, 0, 0, missing))  # the last segment may reach past the horizon
            asked = asked + self.embed_known(known.unflatten(1, (-1, self.segment)).flatten(2))
        return asked


def repeat_state(state: StackState, times: int) -> StackState:
    """Give every window's state to each of its segments: (B, ...) -> (B * times, ...), a window's side by side."""
    return tuple(tuple(carried.repeat_interleave(times, dim=0) for carried in cell) for cell in state)
