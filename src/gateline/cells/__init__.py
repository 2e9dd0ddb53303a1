"""Recurrent cells, one file each, found by name: ``build(input_size, hidden_size, num_layers, dropout)``.

A cell is an `nn.Module` with ``forward(x, state) -> (y, state)``, x (B, T, F), y (B, T, H), batch first.
"""

from __future__ import annotations

import importlib
import pkgutil

from torch import nn

from gateline.errors import WorkloadError, did_you_mean


def cell_names() -> list[str]:
    """List the cells there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def build_cell(name: str, *, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> nn.Module:
    """Build a stack of cells.

    Raises:
        WorkloadError: there is no cell of that name.
    """
    if name not in cell_names():
        raise WorkloadError(
            "model.cell", expected="the name of a cell", found=repr(name), do=did_you_mean(name, cell_names())
        )
    module = importlib.import_module(f"{__name__}.{name}")
    cell: nn.Module = module.build(input_size, hidden_size, num_layers, dropout)
    return cell
