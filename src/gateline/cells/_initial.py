"""How the weights of a cell start."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def initialise(
    weight_ih: torch.Tensor, weight_hh: torch.Tensor, biases: Sequence[torch.Tensor], *, gates: int, remembers: int
) -> None:
    """Initialise weights whose gates lie one after another in dimension 0.

    Input weights start as Glorot and Bengio (2010), recurrent ones orthogonal per gate (Saxe et al., 2014), and the bias
    of the gate that keeps the state at 1, so that a fresh cell remembers (Jozefowicz, Zaremba and Sutskever, 2015).

    Args:
        weight_ih: (gates * H, F), or with the kernel behind.
        weight_hh: (gates * H, H), or with the kernel behind.
        biases: each (gates * H); they are added, so one that remembers is enough.
        gates: how many there are.
        remembers: which of them keeps the state.
    """
    nn.init.xavier_uniform_(weight_ih)
    for gate in weight_hh.chunk(gates):
        nn.init.orthogonal_(gate)
    for bias in biases:
        nn.init.zeros_(bias)
    biases[0].chunk(gates)[remembers].fill_(1.0)
