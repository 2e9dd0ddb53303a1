"""What a stack of any cell keeps to: layers, directions, dropout between layers, residual connections."""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gateline.cells import cell_names
from gateline.errors import WorkloadError
from gateline.models.stack import Stack, StackSettings, StackState, detach_state

F, H, T = 3, 4, 6
LENGTHS = torch.tensor([6, 1, 4])
EVERY_CELL = pytest.mark.parametrize("name", cell_names())


def make(name: str, rng: np.random.Generator, **settings: object) -> Stack:
    torch.manual_seed(int(rng.integers(2**32)))
    return Stack(
        input_size=F,
        settings=StackSettings.model_validate({"cell": name, "hidden_size": H, "num_layers": 2} | settings),
    ).double()


def read_by(stack: Stack, rng: np.random.Generator, rows: int = 3, steps: int = T) -> torch.Tensor:
    picture = [2, 3] if stack.cells()[0][0].reads_pictures else []
    return torch.tensor(rng.normal(size=(rows, steps, F, *picture)))


def flat(y: torch.Tensor, state: StackState) -> list[torch.Tensor]:
    return [y, *(part for cell in state for part in cell)]


def assert_close(ones: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other)


def torchs(stack: Stack, kind: type[nn.LSTM] | type[nn.GRU]) -> nn.LSTM | nn.GRU:
    """The same stack as one module of torch."""
    both = stack.directions == 2
    module = kind(F, H, len(stack.layers), batch_first=True, bidirectional=both).double()
    weights = {}
    for layer, cells in enumerate(stack.cells()):
        for cell, end in zip(cells, ("", "_reverse"), strict=False):
            for name, weight in cell.layer.state_dict().items():  # type: ignore[union-attr]
                weights[f"{name[:-1]}{layer}{end}"] = weight
    module.load_state_dict(weights)
    return module


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("name", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_it_equals_torchs_layers_and_directions(
    bidirectional: bool,
    name: str,
    kind: type[nn.LSTM] | type[nn.GRU],
    lengths: torch.Tensor | None,
    rng: np.random.Generator,
) -> None:
    stack = make(name, rng, bidirectional=bidirectional)
    x, start = read_by(stack, rng), stack(read_by(stack, rng))[1]
    theirs = torchs(stack, kind)
    per_part = [torch.stack(parts) for parts in zip(*start, strict=True)]  # (L * D, B, H)
    hx = (per_part[0], per_part[1]) if name == "lstm" else per_part[0]
    if lengths is None:
        expected, last = theirs(x, hx)
    else:
        expected, last = theirs(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), hx)
        expected, _ = pad_packed_sequence(expected, batch_first=True)
    y, state = stack(x, start, lengths)

    assert stack.output_size == y.shape[2] == H * (1 + bidirectional)
    assert_close([y], [expected])
    ours = [torch.stack(parts) for parts in zip(*state, strict=True)]
    assert_close(ours, list(last) if name == "lstm" else [last])


def test_a_plain_stack_is_torchs_own_kernel_to_the_bit(rng: np.random.Generator) -> None:
    stack = make("lstm", rng, num_layers=1).float()
    x = read_by(stack, rng).float()
    theirs = torchs(stack, nn.LSTM).float()

    assert torch.equal(stack(x)[0], theirs(x)[0])


@EVERY_CELL
@pytest.mark.parametrize("residual", [False, True])
def test_padding_changes_nothing_in_any_direction(name: str, residual: bool, rng: np.random.Generator) -> None:
    stack = make(name, rng, bidirectional=True, residual=residual, num_layers=3)
    x = read_by(stack, rng)
    for fill in (1e6, torch.nan):
        padded = x.clone()
        for place, length in enumerate(LENGTHS.tolist()):
            padded[place, length:] = fill
        y, state = stack(padded, None, LENGTHS)
        for place, length in enumerate(LENGTHS.tolist()):
            alone, after = stack(x[place : place + 1, :length])
            of_row = [tuple(part[place : place + 1] for part in cell) for cell in state]
            assert_close(flat(y[place : place + 1, :length], tuple(of_row)), flat(alone, after))
            assert (y[place, length:] == 0).all()
            end = stack.last_step(y, LENGTHS)[place : place + 1]
            assert_close([end], [stack.last_step(alone)])


@pytest.mark.parametrize("residual", [False, True])
def test_padding_is_0_also_where_the_first_layer_adds_what_it_read(residual: bool, rng: np.random.Generator) -> None:
    stack = Stack(input_size=H, settings=StackSettings(hidden_size=H, residual=residual)).double()
    x = torch.full((3, T, H), torch.nan, dtype=torch.float64)
    x[:, :1] = torch.tensor(rng.normal(size=(3, 1, H)))
    y, _ = stack(x, None, torch.tensor([1, 1, 1]))

    assert torch.isfinite(y[:, 0]).all()
    assert (y[:, 1:] == 0).all()


