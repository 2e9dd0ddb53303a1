"""What models read a sequence with: tokens or numbers, dropout, and a stack of cells. B batch, T time, F features."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from gateline.cells import cell_named, cell_names
from gateline.cells._padding import is_padding
from gateline.errors import WorkloadError
from gateline.models.stack import Probability, Size, Stack, StackSettings, StackState
from gateline.models.tokens import TokenEmbedding
from gateline.randomness import Dropout, locked_dropout


class DropoutSettings(StackSettings):
    """A stack of cells, and dropout before and behind it."""

    input_dropout: Probability = 0.0
    """Of what the first layer reads; the same features at all steps with `variational_dropout`."""
    output_dropout: Probability = 0.0
    """Of what is made of the last layer; the same features at all steps with `variational_dropout`."""


class InputSettings(DropoutSettings):
    """A stack of cells that reads tokens or numbers."""

    embedding_size: Size | None = None
    """Of tokens only: numbers that stand for a token; null: as many as `hidden_size`."""
    embedding_dropout: Probability = 0.0
    """Of tokens only: share of the vocabulary that a training step reads as zeros, wherever it occurs."""


class SequenceDropout(nn.Module):
    """Drop features of steps (B, T, F), each step for itself or the same features at all steps of a row.

    Args:
        p: share of the features.
        locked: the same features at all steps.
    """

    def __init__(self, p: float, locked: bool) -> None:
        super().__init__()
        self.each = Dropout(p)
        self.locked = locked

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop in training mode; leave alone in eval mode."""
        if self.locked:
            return locked_dropout(x, self.each.p, self.training, by=self)
        return cast(torch.Tensor, self.each(x))


class SequenceInput(nn.Module):
    """Read tokens or numbers with a stack of cells.

    Args:
        num_tokens: size V of the vocabulary, where a step is a token.
        num_features: number F of features, where a step is a vector of numbers.
        settings: embedding, dropout, cells.

    Raises:
        WorkloadError: there are embedding settings and no tokens, or the cell reads pictures.
    """

    def __init__(self, *, num_tokens: int | None, num_features: int | None, settings: InputSettings) -> None:
        super().__init__()
        if (num_tokens is None) == (num_features is None):
            raise ValueError("a step is either one of num_tokens tokens or num_features numbers")
        require_cell(settings.cell, reads_pictures=False)
        self.embedding: TokenEmbedding | None = None
        if num_tokens is not None:
            size = settings.embedding_size or settings.hidden_size
            self.embedding = TokenEmbedding(num_tokens, size, settings.embedding_dropout)
        elif settings.embedding_size is not None or settings.embedding_dropout > 0:
            raise WorkloadError(
                "model.embedding_size" if settings.embedding_size is not None else "model.embedding_dropout",
                expected="no such key where the inputs are numbers",
                found=str(settings.embedding_size or settings.embedding_dropout),
                do="Leave it out, or read tokens",
            )
        else:
            size = cast(int, num_features)
        self.dropout = SequenceDropout(settings.input_dropout, settings.variational_dropout)
        self.stack = Stack(input_size=size, settings=settings)
        self.output_size = self.stack.output_size

    def forward(
        self, inputs: torch.Tensor, state: StackState | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, StackState]:
        """Read sequences.

        Args:
            inputs: int64 (B, T) tokens, or float (B, T, F).
            state: where to go on; None starts afresh.
            lengths: int64 (B,), 1 to T; None: all steps are real.

        Returns:
            y (B, T, H * D), 0 past the length, and the stack's state.
        """
        x = inputs if self.embedding is None else self.embedding(inputs)
        return cast(tuple[torch.Tensor, StackState], self.stack(self.dropout(x), state, lengths))

    def trace(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Trace the gates and states of the last layer's cell that reads forwards, in eval mode.

        Args:
            inputs: int64 (B, T) tokens, or float (B, T, F), without padding.

        Returns:
            what `Cell.trace` returns, each (B, T, H).
        """
        x = inputs if self.embedding is None else self.embedding(inputs)
        return self.stack.trace(x)[-self.stack.directions]


def require_cell(name: str, *, reads_pictures: bool) -> None:
    """Refuse a cell that reads pictures where steps are vectors, and the other way round.

    Raises:
        WorkloadError: it is such a cell, or there is no cell of that name.
    """
    if cell_named(name).reads_pictures != reads_pictures:
        fitting = [cell for cell in cell_names() if cell_named(cell).reads_pictures == reads_pictures]
        raise WorkloadError(
            "model.cell",
            expected=f"a cell whose steps are {'pictures' if reads_pictures else 'vectors'}",
            found=repr(name),
            do=f"Take one of {', '.join(fitting)}",
        )


def real_steps(lengths: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """Mark the steps of `like` (B, T, ...) within the length of their row: bool (B, T), or None for all."""
    return None if lengths is None else ~is_padding(like, lengths)
