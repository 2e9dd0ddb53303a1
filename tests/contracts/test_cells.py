"""What every cell keeps to. A cell joins by being in `gateline.cells`; its equations stand in `tests.equations`."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gateline.cells import Cell, State, build_cell, cell_names, cell_options
from gateline.cells._fused import FusedCell
from gateline.errors import WorkloadError
from tests.equations import EQUATIONS, INTEGRALS, integral_of_gru
from tests.second_device import CUDA, SecondDevice, move_there

F, H, T = 3, 4, 6
LENGTHS = torch.tensor([6, 1, 4])
EVERY_CELL = pytest.mark.parametrize("name", cell_names())


def make(name: str, rng: np.random.Generator, **options: float) -> Cell:
    """A cell in double precision whose weights, also those that start as 0 or 1, are random."""
    torch.manual_seed(int(rng.integers(2**32)))
    cell = build_cell(name, input_size=F, hidden_size=H, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.tensor(rng.normal(0, 0.3, parameter.shape)))
    return cell


def read_by(cell: Cell, rng: np.random.Generator, rows: int = 3, steps: int = T) -> torch.Tensor:
    """Sequences that the cell can read."""
    return torch.tensor(rng.normal(size=(rows, steps, F, *([2, 3] if cell.reads_pictures else []))))


def carried(cell: Cell, rng: np.random.Generator, rows: int = 3) -> State:
    """A state that the cell can come to."""
    with torch.no_grad():
        return cell(read_by(cell, rng, rows))[1]


def row(state: State, place: int) -> State:
    return tuple(part[place : place + 1] for part in state)


def assert_close(ones: Iterable[torch.Tensor], others: Iterable[torch.Tensor], within: float | None = None) -> None:
    """Up to rounding, or within an absolute distance."""
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, atol=within, rtol=None if within is None else 0)


def weighed(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """A sum in which no two numbers have the same weight."""
    parts = [(part * torch.linspace(0.5, 1.5, part.numel()).reshape(part.shape)).sum() for part in outputs]
    return torch.stack(parts).sum()


@EVERY_CELL
def test_the_state_after_the_last_step_begins_with_the_last_output(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng)
    x = read_by(cell, rng)
    y, state = cell(x)

    assert y.shape == (3, T, H, *x.shape[3:])
    assert [part.shape[0] for part in state] == [3] * len(state)
    assert torch.equal(state[0], y[:, -1])


@EVERY_CELL
@pytest.mark.parametrize("goes_on", [False, True])
def test_padding_changes_neither_output_nor_state_nor_gradient(
    name: str, goes_on: bool, rng: np.random.Generator
) -> None:
    cell = make(name, rng)
    x, start = read_by(cell, rng), carried(cell, rng) if goes_on else None
    rows = list(enumerate(LENGTHS.tolist()))
    unpadded = [x[place : place + 1, :length].clone().requires_grad_() for place, length in rows]
    alone = [cell(own, None if start is None else row(start, place)) for place, own in enumerate(unpadded)]
    total = torch.stack([weighed([*y[0], *state]) for y, state in alone]).sum()
    expected = torch.autograd.grad(total, [*unpadded, *cell.parameters()])

    for fill in (0.0, 1e6, torch.nan, torch.inf):
        padded = x.clone()
        for place, length in rows:
            padded[place, length:] = fill
        y, state = cell(padded.requires_grad_(), start, LENGTHS)
        total = torch.stack([weighed([*y[place, :length], *row(state, place)]) for place, length in rows]).sum()
        gradient, *of_parameters = torch.autograd.grad(total, [padded, *cell.parameters()])
        for place, length in rows:
            assert_close([y[place : place + 1, :length], *row(state, place)], [alone[place][0], *alone[place][1]])
            assert (y[place, length:] == 0).all()
            assert_close([gradient[place : place + 1, :length]], [expected[place]])
            assert (gradient[place, length:] == 0).all()
        assert_close(of_parameters, expected[len(rows) :])


@EVERY_CELL
def test_full_lengths_are_as_no_lengths(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng)
    x = read_by(cell, rng)
    y, state = cell(x)
    padded_y, padded_state = cell(x, None, torch.tensor([T, T, T]))

    assert_close([y, *state], [padded_y, *padded_state])


@EVERY_CELL
def test_a_sequence_in_two_pieces_is_one_sequence(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng)
    x = read_by(cell, rng)
    whole, last = cell(x)
    first, state = cell(x[:, :2])
    second, state = cell(x[:, 2:], state)

    assert_close([torch.cat([first, second], dim=1), *state], [whole, *last])
    assert not torch.allclose(cell(x[:, 2:])[0], second)


@EVERY_CELL
@pytest.mark.parametrize("lengths", [None, torch.tensor([2, 3])])
def test_gradients_are_right(name: str, lengths: torch.Tensor | None, rng: np.random.Generator) -> None:
    cell = make(name, rng)
    x = read_by(cell, rng, rows=2, steps=3).requires_grad_()
    start = tuple(part.requires_grad_() for part in carried(cell, rng, rows=2))

    def run(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:  # gradcheck changes the very tensors that it is given
        y, state = cell(x, start, lengths)
        return y, *state

    many = cell.reads_pictures  # then along random directions, instead of number by number
    assert torch.autograd.gradcheck(run, (x, *start, *cell.parameters()), fast_mode=many)


@EVERY_CELL
@pytest.mark.parametrize("goes_on", [False, True])
def test_it_computes_its_equations(name: str, goes_on: bool, rng: np.random.Generator) -> None:
    assert name in EQUATIONS, f"write the equations of {name} into tests/equations.py, independently of the cell"
    for options, expected in EQUATIONS[name]:
        cell = make(name, rng, **options)
        x, start = read_by(cell, rng), carried(cell, rng) if goes_on else None
        with torch.no_grad():
            theirs = expected(cell, x, start)
            y, state = cell(x, start)
            assert_close([y, *state], theirs)


@EVERY_CELL
def test_a_row_does_not_depend_on_its_batch(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng)
    x, start = read_by(cell, rng), carried(cell, rng)
    y, state = cell(x, start)
    for place in range(3):
        alone, after = cell(x[place : place + 1], row(start, place))
        assert_close([alone, *after], [y[place : place + 1], *row(state, place)])


@EVERY_CELL
def test_it_is_saved_and_loaded_exactly(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng, weight_drop=0.5)
    x = read_by(cell, rng)
    cell(x)  # in training mode: what was dropped is not kept
    content = io.BytesIO()
    torch.save(cell.state_dict(), content)
    content.seek(0)
    other = make(name, rng)
    other.load_state_dict(torch.load(content, weights_only=True))

    assert_same(cell.eval()(x), other(x))


def assert_same(one: tuple[torch.Tensor, State], other: tuple[torch.Tensor, State]) -> None:
    assert all(torch.equal(a, b) for a, b in zip([one[0], *one[1]], [other[0], *other[1]], strict=True))


@EVERY_CELL
def test_it_learns_one_batch_by_heart(name: str, rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(2**32)))
    cell = build_cell(name, input_size=F, hidden_size=24)
    x = read_by(cell, rng).float()
    target = torch.tensor(rng.uniform(-0.5, 0.5, (3, T, 24, *x.shape[3:])), dtype=torch.float32)
    target = target.mean(dim=(3, 4), keepdim=True).expand_as(target) if cell.reads_pictures else target
    head = torch.nn.Linear(24, 24)
    optimiser = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.02)
    losses: list[float] = []
    while len(losses) < 400 and (not losses or losses[-1] > 0.02 * losses[0]):
        read = head(cell(x)[0].movedim(2, -1)).movedim(-1, 2)
        loss = (read - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[-1] <= 0.02 * losses[0]


@EVERY_CELL
def test_weight_drop_is_a_dropout_of_hidden_to_hidden_weights(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng, weight_drop=0.5)
    x = read_by(cell, rng)
    hidden_to_hidden = next(p for n, p in cell.named_parameters() if "weight_hh" in n)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, state = cell.train()(x)
        (slope,) = torch.autograd.grad(weighed([y, *state]), [hidden_to_hidden])
    torch.manual_seed(1)
    masked = torch.nn.functional.dropout(hidden_to_hidden.detach(), 0.5)
    by_hand = make(name, rng).eval()
    by_hand.load_state_dict(cell.state_dict())
    with torch.no_grad():
        next(p for n, p in by_hand.named_parameters() if "weight_hh" in n).copy_(masked)

    assert_close([y, *state], [by_hand(x)[0], *by_hand(x)[1]])
    assert (slope[masked == 0] == 0).all()
    assert (slope[masked != 0] != 0).all()


@EVERY_CELL
def test_weights_are_dropped_anew_in_training_and_never_in_eval(name: str, rng: np.random.Generator) -> None:
    cell, without = make(name, rng, weight_drop=0.5), make(name, rng)
    without.load_state_dict(cell.state_dict())
    x = read_by(cell, rng)
    first, second = cell.train()(x)[0], cell(x)[0]

    assert_close([first[:, 0]], [second[:, 0]])  # nothing was carried into the first step
    assert not torch.allclose(first[:, 1], second[:, 1])
    assert_same(cell.eval()(x), without(x))
    assert_same(cell(x, None, LENGTHS), without(x, None, LENGTHS))


@EVERY_CELL
@pytest.mark.parametrize("goes_on", [False, True])
def test_traced_gates_lead_to_the_output(name: str, goes_on: bool, rng: np.random.Generator) -> None:
    cell = make(name, rng, weight_drop=0.5).eval()
    x, start = read_by(cell, rng), carried(cell, rng) if goes_on else None
    with torch.no_grad():
        y, _ = cell(x, start)
        traced = cell.trace(x, start)
        assert {"output", "cell_state"} < traced.keys()
        assert all(over_time.shape == y.shape for over_time in traced.values())
        for gate in (over_time for part, over_time in traced.items() if part.endswith("_gate")):
            assert gate.min() >= 0
            assert gate.max() <= 1
        assert name in INTEGRALS, f"write into tests/equations.py how the traced gates of {name} lead to its output"
        assert_close([traced["output"], INTEGRALS[name](cell, traced, start)], [y, y])


@EVERY_CELL
def test_bfloat16_stays_near_float32(name: str, rng: np.random.Generator) -> None:
    cell = make(name, rng).float()
    x = read_by(cell, rng).float()
    precise = cell(x, None, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        rough = cell(x, None, LENGTHS)
        again = cell(x, rough[1], LENGTHS)

    for found, wanted in ((rough[0], precise[0]), (again[0], cell(x, precise[1], LENGTHS)[0])):
        difference = (found.float() - wanted).abs()
        # Not the largest of all: a layer norm over sums that are nearly equal takes what rounding left of them for large.
        assert difference.square().mean().sqrt() < 0.1
        assert difference.median() < 0.01


@pytest.fixture
def bfloat16_on_cuda() -> Iterator[None]:
    """What torch.autocast("cuda", torch.bfloat16) does, which without a GPU warns and does nothing."""
    enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    yield
    torch.set_autocast_enabled("cuda", enabled)
    torch.set_autocast_dtype("cuda", dtype)


@pytest.mark.usefixtures("bfloat16_on_cuda")
@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_kernel_of_cudnn_is_handed_bfloat16(name: str, goes_on: bool, rng: np.random.Generator) -> None:
    """Autocast would hand it float16. Here torch's own layer in bfloat16 is beside it, on a CPU that says it is a GPU."""
    cell = make(name, rng).float()
    assert isinstance(cell, FusedCell)
    layer, precise = copy.deepcopy(cell.layer).bfloat16(), copy.deepcopy(cell)
    x, start = read_by(cell, rng).float(), None
    if goes_on:
        start = tuple(part.float() for part in carried(make(name, rng), rng))
    low = None if start is None else [part.bfloat16()[None] for part in start]
    y, state = layer(x.bfloat16(), low[0] if low and name == "gru" else low)
    state = state if name == "lstm" else [state]
    with SecondDevice():
        move_there(cell)
        there = None if start is None else tuple(part.to(CUDA) for part in start)
        read = cell(x.to(CUDA), there)
        padded = cell(x.to(CUDA), there, LENGTHS.to(CUDA))

    assert torch.equal(read[0], y)
    assert all(torch.equal(found[None], wanted) for found, wanted in zip(read[1], state, strict=True))
    assert {part.dtype for part in (read[0], *read[1], padded[0], *padded[1])} == {torch.bfloat16}
    for found, wanted in ((read, precise(x, start)), (padded, precise(x, start, LENGTHS))):
        assert_close([part.float() for part in (found[0], *found[1])], [wanted[0], *wanted[1]], within=0.03)
    weighed([read[0], *read[1]]).backward()
    weighed([precise(x, start)[0], *precise(x, start)[1]]).backward()
    for rough, right in zip(cell.parameters(), precise.parameters(), strict=True):
        assert rough.grad is not None
        assert right.grad is not None
        assert rough.grad.dtype == torch.float32
        assert_close([rough.grad], [right.grad], within=0.03 * float(right.grad.abs().max()))


