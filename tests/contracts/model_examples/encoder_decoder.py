"""A sentence into another, in one pass and step by step."""

from __future__ import annotations

from typing import Any

import torch

from gateline.losses import summed_cross_entropy
from gateline.models.encoder_decoder import Translator, TranslatorSettings
from tests.model_example import Batch, Example, masked, real, tokens


def example(teacher_forcing: float = 1.0, **settings: Any) -> Example:
    made = TranslatorSettings(hidden_size=10, embedding_size=6, **settings)

    def batch(generator: torch.Generator) -> Batch:
        target = tokens(generator, 7, 4, 4)
        return {
            "source": tokens(generator, 9, 4, 6),
            "lengths": torch.tensor([6, 3, 1, 5]),
            "before": torch.cat([torch.zeros(4, 1, dtype=torch.long), target[:, :-1]], dim=1),
            "target": target,
            "target_lengths": torch.tensor([2, 4, 3, 1]),
        }

    def logits(model: Translator, batch: Batch) -> torch.Tensor:
        return model(batch["source"], batch["before"], batch["lengths"], teacher_forcing)

    return Example(
        build=lambda: Translator(num_source_tokens=9, num_target_tokens=7, settings=made),
        batch=batch,
        output=lambda model, batch: masked(logits(model, batch), batch["target_lengths"]),
        loss=lambda model, batch: summed_cross_entropy(
            logits(model, batch), batch["target"], real(batch["target_lengths"], 4)
        ),
        timed=("source",),
        draws=0 < teacher_forcing < 1,
        start=lambda model, batch: (*model.start(batch["source"], batch["lengths"]), batch["before"][:, 0]),
    )


EXAMPLES = {
    "additive": example(num_layers=2),
    "dot, one direction": example(attention="dot", bidirectional=False, cell="gru", tie_weights=False),
    "input feeding": example(input_feeding=True),
    "own predictions": example(teacher_forcing=0.0),
    "dropout": example(teacher_forcing=0.5, dropout=0.2, input_dropout=0.2, output_dropout=0.2, embedding_dropout=0.2),
    "locked dropout": example(
        teacher_forcing=0.5,
        num_layers=2,
        variational_dropout=True,
        dropout=0.2,
        input_dropout=0.2,
        output_dropout=0.2,
        embedding_dropout=0.2,
    ),
}