@EVERY_CELL
def test_a_sequence_in_two_pieces_is_one_sequence(name: str, rng: np.random.Generator) -> None:
    stack = make(name, rng, residual=True)
    x = read_by(stack, rng)
    whole, last = stack(x)
    first, state = stack(x[:, :2])
    second, state = stack(x[:, 2:], detach_state(state))

    assert_close(flat(torch.cat([first, second], dim=1), state), flat(whole, last))
    assert not any(part.requires_grad for cell in detach_state(state) for part in cell)


@EVERY_CELL
def test_gradients_are_right(name: str, rng: np.random.Generator) -> None:
    stack = make(name, rng, bidirectional=True, residual=True, hidden_size=2)
    x = read_by(stack, rng, rows=2, steps=3).requires_grad_()

    def run(*_: torch.Tensor) -> list[torch.Tensor]:  # gradcheck changes the very tensors that it is given
        return flat(*stack(x, None, torch.tensor([2, 3])))

    assert torch.autograd.gradcheck(lambda *inputs: tuple(run(*inputs)), (x, *stack.parameters()), fast_mode=True)


def test_last_step_is_where_each_direction_ends(rng: np.random.Generator) -> None:
    stack = make("lstm", rng, bidirectional=True)
    x = read_by(stack, rng)
    for lengths in (None, LENGTHS):
        y, state = stack(x, None, lengths)
        assert torch.equal(stack.last_step(y, lengths), torch.cat([state[-2][0], state[-1][0]], dim=1))


def test_residual_adds_what_a_layer_read(rng: np.random.Generator) -> None:
    stack = make("gru", rng, residual=True)
    x = read_by(stack, rng)
    (first,), (second,) = stack.cells()
    below, _ = first(x)

    assert_close([stack(x)[0]], [below + second(below)[0]])


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_stands_between_layers_and_variational_dropout_is_locked_over_time(
    variational: bool, rng: np.random.Generator
) -> None:
    stack = make("lstm", rng, dropout=0.5, variational_dropout=variational, hidden_size=16)
    x = read_by(stack, rng, rows=8)
    (first,), (second,) = stack.cells()
    read: list[torch.Tensor] = []
    for cell in (first, second):
        cell.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    stack.train()(x)
    below, _ = first(x)
    factor = (read[1] / below).round(decimals=6)  # (B, T, H)

    assert torch.equal(read[0], x)
    assert set(factor.unique().tolist()) == {0.0, 2.0}
    assert bool((factor == factor[:, :1]).all()) == variational
    assert not (factor == factor[:1]).all()
    read.clear()
    stack.eval()(x)
    assert torch.equal(read[1], below)


@EVERY_CELL
def test_weight_drop_reaches_every_cell_and_only_in_training(name: str, rng: np.random.Generator) -> None:
    stack, without = make(name, rng, weight_drop=0.5, bidirectional=True), make(name, rng, bidirectional=True)
    without.load_state_dict(stack.state_dict())
    x = read_by(stack, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = stack.train()(x)[0], stack(x)[0]

    assert {cell.weight_drop for cells in stack.cells() for cell in cells} == {0.5}
    assert not torch.allclose(one, other)
    assert torch.equal(stack.eval()(x)[0], without(x)[0])


def test_a_stack_is_saved_copied_and_loaded_exactly(rng: np.random.Generator) -> None:
    stack = make("slstm", rng, cell_options={"num_heads": 2}, bidirectional=True).eval()
    content = io.BytesIO()
    torch.save(stack.state_dict(), content)
    content.seek(0)
    other = make("slstm", rng, cell_options={"num_heads": 2}, bidirectional=True).eval()
    other.load_state_dict(torch.load(content, weights_only=True))
    x = read_by(stack, rng)

    assert torch.equal(stack(x)[0], other(x)[0])
    assert torch.equal(stack(x)[0], copy.deepcopy(stack)(x)[0])


@EVERY_CELL
def test_traces_of_all_cells_stand_in_the_order_of_time(name: str, rng: np.random.Generator) -> None:
    stack = make(name, rng, bidirectional=True, residual=True, dropout=0.5).eval()
    x = read_by(stack, rng)
    y, _ = stack(x)
    traces = stack.trace(x)
    below = torch.cat([traces[0]["output"], traces[1]["output"]], dim=2)

    assert len(traces) == 4
    assert_close([y], [below + torch.cat([traces[2]["output"], traces[3]["output"]], dim=2)])
    assert_close([traces[1]["cell_state"]], [stack.cells()[0][1].trace(x.flip(1))["cell_state"].flip(1)])


def test_an_option_that_the_cell_has_not_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(WorkloadError, match="Did you mean 'kernel_size'"):
        make("conv_lstm", rng, cell_options={"kernel": 3})
