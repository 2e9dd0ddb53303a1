"""What a sequence shows around a step, as one row of numbers per step, and methods that read such rows and know no sequences.

S sequences, N steps, V columns, F static features. Everything is made of the store that the network reads: aggregates of steps up to
and including the one that the row stands for, and the steps beside it, those after it only where they are asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gateline.data.irregular_encoding import ELAPSED, GAPS, OBSERVED
from gateline.data.store import STATIC, VALUES, SequenceStore


def aggregates_so_far(store: SequenceStore, sequences: np.ndarray) -> np.ndarray:
    """Summarise each step and all before it.

    Args:
        store: N steps.
        sequences: int64 (E,), which sequences.

    Returns:
        float32 (n, 5 V + more): of each column the last known value, mean, least and greatest value and number of observations
        so far; how old values are, where the store knows it; how long the sequence has lasted; and its static features. One
        sequence after the other; NaN where nothing was observed yet.
    """
    return np.concatenate([_of_one(store, int(one)) for one in sequences]) if len(sequences) else np.zeros((0, 0))


def _of_one(store: SequenceStore, sequence: int) -> np.ndarray:
    rows = slice(int(store.offsets[sequence]), int(store.offsets[sequence + 1]))
    values = np.asarray(store.arrays[VALUES][rows], np.float64)  # (T, V)
    seen = np.asarray(store.arrays[OBSERVED][rows], bool) if OBSERVED in store.arrays else np.isfinite(values)
    count = np.cumsum(seen, axis=0)
    nothing = count == 0
    mean = np.cumsum(np.where(seen, values, 0.0), axis=0) / np.maximum(count, 1)
    least = np.minimum.accumulate(np.where(seen, values, np.inf), axis=0)
    greatest = np.maximum.accumulate(np.where(seen, values, -np.inf), axis=0)
    numbers = [np.where(nothing, np.nan, each) for each in (values, mean, least, greatest)]
    others = [np.asarray(store.arrays[name][rows]) for name in (GAPS, ELAPSED) if name in store.arrays]
    if ELAPSED not in store.arrays:
        others.append(np.arange(len(values), dtype=np.float64)[:, None])
    if STATIC in store.statics:
        others.append(np.broadcast_to(store.statics[STATIC][sequence], (len(values), store.statics[STATIC].shape[1])))
    return np.concatenate([*numbers, np.log1p(count), *others], axis=1).astype(np.float32)


def neighbours(store: SequenceStore, steps: np.ndarray, *, before: int, after: int) -> np.ndarray:
    """Read the values of the steps beside each step, as the network reads them.

    Args:
        store: N steps.
        steps: int64 (n,).
        before: how many steps before it.
        after: how many after it.

    Returns:
        float32 (n, (before + after) V), the earliest first; NaN beyond either end of the sequence.
    """
    values, series = store.arrays[VALUES], store.series_of(steps)
    first, end = store.offsets[series], store.offsets[series + 1]
    read = []
    for away in (*range(-before, 0), *range(1, after + 1)):
        at = steps + away
        there = (first <= at) & (at < end)
        read.append(np.where(there[:, None], values[np.where(there, at, steps)], np.nan))  # (n, V)
    return np.concatenate(read, axis=1).astype(np.float32)


STRENGTHS = (0.003, 0.03, 0.3)
"""Inverse strengths of the penalty that are tried; the features are standardised."""
LEAVES = (4, 12)
ROUNDS = (50, 150)


def lines() -> list[Any]:
    """Make logistic regressions of several strengths; what is missing is its mean."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def line(strength: float) -> Any:
        filled = SimpleImputer(keep_empty_features=True)
        return make_pipeline(filled, StandardScaler(), LogisticRegression(C=strength, max_iter=200))

    return [line(strength) for strength in STRENGTHS]


def trees(learning_rate: float = 0.06) -> list[Any]:
    """Make boosted trees of several sizes and numbers of rounds; they read missing values as they are.

    When to stop is chosen on the validation part like the rest: their own early stopping would draw steps of the same sequences.

    Args:
        learning_rate: how far each round goes.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    return [
        HistGradientBoostingClassifier(
            max_iter=rounds,
            learning_rate=learning_rate,
            max_leaf_nodes=leaves,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
        for leaves in LEAVES
        for rounds in ROUNDS
    ]


def best_of(
    candidates: list[Any],
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    num_classes: int,
) -> Any:
    """Fit all on the training part, and take the one with the least log loss on the validation part.

    Args:
        candidates: unfitted methods.
        train: numbers (m, A) and classes int64 (m,).
        validation: the same.
        num_classes: number of classes C.
    """
    losses = []
    for candidate in candidates:
        candidate.fit(*train)
        prob = of_all_classes(candidate, validation[0], num_classes)
        losses.append(-np.log(np.maximum(prob[np.arange(len(prob)), validation[1]], 1e-12)).mean())
    return candidates[int(np.argmin(losses))]


def of_all_classes(method: Any, read: np.ndarray, num_classes: int) -> np.ndarray:
    """Ask a fitted method: float64 (n, C), 0 for classes that it has not seen."""
    prob = np.zeros((len(read), num_classes))
    prob[:, method.classes_] = method.predict_proba(read)
    return prob
