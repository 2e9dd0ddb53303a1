"""sLSTM: an LSTM whose input gate is exponential, so that new evidence can overrule what was stored.

Source: Beck et al. (2024), arXiv 2405.04517, equations 8 to 17, with the sigmoid forget gate; the cell alone, without the
block of convolution, norm and projections around it.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._initial import initialise
from gateline.cells._steps import StepCell
from gateline.errors import WorkloadError

EMPTY = -1e30  # stabiliser before the first step: the logarithm of nothing, but a number that can be multiplied by 0


class SLSTM(StepCell):
    """c = f c + i tanh(z), n = f n + i, h = o c / n, with i = exp(...), f and o sigmoid.

    The state is h, c, n and the stabiliser m. c and n are kept divided by exp(m), where m is the largest exponent so far: the
    exponentials of the gates would overflow, and c / n does not change.

    Args:
        input_size: F.
        hidden_size: H.
        weight_drop: see `Cell`.
        num_heads: parts N of the hidden state; recurrent weights connect only what is in the same part.

    Raises:
        WorkloadError: the heads do not share out the hidden size.
    """

    gates = ("input_gate", "candidate", "output_gate")

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0, num_heads: int = 1) -> None:
        super().__init__(input_size=input_size, hidden_size=hidden_size, weight_drop=weight_drop)
        if num_heads < 1 or hidden_size % num_heads:
            raise WorkloadError(
                "model.cell_options.num_heads",
                expected=f"a divisor of the hidden size {hidden_size}",
                found=str(num_heads),
                do="Take 1, or another hidden size",
            )
        self.num_heads = num_heads
        width = hidden_size // num_heads
        # Head by head, and in a head input, forget, candidate, output.
        self.weight_ih = nn.Parameter(torch.empty(num_heads, 4 * width, input_size))
        self.weight_hh = nn.Parameter(torch.empty(num_heads, 4 * width, width))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        for weight_ih, weight_hh, bias in zip(self.weight_ih, self.weight_hh, self.bias.chunk(num_heads), strict=True):
            initialise(weight_ih, weight_hh, [bias], gates=4, remembers=1)

    def forward(
        self, x: torch.Tensor, state: State | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Read sequences; see `Cell.forward`."""
        y, after = super().forward(x, self.by_head(state), lengths)
        return y.flatten(2), tuple(part.flatten(1) for part in after)

    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Return gates, cell state and output; see `Cell.trace`.

        The cell state is c / n, and the gates are the shares that the old cell state and the candidate have in it: they add
        up to 1 and do not depend on the stabiliser.
        """
        after, gates = zip(*self.walk(x, self.by_head(state), self.weight_hh), strict=True)
        used, candidate, output_gate = (torch.stack(part, dim=1).flatten(2) for part in zip(*gates, strict=True))
        h, c, n, _ = (torch.stack(part, dim=1).flatten(2) for part in zip(*after, strict=True))
        return {
            "input_gate": used / n,
            "forget_gate": 1 - used / n,
            "candidate": candidate,
            "output_gate": output_gate,
            "cell_state": c / n,
            "output": h,
        }

    def by_head(self, state: State | None) -> State | None:
        """Part a state's (B, H) into (B, N, H / N)."""
        return None if state is None else tuple(part.unflatten(1, (self.num_heads, -1)) for part in state)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the gates read of the input: (B, T, N, 4 * H / N)."""
        read = nn.functional.linear(x, self.weight_ih.flatten(0, 1), self.bias)
        return read.unflatten(2, (self.num_heads, -1))

    def initial_state(self, x: torch.Tensor) -> State:
        """Make the empty state, as precise as the weights."""
        shape = (len(x), self.num_heads, self.hidden_size // self.num_heads)
        zeros = torch.zeros(shape, dtype=self.weight_hh.dtype, device=x.device)
        return zeros, zeros, zeros, torch.full_like(zeros, EMPTY)

    def step(self, read: torch.Tensor, state: State, weight_hh: torch.Tensor) -> tuple[State, State]:
        """Take one step; read (B, N, 4 * H / N), the state each (B, N, H / N)."""
        h, c, n, m = state
        of_head = torch.baddbmm(read.transpose(0, 1), h.transpose(0, 1), weight_hh.transpose(1, 2))  # (N, B, 4 * H / N)
        log_input, forget_gate, candidate, output_gate = of_head.transpose(0, 1).chunk(4, dim=2)
        log_kept = nn.functional.logsigmoid(forget_gate) + m
        m = torch.maximum(log_kept, log_input)
        kept, input_gate = torch.exp(log_kept - m), torch.exp(log_input - m)
        candidate, output_gate = torch.tanh(candidate), torch.sigmoid(output_gate)
        c = torch.addcmul(kept * c, input_gate, candidate)
        n = torch.addcmul(input_gate, kept, n)
        return (output_gate * c / n, c, n, m), (input_gate, candidate, output_gate)


CELL = SLSTM
