"""Long short-term memory on `nn.LSTM`.

Source: Hochreiter and Schmidhuber (1997); with forget gates, Gers, Schmidhuber and Cummins (2000).
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._fused import FusedCell

SHUT = 1e4  # what shuts or opens a gate for good: its sigmoid is 0 or 1 in every precision, and its slope 0


class LSTM(FusedCell):
    """The cell of `nn.LSTM`; its state is h and the cell state c."""

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0) -> None:
        layer = nn.LSTM(input_size, hidden_size, batch_first=True)
        # The gates lie in the order input, forget, candidate, output.
        super().__init__(layer, gates=4, remembers=1, weight_drop=weight_drop)

    def run(self, x: torch.Tensor, state: State | None, padding: torch.Tensor | None) -> tuple[torch.Tensor, State]:
        """Run `nn.LSTM`, or its kernel with other weights.

        The kernel returns c of the last step only. So it reads one feature more, which is 1 on padding and 0 elsewhere and
        drives the gates so far that c is held, to the bit, from the last real step on.
        """
        weights = self.run_weights(x)
        if weights is None and padding is None:
            y, (h, c) = self.layer(x, None if state is None else (state[0][None], state[1][None]))
            return y, (h[0], c[0])
        weight_ih, *others = self.layer.all_weights[0] if weights is None else weights
        if padding is not None:
            x = torch.cat([x, padding[:, :, None].to(x.dtype)], dim=2)  # (B, T, F + 1)
            holding = weight_ih.new_zeros(len(weight_ih), 1)
            holding[: self.hidden_size] = -SHUT
            holding[self.hidden_size : 2 * self.hidden_size] = SHUT
            weight_ih = torch.cat([weight_ih, holding], dim=1)
        start = [self.initial_state(x)] * 2 if state is None else [carried[None] for carried in state]
        y, (h, c) = self.run_kernel(x, start, [weight_ih, *others])
        return y, (h[0], c[0])

    def kernel(
        self, x: torch.Tensor, start: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Call that of `nn.LSTM`."""
        y, *state = torch.lstm(x, start, weights, True, 1, 0.0, self.training, False, True)
        return y, state

    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Return the gates, what is proposed for the cell state, the cell state and the output, each (B, T, H)."""
        h, c = (self.initial_state(x)[0],) * 2 if state is None else state
        y, _ = self.layer(x, None if state is None else (state[0][None], state[1][None]))
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
