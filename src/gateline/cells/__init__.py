"""Recurrent cells, one file each, found by name: one layer, one direction, batch first.

A cell's file holds its class under the name `CELL`. B batch, T time, F features, H hidden; a picture has rows Y and
columns X, and then x is (B, T, F, Y, X) and every hidden size H below reads (H, Y, X).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from gateline.errors import WorkloadError, did_you_mean

State = tuple[torch.Tensor, ...]
"""What a cell carries from step to step, each (B, ...); the first is its output h."""


class Cell(nn.Module, ABC):
    """One recurrent layer that reads a batch of sequences in one direction.

    Args:
        input_size: number of features F of a step.
        hidden_size: number of features H of its output.
        weight_drop: probability by which each hidden-to-hidden weight is dropped in training, drawn anew in every
            call and the same for all its steps and rows (DropConnect; Merity, Keskar and Socher, 2017,
            arXiv 1708.02182).
    """

    reads_pictures: ClassVar[bool] = False
    """Whether a step is a picture (F, Y, X) instead of a vector (F)."""

    def __init__(self, *, input_size: int, hidden_size: int, weight_drop: float = 0.0) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.weight_drop = input_size, hidden_size, weight_drop

    @abstractmethod
    def forward(
        self, x: torch.Tensor, state: State | None = None, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Read sequences.

        Args:
            x: (B, T, F).
            state: where to go on; None starts afresh.
            lengths: int64 (B,), 1 to T, on the device of x: how many steps of each row are real. What stands past them changes nothing.

        Returns:
            y (B, T, H), 0 past the length, and the state after the last real step.
        """

    @abstractmethod
    def trace(self, x: torch.Tensor, state: State | None = None) -> dict[str, torch.Tensor]:
        """Read sequences as `forward` does in eval mode, and return gates and states by name, each (B, T, H).

        The cell's output is among them as `output`, and what it remembers as `cell_state`.
        """

    def dropped(self, weight: torch.Tensor) -> torch.Tensor:
        """Drop hidden-to-hidden weights in training; what is left grows, so that the mean stays."""
        return nn.functional.dropout(weight, self.weight_drop) if self.training and self.weight_drop else weight


def cell_names() -> list[str]:
    """List the cells there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def cell_named(name: str) -> type[Cell]:
    """Find a cell's class.

    Raises:
        WorkloadError: there is no cell of that name.
    """
    if name not in cell_names():
        raise WorkloadError(
            "model.cell", expected="the name of a cell", found=repr(name), do=did_you_mean(name, cell_names())
        )
    found: type[Cell] = importlib.import_module(f"{__name__}.{name}").CELL
    return found


def cell_options(name: str) -> list[str]:
    """List what can be set of a cell beside what every cell has."""
    return [
        option
        for option in inspect.signature(cell_named(name).__init__).parameters
        if option not in ["self", *options_of_all()]
    ]


def options_of_all() -> list[str]:
    """List what every cell is told: its sizes and so on, which are no options of its own."""
    return [option for option in inspect.signature(Cell.__init__).parameters if option != "self"]


def build_cell(name: str, *, input_size: int, hidden_size: int, weight_drop: float = 0.0, **options: int) -> Cell:
    """Build a cell, freshly initialised; see `Cell` for its arguments.

    Args:
        name: file of this package.
        input_size: F.
        hidden_size: H.
        weight_drop: of hidden-to-hidden weights.
        options: what this cell has beside that, e.g. `kernel_size` of a convolutional one.

    Raises:
        WorkloadError: there is no cell of that name, or it has no such option or value.
    """
    kind = cell_named(name)
    for option in options:
        if option not in cell_options(name):
            raise WorkloadError(
                "model.cell_options",
                expected=f"an option of the cell {name}",
                found=repr(option),
                do=did_you_mean(option, cell_options(name)) if cell_options(name) else "Leave it out",
            )
    return kind(input_size=input_size, hidden_size=hidden_size, weight_drop=weight_drop, **options)
