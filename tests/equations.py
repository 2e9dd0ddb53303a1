"""The equations of every cell once more, step by step and without any of the cell's own arithmetic.

An equation is called with a cell, x (B, T, F) and a state or None, and returns the output and the parts of the last state.
An integral is called with a cell, what it traced, and the state that it started from, and returns the output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from gateline.cells import Cell, State

Equation = Callable[[Cell, torch.Tensor, State | None], list[torch.Tensor]]
Integral = Callable[[Cell, dict[str, torch.Tensor], State | None], torch.Tensor]


def copied_into_lstm(weight_ih: Any, weight_hh: Any, bias: Any) -> nn.LSTM:
    """An `nn.LSTM` with these weights, and without its second bias."""
    lstm = nn.LSTM(weight_ih.shape[1], weight_hh.shape[1], batch_first=True).double()
    weights = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh, "bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
    lstm.load_state_dict(weights)
    return lstm


def run_lstm(lstm: nn.LSTM, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    y, (h, c) = lstm(x, None if state is None else (state[0][None], state[1][None]))
    return [y, h[0], c[0]]


def lstm(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    torchs = nn.LSTM(cell.input_size, cell.hidden_size, batch_first=True).double()
    torchs.load_state_dict(cell.layer.state_dict())
    return run_lstm(torchs, x, state)


def gru(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    torchs = nn.GRU(cell.input_size, cell.hidden_size, batch_first=True).double()
    torchs.load_state_dict(cell.layer.state_dict())
    y, h = torchs(x, None if state is None else state[0][None])
    return [y, h[0]]


def layer_norm_lstm_without_norms(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    """With norms that do nothing, which are put into the cell, it is an LSTM."""
    cell.input_norm = cell.recurrent_norm = cell.cell_norm = nn.Identity()
    return run_lstm(copied_into_lstm(cell.weight_ih, cell.weight_hh, cell.bias), x, state)


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layer_norm_lstm(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    w, u, b, gain_x, gain_h, gain_c, bias_c = (
        parameter.detach().numpy()
        for parameter in (
            *(cell.weight_ih, cell.weight_hh, cell.bias, cell.input_norm.weight, cell.recurrent_norm.weight),
            *(cell.cell_norm.weight, cell.cell_norm.bias),
        )
    )
    h, c = (np.zeros((len(x), cell.hidden_size)),) * 2 if state is None else (part.numpy() for part in state)
    outputs = []
    for step in np.moveaxis(x.numpy(), 1, 0):
        gates = standardised(step @ w.T) * gain_x + standardised(h @ u.T) * gain_h + b
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(standardised(c) * gain_c + bias_c)
        outputs.append(h)
    return [torch.tensor(part) for part in (np.stack(outputs, axis=1), h, c)]


def conv_lstm_of_points(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    """With a kernel of one point, every point of the picture is a sequence of its own for one LSTM."""
    lstm = copied_into_lstm(cell.weight_ih[:, :, 0, 0], cell.weight_hh[:, :, 0, 0], cell.bias)
    expected = []
    for row in range(x.shape[3]):
        for column in range(x.shape[4]):
            start = None if state is None else tuple(part[:, :, row, column].contiguous() for part in state)
            expected.append(run_lstm(lstm, x[:, :, :, row, column], start))
    return [torch.stack(part, dim=-1).unflatten(-1, x.shape[3:]) for part in zip(*expected, strict=True)]


def conv_lstm(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    """Every point reads its neighbourhood, cut out of a picture with a frame of zeros, by one product."""
    w, u, b = (parameter.detach().numpy() for parameter in (cell.weight_ih, cell.weight_hh, cell.bias))
    batch, _, _, height, width = x.shape
    empty = np.zeros((batch, cell.hidden_size, height, width))
    h, c = (empty, empty) if state is None else (part.numpy() for part in state)
    outputs = []
    for picture in np.moveaxis(x.numpy(), 1, 0):
        gates = np.zeros((batch, 4 * cell.hidden_size, height, width)) + b[:, None, None]
        for values, kernel in ((picture, w), (h, u)):
            size = kernel.shape[2]
            framed = np.pad(values, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
            for row, column in np.ndindex(height, width):
                near = framed[:, :, row : row + size, column : column + size].reshape(batch, -1)
                gates[:, :, row, column] += near @ kernel.reshape(len(kernel), -1).T
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return [torch.tensor(part) for part in (np.stack(outputs, axis=1), h, c)]


def slstm(cell: Any, x: torch.Tensor, state: State | None) -> list[torch.Tensor]:
    """The exponentials as they are written, without a stabiliser; the last state is brought to the cell's own scale."""
    heads, width = cell.num_heads, cell.hidden_size // cell.num_heads
    w, u = cell.weight_ih.detach().numpy(), cell.weight_hh.detach().numpy()
    b = cell.bias.detach().numpy().reshape(heads, 4 * width)
    h = np.zeros((len(x), cell.hidden_size)) if state is None else state[0].numpy()
    c, n = np.zeros_like(h), np.zeros_like(h)
    if state is not None:
        c, n = (part.numpy() * np.exp(state[3].numpy()) for part in state[1:3])
    largest = np.full_like(h, -np.inf) if state is None else state[3].numpy().copy()
    outputs = []
    for step in np.moveaxis(x.numpy(), 1, 0):
        after = np.empty_like(h)
        for head in range(heads):
            mine = slice(head * width, (head + 1) * width)
            i, f, z, o = np.split(step @ w[head].T + h[:, mine] @ u[head].T + b[head], 4, axis=1)
            c[:, mine] = sigmoid(f) * c[:, mine] + np.exp(i) * np.tanh(z)
            n[:, mine] = sigmoid(f) * n[:, mine] + np.exp(i)
            largest[:, mine] = np.maximum(np.log(sigmoid(f)) + largest[:, mine], i)
            after[:, mine] = sigmoid(o) * c[:, mine] / n[:, mine]
        h = after
        outputs.append(h)
    scaled = (c / np.exp(largest), n / np.exp(largest), largest)
    return [torch.tensor(part) for part in (np.stack(outputs, axis=1), h, *scaled)]


