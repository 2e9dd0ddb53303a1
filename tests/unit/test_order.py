"""Orders: every row where it belongs, every epoch another way, nothing held that grows with the data."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2

from gateline.data.order import BucketedOrder, Order, Permutation, SequentialOrder, ShuffledOrder, StreamOrder
from gateline.errors import WorkloadError


def rows_of(order: Order, epoch: int) -> list[int]:
    return np.concatenate([order.batch(epoch, step) for step in range(len(order))]).tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 97, 1024, 1025, 4097])
def test_an_epoch_draws_every_row_once_and_the_next_in_another_order(size: int, seed: int) -> None:
    order = ShuffledOrder(size, 8, seed)
    first, second = rows_of(order, 0), rows_of(order, 1)

    assert sorted(first) == sorted(second) == list(range(size))
    assert len(order) == -(-size // 8)
    assert first != second or size < 10
    assert rows_of(ShuffledOrder(size, 8, seed + 1), 0) != first or size < 10


def test_a_batch_can_be_asked_for_alone(seed: int) -> None:
    """What a resumed run needs: no batch depends on the batches before it."""
    whole = rows_of(ShuffledOrder(1000, 64, seed), 3)

    assert ShuffledOrder(1000, 64, seed).batch(3, 7).tolist() == whole[7 * 64 : 8 * 64]


def test_a_share_draws_that_many_rows_and_no_row_twice(seed: int) -> None:
    order = ShuffledOrder(1000, 64, seed, share=0.25)
    drawn = [rows_of(order, epoch) for epoch in range(3)]

    assert [len(set(rows)) for rows in drawn] == [250, 250, 250]
    assert len(order) == 4
    assert len(set(drawn[0]) | set(drawn[1])) > 300  # another quarter, not the same one shuffled


@pytest.mark.parametrize("size", [4, 5])
def test_every_order_of_a_few_rows_is_as_likely_as_any_other(size: int, seed: int) -> None:
    draws, orders = 12_000, math.factorial(size)
    permutation = Permutation(size)
    counts = Counter(tuple(permutation(np.arange(size), seed, epoch).tolist()) for epoch in range(draws))

    assert len(counts) == orders
    assert chi_square(np.array(list(counts.values())), draws / orders) < chi2.ppf(1 - 1e-6, orders - 1)


@pytest.mark.parametrize("size", [500, 1100, 5000])
def test_where_a_row_comes_says_nothing_of_which_it_is(size: int, seed: int) -> None:
    """Place against row in a table of 20 x 20 over many epochs: 361 degrees of freedom."""
    epochs, cells = 200, 20
    table = np.zeros((cells, cells))
    permutation = Permutation(size)
    places = np.arange(size)
    for epoch in range(epochs):
        np.add.at(table, (places * cells // size, permutation(places, seed, epoch) * cells // size), 1)

    # Each row of the table is drawn without replacement, which makes the statistic a little smaller, never larger.
    assert chi_square(table, size * epochs / cells**2) < chi2.ppf(1 - 1e-6, (cells - 1) ** 2)


def test_neighbours_are_parted(seed: int) -> None:
    """The distance of rows that follow each other is that of two independent draws: a third of the size on average."""
    size = 100_000
    rows = Permutation(size)(np.arange(size), seed, 0)

    assert np.abs(np.diff(rows)).mean() == pytest.approx(size / 3, rel=0.03)


def test_an_order_of_a_hundred_million_rows_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        order = ShuffledOrder(100_000_000, 64, 1)
        rows = np.concatenate([order.batch(0, step) for step in (0, 1_000_000, len(order) - 1)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(set(rows.tolist())) == len(rows)
    assert peak < 200_000  # bytes; the indices alone would take 800 million


def test_rows_in_sequence_are_all_rows_as_they_stand() -> None:
    order = SequentialOrder(10, 4)

    assert [order.batch(5, step).tolist() for step in range(len(order))] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("order", [SequentialOrder(10, 4), ShuffledOrder(10, 4, 0), StreamOrder(3, 4)])
def test_a_step_that_the_epoch_does_not_have_is_refused(order: Order) -> None:
    for step in (-1, len(order)):
        with pytest.raises(IndexError, match="steps 0 to 2"):
            order.batch(0, step)


@pytest.mark.parametrize("budget", [400, 1000, 20_000])
def test_a_bucketed_batch_stays_within_the_budget_and_leaves_no_row_out(
    budget: int, rng: np.random.Generator, seed: int
) -> None:
    lengths = np.minimum(rng.geometric(0.02, size=3000), 400)
    order = BucketedOrder(lengths, budget, seed)
    epochs = [[order.batch(epoch, step) for step in range(len(order))] for epoch in range(2)]

    for batches in epochs:
        assert all(len(rows) * lengths[rows].max() <= budget for rows in batches)
        assert all((np.diff(lengths[rows]) <= 0).all() for rows in batches)
        assert sorted(np.concatenate(batches).tolist()) == list(range(3000))
    assert epochs[0][0].tolist() != epochs[1][0].tolist()
    first_lengths = [lengths[rows[0]] for rows in epochs[0]]
    assert first_lengths != sorted(first_lengths)  # short and long batches are mixed


def test_a_share_of_a_bucketed_epoch_is_so_many_batches_others_in_every_epoch(
    rng: np.random.Generator, seed: int
) -> None:
    lengths = np.minimum(rng.geometric(0.02, size=3000), 400)
    whole, share = BucketedOrder(lengths, 1000, seed), BucketedOrder(lengths, 1000, seed, share=0.25)
    epochs = [[share.batch(epoch, step) for step in range(len(share))] for epoch in range(2)]

    assert len(share) == round(len(whole) / 4)
    for batches in epochs:
        rows = np.concatenate(batches)
        assert len(np.unique(rows)) == len(rows)
        assert 0.15 < len(rows) / len(lengths) < 0.35
        assert len({int(lengths[batch[0]]) for batch in batches}) > 5, "short and long sequences"
    assert set(epochs[0][0].tolist()) != set(epochs[1][0].tolist())


def test_rows_of_a_bucket_meet_others_in_the_next_epoch(seed: int) -> None:
    """One length, so one bucket: what changes between epochs is who shares a batch, not only when a batch comes."""
    order = BucketedOrder(np.full(200, 5), 50, seed)
    first, second = ({frozenset(order.batch(epoch, step).tolist()) for step in range(len(order))} for epoch in (0, 1))

    assert len(first) == len(second) == 20
    assert len(first & second) <= 1


def test_buckets_pad_less_than_a_fifth_of_what_random_batches_pad(rng: np.random.Generator) -> None:
    lengths = np.minimum(rng.geometric(0.02, size=5000), 400)

    def padded(batches: list[np.ndarray]) -> int:
        return sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in batches)

    order = BucketedOrder(lengths, 4000, 0)
    random = np.array_split(rng.permutation(5000), len(order))

    assert padded([order.batch(0, step) for step in range(len(order))]) < padded(random) / 5


def test_few_sequences_of_very_different_lengths_still_share_batches() -> None:
    order = BucketedOrder(np.array([1, 2, 4, 8, 16, 32, 64, 128]), 1024, 0)

    assert len(order) == 1
    assert order.batch(0, 0).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_sequence_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(WorkloadError, match="at least 30"):
        BucketedOrder(np.array([5, 30, 7]), 29, 0)


def test_a_row_of_a_stream_goes_on_where_the_row_of_the_step_before_stopped() -> None:
    order = StreamOrder(5, 3)
    steps = np.stack([order.batch(0, step) for step in range(len(order))])  # (steps, B)

    assert (np.diff(steps, axis=0) == 1).all()
    assert sorted(steps.ravel().tolist()) == list(range(15))


def chi_square(counts: np.ndarray, expected: float) -> float:
    return float(((counts - expected) ** 2 / expected).sum())
