"""What goes from the data to the model in one step. B batch, T past steps, U steps to forecast, F features."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ForecastBatch:
    """Windows of several series.

    Args:
        past: float32 (B, T, Fp), what the encoder reads.
        known: float32 (B, U, Fk), what is known ahead of the steps to forecast.
        series: int64 (B,), which series each window is from.
        target: float32 (B, U), scaled; 0 where `observed` is false.
        observed: bool (B, U), steps with a target.
    """

    past: torch.Tensor
    known: torch.Tensor
    series: torch.Tensor
    target: torch.Tensor
    observed: torch.Tensor

    def to(self, device: torch.device) -> ForecastBatch:
        """Copy to a device."""
        return ForecastBatch(
            *(
                tensor.to(device, non_blocking=True)
                for tensor in (self.past, self.known, self.series, self.target, self.observed)
            )
        )
