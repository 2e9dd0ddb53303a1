"""Films of two frames to come, by themselves and from the true frames."""

from __future__ import annotations

from typing import Any

import torch

from gateline.losses import summed_frame_loss
from gateline.models.frame_predictor import FramePredictor, FramePredictorSettings
from tests.model_example import Batch, Example


def example(kind: str, teacher_forcing: float = 0.0, **settings: Any) -> Example:
    made = FramePredictorSettings(**settings)

    def batch(generator: torch.Generator) -> Batch:
        film = torch.randint(2, (4, 6, 1, 4, 6), generator=generator).float()
        return {"past": film[:, :4], "lengths": torch.tensor([4, 2, 1, 3]), "future": film[:, 4:]}

    def logits(model: FramePredictor, batch: Batch) -> torch.Tensor:
        future = batch["future"]
        return model(batch["past"], 2, batch["lengths"], future=future, teacher_forcing=teacher_forcing)

    return Example(
        build=lambda: FramePredictor(num_channels=1, settings=made),
        batch=batch,
        output=logits,
        loss=lambda model, batch: summed_frame_loss(kind, logits(model, batch), batch["future"]),
        timed=("past",),
        learning_rate=0.05,
        draws=0 < teacher_forcing < 1,
    )


EXAMPLES = {
    "by itself": example("binary_cross_entropy", hidden_size=8, patch=2),
    "true frames": example("squared", 1.0, hidden_size=8, patch=2, num_layers=2),
    "now and then": example("squared", 0.5, hidden_size=12),
    "locked dropout": example("squared", 0.5, hidden_size=12, num_layers=2, dropout=0.2, variational_dropout=True),
}
