"""Layers and directions of cells. B batch, T time, F features, H hidden, L layers, D directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import BeforeValidator, Field
from torch import nn

from gateline.cells import Cell, State, build_cell, options_of_all
from gateline.cells._padding import is_padding, last_real, reversed_in_time, without_padding
from gateline.errors import WorkloadError
from gateline.randomness import Dropout, locked_dropout
from gateline.workload.section import Section

Probability = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=1, le=2**16)]
"""Of a vector. Above it the weights of one layer take tens of gigabytes, and numbers of bytes overflow soon."""
Layers = Annotated[int, Field(ge=1, le=1000)]


def _of_its_own(value: Any) -> Any:
    """Refuse among the options of one cell what every cell has."""
    for option in value if isinstance(value, Mapping) else ():
        if option in options_of_all():
            raise WorkloadError(
                f"model.cell_options.{option}",
                expected="an option that only this cell has",
                found=f"{option!r}, which every cell has",
                do="Leave it out: it follows from the data"
                if option == "input_size"
                else f"Write it one level up, as `model.{option}`",
            )
    return value


CellOptions = Annotated[dict[str, Annotated[int, Field(strict=True)]], BeforeValidator(_of_its_own)]
"""What a cell has of its own, by name; whole numbers."""

StackState = tuple[State, ...]
"""States of the cells: L * D of them, layer by layer, and in a layer first the one that reads forwards."""

ONE_STEP_AT_A_TIME = "the decoder takes one step at a time, and each would drop other weights"
"""Why a model has no `weight_drop`."""


class StackSettings(Section):
    """Which cells, and how they are stacked."""

    cell: str = "lstm"
    """A file of `gateline.cells`."""
    cell_options: CellOptions = {}
    """What the cell has of its own, e.g. `kernel_size` of `conv_lstm`."""
    hidden_size: Size
    num_layers: Layers = 1
    bidirectional: bool = False
    """A second cell in each layer reads from the last real step to the first; both are read side by side."""
    dropout: Probability = 0.0
    """Of what a layer reads from the layer below it."""
    variational_dropout: bool = False
    """Drop the same features at all steps of a sequence (Gal and Ghahramani, 2016, arXiv 1512.05287)."""
    weight_drop: Probability = 0.0
    """Of hidden-to-hidden weights, the same ones at all steps (Merity, Keskar and Socher, 2017, arXiv 1708.02182)."""
    residual: bool = False
    """Add to the output of a layer what it read, before dropout, wherever both have the same size."""


class Stack(nn.Module):
    """Layers of cells, each reading what the one below wrote.

    Args:
        input_size: number of features F of a step.
        settings: cells, layers, directions, dropout.

    Raises:
        WorkloadError: there is no such cell, or it has no such option.
    """

    def __init__(self, *, input_size: int, settings: StackSettings) -> None:
        super().__init__()
        self.settings = settings
        self.directions = 2 if settings.bidirectional else 1
        self.input_size, self.output_size = input_size, settings.hidden_size * self.directions
        sizes = [input_size] + [self.output_size] * (settings.num_layers - 1)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                build_cell(
                    settings.cell,
                    input_size=size,
                    hidden_size=settings.hidden_size,
                    weight_drop=settings.weight_drop,
                    **settings.cell_options,
                )
                for _ in range(self.directions)
            )
            for size in sizes
        )
        self.dropout = Dropout(settings.dropout)

    def forward(
        self, x: torch.Tensor, state: StackState | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, StackState]:
        """Read sequences.

        Args:
            x: (B, T, F), or (B, T, F, Y, X) where the cell reads pictures.
            state: where to go on; None starts afresh. A backward cell goes on from the right.
            lengths: int64 (B,), 1 to T: how many steps of each row are real. What stands past them changes nothing.

        Returns:
            y (B, T, H * D), 0 past the length, and the state after the last step that each cell read.
        """
        if lengths is not None and self.settings.residual:
            x = without_padding(x, is_padding(x, lengths))
        states: list[State] = []
        for place, cells in enumerate(self.cells()):
            read = self.drop(x, place) if place else x
            written = []
            for cell, backward in zip(cells, (False, True), strict=False):
                before = None if state is None else state[len(states)]
                y, after = cell(reversed_in_time(read, lengths) if backward else read, before, lengths)
                written.append(reversed_in_time(y, lengths) if backward else y)
                states.append(after)
            x = self.join(x, written)
        return x, tuple(states)

    def trace(self, x: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """Trace the gates and states of every cell, without dropout.

        Args:
            x: (B, T, F), without padding.

        Returns:
            for each cell, in the order of the state, what `Cell.trace` returns: each (B, T, H), in the order of time.
        """
        traces = []
        for cells in self.cells():
            of_layer = [cells[0].trace(x)]
            if len(cells) == 2:
                of_layer.append({name: part.flip(1) for name, part in cells[1].trace(x.flip(1)).items()})
            x = self.join(x, [trace["output"] for trace in of_layer])
            traces += of_layer
        return traces

    def join(self, read: torch.Tensor, written: list[torch.Tensor]) -> torch.Tensor:
        """Put what the directions of a layer wrote side by side, and add what the layer read where that is asked for."""
        y = written[0] if len(written) == 1 else torch.cat(written, dim=2)  # (B, T, H * D)
        return read + y if self.settings.residual and read.shape[2] == y.shape[2] else y

    def drop(self, x: torch.Tensor, place: int) -> torch.Tensor:
        """Drop features of what the layer below the one at this place wrote."""
        if self.settings.variational_dropout:
            return locked_dropout(x, self.settings.dropout, self.training, by=(self, place))
        return cast(torch.Tensor, self.dropout(x))

    def cells(self) -> list[list[Cell]]:
        """List the cells of each layer, first the one that reads forwards."""
        return [cast(list[Cell], list(cast(nn.ModuleList, layer))) for layer in self.layers]

    def last_step(self, y: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Take from an output y (B, T, H * D) what each direction wrote at the end of its way: (B, H * D).

        That is the last real step of the forward half and the first step of the backward half.
        """
        end = y[:, -1] if lengths is None else last_real(y, lengths)
        if self.directions == 1:
            return end
        return torch.cat([end[:, : self.settings.hidden_size], y[:, 0, self.settings.hidden_size :]], dim=1)


