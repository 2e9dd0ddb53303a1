"""Sequences of tokens and of numbers, and every pooling."""

from __future__ import annotations

from typing import Any

import torch

from gateline.losses import summed_binary_cross_entropy, summed_cross_entropy
from gateline.models.classifier import Classifier, ClassifierSettings
from tests.model_example import Batch, Example, tokens

LENGTHS = torch.tensor([6, 3, 1, 5])


def of_tokens(**settings: Any) -> Example:
    """One of three classes."""
    made = ClassifierSettings(hidden_size=5, embedding_size=4, **settings)

    def batch(generator: torch.Generator) -> Batch:
        label = torch.tensor([0, 2, 1, 2])
        return {"inputs": tokens(generator, 11, 4, 6), "lengths": LENGTHS, "label": label}

    return Example(
        build=lambda: Classifier(num_classes=3, num_tokens=11, settings=made),
        batch=batch,
        output=lambda model, batch: model(batch["inputs"], batch["lengths"]),
        loss=lambda model, batch: summed_cross_entropy(model(batch["inputs"], batch["lengths"]), batch["label"]),
        timed=("inputs",),
    )


def of_numbers(**settings: Any) -> Example:
    """Two yes-or-no labels."""
    made = ClassifierSettings(hidden_size=5, **settings)

    def batch(generator: torch.Generator) -> Batch:
        label = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])
        return {"inputs": torch.randn(4, 6, 3, generator=generator), "lengths": LENGTHS, "label": label}

    return Example(
        build=lambda: Classifier(num_classes=2, num_features=3, settings=made),
        batch=batch,
        output=lambda model, batch: model(batch["inputs"], batch["lengths"]),
        loss=lambda model, batch: summed_binary_cross_entropy(
            model(batch["inputs"], batch["lengths"]),
            batch["label"],
            positive_weight=torch.tensor([3.0, 1.0], dtype=batch["inputs"].dtype),
        ),
        timed=("inputs",),
    )


EXAMPLES = {
    "last step of both directions": of_tokens(pooling="last", bidirectional=True),
    "mean": of_numbers(pooling="mean", cell="gru", num_layers=2, residual=True),
    "max": of_numbers(pooling="max", bidirectional=True, num_layers=2),
    "summary beside the cells": of_numbers(pooling="last", summary=True, summary_dropout=0.3),
    "attention": of_tokens(pooling="attention", bidirectional=True),
    "dropout": of_tokens(
        num_layers=2,
        dropout=0.3,
        weight_drop=0.3,
        variational_dropout=True,
        embedding_dropout=0.3,
        input_dropout=0.3,
        output_dropout=0.3,
    ),
}
