"""N-gram models against a plain implementation of the textbook's formulas, and what every model of probabilities owes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from gateline.baselines.n_grams import KneserNey, discounts, longest_order


def plainly(train: list[int], num_tokens: int, order: int) -> dict[tuple[int, ...], dict[int, float]]:
    """Interpolated modified Kneser-Ney by dictionaries: p(token | context) for every context of up to order - 1 tokens."""
    grams = Counter(tuple(train[i : i + order]) for i in range(len(train) - order + 1))
    by_length = {order: grams}
    for length in range(order - 1, 0, -1):
        by_length[length] = Counter(gram[1:] for gram in by_length[length + 1])
    probs: dict[tuple[int, ...], dict[int, float]] = {}
    for length in range(1, order + 1):
        counts = by_length[length]
        off = discounts(np.array(list(counts.values())))
        rows: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        for gram, count in counts.items():
            rows[gram[:-1]][gram[-1]] = count
        for context, followers in rows.items():
            total = sum(followers.values())
            freed = sum(off[min(count, 3)] for count in followers.values()) / total
            below = probs[context[1:]] if context else dict.fromkeys(range(num_tokens), 1 / num_tokens)
            probs[context] = {
                token: (followers[token] - off[min(followers[token], 3)] if token in followers else 0.0) / total
                + freed * below[token]
                for token in range(num_tokens)
            }
    return probs


def looked_up(probs: dict[tuple[int, ...], dict[int, float]], context: tuple[int, ...], token: int) -> float:
    while context not in probs:
        context = context[1:]
    return probs[context][token]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_model_is_that_of_the_textbook(order: int, rng: np.random.Generator) -> None:
    train, test = (rng.choice(5, p=[0.4, 0.3, 0.15, 0.1, 0.05], size=size) for size in (400, 60))
    probs = plainly(train.tolist(), 6, order)
    expected = [
        -math.log(looked_up(probs, tuple(test[max(0, i - order + 1) : i].tolist()), int(test[i])))
        for i in range(1, len(test))
    ]

    np.testing.assert_allclose(KneserNey(train, num_tokens=6, order=order).nats(test), expected, rtol=1e-10)


def test_probabilities_of_what_may_follow_add_up_to_one(rng: np.random.Generator) -> None:
    train = rng.integers(0, 4, size=300)
    model = KneserNey(train, num_tokens=7, order=3)
    for context in ([0, 1], [3, 3], [6, 2], [5, 5]):
        prob = [math.exp(-model.nats(np.array([*context, token]))[-1]) for token in range(7)]
        assert sum(prob) == pytest.approx(1)
        assert min(prob) > 0  # also of what was never seen


def test_longer_contexts_help_where_the_next_token_follows_from_them() -> None:
    pattern = np.tile([0, 0, 1, 0, 1, 1], 200)
    nats = {order: KneserNey(pattern, num_tokens=2, order=order).nats(pattern).mean() for order in (1, 2, 4)}

    assert nats[1] == pytest.approx(math.log(2), rel=0.01)
    assert nats[4] < 0.1 < nats[2]


def test_the_first_token_is_not_foretold() -> None:
    model = KneserNey(np.array([0, 1, 0, 1, 1]), num_tokens=2, order=2)

    assert len(model.nats(np.array([1, 0, 1]))) == 2
    assert len(model.nats(np.array([1]))) == 0


def test_an_order_that_no_64_bit_number_holds_is_refused() -> None:
    assert longest_order(70) == 10
    with pytest.raises(ValueError, match="an order of 1 to 4"):
        KneserNey(np.zeros(100, dtype=np.int64), num_tokens=30_000, order=5)
