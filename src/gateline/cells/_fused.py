"""What cells on torch's own kernels, `nn.LSTM` and `nn.GRU`, have in common."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from gateline.cells import Cell, State
from gateline.cells._initial import initialise
from gateline.cells._padding import is_padding, last_real, without_padding


class FusedCell(Cell):
    """A cell whose steps all run inside one kernel of torch.

    Rows of different lengths run through that kernel as they are, unpacked: packing would leave the fast kernel of the CPU
    (`python -m benchmarks.cells` prints what that costs), and on a GPU it waits for the lengths.

    Args:
        layer: `nn.LSTM` or `nn.GRU`, one layer, batch first; initialised here.
        gates: how many there are.
        remembers: which of them keeps the state.
        weight_drop: see `Cell`.
    """

    def __init__(self, layer: nn.LSTM | nn.GRU, *, gates: int, remembers: int, weight_drop: float) -> None:
        super().__init__(input_size=layer.input_size, hidden_size=layer.hidden_size, weight_drop=weight_drop)
        self.layer = layer
        weight_ih, weight_hh, *biases = layer.all_weights[0]
        initialise(weight_ih, weight_hh, biases, gates=gates, remembers=remembers)

    def forward(
        self, x: torch.Tensor, state: State | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Read sequences; see `Cell.forward`."""
        if lengths is None:
            return self.run(x, state, None)
        padding = is_padding(x, lengths)
        y, (_, *memory) = self.run(without_padding(x, padding), state, padding)
        return without_padding(y, padding), (last_real(y, lengths), *memory)

    @abstractmethod
    def run(self, x: torch.Tensor, state: State | None, padding: torch.Tensor | None) -> tuple[torch.Tensor, State]:
        """Run all steps, those of the padding too.

        Args:
            x: (B, T, F), 0 where there is padding.
            state: where to go on.
            padding: bool (B, T), or None where there is none.

        Returns:
            y (B, T, H), in which nobody reads the padding, and the state, whose first part nobody reads where there is
            padding; the others are those of the last real step.
        """

    @abstractmethod
    def kernel(
        self, x: torch.Tensor, start: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Call torch's kernel with x (B, T, F), the state (1, B, H) each, and the weights; it gives y (B, T, H) and the state."""

    def run_kernel(
        self, x: torch.Tensor, start: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run the kernel with weights of our own; see `kernel`."""
        if not needs_bfloat16(x):
            return self.kernel(x, start, laid_out(weights))
        with torch.autocast(x.device.type, enabled=False):
            start, weights = ([tensor.bfloat16() for tensor in some] for some in (start, weights))
            return self.kernel(x.bfloat16(), start, laid_out(weights))

    def run_weights(self, x: torch.Tensor) -> list[torch.Tensor] | None:
        """Return weights to run with (weight_ih, weight_hh, bias_ih, bias_hh), or None where those of the layer will do."""
        drops = self.training and self.weight_drop
        if not drops and not needs_bfloat16(x):
            return None
        weight_ih, weight_hh, *biases = self.layer.all_weights[0]
        return [weight_ih, self.dropped(weight_hh) if drops else weight_hh, *biases]

    def initial_state(self, x: torch.Tensor) -> torch.Tensor:
        """Make the zeros (1, B, H) that the kernel starts from."""
        return torch.zeros(1, len(x), self.hidden_size, dtype=x.dtype, device=x.device)

    def gate_inputs(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what reaches the gates of all steps from x (B, T, F) and from the h (B, T, H) of the step before."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.layer.all_weights[0]
        return nn.functional.linear(x, weight_ih, bias_ih), nn.functional.linear(h, weight_hh, bias_hh)


def needs_bfloat16(x: torch.Tensor) -> bool:
    """Tell whether the kernel has to be handed bfloat16: on a GPU autocast casts for cuDNN to float16, whatever it is asked for.

    And where bfloat16 is asked for nobody scales the loss, so that small gradients would vanish in float16.
    """
    return x.is_cuda and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.bfloat16


def laid_out(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """Lay weights that were computed for one call end to end on a GPU.

    cuDNN reads one buffer; torch warns and copies when weights lie elsewhere.
    """
    if not weights[0].is_cuda:
        return weights
    buffer = torch.cat([weight.flatten() for weight in weights])
    pieces = buffer.split([weight.numel() for weight in weights])
    return [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]
