"""Pictures of how good probabilities of a yes or no are: ROC, precision and recall, calibration. With intervals by groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gateline.probabilities import Judgements, weights_of_resamples
from gateline.scoring import MODEL, SOFT

RESAMPLES = 100
GRID = np.linspace(0, 1, 101)


def draw_ranking(
    plt: Any,
    outcome: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    group: np.ndarray,
    generator: np.random.Generator,
    what: str,
) -> tuple[Any, str]:
    """Draw the ROC curve and the precision-recall curve of a model and its baselines.

    Args:
        plt: pyplot.
        outcome: (n,), 0 or 1.
        probabilities: (n,) each by name; the first is the model's and gets an interval.
        group: int64 (n,), what is resampled together.
        generator: draws the resamples.
        what: what an outcome of 1 is called.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8))
    model, *others = probabilities
    judgements = Judgements(probabilities[model], outcome)
    bands = [_curves(judgements, weight) for weight in weights_of_resamples(group, RESAMPLES, generator)]
    for axis, place in ((left, 0), (right, 1)):
        low, high = np.nanquantile([band[place] for band in bands], [0.025, 0.975], axis=0)
        axis.fill_between(GRID, low, high, color=MODEL, alpha=0.15, linewidth=0, label="95 % interval")
    for name in others:
        other = Judgements(probabilities[name], outcome)
        measured = other.metrics()
        label = name.replace("_", " ")
        left.plot(*other.roc(), linewidth=1.1, alpha=0.85, label=f"{label} ({measured['auroc']:.3f})")
        right.plot(*other.precision_recall(), linewidth=1.1, alpha=0.85, label=f"{label} ({measured['auprc']:.3f})")
    mine = judgements.metrics()
    left.plot(*judgements.roc(), color=MODEL, linewidth=2.4, label=f"model ({mine['auroc']:.3f})")
    right.plot(*judgements.precision_recall(), color=MODEL, linewidth=2.4, label=f"model ({mine['auprc']:.3f})")
    left.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
    share = float(np.mean(outcome))
    right.axhline(share, color=SOFT, linewidth=0.8, linestyle=":")
    left.set(xlabel=f"share of the others called {what}", ylabel=f"share of {what} found", title="ROC (area under it)")
    right.set(
        xlabel=f"share of {what} found", ylabel=f"share that is {what}", title="Precision and recall (mean precision)"
    )
    right.set_ylim(0, 1.02)
    left.legend(loc="lower right", fontsize=9)
    right.legend(loc="upper right", fontsize=9)
    return figure, (
        f"Every threshold at once. Dotted: guessing, with {share:.1%} of all being {what}. The band holds 95 % of what other "
        "draws of the same number of examples would give."
    )


def draw_calibration(
    plt: Any, outcome: np.ndarray, probability: np.ndarray, group: np.ndarray, generator: np.random.Generator
) -> tuple[Any, str]:
    """Draw how often what was said with some probability happened, and how often each probability was said.

    Args:
        plt: pyplot.
        outcome: (n,), 0 or 1.
        probability: (n,).
        group: int64 (n,), what is resampled together.
        generator: draws the resamples.
    """
    figure, (axis, below) = plt.subplots(2, 1, figsize=(6.5, 6), sharex=True, height_ratios=[3, 1])
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, 10)
    bins = [rows for rows in bins if len(rows)]
    predicted = [float(probability[rows].mean()) for rows in bins]
    happened = [float(outcome[rows].mean()) for rows in bins]
    weights = weights_of_resamples(group, RESAMPLES, generator)
    with np.errstate(invalid="ignore"):
        again = np.array([[w[rows] @ outcome[rows] / w[rows].sum() for rows in bins] for w in weights])
    low, high = np.nanquantile(again, [0.025, 0.975], axis=0)
    top = max(0.05, min(1.0, 1.15 * max(*predicted, *high)))
    axis.plot([0, top], [0, top], color=SOFT, linewidth=0.8, linestyle=":")
    axis.vlines(predicted, low, high, color=MODEL, linewidth=1.2)
    axis.plot(predicted, happened, color=MODEL, marker="o", linewidth=1.6)
    axis.set(ylabel="happened", xlim=(0, top), ylim=(0, top))
    below.hist(probability, bins=40, range=(0, top), color=MODEL)
    below.set(xlabel="said", ylabel="count", yscale="log")
    error = Judgements(probability, outcome).metrics()["calibration_error"]
    return figure, (
        f"A tenth of all judgements in each point: on the dotted line, what is said with 20 % happens in 20 % of the cases. Mean "
        f"distance {error:.3f}. The bars hold 95 % of what other draws would give."
    )


def _curves(judgements: Judgements, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True positive rate, and precision, at an even grid of false positive rate, and of recall."""
    w = weight[judgements.order][::-1]
    hits, misses = np.cumsum(w * judgements.outcome[::-1]), np.cumsum(w * (1 - judgements.outcome[::-1]))
    if hits[-1] == 0 or misses[-1] == 0:
        return np.full(len(GRID), np.nan), np.full(len(GRID), np.nan)
    true, false = hits / hits[-1], misses / misses[-1]
    precision = np.divide(hits, hits + misses, out=np.ones_like(hits), where=hits + misses > 0)
    return np.interp(GRID, false, true), np.interp(GRID, true, precision)
