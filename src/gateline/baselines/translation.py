"""Baselines of translation, fitted on the training part: from doing nothing to a learnt dictionary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateline.baselines.dictionary import Dictionary

MEMORY_ROWS = 256
"""Sentences compared with the whole memory at a time."""


@dataclass(frozen=True)
class Problem:
    """What a baseline may look at.

    Args:
        source: sentences of the training part.
        target: their translations.
        asked: sentences to translate.
    """

    source: Sequence[str]
    target: Sequence[str]
    asked: Sequence[str]


def copy_source(problem: Problem) -> list[str]:
    """Leave the sentence as it is."""
    return list(problem.asked)


def translation_memory(problem: Problem) -> list[str]:
    """Give the translation of the most similar training sentence: cosine of words and pairs of words, weighted by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    memory = vectoriser.fit_transform(problem.source)
    found: list[int] = []
    for first in range(0, len(problem.asked), MEMORY_ROWS):
        asked = vectoriser.transform(problem.asked[first : first + MEMORY_ROWS])
        found += np.asarray((asked @ memory.T).argmax(axis=1)).ravel().tolist()
    return [problem.target[row] for row in found]


def dictionary(problem: Problem) -> list[str]:
    """Translate word for word, in the order of the source, by a dictionary learnt from the training sentences."""
    learnt = Dictionary(problem.source, problem.target)
    return [learnt.translate(text) for text in problem.asked]


BASELINES: Mapping[str, Callable[[Problem], list[str]]] = {
    "copy_source": copy_source,
    "translation_memory": translation_memory,
    "dictionary": dictionary,
}
