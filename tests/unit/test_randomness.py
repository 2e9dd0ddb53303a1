"""Dropout of a part of a batch is that part of the dropout of the whole batch, however the part is padded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gateline.randomness import Dropout, locked_dropout, rows_of_batch, rows_rand

ROWS, STEPS, FEATURES = 5, 7, 3


def draws(rows: tuple[int, int], steps: int) -> list[torch.Tensor]:
    """What a model might draw for some rows of a batch, padded to some steps."""
    first, last = rows
    x = torch.ones(last - first, steps, FEATURES)
    with rows_of_batch(first, last - first, ROWS, seed=3):
        dropped = Dropout(0.5)(x)
        locked = locked_dropout(x, 0.5, training=True, by="a test")
        flat = Dropout(0.5)(x[:, 0])
        told = rows_rand((last - first, steps), torch.device("cpu"))
        clips = rows_rand((2 * (last - first),), torch.device("cpu"))
    return [dropped, locked, flat, told, clips]


@pytest.mark.parametrize("rows", [(0, 2), (2, 4), (4, 5), (0, 5)])
@pytest.mark.parametrize("steps", [3, STEPS, STEPS + 4])
def test_a_part_draws_what_the_whole_batch_draws_for_its_rows(rows: tuple[int, int], steps: int) -> None:
    whole, part = draws((0, ROWS), STEPS), draws(rows, steps)
    both = min(steps, STEPS)

    for mine, theirs in zip(part[:2], whole[:2], strict=True):
        assert torch.equal(mine[:, :both], theirs[rows[0] : rows[1], :both])
    assert torch.equal(part[2], whole[2][rows[0] : rows[1]])
    assert torch.equal(part[3][:, :both], whole[3][rows[0] : rows[1], :both])
    assert torch.equal(part[4], whole[4][2 * rows[0] : 2 * rows[1]])


def test_two_draws_of_a_step_and_two_steps_differ() -> None:
    x = torch.ones(4, 50)
    with rows_of_batch(0, 4, 4, seed=1):
        first, second = Dropout(0.5)(x), Dropout(0.5)(x)
    with rows_of_batch(0, 4, 4, seed=2):
        other = Dropout(0.5)(x)

    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_share_of_p_is_dropped_and_the_mean_stays(rng: np.random.Generator) -> None:
    torch.manual_seed(int(rng.integers(2**31)))
    x = torch.ones(200, 300)

    dropped = Dropout(0.3)(x)

    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.015)
    assert Dropout(0.3).eval()(x) is x
