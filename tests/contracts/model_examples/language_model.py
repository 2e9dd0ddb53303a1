"""A stream of tokens, with tied weights and without, and with every dropout of AWD-LSTM."""

from __future__ import annotations

from typing import Any

import torch

from gateline.losses import summed_cross_entropy
from gateline.models.language_model import LanguageModel, LanguageModelSettings
from tests.model_example import Batch, Example, tokens


def example(**settings: Any) -> Example:
    made = LanguageModelSettings(**settings)

    def batch(generator: torch.Generator) -> Batch:
        stream = tokens(generator, 8, 4, 7)
        return {"tokens": stream[:, :-1], "next": stream[:, 1:]}

    return Example(
        build=lambda: LanguageModel(num_tokens=8, settings=made),
        batch=batch,
        output=lambda model, batch: model(batch["tokens"])[0],
        loss=lambda model, batch: summed_cross_entropy(model(batch["tokens"])[0], batch["next"]),
        start=lambda model, batch: model.start(batch["tokens"]),
    )


EXAMPLES = {
    "tied": example(hidden_size=12, cell="gru"),
    "tied through a map": example(hidden_size=12, embedding_size=7),
    "untied": example(hidden_size=12, embedding_size=7, tie_weights=False),
    "dropouts of AWD-LSTM": example(
        hidden_size=16,
        num_layers=2,
        dropout=0.2,
        weight_drop=0.2,
        embedding_dropout=0.2,
        input_dropout=0.2,
        output_dropout=0.2,
    ),
}
