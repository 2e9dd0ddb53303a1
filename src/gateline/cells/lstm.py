"""Long short-term memory on `nn.LSTM`.

Source: Hochreiter and Schmidhuber (1997); with forget gates, Gers, Schmidhuber and Cummins (2000).
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._fused import SHUT, FusedCell, laid_out


class LSTM(FusedCell):
    """The cell of `nn.LSTM`; its state is h and the cell state c."""

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0) -> None:
        layer = nn.LSTM(input_size, hidden_size, batch_first=True)
        super().__init__(
            layer, gates=4, remembers=1, weight_drop=weight_drop
        )  # in the order input, forget, cell, output

    def holding(self, weight_ih: torch.Tensor) -> torch.Tensor:
        """Shut the input gate and open the forget gate; c stays as it is."""
        column = weight_ih.new_zeros(len(weight_ih), 1)
        column[: self.hidden_size] = -SHUT
        column[self.hidden_size : 2 * self.hidden_size] = SHUT
        return column

    def run_layer(self, x: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        """Run `nn.LSTM`."""
        y, (h, c) = self.layer(x, None if state is None else (state[0][None], state[1][None]))
        return y, (h[0], c[0])

    def run_kernel(
        self, x: torch.Tensor, state: State | None, weights: list[torch.Tensor]
    ) -> tuple[torch.Tensor, State]:
        """Run the kernel of `nn.LSTM` with other weights."""
        start = [self.initial_state(x)] * 2 if state is None else [carried[None] for carried in state]
        y, h, c = torch.lstm(x, start, laid_out(weights), True, 1, 0.0, self.training, False, True)
        return y, (h[0], c[0])

    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Return the gates, what is proposed for the cell state, the cell state and the output, each (B, T, H)."""
        h, c = (self.initial_state(x)[0],) * 2 if state is None else state
        y, _ = self.run_layer(x, state)
        from_x, from_h = self.gate_inputs(x, torch.cat([h[:, None], y[:, :-1]], dim=1))
        gates = (from_x + from_h).chunk(4, dim=2)
        keep, new = torch.sigmoid(gates[1]), torch.sigmoid(gates[0]) * torch.tanh(gates[2])
        memory = []
        for step in range(x.shape[1]):
            c = keep[:, step] * c + new[:, step]
            memory.append(c)
        return {
            "input_gate": torch.sigmoid(gates[0]),
            "forget_gate": keep,
            "candidate": torch.tanh(gates[2]),
            "output_gate": torch.sigmoid(gates[3]),
            "cell_state": torch.stack(memory, dim=1),
            "output": y,
        }


CELL = LSTM
