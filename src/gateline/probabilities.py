"""How good probabilities of a yes-or-no outcome are: ranking, sharpness, calibration; and how to calibrate them.

n judgements, G groups of judgements that are resampled together (all hours of a patient).
"""

from __future__ import annotations

import numpy as np

SMALLEST = 1e-12
"""A probability is taken as at least so far from 0 and 1, so that one certain mistake costs 28 nats and no infinity."""
BINS = 10

BINARY_METRICS = ("log_loss", "brier", "auroc", "auprc", "calibration_error")
BIASED = ("calibration_error",)
"""Metrics that the noise of a sample, or of a resample, makes larger: a sum of absolute values."""


class Judgements:
    """Probabilities beside what happened, sorted once, so that resamples cost little.

    Args:
        probability: float (n,), of a 1.
        outcome: (n,), 0 or 1.
    """

    def __init__(self, probability: np.ndarray, outcome: np.ndarray) -> None:
        order = np.argsort(probability, kind="stable")
        self.order = order
        self.probability = np.asarray(probability, np.float64)[order]
        self.outcome = np.asarray(outcome, np.float64)[order]
        begins = np.flatnonzero(np.diff(self.probability, prepend=-1.0))
        self._begins = begins  # of each run of equal probabilities
        certain = np.clip(self.probability, SMALLEST, 1 - SMALLEST)
        self._nats = -np.where(self.outcome == 1, np.log(certain), np.log1p(-certain))

    def metrics(self, weight: np.ndarray | None = None) -> dict[str, float]:
        """Measure.

        Args:
            weight: float (n,), how often each judgement counts, in the order in which they were given; None: once.

        Returns:
            log_loss (nats), brier, auroc, auprc (average precision) and calibration_error; NaN where there is nothing, or
            only one outcome, to judge by.
        """
        w = np.ones(len(self.order)) if weight is None else np.asarray(weight, np.float64)[self.order]
        total = w.sum()
        if total == 0:
            return dict.fromkeys(BINARY_METRICS, float("nan"))
        return {
            "log_loss": float((w * self._nats).sum() / total),
            "brier": float((w * np.square(self.probability - self.outcome)).sum() / total),
            **self._ranking(w),
            "calibration_error": float(self._calibration_error(w)),
        }

    def _ranking(self, w: np.ndarray) -> dict[str, float]:
        """Area under the ROC curve (ties count half), and average precision, over runs of equal probabilities."""
        positive = np.add.reduceat(w * self.outcome, self._begins)
        negative = np.add.reduceat(w * (1 - self.outcome), self._begins)
        num_positive, num_negative = positive.sum(), negative.sum()
        if num_positive == 0 or num_negative == 0:
            return {"auroc": float("nan"), "auprc": float("nan")}
        below = np.cumsum(negative) - negative
        auroc = (positive * (below + negative / 2)).sum() / (num_positive * num_negative)
        at_least = np.cumsum((positive + negative)[::-1])  # called 1, from the highest threshold down
        hits = np.cumsum(positive[::-1])
        precision = np.divide(hits, at_least, out=np.zeros_like(hits), where=at_least > 0)
        auprc = (positive[::-1] * precision).sum() / num_positive
        return {"auroc": float(auroc), "auprc": float(auprc)}

    def _calibration_error(self, w: np.ndarray) -> float:
        mass, predicted, happened = self._bins(w)
        return float((mass * np.abs(predicted - happened)).sum() / mass.sum())

    def calibration_curve(self) -> list[dict[str, float]]:
        """Compare, bin by bin of about equally many judgements, the mean probability with the share that happened."""
        mass, predicted, happened = self._bins(np.ones(len(self.order)))
        rows = zip(mass.tolist(), predicted.tolist(), happened.tolist(), strict=True)
        return [{"count": m, "probability": p, "happened": h} for m, p, h in rows]

    def _bins(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut into bins of about equal numbers of judgements: their weight, mean probability and mean outcome.

        Equal probabilities stay in one bin, so that the order of the judgements changes nothing. Empty bins are left out.
        """
        wanted = np.linspace(0, len(w), BINS + 1).astype(np.int64)[:-1]
        edges = np.unique(self._begins[np.searchsorted(self._begins, wanted, side="right") - 1])
        mass = np.add.reduceat(w, edges)
        kept = mass > 0
        predicted = np.add.reduceat(w * self.probability, edges)[kept] / mass[kept]
        happened = np.add.reduceat(w * self.outcome, edges)[kept] / mass[kept]
        return mass[kept], predicted, happened

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rates from the highest threshold down, (0, 0) first."""
        positive = np.add.reduceat(self.outcome, self._begins)[::-1]
        negative = np.add.reduceat(1 - self.outcome, self._begins)[::-1]
        rates = [np.concatenate([[0.0], np.cumsum(each) / max(each.sum(), 1)]) for each in (negative, positive)]
        return rates[0], rates[1]

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision from the highest threshold down."""
        positive = np.add.reduceat(self.outcome, self._begins)[::-1]
        all_called = np.cumsum(np.diff(self._begins, append=len(self.outcome))[::-1])
        hits = np.cumsum(positive)
        return hits / max(positive.sum(), 1), hits / all_called


def binary_metrics(probability: np.ndarray, outcome: np.ndarray) -> dict[str, float]:
    """Measure probabilities (n,) of a 1 against outcomes (n,) of 0 or 1, see `Judgements.metrics`."""
    return Judgements(probability, outcome).metrics()


def weights_of_resamples(group: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw groups with replacement: how often each judgement counts, float64 (resamples, n), for groups int64 (n,) 0..G-1."""
    num_groups = int(group.max(initial=-1)) + 1
    drawn = generator.multinomial(num_groups, np.full(num_groups, 1 / max(num_groups, 1)), size=resamples)
    return drawn[:, group].astype(np.float64)


def best_threshold(probability: np.ndarray, outcome: np.ndarray) -> float:
    """Find the probability from which on calling a 1 gives the best F-score; 0.5 where no outcome is 1.

    Args:
        probability: float (n,).
        outcome: (n,), 0 or 1.
    """
    order = np.argsort(-probability, kind="stable")
    hits = np.cumsum(np.asarray(outcome, np.float64)[order])
    if not len(hits) or hits[-1] == 0:
        return 0.5
    last = np.append(np.diff(probability[order]) != 0, True)  # of equal probabilities: they are called together
    f_score = np.where(last, 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1]), -1.0)
    return float(probability[order][int(np.argmax(f_score))])


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature T by which logits are divided so that their log loss is least.

    Args:
        logits: float (n,) of a yes, or (n, C) of classes.
        labels: (n,), 0 or 1; or a class in [0, C).

    Returns:
        T between 1/8 and 8; 1 where there is nothing to fit it on.

    Source: Guo et al. (2017), On calibration of modern neural networks, arXiv 1706.04599, section 4.2.
    """
    if len(labels) == 0:
        return 1.0
    low, high = -np.log(8), np.log(8)
    golden = (np.sqrt(5) - 1) / 2
    inner = [high - golden * (high - low), low + golden * (high - low)]
    losses = [_log_loss(logits / np.exp(each), labels) for each in inner]
    for _ in range(60):  # the loss is convex in 1/T, so it falls and then rises
        if losses[0] <= losses[1]:
            high, inner, losses = inner[1], [0.0, inner[0]], [0.0, losses[0]]
            inner[0] = high - golden * (high - low)
            losses[0] = _log_loss(logits / np.exp(inner[0]), labels)
        else:
            low, inner, losses = inner[0], [inner[1], 0.0], [losses[1], 0.0]
            inner[1] = low + golden * (high - low)
            losses[1] = _log_loss(logits / np.exp(inner[1]), labels)
    return float(np.exp((low + high) / 2))


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    logits = np.asarray(logits, np.float64)
    if logits.ndim == 1:
        return float((np.logaddexp(0, logits) - logits * labels).mean())
    top = logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return float((normaliser - logits[np.arange(len(labels)), np.asarray(labels, np.int64)]).mean())
