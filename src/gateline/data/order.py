"""Which rows make each batch of each epoch, as pure functions of (seed, epoch, step).

Nothing is drawn in advance and nothing is carried from batch to batch: a run that resumes asks for the batch where it
stopped, and a data set of a hundred million windows costs no array of a hundred million indices.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gateline.errors import WorkloadError

if TYPE_CHECKING:
    from gateline.workload.training import Training

ROUNDS = 8
FEW_ROWS = 1024  # up to here a permutation is sorted out whole
BUCKET_GROWTH = 1.125  # longest over shortest of a bucket: at most a ninth of a full batch is padding


class Order(Protocol):
    """The batches of every epoch."""

    def __len__(self) -> int:
        """Count the batches of an epoch; every epoch has as many."""

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Name the rows of one batch: int64 (B,), for an epoch and a step counted from 0."""


class Permutation:
    """A random order of 0 .. size - 1, of which any part is computed without the rest.

    A Feistel network over pairs (left, right) with left < width, right < height, and width x height barely above size:
    each round adds to one half a keyed hash of the other, which can be undone and therefore permutes the pairs. A pair
    that stands for no row is sent through the network again until it does (cycle walking). Few rows are sorted by a hash
    instead, since a network over few pairs favours some orders.

    Source: Black and Rogaway (2002), "Ciphers with Arbitrary Finite Domains", sections 3 and 4 (generalised Feistel).

    Args:
        size: how many rows there are.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one row, got {size}")
        self.size = size
        self._width = math.isqrt(size - 1) + 1
        self._height = -(-size // self._width)

    def __call__(self, places: np.ndarray, *key: int) -> np.ndarray:
        """Say which rows stand at some places: int64 (B,) for int64 (B,), under a key of whole numbers from 0."""
        keys = _round_keys(key)
        if self.size <= FEW_ROWS:
            return np.argsort(_hash(_hash(np.arange(self.size, dtype=np.uint64), keys[0]), keys[1]))[places]
        rows = self._encrypt(places.astype(np.uint64), keys)
        outside = np.flatnonzero(rows >= self.size)
        while len(outside):
            rows[outside] = self._encrypt(rows[outside], keys)
            outside = outside[rows[outside] >= self.size]
        return rows.astype(np.int64)

    def _encrypt(self, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        height = np.uint64(self._height)
        left, right = np.divmod(values, height)
        sides = (np.uint64(self._width), height)
        halves = [left, right]
        for place, key in enumerate(keys):
            changed, read = place % 2, 1 - place % 2
            halves[changed] = (halves[changed] + _hash(halves[read], key) % sides[changed]) % sides[changed]
        return halves[0] * height + halves[1]


class ShuffledOrder:
    """A fresh random order every epoch, or a random share of it.

    Args:
        size: number of rows of the data set.
        batch_size: rows of a batch; the last batch of an epoch may have fewer.
        seed: 0 or more.
        share: part of the rows that an epoch draws, 0 < share <= 1.
    """

    def __init__(self, size: int, batch_size: int, seed: int, share: float = 1.0) -> None:
        self._permutation = Permutation(size)
        self._drawn = max(1, round(size * share))
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        return math.ceil(self._drawn / self._batch_size)

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Name the rows of one batch: int64 (B,)."""
        return self._permutation(_places(self, step, self._batch_size, self._drawn), self._seed, epoch)


class SequentialOrder:
    """All rows as they stand, the same every epoch.

    Args:
        size: number of rows of the data set.
        batch_size: rows of a batch; the last batch may have fewer.
    """

    def __init__(self, size: int, batch_size: int) -> None:
        self._size, self._batch_size = size, batch_size

    def __len__(self) -> int:
        return math.ceil(self._size / self._batch_size)

    def batch(self, epoch: int, step: int) -> np.ndarray:  # noqa: ARG002  every epoch is the same
        """Name the rows of one batch: int64 (B,)."""
        return _places(self, step, self._batch_size, self._size)


