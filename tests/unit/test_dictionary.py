"""A dictionary from parallel sentences: against expectation-maximisation written out word by word."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from gateline.baselines.dictionary import NOTHING, Dictionary, words_of

SOURCE = ["das Haus ist klein.", "das Buch", "ein Buch ist klein", "ein Haus"]
TARGET = ["the house is small.", "the book", "a book is small", "a house"]


def plainly(source: list[str], target: list[str], rounds: int) -> dict[str, str]:
    """IBM model 1 by dictionaries."""
    pairs = [([NOTHING, *words_of(a)], words_of(b)) for a, b in zip(source, target, strict=True)]
    prob: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts: dict[tuple[str, str], float] = defaultdict(float)
        totals: dict[str, float] = defaultdict(float)
        for lefts, rights in pairs:
            for right in rights:
                total = sum(prob[left, right] for left in lefts)
                for left in lefts:
                    counts[left, right] += prob[left, right] / total
                    totals[left] += prob[left, right] / total
        prob = defaultdict(float, {(left, right): count / totals[left] for (left, right), count in counts.items()})
    best: dict[str, tuple[float, str]] = {}
    for (left, right), p in sorted(prob.items(), key=lambda item: item[0][1]):
        if left != NOTHING and (left not in best or p > best[left][0] + 1e-12):
            best[left] = (p, right)
    return {left: right for left, (_, right) in best.items()}


def test_a_word_is_translated_by_what_stands_where_it_stands() -> None:
    dictionary = Dictionary(SOURCE, TARGET)

    assert dictionary.translate("Ein Buch ist das Haus.") == "A book is the house."


def test_an_unknown_word_stays() -> None:
    assert Dictionary(SOURCE, TARGET).translate("das Fahrrad") == "The fahrrad"


@pytest.mark.parametrize("rounds", [1, 4])
def test_the_dictionary_is_that_of_the_textbook(rounds: int, rng: np.random.Generator) -> None:
    source = [" ".join(rng.choice(list("abcde"), size=rng.integers(1, 6))) for _ in range(40)]
    target = [" ".join(rng.choice(list("uvwxyz"), size=rng.integers(1, 6))) for _ in range(40)]

    assert Dictionary(source, target, rounds).translations == plainly(source, target, rounds)


def test_the_order_of_the_sentences_changes_nothing(rng: np.random.Generator) -> None:
    order = rng.permutation(len(SOURCE))
    shuffled = Dictionary([SOURCE[i] for i in order], [TARGET[i] for i in order])

    assert shuffled.translations == Dictionary(SOURCE, TARGET).translations