EQUATIONS: dict[str, list[tuple[dict[str, float], Equation]]] = {
    "lstm": [({}, lstm)],
    "gru": [({}, gru)],
    "layer_norm_lstm": [({}, layer_norm_lstm), ({}, layer_norm_lstm_without_norms)],
    "conv_lstm": [({"kernel_size": 1}, conv_lstm_of_points), ({"kernel_size": 1}, conv_lstm), ({}, conv_lstm)],
    "slstm": [({}, slstm), ({"num_heads": 2}, slstm)],
}


def integrated(
    traced: dict[str, torch.Tensor], memory: torch.Tensor, keep: str, take: torch.Tensor, out: Callable[..., Any]
) -> torch.Tensor:
    """Follow a memory that keeps a share of itself and takes in something at each step."""
    outputs = []
    for step in range(take.shape[1]):
        memory = traced[keep][:, step] * memory + take[:, step]
        outputs.append(out(memory, step))
    return torch.stack(outputs, dim=1)


def integral_of_lstm(cell: Cell, traced: dict[str, torch.Tensor], state: State | None) -> torch.Tensor:
    norm = getattr(cell, "cell_norm", None)
    c = torch.zeros_like(traced["output"][:, 0]) if state is None else state[1]

    def out(c: torch.Tensor, step: int) -> torch.Tensor:
        torch.testing.assert_close(traced["cell_state"][:, step], c)
        return traced["output_gate"][:, step] * torch.tanh(c if norm is None else norm(c))

    return integrated(traced, c, "forget_gate", traced["input_gate"] * traced["candidate"], out)


def integral_of_gru(cell: Cell, traced: dict[str, torch.Tensor], state: State | None) -> torch.Tensor:
    h = torch.zeros_like(traced["output"][:, 0]) if state is None else state[0]
    return integrated(traced, h, "update_gate", (1 - traced["update_gate"]) * traced["candidate"], lambda h, _: h)


def integral_of_slstm(cell: Cell, traced: dict[str, torch.Tensor], state: State | None) -> torch.Tensor:
    stored = torch.zeros_like(traced["output"][:, 0]) if state is None else state[1] / state[2]

    def out(stored: torch.Tensor, step: int) -> torch.Tensor:
        torch.testing.assert_close(traced["cell_state"][:, step], stored)
        return traced["output_gate"][:, step] * stored

    return integrated(traced, stored, "forget_gate", traced["input_gate"] * traced["candidate"], out)


INTEGRALS: dict[str, Integral] = {
    "lstm": integral_of_lstm,
    "layer_norm_lstm": integral_of_lstm,
    "conv_lstm": integral_of_lstm,
    "gru": integral_of_gru,
    "slstm": integral_of_slstm,
}
