"""Baselines of language modelling, fitted on the training stream; N tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gateline.baselines.n_grams import KneserNey, longest_order

SMALLEST_COUNT = 1.0
"""Added to the count of every token, so that none is impossible."""


@dataclass(frozen=True)
class Problem:
    """What a baseline may look at.

    Args:
        streams: int32 (N,) of each part.
        num_tokens: size of the vocabulary.
        max_order: longest n-gram to try.
    """

    streams: Mapping[str, np.ndarray]
    num_tokens: int
    max_order: int

    def stream(self, part: str) -> np.ndarray:
        """One part: int64 (N,)."""
        return np.asarray(self.streams[part], dtype=np.int64)


@dataclass(frozen=True)
class Guess:
    """What a baseline says of the test stream.

    Args:
        nats: float64 (N - 1,), surprise of each token but the first.
        settings: what it chose.
    """

    nats: np.ndarray
    settings: Mapping[str, int]


def unigram(problem: Problem) -> Guess:
    """How frequent each token is in the training part, whatever stands before it."""
    counts = np.bincount(problem.stream("train"), minlength=problem.num_tokens) + SMALLEST_COUNT
    return Guess(-np.log(counts / counts.sum())[problem.stream("test")[1:]], {"order": 1})


def bigram(problem: Problem) -> Guess:
    """What follows on the token before."""
    model = KneserNey(problem.stream("train"), num_tokens=problem.num_tokens, order=2)
    return Guess(model.nats(problem.stream("test")), {"order": 2})


def n_gram(problem: Problem) -> Guess:
    """What follows on the tokens before: interpolated Kneser-Ney, as long as the validation part likes best."""
    longest = min(problem.max_order, longest_order(problem.num_tokens))
    best, best_nats = None, np.inf
    for order in range(2, longest + 1):
        model = KneserNey(problem.stream("train"), num_tokens=problem.num_tokens, order=order)
        nats = float(model.nats(problem.stream("validation")).mean())
        if nats >= best_nats:
            break  # a longer one is sparser still
        best, best_nats = model, nats
    assert best is not None  # noqa: S101  order 2 is always tried
    return Guess(best.nats(problem.stream("test")), {"order": best.order})


BASELINES: Mapping[str, Callable[[Problem], Guess]] = {"unigram": unigram, "bigram": bigram, "n_gram": n_gram}
