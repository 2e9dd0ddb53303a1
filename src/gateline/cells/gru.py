"""Gated recurrent unit on `nn.GRU`, which resets the product of h and its weights instead of h.

Source: Cho et al. (2014), arXiv 1406.1078; with the reset gate behind the product, as cuDNN has it.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._fused import SHUT, FusedCell, laid_out


class GRU(FusedCell):
    """The cell of `nn.GRU`; its state is h alone."""

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0) -> None:
        layer = nn.GRU(input_size, hidden_size, batch_first=True)
        super().__init__(layer, gates=3, remembers=1, weight_drop=weight_drop)  # in the order reset, update, candidate

    def holding(self, weight_ih: torch.Tensor) -> torch.Tensor:
        """Open the update gate, which keeps h."""
        column = weight_ih.new_zeros(len(weight_ih), 1)
        column[self.hidden_size : 2 * self.hidden_size] = SHUT
        return column

    def run_layer(self, x: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        """Run `nn.GRU`."""
        y, h = self.layer(x, None if state is None else state[0][None])
        return y, (h[0],)

    def run_kernel(
        self, x: torch.Tensor, state: State | None, weights: list[torch.Tensor]
    ) -> tuple[torch.Tensor, State]:
        """Run the kernel of `nn.GRU` with other weights."""
        start = self.initial_state(x) if state is None else state[0][None]
        y, h = torch.gru(x, start, laid_out(weights), True, 1, 0.0, self.training, False, True)
        return y, (h[0],)

    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Return the gates, what is proposed for h, and h both as cell state and as output, each (B, T, H)."""
        h = self.initial_state(x)[0] if state is None else state[0]
        y, _ = self.run_layer(x, state)
        from_x, from_h = self.gate_inputs(x, torch.cat([h[:, None], y[:, :-1]], dim=1))
        (reset_x, update_x, new_x), (reset_h, update_h, new_h) = from_x.chunk(3, dim=2), from_h.chunk(3, dim=2)
        reset = torch.sigmoid(reset_x + reset_h)
        return {
            "reset_gate": reset,
            "update_gate": torch.sigmoid(update_x + update_h),
            "candidate": torch.tanh(new_x + reset * new_h),
            "cell_state": y,
            "output": y,
        }


CELL = GRU
