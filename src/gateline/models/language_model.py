"""What comes next in a stream of tokens. B batch, T time, V vocabulary, E embedding, H hidden.

The state is carried from chunk to chunk of a stream, and gradients end where a chunk begins (truncated
backpropagation). `start` and `step` are what `gateline.models.decoding` asks for.

Source: Mikolov et al. (2010), Recurrent neural network based language model; tied weights, Press and Wolf (2017), arXiv
1608.05859, and Inan, Khosravi and Socher (2017), arXiv 1611.01462; dropouts, Merity, Keskar and Socher (2018),
AWD-LSTM, arXiv 1708.02182.
"""

from __future__ import annotations

from typing import cast

import torch
from pydantic import model_validator
from torch import nn

from gateline.models.sequence_input import InputSettings, SequenceDropout, SequenceInput
from gateline.models.stack import StackState, detach_state
from gateline.models.tokens import TokenHead


class LanguageModelSettings(InputSettings):
    """Section `model` of a language modelling workload."""

    variational_dropout: bool = True
    """Drop the same features at all steps of a chunk, as AWD-LSTM does."""
    tie_weights: bool = True
    """Write tokens with the numbers that they are read with; a linear map stands before them where their size differs
    from `hidden_size`."""

    @model_validator(mode="after")
    def _only_the_past(self) -> LanguageModelSettings:
        if self.bidirectional:
            raise ValueError("`bidirectional: false`; a model that reads backwards sees the tokens it should foretell")
        return self


class LanguageModel(nn.Module):
    """Foretell the next token at every step.

    Args:
        num_tokens: size of the vocabulary V.
        settings: cells, tying, dropouts.
    """

    def __init__(self, *, num_tokens: int, settings: LanguageModelSettings) -> None:
        super().__init__()
        self.input = SequenceInput(num_tokens=num_tokens, num_features=None, settings=settings)
        self.dropout = SequenceDropout(settings.output_dropout, settings.variational_dropout)
        self.head = TokenHead(
            self.input.output_size, num_tokens, self.input.embedding if settings.tie_weights else None
        )

    def forward(self, tokens: torch.Tensor, state: StackState | None = None) -> tuple[torch.Tensor, StackState]:
        """Read a chunk.

        Args:
            tokens: int64 (B, T).
            state: what the chunk before it left behind, or None at the beginning. No gradient goes back through it.

        Returns:
            Logits (B, T, V) of the token after each step, and the state after the last.
        """
        y, state = self.input(tokens, None if state is None else detach_state(state))  # (B, T, H)
        return cast(torch.Tensor, self.head(self.dropout(y))), state

    def start(self, prompt: torch.Tensor) -> tuple[tuple[()], StackState | None, torch.Tensor]:
        """Read a prompt, int64 (B, T): an empty memory, the state before its last token, and that token (B,)."""
        state = self(prompt[:, :-1])[1] if prompt.shape[1] > 1 else None
        return (), state, prompt[:, -1]

    def step(
        self, tokens: torch.Tensor, memory: tuple[()], state: StackState | None
    ) -> tuple[torch.Tensor, StackState]:
        """Read one token of each row, int64 (B,): logits (B, V) of the next, and the state."""
        del memory
        logits, state = self(tokens[:, None], state)
        return logits.squeeze(1), state
