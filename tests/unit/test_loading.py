"""Loading: the same batches from any number of workers, and nothing of the process disturbed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gateline.data.loading import load
from gateline.data.order import ShuffledOrder


@dataclass(frozen=True)
class Gathered:
    values: torch.Tensor
    process: int
    threads: int


class Squares:
    def __getitems__(self, rows: np.ndarray) -> Gathered:
        return Gathered(torch.from_numpy(rows) ** 2, os.getpid(), torch.get_num_threads())


class Failing:
    def __getitems__(self, rows: np.ndarray) -> Gathered:
        raise ValueError(f"row {rows[0]} is damaged")


def batches(seed: int) -> Iterator[np.ndarray]:
    order = ShuffledOrder(500, 16, seed)
    return (order.batch(0, step) for step in range(len(order)))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_order_whatever_the_number_of_workers(workers: int, seed: int) -> None:
    loaded = list(load(Squares(), batches(seed), workers=workers))

    assert [batch.values.tolist() for batch in loaded] == [(rows**2).tolist() for rows in batches(seed)]
    processes = {batch.process for batch in loaded}
    assert processes == {os.getpid()} if workers == 0 else len(processes - {os.getpid()}) == workers


def test_a_worker_keeps_to_one_thread_after_a_parent_that_used_several(seed: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(400, 400) @ torch.ones(400, 400)  # wakes the pool of threads, which a fork does not take along
        assert {batch.threads for batch in load(Squares(), batches(seed), workers=2)} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_uses_up_no_random_number_of_the_process(workers: int, seed: int) -> None:
    """Else the weights of a run that resumed, which starts one loader more, would differ."""
    before = torch.get_rng_state()
    list(load(Squares(), batches(seed), workers=workers))

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_data_set_arrives_with_its_message(workers: int, seed: int) -> None:
    with pytest.raises(ValueError, match=r"row \d+ is damaged"):
        next(load(Failing(), batches(seed), workers=workers))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_workers_is_left_to_the_parent(number: signal.Signals, seed: int) -> None:
    """A run that is stopped signals all of its processes; the parent still finishes its step."""
    loader = load(Squares(), batches(seed), workers=2)
    first = next(loader)
    os.kill(first.process, number)
    rest = [batch.values.tolist() for batch in loader]

    assert [first.values.tolist(), *rest] == [(rows**2).tolist() for rows in batches(seed)]


def test_workers_end_with_a_loop_that_stops_early(seed: int) -> None:
    loader = load(Squares(), batches(seed), workers=2)
    process = next(loader).process
    del loader

    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