def test_the_exponential_gates_of_slstm_do_not_overflow(rng: np.random.Generator) -> None:
    cell = make("slstm", rng).float()
    x = (1e4 * read_by(cell, rng)).float().requires_grad_()
    y, state = cell(x)
    y.square().sum().backward()

    for tensor in (y, *state, x.grad, *(parameter.grad for parameter in cell.parameters())):
        assert tensor is not None
        assert torch.isfinite(tensor).all()


def test_a_fresh_cell_remembers() -> None:
    lstm, gru = (build_cell(name, input_size=F, hidden_size=H) for name in ("lstm", "gru"))
    forget = lstm.state_dict()["layer.bias_ih_l0"] + lstm.state_dict()["layer.bias_hh_l0"]
    update = gru.state_dict()["layer.bias_ih_l0"] + gru.state_dict()["layer.bias_hh_l0"]

    assert forget.tolist() == [0] * H + [1] * H + [0] * 2 * H
    assert update.tolist() == [0] * H + [1] * H + [0] * H
    for gate in lstm.state_dict()["layer.weight_hh_l0"].chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H))


def test_the_recipe_in_the_documents_is_a_cell(root: Path, rng: np.random.Generator) -> None:
    recipe = (root / "docs" / "add-a-cell.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    written: dict[str, Any] = {}
    exec(recipe, written)
    cell = written["CELL"](input_size=F, hidden_size=H).double()
    x = read_by(cell, rng)
    y, state = cell(x, None, LENGTHS)

    assert_close([y[2:, :4], *row(state, 2)], [cell(x[2:, :4])[0], *cell(x[2:, :4])[1]])
    assert_close([integral_of_gru(cell, cell.trace(x), None)], [cell(x)[0]])
    precise = cell.float()(x.float())[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert_close([cell(x.float())[0]], [precise], within=0.05)


def test_what_is_no_cell_and_no_option_is_refused() -> None:
    sizes = {"input_size": 1, "hidden_size": 4}
    with pytest.raises(WorkloadError, match="Did you mean 'lstm'"):
        build_cell("lsmt", **sizes)
    with pytest.raises(WorkloadError, match="Did you mean 'kernel_size'"):
        build_cell("conv_lstm", **sizes, kernel=3)
    with pytest.raises(WorkloadError, match="Leave it out"):
        build_cell("gru", **sizes, kernel_size=3)
    with pytest.raises(WorkloadError, match="odd number"):
        build_cell("conv_lstm", **sizes, kernel_size=2)
    with pytest.raises(WorkloadError, match="divisor of the hidden size 4"):
        build_cell("slstm", **sizes, num_heads=3)
    assert cell_options("slstm") == ["num_heads"]
