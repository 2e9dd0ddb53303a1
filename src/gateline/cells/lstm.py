"""Long short-term memory on `nn.LSTM`.

Source: Hochreiter and Schmidhuber (1997); with forget gates, Gers, Schmidhuber and Cummins (2000).
"""

from __future__ import annotations

import torch
from torch import nn


def build(input_size: int, hidden_size: int, num_layers: int, dropout: float) -> nn.Module:
    """Build a stack of LSTM layers, batch first, with dropout between the layers.

    Input weights start as Glorot and Bengio (2010), recurrent ones orthogonal per gate (Saxe et al., 2014), and the bias
    of the forget gate at 1, so that a fresh cell remembers (Jozefowicz, Zaremba and Sutskever, 2015).
    """
    lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0)
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            if "weight_hh" in name:
                for gate in parameter.chunk(4):  # in the order input, forget, cell, output
                    nn.init.orthogonal_(gate)
            elif "weight_ih" in name:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
            if "bias_ih" in name:  # of the two biases that nn.LSTM adds, one is enough
                parameter.chunk(4)[1].fill_(1.0)
    return lstm
