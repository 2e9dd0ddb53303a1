"""Baselines of classification of series, on the same series, inputs and split as the model.

`majority` is the frequency of each class in the training part. `logistic_regression` and `gradient_boosting` read each series
summarised in one row (last, mean, least, greatest, count of each column); their settings are chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateline.baselines.sequence_aggregates import aggregates_so_far, best_of, lines, of_all_classes, trees
from gateline.data.store import SequenceStore


@dataclass(frozen=True)
class SeriesProblem:
    """What a baseline may look at.

    Args:
        store: encoded series.
        series: int64 numbers of the series of each part.
        labels: int64 (S,), the class of each series.
        num_classes: number of classes C.
    """

    store: SequenceStore
    series: Mapping[str, np.ndarray]
    labels: np.ndarray
    num_classes: int

    def read(self, part: str) -> np.ndarray:
        """Summarise each series of a part as it stands at its end: float32 (E, A)."""
        ends = np.cumsum(np.diff(self.store.offsets)[self.series[part]]) - 1
        return aggregates_so_far(self.store, self.series[part])[ends]

    def known(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Aggregates and classes of a part."""
        return self.read(part), np.asarray(self.labels)[self.series[part]]


def majority(problem: SeriesProblem, part: str) -> np.ndarray:
    """Say of every series how frequent each class is in the training part: float64 (E, C)."""
    counts = np.bincount(problem.labels[problem.series["train"]], minlength=problem.num_classes)
    return np.tile(counts / counts.sum(), (len(problem.series[part]), 1))


def logistic_regression(problem: SeriesProblem, part: str) -> np.ndarray:
    """Fit a line through aggregates: float64 (E, C)."""
    return _asked(problem, part, lines())


def gradient_boosting(problem: SeriesProblem, part: str) -> np.ndarray:
    """Fit trees on aggregates: float64 (E, C)."""
    return _asked(problem, part, trees())


def _asked(problem: SeriesProblem, part: str, candidates: list[Any]) -> np.ndarray:
    best = best_of(candidates, problem.known("train"), problem.known("validation"), problem.num_classes)
    return of_all_classes(best, problem.read(part), problem.num_classes)


BASELINES: Mapping[str, Callable[[SeriesProblem, str], np.ndarray]] = {
    "majority": majority,
    "logistic_regression": logistic_regression,
    "gradient_boosting": gradient_boosting,
}
"""By name: give probabilities (E, C) of the series of a part."""
