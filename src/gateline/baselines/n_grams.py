"""N-gram models of a stream of tokens: interpolated, modified Kneser-Ney. N tokens, V vocabulary.

Source: Chen and Goodman (1998), "An Empirical Study of Smoothing Techniques for Language Modeling", TR-10-98, section 3.2
and equations 26 and 27 (three discounts); Kneser and Ney (1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DISCOUNTS = 3
"""Counts 1, 2, and 3 or more are discounted each by its own amount."""


@dataclass(frozen=True)
class Level:
    """N-grams of one length k, as numbers in base V whose last digit is the last token.

    Args:
        grams: int64 (G,), sorted.
        kept: float64 (G,), count less discount, over the count of the context.
        contexts: int64 (C,), sorted: the first k - 1 tokens.
        freed: float64 (C,), what the discounts leave to the level below.
    """

    grams: np.ndarray
    kept: np.ndarray
    contexts: np.ndarray
    freed: np.ndarray


class KneserNey:
    """A model of the next token from the tokens before it.

    Args:
        tokens: int64 (N,), the training stream.
        num_tokens: V.
        order: longest n-gram; the model looks back at order - 1 tokens.

    Raises:
        ValueError: an n-gram does not fit a 64-bit number, or the stream is shorter than one.
    """

    def __init__(self, tokens: np.ndarray, *, num_tokens: int, order: int) -> None:
        if not 1 <= order <= longest_order(num_tokens) or len(tokens) < order:
            raise ValueError(
                f"an order of 1 to {longest_order(num_tokens)} and a stream as long, got {order} and {len(tokens)}"
            )
        self.num_tokens, self.order = num_tokens, order
        grams, counts = np.unique(grams_of(tokens, order, num_tokens), return_counts=True)
        levels = [level_of(grams, counts, num_tokens)]
        for length in range(order - 1, 0, -1):
            # How many different tokens stand before an n-gram says better than its count how freely it is used.
            grams, counts = np.unique(grams % num_tokens**length, return_counts=True)
            levels.insert(0, level_of(grams, counts, num_tokens))
        self.levels = levels

    def nats(self, tokens: np.ndarray, order: int | None = None) -> np.ndarray:
        """Say how surprising each token but the first is after those before it: float64 (N - 1,), -log p.

        Args:
            tokens: int64 (N,), any stream.
            order: look at shorter n-grams only; these then keep the counts made for going below a longer one.
        """
        prob = np.full(len(tokens), 1 / self.num_tokens)
        for length, level in enumerate(self.levels[: order or self.order], start=1):
            if len(tokens) < length:
                break
            grams = grams_of(tokens, length, self.num_tokens)  # of the tokens from length - 1 on
            kept, _ = found_in(level.grams, level.kept, grams, 0.0)
            freed, known = found_in(level.contexts, level.freed, grams // self.num_tokens, 1.0)
            prob[length - 1 :] = np.where(known, kept, 0.0) + freed * prob[length - 1 :]
        return -np.log(prob[1:])


def longest_order(num_tokens: int) -> int:
    """Longest n-gram that a 64-bit number holds."""
    order = 1
    while num_tokens ** (order + 1) < 2**63:
        order += 1
    return order


def grams_of(tokens: np.ndarray, length: int, num_tokens: int) -> np.ndarray:
    """Write every n-gram of a stream as a number, by where it ends: int64 (N - length + 1,)."""
    ends = len(tokens) - length + 1
    grams = np.zeros(ends, dtype=np.int64)
    for place in range(length):
        grams = grams * num_tokens + tokens[place : place + ends]
    return grams


def level_of(grams: np.ndarray, counts: np.ndarray, num_tokens: int) -> Level:
    """Discount the counts of n-grams and see what that leaves to shorter ones."""
    contexts, begins = np.unique(grams // num_tokens, return_index=True)
    discount = discounts(counts)[np.minimum(counts, DISCOUNTS)]
    totals = np.add.reduceat(counts, begins)
    of_context = np.repeat(totals, np.diff([*begins, len(grams)]))
    return Level(grams, (counts - discount) / of_context, contexts, np.add.reduceat(discount, begins) / totals)


def discounts(counts: np.ndarray) -> np.ndarray:
    """Estimate what to take off a count of 0, 1, 2, and 3 or more: float64 (4,); equation 26."""
    seen = [int((counts == count).sum()) for count in range(1, DISCOUNTS + 2)]  # n1, n2, n3, n4
    if min(seen) == 0:  # too few n-grams to tell
        return np.array([0.0, 0.5, 0.5, 0.5])
    rate = seen[0] / (seen[0] + 2 * seen[1])
    wanted = [count - (count + 1) * rate * seen[count] / seen[count - 1] for count in range(1, DISCOUNTS + 1)]
    return np.array([0.0, *np.clip(wanted, 0.01, [0.99, 1.99, 2.99])])


def found_in(
    keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, otherwise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Look up values of sorted keys, and say which were there: float64 and bool of the shape of `wanted`."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known = keys[place] == wanted
    return np.where(known, values[place], otherwise), known
