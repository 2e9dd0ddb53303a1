"""LSTM whose gates and cell state are layer-normalised at every step.

Source: Ba, Kiros and Hinton (2016), arXiv 1607.06450, supplement equations 20 to 22.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._initial import initialise
from gateline.cells._steps import LSTMSteps


class LayerNormLSTM(LSTMSteps):
    """gates = norm(W_ih x) + norm(W_hh h) + bias, c as in an LSTM, h = output gate * tanh(norm(c))."""

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0) -> None:
        super().__init__(input_size=input_size, hidden_size=hidden_size, weight_drop=weight_drop)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        initialise(self.weight_ih, self.weight_hh, [self.bias], gates=4, remembers=1)
        self.input_norm: nn.Module = nn.LayerNorm(4 * hidden_size, bias=False)
        self.recurrent_norm: nn.Module = nn.LayerNorm(4 * hidden_size, bias=False)
        self.cell_norm: nn.Module = nn.LayerNorm(hidden_size)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the gates read of the input: (B, T, 4 * H)."""
        return self.input_norm(nn.functional.linear(x, self.weight_ih)) + self.bias

    def step(self, read: torch.Tensor, state: State, weight_hh: torch.Tensor) -> tuple[State, State]:
        """Take one step."""
        h, c = state
        c, gates = self.remember(read + self.recurrent_norm(nn.functional.linear(h, weight_hh)), c)
        return (gates[3] * torch.tanh(self.cell_norm(c)), c), gates


CELL = LayerNormLSTM
