"""An encoder-decoder for windows of many series. B batch, T past steps, U steps to forecast, F features, H hidden.

The encoder reads the past; its last state starts the decoder, which reads what is known ahead of each step and writes
all steps in one pass, without feeding its own forecasts back. A linear decoder writes them from the encoder's last step.

Source: Sutskever, Vinyals and Le (2014), arXiv 1409.3215; attention: Luong, Pham and Manning (2015), arXiv 1508.04025,
with the scale of Vaswani et al. (2017); linear path: Lai et al. (2018), arXiv 1703.07015, section 3.6.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.models.attention import ScaledDotAttention
from gateline.models.forecaster.normalisation import LastValue, last_observed
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.stack import Stack
from gateline.randomness import Dropout


class EncoderDecoder(nn.Module):
    """Forecast U steps of one target from T past steps.

    Args:
        encoder_features: number of features Fp of a past step; the first two are the scaled target and its mask.
        decoder_features: number of features Fk known ahead of a step.
        num_series: number of series; each window says which one it is from.
        lookback: number of past steps T.
        horizon: number of steps to forecast U.
        settings: sizes, dropout, attention.
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
        hidden, self.horizon = settings.hidden_size, horizon
        self.num_series = num_series if num_series > 1 else 0
        self.encoder = Stack(input_size=encoder_features + self.num_series, settings=settings.stack())
        self.decoder, self.attention = None, None
        self.dropout = Dropout(settings.dropout)
        if settings.decoder == "linear":
            self.head = nn.Linear(hidden + horizon * decoder_features, horizon)
        else:
            # Beside what is known ahead, a decoder step reads how far ahead it is and the last observed target.
            self.decoder = Stack(input_size=decoder_features + self.num_series + 2, settings=settings.stack())
            self.attention = ScaledDotAttention(hidden, hidden) if settings.attention == "dot" else None
            self.head = nn.Linear(hidden * (2 if self.attention else 1), 1)
        self.linear_path = nn.Linear(2 * lookback, horizon) if settings.linear_path else None
        if self.linear_path is not None:
            nn.init.zeros_(self.linear_path.weight)
            nn.init.zeros_(self.linear_path.bias)
        self.normalisation = LastValue() if settings.normalisation == "last_value" else None
        self.position: torch.Tensor
        self.register_buffer("position", torch.linspace(-1, 1, horizon)[:, None], persistent=False)  # (U, 1)

    def forward(self, batch: ForecastBatch) -> torch.Tensor:
        """Forecast the scaled target: (B, U)."""
        past, known = batch.past, batch.known
        if self.normalisation is not None:
            values, level = self.normalisation(past[:, :, 0], past[:, :, 1])
            past = torch.cat([values[:, :, None], past[:, :, 1:]], dim=2)
        lags = past[:, :, :2]
        if self.decoder is None:
            encoded, _ = self.encoder(self.with_series(past, batch.series))  # (B, T, H)
            forecast = self.head(torch.cat([self.dropout(encoded[:, -1]), known.flatten(1)], dim=1))  # (B, U)
        else:
            forecast = self.decode(self.decoder, batch.series, past, known)
        if self.linear_path is not None:
            forecast = forecast + self.linear_path(lags.flatten(1))
        return forecast if self.normalisation is None else self.normalisation.inverse(forecast, level)

    def decode(self, decoder: Stack, series: torch.Tensor, past: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Write a step from each step of a recurrent decoder: (B, U)."""
        encoded, state = self.encoder(self.with_series(past, series))  # (B, T, H)
        last = last_observed(past[:, :, 0], past[:, :, 1])  # (B,)
        steps = [
            self.with_series(known, series),
            self.position.expand(len(past), -1, -1),
            last[:, None, None].expand(-1, self.horizon, 1),
        ]
        decoded, _ = decoder(torch.cat(steps, dim=2), state)  # (B, U, H)
        read = [self.dropout(decoded)]
        if self.attention is not None:
            context, _ = self.attention(decoded, encoded)
            read.append(self.dropout(context))
        return cast(torch.Tensor, self.head(torch.cat(read, dim=2)).squeeze(2))

    def with_series(self, steps: torch.Tensor, series: torch.Tensor) -> torch.Tensor:
        """Write beside every step which series it is from: (B, ., F) -> (B, ., F + S)."""
        if not self.num_series:
            return steps
        which = nn.functional.one_hot(series, self.num_series).to(steps.dtype)[:, None]  # (B, 1, S)
        return torch.cat([steps, which.expand(-1, steps.shape[1], -1)], dim=2)