class BucketedOrder:
    """Rows of similar length together, so that little is padded; a fresh random order every epoch, or a share of it.

    Rows are sorted by length and cut into buckets. An epoch shuffles the rows within each bucket, cuts them into batches
    of as many rows as the budget holds of the bucket's longest, and shuffles the batches. Within a batch the longest row
    comes first. Memory: one number per row.

    Args:
        lengths: int64 (S,), tokens or frames of each row.
        token_budget: what rows x longest row of a batch never exceeds.
        seed: 0 or more.
        share: part of the batches that an epoch draws, 0 < share <= 1.

    Raises:
        WorkloadError: a row alone exceeds the budget.
    """

    def __init__(self, lengths: np.ndarray, token_budget: int, seed: int, share: float = 1.0) -> None:
        longest = int(np.max(lengths))
        if longest > token_budget:
            raise WorkloadError(
                "training.batch_tokens",
                expected=f"at least {longest}, the longest sequence, so that each fits into a batch",
                found=str(token_budget),
                do="Raise it, or cut the sequences",
            )
        self._lengths = lengths
        self._sorted = np.argsort(lengths, kind="stable")
        self._first = _bucket_edges(lengths[self._sorted], token_budget)  # (buckets + 1,)
        bucket_longest = np.maximum(lengths[self._sorted[self._first[1:] - 1]], 1)
        self._rows_per_batch = token_budget // bucket_longest
        self._batches_before = np.concatenate([[0], np.cumsum(-(-np.diff(self._first) // self._rows_per_batch))])
        self._batch_order = Permutation(int(self._batches_before[-1]))
        self._drawn = max(1, round(self._batch_order.size * share))
        self._seed = seed

    def __len__(self) -> int:
        return self._drawn

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """Name the rows of one batch, longest first: int64 (B,)."""
        (number,) = self._batch_order(_places(self, step, 1, len(self)), self._seed, epoch)
        bucket = int(np.searchsorted(self._batches_before, number, side="right")) - 1
        first, after = self._first[bucket : bucket + 2]
        rows_per_batch = int(self._rows_per_batch[bucket])
        begin = int(number - self._batches_before[bucket]) * rows_per_batch
        places = np.arange(begin, min(begin + rows_per_batch, after - first))
        rows = self._sorted[first + Permutation(int(after - first))(places, self._seed, epoch, bucket)]
        return rows[np.argsort(-self._lengths[rows], kind="stable")]


def shuffled(lengths: np.ndarray, training: Training, seed: int) -> Order:
    """Draw sequences in a fresh random order every epoch; with `training.batch_tokens`, those of similar length together.

    Args:
        lengths: int64 (W,), steps of each sequence.
        training: batch_size or batch_tokens, and the share of an epoch.
        seed: 0 or more.
    """
    if training.batch_tokens is not None:
        return BucketedOrder(lengths, training.batch_tokens, seed, training.examples_per_epoch)
    return ShuffledOrder(len(lengths), training.batch_size, seed, training.examples_per_epoch)


class StreamOrder:
    """Several streams side by side: row b of a step follows row b of the step before, so that state can be carried.

    The data set's rows are consecutive pieces of one text: stream b is made of pieces b x num_steps .. (b + 1) x
    num_steps - 1.

    Args:
        num_steps: pieces of a stream, and so steps of an epoch.
        batch_size: number of streams.
    """

    def __init__(self, num_steps: int, batch_size: int) -> None:
        self._num_steps = num_steps
        self._begins = np.arange(batch_size, dtype=np.int64) * num_steps

    def __len__(self) -> int:
        return self._num_steps

    def batch(self, epoch: int, step: int) -> np.ndarray:  # noqa: ARG002  a text is read in its own order
        """Name the rows of one batch: int64 (B,)."""
        _refuse_outside(self, step)
        return self._begins + step


def _places(order: Order, step: int, batch_size: int, size: int) -> np.ndarray:
    _refuse_outside(order, step)
    return np.arange(step * batch_size, min((step + 1) * batch_size, size), dtype=np.int64)


def _refuse_outside(order: Order, step: int) -> None:
    if not 0 <= step < len(order):
        raise IndexError(f"an epoch has steps 0 to {len(order) - 1}, got {step}")


def _bucket_edges(lengths: np.ndarray, token_budget: int) -> np.ndarray:
    """Cut sorted lengths (S,) into buckets: int64 (buckets + 1,) places.

    A bucket ends where lengths have grown by `BUCKET_GROWTH`, but not before it fills a batch: few sequences of very
    different lengths make few batches with more padding rather than one batch each.
    """
    distinct, first = np.unique(lengths, return_index=True)
    edges, shortest = [0], distinct[0]
    for length, place in zip(distinct[1:].tolist(), first[1:].tolist(), strict=True):
        longest_so_far = max(int(lengths[place - 1]), 1)
        if length > shortest * BUCKET_GROWTH and (place - edges[-1]) * longest_so_far >= token_budget:
            edges.append(place)
            shortest = length
    return np.array([*edges, len(lengths)], dtype=np.int64)


@lru_cache(maxsize=64)
def _round_keys(key: tuple[int, ...]) -> np.ndarray:
    # NumPy promises that a SeedSequence gives the same words in every version and on every machine.
    return np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)


def _hash(values: np.ndarray, key: np.uint64) -> np.ndarray:
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the input moves every bit of the output.
    mixed = values ^ key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
