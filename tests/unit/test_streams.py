"""A text as a stream: every token once and in its place, the token after it as its target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gateline.data.order import StreamOrder
from gateline.data.streams import StreamDataset


@pytest.mark.parametrize("size", [2, 9, 64, 65, 66, 200])
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_streams_side_by_side_hold_every_target_once(size: int, streams: int) -> None:
    tokens = np.arange(100, 100 + size, dtype=np.int32)
    dataset = StreamDataset(tokens, piece=4, streams=streams)
    order = StreamOrder(len(dataset) // streams, streams)
    read, foretold = [], []
    before: torch.Tensor | None = None
    for step in range(len(order)):
        batch = dataset.__getitems__(order.batch(0, step))
        assert batch.tokens.shape == (streams, 4)
        if before is not None:  # a stream goes on where it stopped
            goes_on = batch.observed[:, 0]
            assert batch.tokens[goes_on, 0].tolist() == before[goes_on].tolist()
        before = batch.following[:, -1]
        read += batch.tokens[batch.observed].tolist()
        foretold += batch.following[batch.observed].tolist()

    assert sorted(read) == tokens[:-1].tolist()
    assert [token + 1 for token in read] == foretold


def test_training_reads_whole_pieces() -> None:
    dataset = StreamDataset(np.arange(23, dtype=np.int32), piece=4)
    batch = dataset.__getitems__(np.array([0, 4]))

    assert len(dataset) == 5
    assert batch.tokens.tolist() == [[0, 1, 2, 3], [16, 17, 18, 19]]
    assert batch.following.tolist() == [[1, 2, 3, 4], [17, 18, 19, 20]]
    assert bool(batch.observed.all())
