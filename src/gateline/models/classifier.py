"""One answer for a whole sequence. B batch, T time, F features, H hidden, D directions, C classes.

The stack's outputs are pooled over the real steps and read by one linear layer. Whether the C logits are one choice
(softmax) or C yes-or-no labels (logistic) is for the loss to say.

Source: last step, Sutskever, Vinyals and Le (2014), arXiv 1409.3215; mean and maximum, Conneau et al. (2017), arXiv
1705.02364; attention with a learned query, Yang et al. (2016), Hierarchical attention networks, equations 5 to 7.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import nn

from gateline.errors import WorkloadError
from gateline.models.attention import AdditiveAttention
from gateline.models.sequence_input import InputSettings, SequenceInput, real_steps
from gateline.models.stack import Probability
from gateline.randomness import Dropout

Pooling = Literal["last", "mean", "max", "attention"]
SUMMARIES = 4
"""Numbers that `summary` makes of each feature."""


class ClassifierSettings(InputSettings):
    """Section `model` of a classification workload."""

    pooling: Pooling = "last"
    """How all steps become one: last (of each direction), mean, max (of each feature), or attention (a learned
    weighting)."""
    summary: bool = False
    """Of numbers only: the last layer also reads the last, mean, least and greatest value of every input over the sequence, a straight
    path beside the cells."""
    summary_dropout: Probability = 0.0
    """Of what that path carries."""
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Of rare classes: 0 counts every example of the training part once, 1 every class as much as every other, in between that power of it.
    The logarithms of the weights are taken off the logits afterwards, so probabilities stay those of the data (Elkan, 2001, The
    foundations of cost-sensitive learning, section 3)."""
    calibrate: bool = False
    """Divide the logits by a temperature that is fitted on the validation part when training is done (Guo et al., 2017, arXiv
    1706.04599): it changes how sure the answers are, and not which class they name."""


class Classifier(nn.Module):
    """Tell which of C classes a sequence belongs to.

    Args:
        num_classes: number of classes or labels C.
        num_tokens: size of the vocabulary, where a step is a token.
        num_features: number of features F, where a step is a vector of numbers.
        settings: inputs, cells, pooling.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_tokens: int | None = None,
        num_features: int | None = None,
        settings: ClassifierSettings,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.pooling: Pooling = settings.pooling
        self.input = SequenceInput(num_tokens=num_tokens, num_features=num_features, settings=settings)
        self.attention = LearnedQuery(self.input.output_size) if self.pooling == "attention" else None
        self.dropout = Dropout(settings.output_dropout)
        self.summary_dropout = Dropout(settings.summary_dropout) if settings.summary else None
        if settings.summary and num_features is None:
            raise WorkloadError(
                "model.summary", expected="inputs that are numbers", found="tokens", do="Leave it out, or read numbers"
            )
        summarised = SUMMARIES * (num_features or 0) if settings.summary else 0
        self.head = nn.Linear(self.input.output_size + summarised, num_classes)
        self.log_weight: torch.Tensor | None
        self.register_buffer("log_weight", torch.zeros(num_classes) if settings.balance else None)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Compute logits (B, C); see `explain`."""
        return self.explain(inputs, lengths)[0]

    def explain(
        self, inputs: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute logits, and how much each step weighs.

        Args:
            inputs: int64 (B, T) tokens, or float (B, T, F).
            lengths: int64 (B,), 1 to T; None: all steps are real.

        Returns:
            Logits (B, C), and the weights of attention (B, T), 0 past the length; None with any other pooling.
        """
        y, _ = self.input(inputs, lengths=lengths)  # (B, T, H * D)
        weights = None
        if self.attention is not None:
            pooled, weights = self.attention(y, real_steps(lengths, y))
        elif self.pooling == "last":
            pooled = self.input.stack.last_step(y, lengths)
        else:
            pooled = mean(y, lengths) if self.pooling == "mean" else maximum(y, lengths)
        pooled = self.dropout(pooled)
        if self.summary_dropout is not None:
            pooled = torch.cat([pooled, self.summary_dropout(summary(inputs, lengths).to(pooled.dtype))], dim=1)
        logits = self.head(pooled)
        if self.log_weight is not None and not self.training:
            logits = logits - self.log_weight
        return cast(torch.Tensor, logits), weights

    @torch.no_grad()
    def weigh_classes(self, counts: torch.Tensor) -> None:
        """Set the weights of the classes from how many examples of each (C,) the training part holds; without `balance`, nothing."""
        if self.log_weight is not None:
            weight = (counts.sum() / counts.clamp(min=1).double()) ** self.settings.balance
            mean_weight = (
                weight * counts
            ).sum() / counts.sum()  # over the examples, so that the learning rate means the same
            self.log_weight.copy_((weight / mean_weight).log())

    @property
    def class_weight(self) -> torch.Tensor | None:
        """What the loss of each class is multiplied by in training: (C,); None where all count the same, as in eval mode."""
        return None if self.log_weight is None or not self.training else self.log_weight.exp()


class LearnedQuery(nn.Module):
    """Attend over the steps of a sequence with one query that is learned and the same for all sequences.

    Args:
        size: number of features of a step.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, size).uniform_(-1 / math.sqrt(size), 1 / math.sqrt(size)))
        self.attention = AdditiveAttention(size, size)

    def forward(self, y: torch.Tensor, real: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend: steps (B, T, H), real steps bool (B, T) -> pooled (B, H), weights (B, T)."""
        context, weights = self.attention(self.query.expand(len(y), -1, -1), y, real)
        return context.squeeze(1), weights.squeeze(1)


def summary(x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Take the last, mean, least and greatest value of each feature over the real steps: (B, T, F) -> (B, 4 F)."""
    real = real_steps(lengths, x)
    if real is None:
        last, inside = x[:, -1], x
    else:
        last = x[torch.arange(len(x), device=x.device), cast(torch.Tensor, lengths) - 1]
        inside = x.masked_fill(~real[:, :, None], 0.0)
    return torch.cat([last, mean(inside, lengths), -maximum(-x, lengths), maximum(x, lengths)], dim=1)


def mean(y: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Take the mean over the real steps: (B, T, H), 0 past the length -> (B, H)."""
    return y.mean(dim=1) if lengths is None else y.sum(dim=1) / lengths[:, None]


def maximum(y: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
    """Take the largest number of each feature over the real steps: (B, T, H) -> (B, H)."""
    real = real_steps(lengths, y)
    return (y if real is None else y.masked_fill(~real[:, :, None], -math.inf)).amax(dim=1)
