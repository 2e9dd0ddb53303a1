"""Baselines of classification, fitted on the training texts; the penalty of logistic regression is chosen on validation texts.

Source: binarised naive Bayes over words and pairs of words, Wang and Manning (2012), "Baselines and Bigrams", section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WORD = r"(?u)\S+"
"""What stands between spaces, as texts come; scikit-learn's own pattern would drop punctuation and single letters."""
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Inverse strengths of the penalty of logistic regression that are tried."""


@dataclass(frozen=True)
class TextProblem:
    """What a baseline may look at.

    Args:
        texts: of each part.
        labels: int (W,) of each part, numbers of classes.
        num_classes: number of classes C.
    """

    texts: Mapping[str, Sequence[str]]
    labels: Mapping[str, np.ndarray]
    num_classes: int


def majority(problem: TextProblem, part: str) -> np.ndarray:
    """Say of every text how frequent each class is in the training part: float64 (W, C)."""
    shares = np.bincount(problem.labels["train"], minlength=problem.num_classes) / len(problem.labels["train"])
    return np.tile(shares, (len(problem.texts[part]), 1))


def naive_bayes(problem: TextProblem, part: str) -> np.ndarray:
    """Count which words and pairs of words occur in which class: float64 (W, C)."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    vectors = CountVectorizer(token_pattern=WORD, ngram_range=(1, 2), binary=True)
    model = MultinomialNB(alpha=1.0).fit(vectors.fit_transform(problem.texts["train"]), problem.labels["train"])
    return model.predict_proba(vectors.transform(problem.texts[part]))


def logistic_regression(problem: TextProblem, part: str) -> np.ndarray:
    """Weigh words by how rare they are (TF-IDF), and the classes linearly by them: float64 (W, C)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(token_pattern=WORD, sublinear_tf=True)
    train, validation = vectors.fit_transform(problem.texts["train"]), vectors.transform(problem.texts["validation"])
    fitted = [
        LogisticRegression(C=strength, max_iter=1000).fit(train, problem.labels["train"]) for strength in STRENGTHS
    ]
    best = min(fitted, key=lambda model: float((model.predict(validation) != problem.labels["validation"]).mean()))
    return best.predict_proba(vectors.transform(problem.texts[part]))


BASELINES: Mapping[str, Callable[[TextProblem, str], np.ndarray]] = {
    "majority": majority,
    "naive_bayes": naive_bayes,
    "logistic_regression": logistic_regression,
}
"""By name: give probabilities (W, C) of the texts of a part."""
