"""One answer for each step of a sequence. B batch, T time, F features, H hidden, C classes.

Whether the C logits of a step are one choice (softmax: parts of speech) or C yes-or-no labels (logistic: alarms of a
monitor) is for the loss to say.

Source: Graves and Schmidhuber (2005), Framewise phoneme classification with bidirectional LSTM.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from gateline.models.sequence_input import InputSettings, SequenceDropout, SequenceInput


class LabellerSettings(InputSettings):
    """Section `model` of a labelling workload."""

    calibrate: bool = False
    """Divide the logits by a temperature that is fitted on the validation part when training is done (Guo et al., 2017, arXiv
    1706.04599): it changes how sure the answers are, and not their order."""


class Labeller(nn.Module):
    """Tell which of C classes each step belongs to.

    Args:
        num_classes: number of classes or labels C.
        num_tokens: size of the vocabulary, where a step is a token.
        num_features: number of features F, where a step is a vector of numbers.
        settings: inputs and cells; without `bidirectional`, a step is judged by what came before it.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_tokens: int | None = None,
        num_features: int | None = None,
        settings: LabellerSettings,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.input = SequenceInput(num_tokens=num_tokens, num_features=num_features, settings=settings)
        self.dropout = SequenceDropout(settings.output_dropout, settings.variational_dropout)
        self.head = nn.Linear(self.input.output_size, num_classes)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Label every step.

        Args:
            inputs: int64 (B, T) tokens, or float (B, T, F).
            lengths: int64 (B,), 1 to T; None: all steps are real.

        Returns:
            Logits (B, T, C); those past the length mean nothing.
        """
        y, _ = self.input(inputs, lengths=lengths)  # (B, T, H * D)
        return cast(torch.Tensor, self.head(self.dropout(y)))
