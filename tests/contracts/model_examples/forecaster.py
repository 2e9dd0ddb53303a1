"""Windows of two series."""

from __future__ import annotations

from typing import Any

import torch

from gateline.batch import ForecastBatch
from gateline.losses import summed_loss, summed_pinball
from gateline.models.forecaster import ForecasterNetwork
from gateline.tasks.forecasting import TASK
from tests.model_example import Batch, Example

SHAPES = {
    "encoder_features": 3,
    "decoder_features": 2,
    "num_series": 2,
    "lookback": 6,
    "horizon": 4,
    "static_features": 1,
    "past_categories": (3,),
    "known_categories": (4,),
    "static_categories": (3,),
}

ALL_INPUTS = {"lags": 4, "covariate_lags": 2, "known": True, "weights": "series", "penalty": 1.0}


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
            "past_codes": torch.randint(0, 3, (4, 6, 2), generator=generator),
            "known_codes": torch.randint(0, 4, (4, 4, 1), generator=generator),
            "static": torch.randn(4, 1, generator=generator),
            "static_codes": torch.tensor([[1], [2], [2], [1]]),
        }

    def loss(model: ForecasterNetwork, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        forecast = model(ForecastBatch(**batch)).to(batch["target"].dtype)
        if made.quantiles:
            return summed_pinball(forecast, batch["target"], batch["observed"], model.quantile_levels)
        return summed_loss("squared", forecast[:, :, 0], batch["target"], batch["observed"])

    return Example(
        build=lambda: TASK.build(made, SHAPES),
        batch=batch,
        output=lambda model, batch: model(ForecastBatch(**batch)),
        loss=loss,
    )


EXAMPLES = {
    "direct": example(),
    "direct, attention and linear path": example(attention="dot", linear_path=True),
    "direct, ridge path of all it reads": example(ridge_path=ALL_INPUTS),
    "direct, mean with a ridge of all it reads": example(ridge_path={**ALL_INPUTS, "share": 0.3}, quantiles=(0.1, 0.5)),
    "direct, linear decoder": example(decoder="linear", num_layers=2),
    "direct, quantiles and additive attention": example(attention="additive", quantiles=(0.1, 0.5, 0.8)),
    "recursive": example(mode="recursive", teacher_forcing=0.5, attention="dot", series="embedding"),
    "recursive, locked dropout": example(mode="recursive", num_layers=2, dropout=0.2, variational_dropout=True),
    "recursive, gru, window normalisation": example(mode="recursive", cell="gru", normalisation="revin", affine=True),
    "segment": example(mode="segment", segment=3, normalisation="last_value"),
    "segment, departures from the last season": example(
        mode="segment", segment=3, normalisation="last_season", season=2, ridge_path={"lags": 4, "penalty": 1.0}
    ),
    "segment, two layers of slstm": example(
        mode="segment", segment=2, cell="slstm", num_layers=2, quantiles=(0.5, 0.9)
    ),
    "segment, ridge path": example(mode="segment", segment=3, ridge_path={"lags": 4, "penalty": 1.0}),
    "segment, mean with a ridge": example(
        mode="segment", segment=3, ridge_path={"lags": 4, "penalty": 1.0, "share": 0.3}
    ),
}
