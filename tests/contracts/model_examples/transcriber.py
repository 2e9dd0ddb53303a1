"""Recordings and their labels, with every way to join frames."""

from __future__ import annotations

from typing import Any

import torch

from gateline.losses import summed_ctc
from gateline.models.transcriber import Transcriber, TranscriberSettings
from tests.model_example import Batch, Example, masked


def example(**settings: Any) -> Example:
    made = TranscriberSettings(hidden_size=8, channels=6, **settings)

    def batch(generator: torch.Generator) -> Batch:
        return {
            "features": torch.randn(4, 11, 5, generator=generator),
            "lengths": torch.tensor([11, 4, 6, 9]),
            "labels": torch.tensor([[1, 2, 3], [2, 0, 0], [3, 1, 0], [1, 1, 0]]),
            "label_lengths": torch.tensor([3, 1, 2, 2]),
        }

    def output(model: Transcriber, batch: Batch) -> torch.Tensor:
        return masked(*model(batch["features"], batch["lengths"]))

    def loss(model: Transcriber, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs, lengths = model(batch["features"], batch["lengths"])
        return summed_ctc(log_probs, lengths, batch["labels"], batch["label_lengths"])

    return Example(
        build=lambda: Transcriber(num_features=5, num_labels=4, settings=made),
        batch=batch,
        output=output,
        loss=loss,
        timed=("features",),
    )


EXAMPLES = {
    "every frame": example(time_reduction=1),
    "convolution": example(time_reduction=2),
    "two convolutions": example(time_reduction=4, bidirectional=False, num_layers=2),
    "stacking": example(time_reduction=3, reduction="stacking"),
    "dropout": example(time_reduction=2, input_dropout=0.2, output_dropout=0.2, variational_dropout=True),
    "masks": example(
        time_reduction=2,
        spec_augment={"frequency_masks": 1, "frequency_width": 3, "time_masks": 2, "time_width": 4, "time_share": 0.5},
    ),
}
