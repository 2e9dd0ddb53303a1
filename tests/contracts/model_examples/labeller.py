"""One class per token, and several labels per step of a measurement."""

from __future__ import annotations

from typing import Any

import torch

from gateline.losses import summed_binary_cross_entropy, summed_cross_entropy
from gateline.models.labeller import Labeller, LabellerSettings
from tests.model_example import Batch, Example, masked, real, tokens

LENGTHS = torch.tensor([6, 3, 1, 5])


def of_tokens(**settings: Any) -> Example:
    made = LabellerSettings(hidden_size=6, **settings)

    def batch(generator: torch.Generator) -> Batch:
        return {
            "inputs": tokens(generator, 9, 4, 6),
            "lengths": LENGTHS,
            "labels": tokens(generator, 3, 4, 6),
        }

    def loss(model: Labeller, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        observed = real(batch["lengths"], batch["labels"].shape[1])
        logits = model(batch["inputs"], batch["lengths"])
        return summed_cross_entropy(logits, batch["labels"], observed)

    return Example(
        build=lambda: Labeller(num_classes=3, num_tokens=9, settings=made),
        batch=batch,
        output=lambda model, batch: masked(model(batch["inputs"], batch["lengths"]), batch["lengths"]),
        loss=loss,
        timed=("inputs", "labels"),
    )


def of_numbers(**settings: Any) -> Example:
    made = LabellerSettings(hidden_size=6, **settings)

    def batch(generator: torch.Generator) -> Batch:
        return {
            "inputs": torch.randn(4, 6, 3, generator=generator),
            "lengths": LENGTHS,
            "labels": tokens(generator, 2, 4, 6, 2).float(),
        }

    def loss(model: Labeller, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        observed = real(batch["lengths"], batch["labels"].shape[1])
        logits = model(batch["inputs"], batch["lengths"])
        return summed_binary_cross_entropy(logits, batch["labels"].nan_to_num(), observed)

    return Example(
        build=lambda: Labeller(num_classes=2, num_features=3, settings=made),
        batch=batch,
        output=lambda model, batch: masked(model(batch["inputs"], batch["lengths"]), batch["lengths"]),
        loss=loss,
        timed=("inputs", "labels"),
    )


EXAMPLES = {
    "one class, both directions, two layers": of_tokens(bidirectional=True, num_layers=2),
    "several labels": of_numbers(cell="gru", input_dropout=0.2, output_dropout=0.2),
    "locked dropout": of_tokens(input_dropout=0.2, output_dropout=0.2, variational_dropout=True),
}
