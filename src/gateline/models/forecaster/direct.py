"""An encoder-decoder for windows of many series. B batch, T past steps, U steps to forecast, F features, H hidden.

The encoder reads the past; its last state starts the decoder, which reads what is known ahead of each step and writes
all steps in one pass, without feeding its own forecasts back. A linear decoder writes them from the encoder's last step.

Source: Sutskever, Vinyals and Le (2014), arXiv 1409.3215; linear path: Lai et al. (2018), arXiv 1703.07015, section 3.6.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import cast

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.models.attention import AdditiveAttention, ScaledDotAttention
from gateline.models.forecaster.base import ForecasterNetwork
from gateline.models.forecaster.covariates import WhichSeries, at_every_step
from gateline.models.forecaster.head import ForecastHead
from gateline.models.forecaster.normalisation import Level, last_observed
from gateline.models.forecaster.settings import ForecasterSettings
from gateline.models.forecaster.shapes import Shapes
from gateline.models.stack import Bridge, Stack, StackState
from gateline.randomness import Dropout

ATTENTION: dict[str, type[ScaledDotAttention] | type[AdditiveAttention]] = {
    "dot": ScaledDotAttention,
    "additive": AdditiveAttention,
}


class StepForecaster(ForecasterNetwork):
    """What forecasters have in common whose encoder reads step by step.

    Args:
        shapes: of the batches.
        settings: section `model`.
    """

    def __init__(self, shapes: Shapes, settings: ForecasterSettings) -> None:
        super().__init__(shapes, settings)
        self.series = WhichSeries(shapes.num_series, settings)
        self.window_size = self.covariates.static_size + self.series.output_size
        self.encoder = Stack(input_size=self.covariates.encoder_size + self.window_size, settings=settings.stack())
        self.dropout = Dropout(settings.dropout)
        self.linear_path = nn.Linear(2 * shapes.lookback, shapes.horizon) if settings.linear_path else None
        if self.linear_path is not None:
            nn.init.zeros_(self.linear_path.weight)
            nn.init.zeros_(self.linear_path.bias)

    def forward(self, batch: ForecastBatch) -> torch.Tensor:
        """Forecast the scaled target: (B, U, Q)."""
        return self._forecast(batch, looking=False)[0]

    def explain(self, batch: ForecastBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast, and say which past steps each step was read from: (B, U, Q), and (B, U, T) or None."""
        return self._forecast(batch, looking=True)

    def _forecast(self, batch: ForecastBatch, looking: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        level = self.level(batch)
        lags = self.normalised_past(batch, level)  # (B, T)
        encoded, state = self.encoder(self.inputs(batch, lags))  # (B, T, H)
        forecast, weights = self.decode(batch, encoded, state, lags, level, looking)  # (B, U, Q)
        if self.linear_path is not None:
            masked = torch.stack([lags, batch.past[:, :, 1]], dim=2).flatten(1)  # (B, T * 2)
            forecast = forecast + self.linear_path(masked)[:, :, None]
        if self.ridge_path is not None:
            forecast = self.ridge_path.join(forecast, self.median, batch, lags)
        return self.normalisation.inverse(forecast, level), weights

    @abstractmethod
    def decode(
        self,
        batch: ForecastBatch,
        encoded: torch.Tensor,
        state: StackState,
        lags: torch.Tensor,
        level: Level,
        looking: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast, still normalised, and say what was looked at.

        Args:
            batch: for what is known ahead.
            encoded: (B, T, H).
            state: of the encoder, after the last past step.
            lags: (B, T), the normalised past target, 0 where not observed.
            level: what the target is normalised by.
            looking: whether the weights of attention are wanted; of all steps they take U times the room of one.

        Returns:
            (B, U, Q), and weights of attention (B, U, T), or None where there are none.
        """

    def encoder_inputs(self, batch: ForecastBatch) -> torch.Tensor:
        """What the encoder reads: (B, T, encoder.input_size)."""
        return self.inputs(batch, self.normalised_past(batch, self.level(batch)))

    def inputs(self, batch: ForecastBatch, lags: torch.Tensor) -> torch.Tensor:
        """Put the normalised target in the place of the other one, and what is known of the window beside every step."""
        past = torch.cat([lags[:, :, None], self.covariates.past_steps(batch)[:, :, 1:]], dim=2)
        return at_every_step(past, self.covariates.of_series(batch), self.series(batch.series))


class LinearDecoder(StepForecaster):
    """Write all steps at once from the encoder's last step and all that is known ahead.

    Args:
        shapes: of the batches.
        settings: section `model`.
    """

    def __init__(self, shapes: Shapes, settings: ForecasterSettings) -> None:
        super().__init__(shapes, settings)
        size = self.encoder.output_size + shapes.horizon * self.covariates.decoder_size
        self.head = ForecastHead(size, shapes.horizon, self.levels)

    def decode(
        self,
        batch: ForecastBatch,
        encoded: torch.Tensor,
        state: StackState,  # noqa: ARG002  the last step says it
        lags: torch.Tensor,  # noqa: ARG002
        level: Level,  # noqa: ARG002
        looking: bool,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast, still normalised: (B, U, Q), and weights of attention."""
        read = [self.dropout(self.encoder.last_step(encoded)), self.covariates.known_steps(batch).flatten(1)]
        return self.head(torch.cat(read, dim=1)), None


class EncoderDecoder(StepForecaster):
    """Write all steps in one pass of a recurrent decoder.

    Args:
        shapes: of the batches.
        settings: section `model`.
    """

    def __init__(self, shapes: Shapes, settings: ForecasterSettings) -> None:
        super().__init__(shapes, settings)
        hidden = settings.hidden_size
        # Beside what is known ahead, a decoder step reads how far ahead it is and one target: the last that was observed.
        self.decoder = Stack(
            input_size=self.covariates.decoder_size + self.window_size + 2, settings=settings.decoder_stack()
        )
        self.bridge = Bridge(self.encoder.settings) if settings.bidirectional else None
        read, attend = self.encoder.output_size, ATTENTION.get(settings.attention)
        self.attention = attend(hidden, read) if attend else None
        self.head = ForecastHead(hidden + (read if self.attention else 0), 1, self.levels)
        # Computed on the device "meta", on which settings are checked, it would import more than a second's worth of torch.
        position = torch.linspace(-1, 1, shapes.horizon, device="cpu")[:, None]  # (U, 1)
        self.position: torch.Tensor
        self.register_buffer("position", position, persistent=False)

    def decode(
        self,
        batch: ForecastBatch,
        encoded: torch.Tensor,
        state: StackState,
        lags: torch.Tensor,
        level: Level,  # noqa: ARG002
        looking: bool,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast, still normalised: (B, U, Q), and weights of attention."""
        last = last_observed(lags, batch.past[:, :, 1])  # (B,)
        asked = torch.cat([self.known_inputs(batch), last[:, None, None].expand(-1, self.horizon, 1)], dim=2)
        decoded, _ = self.decoder(asked, self.start(state))  # (B, U, H)
        return self.read_out(decoded, encoded, self.keys(encoded))

    def start(self, state: StackState) -> StackState:
        """Make of the encoder's last state the one that the decoder goes on from."""
        return state if self.bridge is None else cast(StackState, self.bridge(state))

    def known_inputs(self, batch: ForecastBatch) -> torch.Tensor:
        """What the decoder reads of each step beside a target: (B, U, decoder.input_size - 1)."""
        steps = torch.cat([self.covariates.known_steps(batch), self.position.expand(len(batch.past), -1, -1)], dim=2)
        return at_every_step(steps, self.covariates.of_series(batch), self.series(batch.series))

    def keys(self, encoded: torch.Tensor) -> torch.Tensor | None:
        """What attention compares a decoder step with, of the encoder's (B, T, H): (B, T, H); None without attention."""
        return None if self.attention is None else cast(torch.Tensor, self.attention.key(encoded))

    def read_out(
        self, decoded: torch.Tensor, encoded: torch.Tensor, keys: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast from decoder (B, U, H), encoder (B, T, H) and its `keys`: (B, U, Q), and weights (B, U, T) or None."""
        read, weights = [self.dropout(decoded)], None
        if self.attention is not None:
            context, weights = self.attention(decoded, encoded, projected=keys)
            read.append(self.dropout(context))
        return self.head(torch.cat(read, dim=2)).squeeze(2), weights
