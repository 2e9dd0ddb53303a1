"""On a CUDA device the cells on cuDNN's kernels compute in the type that autocast was asked for."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch

from gateline.cells._fused import FusedCell
from tests.contracts.test_cells import LENGTHS, carried, make, read_by, weighed

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize(("dtype", "within"), [(torch.bfloat16, 0.03), (torch.float16, 0.01)])
def test_a_cell_computes_in_the_type_that_autocast_was_asked_for(
    name: str, lengths: torch.Tensor | None, goes_on: bool, dtype: torch.dtype, within: float, rng: np.random.Generator
) -> None:
    precise = make(name, rng).float().cuda()
    rough = copy.deepcopy(precise)
    assert isinstance(rough, FusedCell)
    rough.layer.flatten_parameters()
    x = read_by(precise, rng).float().cuda()
    start = tuple(part.float().cuda() for part in carried(make(name, rng), rng)) if goes_on else None
    there = None if lengths is None else lengths.cuda()
    y, state = precise(x, start, there)
    weighed([part.cpu() for part in (y, *state)]).backward()
    with warnings.catch_warnings(), torch.autocast("cuda", dtype):
        warnings.filterwarnings("error", message=".*single contiguous chunk")  # cuDNN would copy the weights once more
        found_y, found = rough(x, start, there)
        again, _ = rough(x, found, there)
    weighed([part.float().cpu() for part in (found_y, *found)]).backward()

    assert {part.dtype for part in (found_y, *found, again)} == {dtype}
    for one, other in zip((found_y, *found), (y, *state), strict=True):
        torch.testing.assert_close(one.float(), other, atol=within, rtol=0)
    for one, other in zip(rough.parameters(), precise.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.dtype == torch.float32
        largest = float(other.grad.abs().max())
        torch.testing.assert_close(one.grad, other.grad, atol=within * largest, rtol=0)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_gradient_that_float16_flushes_to_zero_arrives_in_bfloat16(name: str, rng: np.random.Generator) -> None:
    """Nobody scales the loss there: of 1e-9 float16 leaves nothing."""
    cell = make(name, rng).float().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        y, _ = cell(read_by(cell, rng).float().cuda())
    (y.float().sum() * 1e-9).backward()

    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in cell.parameters())
