"""Metrics of classes and their probabilities, whatever is classified, and the picture of what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gateline.comparison import ExampleErrors, example_errors
from gateline.evaluation import Scores
from gateline.intervals import RESAMPLES, Interval, bootstrap_intervals
from gateline.predictors.classification import class_errors
from gateline.probabilities import BIASED, Judgements
from gateline.scoring import INK
from gateline.tasks.classification import GATE_METRICS

FEWEST_RESAMPLES = 200
MEASURED_EXAMPLES = 5_000_000
"""In all resamples together, so that many examples do not cost minutes."""


def measure(probabilities: np.ndarray, target: np.ndarray, positive: int) -> dict[str, float]:
    """Measure probabilities (S, C) of the classes of S examples; auroc and auprc only where there are two classes."""
    metrics = {name: float(class_errors(name, probabilities, target).mean()) for name in GATE_METRICS}
    chosen = probabilities.argmax(axis=1)
    metrics |= {
        "accuracy": 1 - metrics["error_rate"],
        "f1_macro": _f1_macro(chosen, target, probabilities.shape[1]),
        "calibration_error": of_the_chosen(probabilities, target).metrics()["calibration_error"],
    }
    if probabilities.shape[1] == 2:
        judged = Judgements(probabilities[:, positive], (target == positive).astype(float)).metrics()
        metrics |= {name: judged[name] for name in ("auroc", "auprc")}
    return metrics


def class_intervals(
    probabilities: np.ndarray, target: np.ndarray, positive: int, groups: np.ndarray
) -> dict[str, Interval]:
    """Bootstrap an interval of 95 % of what `measure` gives and is no mean over examples; `groups` (S,) are resampled as wholes."""
    means = {*GATE_METRICS}

    def measured(rows: np.ndarray) -> dict[str, float]:
        found = measure(probabilities[rows], target[rows], positive)
        return {name: value for name, value in found.items() if name not in means}

    resamples = min(RESAMPLES, max(FEWEST_RESAMPLES, MEASURED_EXAMPLES // max(1, len(target))))
    return bootstrap_intervals(measured, groups, resamples=resamples, biased=BIASED)


def example_class_errors(
    metrics: Sequence[str], probabilities: np.ndarray, target: np.ndarray, rows: str, groups: np.ndarray
) -> list[ExampleErrors]:
    """Write metrics as means over examples, from probabilities (S, C) of the classes.

    Args:
        metrics: which.
        probabilities: (S, C) of the classes.
        target: int64 (S,), the true ones.
        rows: digest of what was scored.
        groups: int64 (S,), what is resampled together.
    """
    return [
        example_errors(
            name, class_errors(name, probabilities, target), np.ones(len(target)), rows=rows, position=groups
        )
        for name in metrics
    ]


def confusion(chosen: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Count which class (column) was chosen for the examples of each (row): int64 (C, C)."""
    return np.bincount(target * num_classes + chosen, minlength=num_classes**2).reshape(num_classes, num_classes)


def _f1_macro(chosen: np.ndarray, target: np.ndarray, num_classes: int) -> float:
    matrix = confusion(chosen, target, num_classes)
    hits, chosen_count, true_count = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    there = (chosen_count + true_count) > 0
    return float((2 * hits[there] / (chosen_count + true_count)[there]).mean())


def of_the_chosen(probabilities: np.ndarray, target: np.ndarray) -> Judgements:
    """Of the class that was chosen: how probable it was said to be, and whether it was right."""
    right = (probabilities.argmax(axis=1) == target).astype(float)
    return Judgements(probabilities.max(axis=1).astype(np.float64), right)


def draw_confusion(plt: Any, scores: Scores) -> tuple[Any, str]:
    """Draw the counts of `details.confusion`, with percentages of each class."""
    classes = scores.details["classes"]
    counts = np.array(scores.details["confusion"])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(2.6 + 0.5 * len(classes), 12)
    figure, axis = plt.subplots(figsize=(size + 1, size))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 12:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if share[row, column] > 0.55 else INK
            words = f"{counts[row, column]:,}\n{share[row, column]:.0%}"
            axis.text(column, row, words, ha="center", va="center", color=colour)
    axis.set_xticks(range(len(classes)), classes, rotation=0 if len(classes) <= 4 else 90)
    axis.set_yticks(range(len(classes)), classes)
    axis.set_xlabel("answer")
    axis.set_ylabel("is")
    return figure, "Examples of each class (row) by the answer of the model (column); percentages of the row."
