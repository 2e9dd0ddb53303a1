"""Baselines of transcription: what is said most often, and words told apart by where it is silent. T frames, M mel bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

SLICES = 8
"""Parts that a word is cut into; each is its mean log-mel."""
THRESHOLDS = (0.15, 0.25, 0.35, 0.45)
"""Shares of the way from the softest frame to the loudest, above which it is not silent, that are tried."""
PAUSES = (2, 4, 6, 9, 13)
"""Frames in a row that must be silent between two words that are tried."""
SHORTEST = 6  # frames; what is shorter is a click
TUNED_ON = 400  # utterances of the training part


@dataclass(frozen=True)
class SpeechProblem:
    """What a baseline may look at.

    Args:
        features: arrays (T, M) of the utterances of each part, normalised.
        texts: of each part.
    """

    features: Mapping[str, Sequence[np.ndarray]]
    texts: Mapping[str, Sequence[str]]


def most_frequent(problem: SpeechProblem, part: str) -> list[str]:
    """Write what is said most often in the training part, whatever is heard."""
    counts = Counter(problem.texts["train"])
    text = min(counts, key=lambda each: (-counts[each], each))
    return [text] * len(problem.texts[part])


def segments(problem: SpeechProblem, part: str) -> list[str]:
    """Cut where it is silent, and take each piece for the word whose recordings it resembles (logistic regression).

    How silent and for how long is chosen on training utterances, by how often the number of pieces is that of the words. Learns
    from training utterances of one word.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = list(zip(problem.features["train"], problem.texts["train"], strict=True))
    tuned_on = train[:: max(1, len(train) // TUNED_ON)]
    settings = min(
        product(THRESHOLDS, PAUSES),
        key=lambda each: sum(abs(len(pieces_of(sound, *each)) - len(text.split())) for sound, text in tuned_on),
    )
    alone = [(sound, text) for sound, text in train if " " not in text]
    words = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    words.fit(np.stack([_resampled(_loud_part(sound, *settings)) for sound, _ in alone]), [text for _, text in alone])
    guesses = []
    for sound in problem.features[part]:
        pieces = [sound[first:last] for first, last in pieces_of(sound, *settings)]
        guesses.append(" ".join(words.predict(np.stack([_resampled(piece) for piece in pieces]))) if pieces else "")
    return guesses


BASELINES: Mapping[str, Callable[[SpeechProblem, str], list[str]]] = {
    "most_frequent": most_frequent,
    "segments": segments,
}


def pieces_of(sound: np.ndarray, threshold: float, pause: int) -> list[tuple[int, int]]:
    """Find what lies between silences.

    Args:
        sound: (T, M), log-mel.
        threshold: share of the way from the softest frame to the loudest.
        pause: frames in a row that must be silent between two pieces.

    Returns:
        first frame and the one after the last, of each piece, in order.
    """
    energy = sound.mean(axis=1)
    loud = np.flatnonzero(energy > energy.min() + threshold * (energy.max() - energy.min()))
    if len(loud) == 0:
        return []
    breaks = np.flatnonzero(np.diff(loud) > pause)
    firsts, lasts = loud[np.concatenate([[0], breaks + 1])], loud[np.concatenate([breaks, [len(loud) - 1]])] + 1
    return [(int(a), int(b)) for a, b in zip(firsts, lasts, strict=True) if b - a >= SHORTEST]


def _loud_part(sound: np.ndarray, threshold: float, pause: int) -> np.ndarray:
    """Cut silence off both ends of one word."""
    pieces = pieces_of(sound, threshold, pause)
    return sound[pieces[0][0] : pieces[-1][1]] if pieces else sound


def _resampled(piece: np.ndarray) -> np.ndarray:
    """Describe a piece by the means of its parts, and by how long it is: float64 (SLICES * M + 1,)."""
    edges = np.linspace(0, len(piece), SLICES + 1)
    parts = [piece[int(a) : max(int(b), int(a) + 1)].mean(axis=0) for a, b in pairwise(edges)]
    return np.concatenate([*parts, [np.log(len(piece))]])
