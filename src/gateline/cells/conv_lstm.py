"""LSTM whose steps are pictures and whose products are convolutions.

Source: Shi et al. (2015), arXiv 1506.04214, equation 3, without the peepholes from the cell state to the gates.
"""

from __future__ import annotations

import torch
from torch import nn

from gateline.cells import State
from gateline.cells._initial import initialise
from gateline.cells._steps import LSTMSteps
from gateline.errors import WorkloadError


class ConvLSTM(LSTMSteps):
    """Read pictures x (B, T, F, Y, X) and write y (B, T, H, Y, X); outside the picture there are zeros.

    Args:
        input_size: channels F of a picture.
        hidden_size: channels H of the output.
        weight_drop: see `Cell`.
        kernel_size: odd height and width of both kernels.

    Raises:
        WorkloadError: the size of the kernel is even.
    """

    reads_pictures = True

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0, kernel_size: int = 3) -> None:
        super().__init__(input_size=input_size, hidden_size=hidden_size, weight_drop=weight_drop)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise WorkloadError(
                "model.cell_options.kernel_size",
                expected="an odd number, so that the kernel has a middle",
                found=str(kernel_size),
                do=f"Take {max(1, kernel_size + 1)}",
            )
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size, kernel_size, kernel_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        initialise(self.weight_ih, self.weight_hh, [self.bias], gates=4, remembers=1)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the gates read of the input: (B, T, 4 * H, Y, X)."""
        read = nn.functional.conv2d(x.flatten(0, 1), self.weight_ih, self.bias, padding="same")
        return read.unflatten(0, x.shape[:2])

    def step(self, read: torch.Tensor, state: State, weight_hh: torch.Tensor) -> tuple[State, State]:
        """Take one step."""
        h, c = state
        c, gates = self.remember(read + nn.functional.conv2d(h, weight_hh, padding="same"), c)
        return (gates[3] * torch.tanh(c), c), gates


CELL = ConvLSTM
