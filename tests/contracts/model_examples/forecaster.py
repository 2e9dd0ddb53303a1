"""Windows of two series."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gateline.batch import ForecastBatch
from gateline.losses import summed_loss
from gateline.tasks.forecasting import TASK
from tests.model_example import Batch, Example

SHAPES = {"encoder_features": 3, "decoder_features": 2, "num_series": 2, "lookback": 6, "horizon": 4}


def example(**settings: Any) -> Example:
    made = TASK.Model(hidden_size=8, **settings)

    def batch(generator: torch.Generator) -> Batch:
        past = torch.randn(4, 6, 3, generator=generator)
        past[:, :, 1] = (past[:, :, 1] > -1).float()  # whether the target was observed
        past[:, :, 0] *= past[:, :, 1]
        observed = torch.rand(4, 4, generator=generator) < 0.8
        return {
            "past": past,
            "known": torch.randn(4, 4, 2, generator=generator),
            "series": torch.tensor([0, 1, 1, 0]),
            "target": torch.randn(4, 4, generator=generator) * observed,
            "observed": observed,
        }

    def loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        forecast = model(ForecastBatch(**batch))
        return summed_loss("squared", forecast.to(batch["target"].dtype), batch["target"], batch["observed"])

    return Example(
        build=lambda: TASK.build(made, SHAPES),
        batch=batch,
        output=lambda model, batch: model(ForecastBatch(**batch)),
        loss=loss,
    )


EXAMPLES = {
    "direct": example(),
    "direct, attention and linear path": example(attention="dot", linear_path=True),
    "direct, linear decoder": example(decoder="linear", num_layers=2),
}
