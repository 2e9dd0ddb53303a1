"""An encoder-decoder that takes one step at a time. B batch, T past steps, U steps to forecast, Q quantiles.

The decoder reads the target of the step before: the last that was observed at the first step, then its own forecast. In
training, `teacher_forcing` is the share of steps at which it reads what was observed instead.

Source: Sutskever, Vinyals and Le (2014), arXiv 1409.3215; the share: Bengio et al. (2015), arXiv 1506.03099, section 2.4.
"""

from __future__ import annotations

import torch

from gateline.batch import ForecastBatch
from gateline.models.forecaster.direct import EncoderDecoder
from gateline.models.forecaster.normalisation import Level, last_observed
from gateline.models.stack import StackState
from gateline.randomness import rows_rand, step_by_step


class RecursiveForecaster(EncoderDecoder):
    """Forecast U steps of one target from T past steps, each from the forecast before; for its parts see `EncoderDecoder`.

    With quantiles the median is what is fed back.
    """

    def decode(
        self,
        batch: ForecastBatch,
        encoded: torch.Tensor,
        state: StackState,
        lags: torch.Tensor,
        level: Level,
        looking: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Forecast, still normalised: (B, U, Q), and, if they are wanted, weights of attention."""
        known, told = self.known_inputs(batch), self.told(batch)
        observed = self.normalisation.of_target(batch.target, level)  # (B, U)
        before, steps = last_observed(lags, batch.past[:, :, 1]), []
        looked_at: list[torch.Tensor] = []
        state, keys = self.start(state), self.keys(encoded)  # the keys are the same at every step
        with step_by_step():
            for step in range(self.horizon):
                asked = torch.cat([known[:, step : step + 1], before[:, None, None]], dim=2)  # (B, 1, ...)
                decoded, state = self.decoder(asked, state)
                written, weights = self.read_out(decoded, encoded, keys)
                steps.append(written)  # (B, 1, Q)
                if looking and weights is not None:
                    looked_at.append(weights)  # (B, 1, T)
                before = steps[-1][:, 0, self.median].to(lags.dtype)
                if told is not None:
                    before = torch.where(told[:, step], observed[:, step], before)
        return torch.cat(steps, dim=1), torch.cat(looked_at, dim=1) if looked_at else None

    def told(self, batch: ForecastBatch) -> torch.Tensor | None:
        """Draw the steps after which the decoder is told what was observed: bool (B, U); None: never."""
        share = self.settings.teacher_forcing
        if not self.training or share == 0:
            return None
        return (rows_rand(batch.target.shape, batch.target.device) < share) & batch.observed
