"""What cells that run step by step in Python have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import nn

from gateline.cells import Cell, State
from gateline.cells._padding import is_padding, last_real, without_padding


class StepCell(Cell):
    """A cell for which torch has no kernel of its own.

    What its gates read of the input is one product over all steps; only what depends on the step before is computed step by
    step. `python -m benchmarks.cells` prints what that costs beside `nn.LSTM`.
    """

    gates: ClassVar[tuple[str, ...]]
    """Names of what `step` returns beside the state."""
    weight_hh: nn.Parameter
    """Hidden-to-hidden weights, the ones that `weight_drop` drops."""

    @abstractmethod
    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the gates read of the input: (B, T, gates * H) from x (B, T, F)."""

    @abstractmethod
    def initial_state(self, x: torch.Tensor) -> State:
        """Make the state that x (B, T, F) is read from when none is carried."""

    @abstractmethod
    def step(self, read: torch.Tensor, state: State, weight_hh: torch.Tensor) -> tuple[State, State]:
        """Take one step.

        Args:
            read: (B, gates * H), of `project`.
            state: of the step before.
            weight_hh: as dropped for this forward pass.

        Returns:
            the new state, and the gates that led to it, in the order of `gates`.
        """

    def forward(
        self, x: torch.Tensor, state: State | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Read sequences; see `Cell.forward`."""
        padding = None if lengths is None else is_padding(x, lengths)
        if padding is not None:
            x = without_padding(x, padding)
        states = [after for after, _ in self.walk(x, state, self.dropped(self.weight_hh))]
        y = torch.stack([after[0] for after in states], dim=1)  # (B, T, H)
        if lengths is None or padding is None:
            return y, states[-1]
        # What was read of the padding is thrown away at the end: cheaper than holding the state in every step.
        last = tuple(last_real(torch.stack(part, dim=1), lengths) for part in zip(*states, strict=True))
        return without_padding(y, padding), last

    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Return gates, cell state and output; see `Cell.trace`."""
        after, gates = zip(*self.walk(x, state, self.weight_hh), strict=True)
        over_time = [torch.stack(part, dim=1) for part in zip(*gates, strict=True)]
        states = [torch.stack(part, dim=1) for part in zip(*after, strict=True)]
        remembered = states[1] if len(states) > 1 else states[0]
        return {**dict(zip(self.gates, over_time, strict=True)), "cell_state": remembered, "output": states[0]}

    def walk(self, x: torch.Tensor, state: State | None, weight_hh: torch.Tensor) -> Iterator[tuple[State, State]]:
        """Go through x (B, T, F) and hand out state and gates of every step."""
        state = self.initial_state(x) if state is None else state
        for read in self.project(x).unbind(1):
            state, gates = self.step(read, state, weight_hh)
            yield state, gates


class LSTMSteps(StepCell):
    """A step-by-step cell with the gates and the state of an LSTM."""

    gates = ("input_gate", "forget_gate", "candidate", "output_gate")

    def initial_state(self, x: torch.Tensor) -> State:
        """Make h and c of zeros, as precise as the weights."""
        zeros = torch.zeros(len(x), self.hidden_size, *x.shape[3:], dtype=self.weight_hh.dtype, device=x.device)
        return zeros, zeros

    def remember(self, preactivation: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Turn what reaches the gates (B, 4 * H), in the order of nn.LSTM, into the new c and the gates."""
        input_gate, forget_gate, candidate, output_gate = preactivation.chunk(4, dim=1)
        input_gate, forget_gate = torch.sigmoid(input_gate), torch.sigmoid(forget_gate)
        candidate, output_gate = torch.tanh(candidate), torch.sigmoid(output_gate)
        c = torch.addcmul(forget_gate * c, input_gate, candidate)
        return c, (input_gate, forget_gate, candidate, output_gate)
