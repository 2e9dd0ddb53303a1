"""Several processes that train one model: who we are, which rows are ours, and sums over all of them.

The group itself is made outside (`gateline.adapters.process_group`); with one process nothing here communicates.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from gateline.errors import TryAgainError


@dataclass(frozen=True)
class Processes:
    """The processes of one training run.

    Args:
        rank: our place among them, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Tell whether this is the one that writes, logs and speaks."""
        return self.rank == 0

    def share(self, rows: int) -> tuple[int, int]:
        """Say which of the rows of a batch are ours: the first, and the one after the last.

        Example:
            >>> [Processes(rank, 3).share(8) for rank in range(3)]
            [(0, 3), (3, 6), (6, 8)]
        """
        return part_of(rows, self.rank, self.count)

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor over all processes, in place; each gets the sum.

        Raises:
            TryAgainError: another process is gone. (NCCL, which goes on before the sum is there, may abort this one instead.)
        """
        if self.count > 1:
            with _peers_there():
                distributed.all_reduce(tensor)
        return tensor

    def from_first(self, value: Any) -> Any:
        """Hand tensors and plain values from the first process to all of them."""
        if self.count == 1:
            return value
        content = _as_bytes(value) if self.first else torch.zeros(0, dtype=torch.uint8)
        with _peers_there():
            size = _here(torch.tensor([len(content)]))
            distributed.broadcast(size, src=0)
            sent = _here(content) if self.first else _here(torch.empty(int(size), dtype=torch.uint8))
            distributed.broadcast(sent, src=0)
        return _from_bytes(sent.cpu())

    def gather(self, value: Any) -> list[Any]:
        """Hand the tensors and plain values of each process to all of them, ordered by rank."""
        if self.count == 1:
            return [value]
        content = _as_bytes(value)
        with _peers_there():
            sizes = _here(torch.zeros(self.count, dtype=torch.int64))
            sizes[self.rank] = len(content)
            distributed.all_reduce(sizes)
            filled = _here(torch.zeros(int(sizes.max()), dtype=torch.uint8))
            filled[: len(content)] = content
            everyone = [torch.empty_like(filled) for _ in range(self.count)]
            distributed.all_gather(everyone, filled)
        return [_from_bytes(each[:size].cpu()) for each, size in zip(everyone, sizes.tolist(), strict=True)]


def part_of(rows: int, place: int, parts: int) -> tuple[int, int]:
    """Cut rows into contiguous parts whose sizes differ by one at most; say where one begins and ends."""
    size, longer = divmod(rows, parts)
    first = place * size + min(place, longer)
    return first, first + size + (place < longer)


def add_gradients(processes: Processes, parameters: Sequence[torch.Tensor], facts: torch.Tensor) -> torch.Tensor:
    """Add the gradients of all processes in one message, and a few numbers with them.

    The gradients of a recurrent layer are complete only when backpropagation has reached its first step, so there is
    nothing to send earlier, and one message is the fastest.

    Args:
        processes: who takes part.
        parameters: theirs are the gradients; one without a gradient counts as zero.
        facts: float32 (n,).

    Returns:
        The sum of `facts`.
    """
    if processes.count == 1:
        return facts
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    message = torch.cat([facts, *(gradient.reshape(-1) for gradient in gradients)])
    processes.add(message)
    sizes = [len(facts), *(gradient.numel() for gradient in gradients)]
    facts, *sums = message.split(sizes)
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total.view_as(parameter)
    return facts


@contextmanager
def _peers_there() -> Iterator[None]:
    # gloo raises a plain RuntimeError when a connection breaks. NCCL has kinds of its own, and its plain ones are bugs; it raises
    # where a call finds the group broken, and aborts the process where that is found later (LOST in adapters/process_group.py).
    lost: type[Exception] = RuntimeError if distributed.get_backend() == "gloo" else distributed.DistError
    try:
        yield
    except lost as error:
        raise TryAgainError(
            "training in several processes",
            expected="an answer of every process",
            found="a broken connection: one of them is gone",
            do="Run the same command again; training goes on from its last checkpoint",
        ) from error


def _here(tensor: torch.Tensor) -> torch.Tensor:
    """Put a tensor where the group's messages are."""
    return tensor.cuda() if distributed.get_backend() == "nccl" else tensor


def _as_bytes(value: Any) -> torch.Tensor:
    """Pack tensors and plain values: uint8 (n,)."""
    content = io.BytesIO()
    torch.save(value, content)
    return torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)


def _from_bytes(content: torch.Tensor) -> Any:
    return torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)
