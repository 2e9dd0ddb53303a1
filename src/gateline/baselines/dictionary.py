"""A dictionary learnt from parallel sentences: which word of one language stands for which of another.

Source: IBM model 1, Brown, Della Pietra, Della Pietra and Mercer (1993), "The Mathematics of Statistical Machine
Translation", section 4.1 and equations 16 to 18.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

ROUNDS = 8
"""Passes of expectation-maximisation; more change the best translation of hardly any word."""
NOTHING = "<nothing>"
"""Stands in every source sentence, for words that no word there accounts for."""
WORDS = re.compile(r"\w+|[^\w\s]")
NO_SPACE_BEFORE = re.compile(r"\s+([.,:;!?)])")


class Dictionary:
    """The most probable translation of each word.

    Args:
        source: S sentences.
        target: their translations.
        rounds: passes over all pairs of words.
    """

    def __init__(self, source: Sequence[str], target: Sequence[str], rounds: int = ROUNDS) -> None:
        source_words, source_codes, source_of = numbered([[NOTHING, *words_of(text)] for text in source])
        target_words, target_codes, target_of = numbered([words_of(text) for text in target])
        # Every pair of words of every pair of sentences.
        source_counts = np.bincount(source_of, minlength=len(source))
        begins = np.cumsum(source_counts) - source_counts
        repeated = source_counts[target_of]  # source words of each target word's sentence
        right = np.repeat(np.arange(len(target_codes)), repeated)
        within = np.arange(len(right)) - np.repeat(np.cumsum(repeated) - repeated, repeated)
        left = begins[target_of[right]] + within
        pairs = source_codes[left].astype(np.int64) * len(target_words) + target_codes[right]
        keys, pair = np.unique(pairs, return_inverse=True)
        left_word, right_word = np.divmod(keys, len(target_words))
        prob = np.full(len(keys), 1.0)
        for _ in range(rounds):
            share = prob[pair]
            share /= np.bincount(right, weights=share, minlength=len(target_codes))[right]
            counts = np.bincount(pair, weights=share, minlength=len(keys))
            prob = counts / np.bincount(left_word, weights=counts, minlength=len(source_words))[left_word]
        # Of each source word the most probable; of equal ones, whose last bits follow the order of adding, the first in the alphabet.
        order = np.lexsort((right_word, -prob.round(12), left_word))
        first = order[np.flatnonzero(np.diff(left_word[order], prepend=-1))]
        self.translations = {
            source_words[word]: target_words[other]
            for word, other in zip(left_word[first], right_word[first], strict=True)
            if source_words[word] != NOTHING
        }

    def translate(self, text: str) -> str:
        """Write the translation of each word in its place; an unknown word stays."""
        words = [self.translations.get(word, word) for word in words_of(text)]
        joined = NO_SPACE_BEFORE.sub(r"\1", " ".join(words))
        return joined[:1].upper() + joined[1:]


def words_of(text: str) -> list[str]:
    """Cut a text into words and marks, in lower case."""
    return WORDS.findall(text.lower())


def numbered(sentences: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Number words: the words in the order of the alphabet, the number of each word of each sentence, and its sentence."""
    words = sorted({word for sentence in sentences for word in sentence})
    code = {word: place for place, word in enumerate(words)}
    codes = np.array([code[word] for sentence in sentences for word in sentence], dtype=np.int64)
    return words, codes, np.repeat(np.arange(len(sentences)), [len(sentence) for sentence in sentences])