class Bridge(nn.Module):
    """Mix the states of both directions of an encoder into one for the decoder, unit by unit.

    A mean with learned weights, and not a linear map: it stays within what a cell's state can be, whatever the cell
    (the normaliser of sLSTM is positive). Beside attention the choice hardly matters (Britz et al., 2017, arXiv
    1703.03906).

    Args:
        settings: of the encoder.
    """

    def __init__(self, settings: StackSettings) -> None:
        super().__init__()
        self.balance = nn.Parameter(torch.zeros(settings.num_layers, settings.hidden_size))  # (L, H)

    def forward(self, state: StackState) -> StackState:
        """Mix: states of L layers with two directions -> states of L layers."""
        pairs = zip(torch.sigmoid(self.balance), state[0::2], state[1::2], strict=True)
        return tuple(
            tuple(
                torch.lerp(backward, forward, share.to(forward.dtype)) for forward, backward in zip(*pair, strict=True)
            )
            for share, *pair in pairs
        )


def refuse_weight_drop(stack: Stack) -> None:
    """Refuse to train cells step by step that drop weights: the same ones should be missing at all steps of a sequence.

    Raises:
        WorkloadError: the cells drop weights, and are being trained.
    """
    if stack.training and stack.settings.weight_drop:
        raise WorkloadError(
            "model.weight_drop",
            expected=f"0 with teacher forcing below 1: {ONE_STEP_AT_A_TIME}",
            found=str(stack.settings.weight_drop),
            do="Leave it out, or train on the true steps only",
        )


def detach_state(state: StackState) -> StackState:
    """Cut a state off from how it was computed, for truncated backpropagation."""
    return tuple(tuple(carried.detach() for carried in cell) for cell in state)
