"""Gated recurrent unit on `nn.GRU`, which resets the product of h and its weights instead of h.

Source: Cho et al. (2014), arXiv 1406.1078; with the reset gate behind the product, as cuDNN has it.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._fused import FusedCell


class GRU(FusedCell):
    """The cell of `nn.GRU`; its state is h alone."""

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0) -> None:
        layer = nn.GRU(input_size, hidden_size, batch_first=True)
        # The gates lie in the order reset, update, candidate.
        super().__init__(layer, gates=3, remembers=1, weight_drop=weight_drop)

    def run(
        self,
        x: torch.Tensor,
        state: State | None,
        padding: torch.Tensor | None,  # noqa: ARG002 - nothing to hold
    ) -> tuple[torch.Tensor, State]:
        """Run `nn.GRU`, or its kernel with other weights; h of every step is in y, so padding needs nothing more."""
        weights = self.run_weights(x)
        if weights is None:
            y, h = self.layer(x, None if state is None else state[0][None])
            return y, (h[0],)
        start = self.initial_state(x) if state is None else state[0][None]
        y, (h,) = self.run_kernel(x, [start], weights)
        return y, (h[0],)

    def kernel(
        self, x: torch.Tensor, start: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Call that of `nn.GRU`."""
        y, *state = torch.gru(x, start[0], weights, True, 1, 0.0, self.training, False, True)
        return y, state

    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Return the gates, what is proposed for h, and h both as cell state and as output, each (B, T, H)."""
        h = self.initial_state(x)[0] if state is None else state[0]
        y, _ = self.layer(x, None if state is None else state[0][None])
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
